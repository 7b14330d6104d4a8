//! The state of every resource can be read.

use proto::envoy::config::core::v3::ControlPlane;
use xds_client::{Client, Protocol, ResourceError, ResourceStatus};

use crate::script::*;

fn state(name: &str, status: ResourceStatus, version: &str) -> (String, ResourceStatus, String) {
    (name.into(), status, version.into())
}

#[tokio::test(start_paused = true)]
async fn every_status_of_a_resource_is_shown() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(endpoints());
    subscription.handle().add(["good", "bad", "gone", "late"]);
    let mut stream = script.accept().await;
    stream.delta().await;
    assert!(
        resources(&subscription)
            .await
            .iter()
            .all(|resource| resource.1 == ResourceStatus::Requested)
    );

    stream.send(&change(EDS, "n1", &[("good", "1"), ("bad", "1")], &["gone"]));
    update(&mut subscription).await.accept();
    stream.send(&change(EDS, "n2", &[("good", "2"), ("bad", "2")], &[]));
    update(&mut subscription).await.reject(vec![ResourceError::new("bad", "port: 99999 > 65535")]);
    subscription.next().await.expect("the last name times out");
    let refused =
        ResourceStatus::Nacked { error: "port: 99999 > 65535".into(), version: "2".into() };
    let expected = [
        state("bad", refused, "1"),
        state("gone", ResourceStatus::DoesNotExist, ""),
        state("good", ResourceStatus::Acked, "2"),
        state("late", ResourceStatus::TimedOut, ""),
    ];
    assert_eq!(resources(&subscription).await, expected);
    let states = client.state().await;
    assert_eq!(
        (states.len(), states[0].type_url.as_str(), states[0].version.as_str()),
        (1, EDS, "system-n1")
    );
}

#[tokio::test(start_paused = true)]
async fn a_resource_refused_before_its_receiver_saw_it_is_shown_too() {
    let (client, mut script) = start(Protocol::Delta);
    let mut subscription = client.subscribe(endpoints());
    subscription.handle().add(["a"]);
    let mut stream = script.accept().await;
    stream.delta().await;
    let mut response = change(EDS, "n1", &[("a", "1")], &[]);
    response.resources[0].ttl = seconds(0);
    stream.send(&response);
    update(&mut subscription).await.accept();
    stream.delta().await;
    assert!(matches!(&resources(&subscription).await[0].1, ResourceStatus::Nacked { .. }));
}

#[tokio::test(start_paused = true)]
async fn counters_follow_the_stream() {
    let (client, mut script) = start(Protocol::Sotw);
    let mut subscription = client.subscribe(clusters());
    let stats = client.stats().await;
    assert_eq!((stats.connected_state, stats.server.as_str()), (false, "primary"));
    let mut stream = script.accept().await;
    stream.sotw().await;
    stream.is_silent().await;
    assert!(client.stats().await.connected_state);

    let mut response = world(CDS, "abc", "n1", &["a"]);
    response.control_plane = Some(ControlPlane { identifier: "plane-7".into() });
    stream.send(&response);
    update(&mut subscription).await.accept();
    stream.sotw().await;
    stream.send(&world(CDS, "v2", "n2", &["a"]));
    update(&mut subscription).await.reject(vec![ResourceError::new("a", "no")]);
    stream.sotw().await;
    let stats = client.stats().await;
    assert_eq!(
        (stats.connected_state, stats.identifier.as_str(), stats.pending_requests),
        (true, "plane-7", 0)
    );
    let counters = &stats.subscriptions[0].1;
    assert_eq!(
        (counters.update_attempt, counters.update_success, counters.update_rejected),
        (3, 1, 1)
    );
    assert_eq!((counters.version_text.as_str(), counters.version), ("abc", 0x44bc_2cf5_ad77_0999));
    assert!(counters.update_time.is_some());

    drop(stream);
    update_failed(&client).await;
    assert!(!client.stats().await.connected_state);
}

/// Waits until the client has noticed that its stream is gone.
async fn update_failed(client: &Client) {
    while client.stats().await.subscriptions[0].1.update_failure == 0 {
        tokio::task::yield_now().await;
    }
}
