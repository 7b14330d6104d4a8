//! Initial fetch timeouts, times to live and heartbeats.

use std::time::Duration;

use tokio::time::Instant;
use xds_client::{Event, Protocol, ResourceStatus};

use crate::script::*;

const FETCH_TIMEOUT: Duration = xds_client::DEFAULT_INITIAL_FETCH_TIMEOUT;

#[tokio::test(start_paused = true)]
async fn a_wildcard_that_nobody_answers_times_out_even_without_a_server() {
    let client = start_with(config(Protocol::Sotw, vec![unreachable("primary")]));
    let before = Instant::now();
    let mut subscription = client.subscribe(clusters());
    assert!(matches!(subscription.next().await, Some(Event::InitialFetchTimeout)));
    assert_eq!(before.elapsed().as_secs(), FETCH_TIMEOUT.as_secs());
    assert_eq!(subscription.handle().stats().await.expect("runs").init_fetch_timeout, 1);
    no_event(&mut subscription).await;
}

#[tokio::test(start_paused = true)]
async fn a_first_response_ends_the_wait_be_it_good_or_bad() {
    for version in ["good", "bad"] {
        let (client, mut script) = start(Protocol::Sotw);
        let mut subscription = client.subscribe(clusters());
        let mut stream = script.accept().await;
        stream.sotw().await;
        let mut response = world(CDS, version, "n1", &[]);
        if version == "bad" {
            response.resources.push(packed(EDS, "a"));
        }
        stream.send(&response);
        update(&mut subscription).await.accept();
        tokio::time::sleep(2 * FETCH_TIMEOUT).await;
        no_event(&mut subscription).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_answers_times_out_alone_and_may_come_later() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(endpoints());
    subscription.handle().add(["a", "b"]);
    let mut stream = script.accept().await;
    stream.delta().await;
    stream.send(&change(EDS, "n1", &[("b", "1")], &[]));
    update(&mut subscription).await.accept();
    assert!(matches!(subscription.next().await, Some(Event::ResourceTimeout(name)) if name == "a"));
    assert_eq!(resources(&subscription).await[0].1, ResourceStatus::TimedOut);

    stream.send(&change(EDS, "n2", &[("a", "1")], &[]));
    update(&mut subscription).await.accept();
    stream.delta().await;
    stream.delta().await;
    assert_eq!(resources(&subscription).await[0].1, ResourceStatus::Acked);
    tokio::time::sleep(2 * FETCH_TIMEOUT).await;
    no_event(&mut subscription).await;
}

#[tokio::test(start_paused = true)]
async fn refreshing_starts_the_wait_anew_and_removing_ends_it() {
    let (client, mut script) = start(Protocol::Sotw);
    let mut subscription = client.subscribe(endpoints());
    let handle = subscription.handle();
    handle.add(["a", "b"]);
    let mut stream = script.accept().await;
    stream.sotw().await;
    stream.send(&world(EDS, "1", "n1", &["a"]));
    update(&mut subscription).await.accept();
    handle.remove(["b"]);
    handle.refresh(["a"]);
    assert!(matches!(subscription.next().await, Some(Event::ResourceTimeout(name)) if name == "a"));
    assert_eq!(resources(&subscription).await, [("a".into(), ResourceStatus::Acked, "1".into())]);
    no_event(&mut subscription).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_timeout_one_waits_for_ever() {
    let (client, _script) = start(Protocol::Sotw);
    let forever = xds_client::SubscriptionConfig { initial_fetch_timeout: None, ..clusters() };
    let mut subscription = client.subscribe(forever);
    subscription.handle().add(["a"]);
    tokio::time::sleep(Duration::from_secs(1_000_000)).await;
    no_event(&mut subscription).await;
}

#[tokio::test(start_paused = true)]
async fn delta_heartbeats_keep_a_resource_alive_until_they_stop() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(clusters());
    let mut stream = script.accept().await;
    stream.delta().await;
    let mut response = change(CDS, "n1", &[("a", "1"), ("b", "1")], &[]);
    response.resources[0].ttl = seconds(10);
    stream.send(&response);
    let update = update(&mut subscription).await;
    assert_eq!(
        (update.resources[0].ttl, update.resources[1].ttl),
        (Some(Duration::from_secs(10)), None)
    );
    update.accept();
    stream.delta().await;

    let mut heartbeat = change(CDS, "beat", &[("a", "1")], &[]);
    heartbeat.resources[0].resource = None;
    heartbeat.resources[0].ttl = seconds(10);
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(8)).await;
        stream.send(&heartbeat);
        assert_eq!(stream.delta().await.response_nonce, "beat");
    }
    let before = Instant::now();
    assert!(matches!(subscription.next().await, Some(Event::Expired(name)) if name == "a"));
    assert_eq!(before.elapsed().as_secs(), 10);
    assert_eq!(resources(&subscription).await, [("b".into(), ResourceStatus::Acked, "1".into())]);
}

#[tokio::test(start_paused = true)]
async fn state_of_the_world_heartbeats_count_as_presence() {
    let (client, mut script) = start(Protocol::Sotw);
    let mut subscription = client.subscribe(clusters());
    let mut stream = script.accept().await;
    stream.sotw().await;
    let mut mortal = wrapper(CDS, "a", "");
    mortal.ttl = seconds(10);
    let mut response = world(CDS, "1", "n1", &["b"]);
    response.resources.push(wrap(&mortal));
    stream.send(&response);
    update(&mut subscription).await.accept();
    stream.sotw().await;

    tokio::time::sleep(Duration::from_secs(8)).await;
    mortal.version = "1".into();
    mortal.resource = None;
    let mut heartbeat = world(CDS, "1", "n2", &["b"]);
    heartbeat.resources.push(wrap(&mortal));
    stream.send(&heartbeat);
    let beat = update(&mut subscription).await;
    assert_eq!((names(&beat), beat.removed.len()), (vec!["b"], 0));
    beat.accept();
    stream.sotw().await;
    let before = Instant::now();
    assert!(matches!(subscription.next().await, Some(Event::Expired(name)) if name == "a"));
    assert_eq!(before.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_resource_sent_again_without_ttl_lives_for_ever() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(endpoints());
    subscription.handle().add(["a"]);
    let mut stream = script.accept().await;
    stream.delta().await;
    let mut response = change(EDS, "n1", &[("a", "1")], &[]);
    response.resources[0].ttl = seconds(10);
    stream.send(&response);
    update(&mut subscription).await.accept();
    stream.send(&change(EDS, "n2", &[("a", "2")], &[]));
    update(&mut subscription).await.accept();
    stream.delta().await;
    stream.delta().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    no_event(&mut subscription).await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_name_stays_subscribed_and_a_late_answer_does_not_revive_it() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(endpoints());
    subscription.handle().add(["a"]);
    let mut stream = script.accept().await;
    stream.delta().await;
    let mut response = change(EDS, "n1", &[("a", "1")], &[]);
    response.resources[0].ttl = seconds(10);
    stream.send(&response);
    let held = update(&mut subscription).await;
    assert!(matches!(subscription.next().await, Some(Event::Expired(name)) if name == "a"));
    held.accept();
    stream.delta().await;
    assert_eq!(
        resources(&subscription).await,
        [("a".into(), ResourceStatus::DoesNotExist, "".into())]
    );
    stream.send(&change(EDS, "n2", &[("a", "2")], &[]));
    assert_eq!(names(&update(&mut subscription).await), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_time_to_live_may_be_absurd() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(clusters());
    let mut stream = script.accept().await;
    stream.delta().await;
    let mut response = change(CDS, "n1", &[("endless", "1"), ("negative", "1")], &[]);
    response.resources[0].ttl = seconds(i64::MAX);
    response.resources[1].ttl = seconds(-1);
    stream.send(&response);
    let update = update(&mut subscription).await;
    assert_eq!(names(&update), ["endless"]);
    update.accept();
    assert_eq!(
        nack(&stream.delta().await.error_detail),
        "negative: ttl: -1s 0ns is not a positive duration"
    );
}
