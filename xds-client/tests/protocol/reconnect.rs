//! Streams that end, servers that fail, requests that have to wait: nothing is lost.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use xds_client::{
    Client, ClientConfig, Mode, Protocol, RateLimit, ResourceError, ResourceStatus, StartError,
    Subscription, SubscriptionConfig,
};

use crate::script::*;

#[tokio::test(start_paused = true)]
async fn state_of_the_world_resumes_with_its_version_and_no_nonce() {
    let (client, mut script) = start(Protocol::Sotw);
    let mut cds = client.subscribe(clusters());
    let mut eds = client.subscribe(endpoints());
    eds.handle().add(["a"]);
    let mut stream = script.accept().await;
    stream.sotw().await;
    stream.sotw().await;
    stream.send(&world(CDS, "1", "n1", &["a"]));
    update(&mut cds).await.accept();
    stream.sotw().await;
    stream.send(&world(CDS, "2", "n2", &["a"]));
    update(&mut cds).await.reject(vec![ResourceError::new("a", "no")]);
    stream.sotw().await;
    drop(stream);

    let mut stream = script.accept().await;
    let first = stream.sotw().await;
    assert_eq!(
        (first.type_url.as_str(), first.version_info.as_str(), first.response_nonce.as_str()),
        (CDS, "1", "")
    );
    assert_eq!((first.node, first.error_detail), (Some(node()), None));
    let second = stream.sotw().await;
    assert_eq!(
        (second.type_url.as_str(), second.version_info.as_str(), second.resource_names.len()),
        (EDS, "", 1)
    );
    stream.send(&world(EDS, "1", "n1", &["a"]));
    update(&mut eds).await.accept();
    assert_eq!(stream.sotw().await.response_nonce, "n1");
}

#[tokio::test(start_paused = true)]
async fn delta_resumes_with_all_names_and_their_versions() {
    let (client, mut script) = start(Protocol::Delta);
    let mut cds = client.subscribe(clusters());
    let mut eds = client.subscribe(endpoints());
    eds.handle().add(["a", "b"]);
    let mut stream = script.accept().await;
    stream.delta().await;
    stream.delta().await;
    stream.send(&change(CDS, "c1", &[("a", "1"), ("b", "2")], &[]));
    update(&mut cds).await.accept();
    stream.send(&change(EDS, "e1", &[("a", "1")], &[]));
    update(&mut eds).await.accept();
    stream.delta().await;
    stream.delta().await;
    drop(stream);
    eds.handle().remove(["b"]);
    eds.handle().add(["c"]);

    let mut stream = script.accept().await;
    let first = stream.delta().await;
    assert!(first.resource_names_subscribe.is_empty());
    let versions = [("a".into(), "1".into()), ("b".into(), "2".into())];
    assert_eq!(first.initial_resource_versions, HashMap::from(versions));
    let second = stream.delta().await;
    assert_eq!(second.resource_names_subscribe, ["a", "c"]);
    assert!(second.resource_names_unsubscribe.is_empty());
    assert_eq!(second.initial_resource_versions, HashMap::from([("a".into(), "1".into())]));
    stream.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_lost_stream_is_remembered_but_not_sent() {
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        let (client, mut script) = start(protocol);
        let mut subscription = client.subscribe(clusters());
        let mut stream = script.accept().await;
        stream.either(protocol).await;
        stream.send_either(protocol, CDS, "n1");
        let held = update(&mut subscription).await;
        drop(stream);
        let mut second = script.accept().await;
        match protocol {
            Protocol::Sotw | Protocol::Rest(_) => assert_eq!(second.sotw().await.version_info, ""),
            Protocol::Delta => assert!(second.delta().await.initial_resource_versions.is_empty()),
        }
        held.accept();
        second.is_silent().await;
        drop(second);
        let mut third = script.accept().await;
        match protocol {
            Protocol::Sotw | Protocol::Rest(_) => assert_eq!(third.sotw().await.version_info, "1"),
            Protocol::Delta => {
                let versions = third.delta().await.initial_resource_versions;
                assert_eq!(versions, HashMap::from([("a".into(), "1".into())]));
            }
        }
    }
}

/// Plays a whole exchange and drops the stream, perhaps with nonsense, after `steps` messages; then
/// plays it again to the end.
async fn interrupted_exchange(protocol: Protocol, steps: usize, garbage: bool) {
    let (client, mut script) = start(protocol);
    let mut cds = client.subscribe(clusters());
    let mut eds = client.subscribe(endpoints());
    eds.handle().add(["a"]);
    for steps in [steps, 6] {
        let mut stream = script.accept().await;
        for step in 0..steps {
            match step {
                0 => assert_eq!(stream.either(protocol).await, (CDS.into(), "".into())),
                1 => assert_eq!(stream.either(protocol).await, (EDS.into(), "".into())),
                2 => stream.send_either(protocol, CDS, "c"),
                3 => {
                    update(&mut cds).await.accept();
                    assert_eq!(stream.either(protocol).await, (CDS.into(), "c".into()));
                }
                4 => stream.send_either(protocol, EDS, "e"),
                _ => {
                    update(&mut eds).await.accept();
                    assert_eq!(stream.either(protocol).await, (EDS.into(), "e".into()));
                }
            }
        }
        if garbage {
            stream.send_bytes(vec![0xff; 64]);
            stream.hung_up().await;
        }
        drop(stream);
        accept_what_came([&mut cds, &mut eds]).await;
    }
    for subscription in [&cds, &eds] {
        assert_eq!(
            resources(subscription).await,
            [("a".into(), ResourceStatus::Acked, "1".into())]
        );
    }
}

/// What comes just before the end of a stream still counts, and comes again on the next.
async fn accept_what_came(subscriptions: [&mut Subscription; 2]) {
    for subscription in subscriptions {
        let wait = tokio::time::timeout(Duration::from_millis(1), update(subscription));
        if let Ok(update) = wait.await {
            update.accept();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_dropped_at_any_point_loses_nothing() {
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        for steps in 0..=6 {
            interrupted_exchange(protocol, steps, false).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_garbage_message_at_any_point_loses_nothing() {
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        for steps in 0..=6 {
            interrupted_exchange(protocol, steps, true).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failures_are_spaced_further_and_further_until_a_message_comes() {
    let (mut script, server) = Script::new("primary");
    let mut config = config(Protocol::Sotw, vec![server]);
    config.backoff.base = Duration::from_secs(1);
    config.backoff.max = Duration::from_secs(64);
    let client = start_with(config);
    let patient = SubscriptionConfig { initial_fetch_timeout: None, ..clusters() };
    let mut subscription = client.subscribe(patient);
    let mut longest = Duration::ZERO;
    for failures in 0..12 {
        let before = Instant::now();
        drop(script.accept().await);
        let limit = Duration::from_secs(1 << failures.min(7) >> 1).min(Duration::from_secs(64));
        assert!(before.elapsed() <= limit, "{:?} after {failures} failures", before.elapsed());
        longest = longest.max(before.elapsed());
    }
    assert!(longest > Duration::from_secs(1), "twelve delays without jitter add up to minutes");

    let mut stream = script.accept().await;
    stream.sotw().await;
    stream.send(&world(CDS, "1", "n1", &[]));
    update(&mut subscription).await.accept();
    stream.sotw().await;
    let before = Instant::now();
    drop(stream);
    script.accept().await;
    assert!(before.elapsed() <= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn after_two_failures_the_next_server_takes_over_without_foreign_versions() {
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        let (mut primary, first) = Script::new("primary");
        let (mut secondary, second) = Script::new("secondary");
        let client = start_with(config(protocol, vec![first, second]));
        let mut subscription = client.subscribe(clusters());
        let mut stream = primary.accept().await;
        stream.either(protocol).await;
        stream.send_either(protocol, CDS, "n1");
        update(&mut subscription).await.accept();
        assert_eq!(stream.either(protocol).await, (CDS.into(), "n1".into()));
        drop(stream);
        drop(primary.accept().await);
        drop(primary.accept().await);
        let mut stream = secondary.accept().await;
        assert_eq!(client.stats().await.server, "secondary");
        match protocol {
            Protocol::Sotw | Protocol::Rest(_) => assert_eq!(stream.sotw().await.version_info, ""),
            Protocol::Delta => assert!(stream.delta().await.initial_resource_versions.is_empty()),
        }
        drop(stream);
        drop(secondary.accept().await);
        // Nobody has answered since: the first server's versions are still its own.
        let mut stream = primary.accept().await;
        match protocol {
            Protocol::Sotw | Protocol::Rest(_) => assert_eq!(stream.sotw().await.version_info, "1"),
            Protocol::Delta => assert_eq!(stream.delta().await.initial_resource_versions.len(), 1),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_server_is_passed_over() {
    let (mut secondary, second) = Script::new("secondary");
    let client = start_with(config(Protocol::Delta, vec![unreachable("primary"), second]));
    let _subscription = client.subscribe(clusters());
    assert_eq!(secondary.accept().await.delta().await.type_url, CDS);
    let stats = client.stats().await;
    assert_eq!(
        (stats.subscriptions[0].1.update_failure, stats.subscriptions[0].1.update_attempt),
        (2, 3)
    );
}

#[tokio::test(start_paused = true)]
async fn the_node_may_go_with_the_first_request_only() {
    let (mut script, server) = Script::new("primary");
    let client = start_with(ClientConfig {
        set_node_on_first_message_only: true,
        ..config(Protocol::Sotw, vec![server])
    });
    let _cds = client.subscribe(clusters());
    let eds = client.subscribe(endpoints());
    eds.handle().add(["a"]);
    for _ in 0..2 {
        let mut stream = script.accept().await;
        assert_eq!(stream.sotw().await.node, Some(node()));
        assert_eq!(stream.sotw().await.node, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_type_has_its_own_service_and_no_other_type() {
    let (mut script, mut server) = Script::new("primary");
    server.metadata.insert("authorization", "Bearer x".parse().expect("a header value"));
    let client = start_with(ClientConfig {
        mode: Mode::SingleType { type_url: EDS.into() },
        ..config(Protocol::Delta, vec![server])
    });
    let mut wrong = client.subscribe(clusters());
    assert!(wrong.next().await.is_none());
    let mut subscription = client.subscribe(endpoints());
    subscription.handle().add(["a"]);
    let mut stream = script.accept().await;
    assert_eq!(stream.path, "/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints");
    assert_eq!(stream.metadata.get("authorization").expect("initial metadata"), "Bearer x");
    stream.delta().await;
    let mut response = change(EDS, "n1", &[("a", "1")], &[]);
    response.type_url.clear();
    stream.send(&response);
    assert_eq!(names(&update(&mut subscription).await), ["a"]);
}

#[test]
fn a_client_without_server_or_method_does_not_start() {
    let nobody = Client::start(config(Protocol::Sotw, vec![]));
    assert_eq!(nobody.err(), Some(StartError::NoServer));
}

#[tokio::test(start_paused = true)]
async fn paused_changes_leave_as_one_request() {
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        let (client, mut script) = start(protocol);
        let subscription = client.subscribe(endpoints());
        let handle = subscription.handle();
        let outer = client.pause(&[EDS]);
        let inner = client.pause(&[EDS, CDS]);
        handle.add(["a"]);
        let mut stream = script.accept().await;
        stream.is_silent().await;
        handle.add(["b"]);
        drop(inner);
        stream.is_silent().await;
        assert_eq!(client.stats().await.pending_requests, 1);
        handle.remove(["a"]);
        handle.add(["c"]);
        drop(outer);
        let names = match protocol {
            Protocol::Sotw | Protocol::Rest(_) => stream.sotw().await.resource_names,
            Protocol::Delta => stream.delta().await.resource_names_subscribe,
        };
        assert_eq!(names, ["b", "c"]);
        stream.is_silent().await;
    }
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_rate_limit_wait_their_turn() {
    let (mut script, server) = Script::new("primary");
    let client = start_with(ClientConfig {
        rate_limit: Some(RateLimit { max_tokens: 1, fill_rate: 0.5 }),
        ..config(Protocol::Delta, vec![server])
    });
    let subscription = client.subscribe(endpoints());
    let handle = subscription.handle();
    handle.add(["a"]);
    let mut stream = script.accept().await;
    stream.delta().await;
    handle.add(["b"]);
    stream.is_silent().await;
    handle.add(["c"]);
    assert_eq!(stream.delta().await.resource_names_subscribe, ["b", "c"]);
    assert!(client.stats().await.rate_limit_enforced > 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_floods_without_reading_answers_is_not_read_for_ever() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(clusters());
    let mut stream = script.accept().await;
    stream.delta().await;
    for number in 0..200 {
        stream.send(&change(CDS, &number.to_string(), &[("a", &number.to_string())], &[]));
    }
    let mut unanswered = Vec::new();
    while let Ok(update) =
        tokio::time::timeout(Duration::from_secs(1), update(&mut subscription)).await
    {
        unanswered.push(update);
    }
    assert_eq!(unanswered.len(), 64);
    unanswered.into_iter().for_each(xds_client::Update::accept);
    for number in 64..200 {
        let update = update(&mut subscription).await;
        assert_eq!(update.resources[0].version, number.to_string());
        update.accept();
        stream.delta().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_stream_ends_with_its_last_user() {
    let (client, mut script) = start(Protocol::Sotw);
    let subscription = client.subscribe(clusters());
    let stream = script.accept().await;
    drop(client);
    assert!(!script.has_stream());
    drop(subscription);
    stream.hung_up().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_stream_begins_while_answers_are_held_back() {
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        let (client, mut script) = start(protocol);
        let mut cds = client.subscribe(clusters());
        let mut stream = script.accept().await;
        stream.either(protocol).await;
        let held = client.hold_answers(&[CDS]);
        stream.send_either(protocol, CDS, "n1");
        update(&mut cds).await.accept();
        stream.is_silent().await;
        drop(stream);
        let mut stream = script.accept().await;
        assert_eq!(stream.either(protocol).await, (CDS.to_owned(), String::new()));
        stream.send_either(protocol, CDS, "n2");
        update(&mut cds).await.accept();
        stream.is_silent().await;
        drop(held);
        assert_eq!(stream.either(protocol).await, (CDS.to_owned(), "n2".to_owned()));
    }
}
