//! The incremental protocol.

mod client;

use std::collections::HashMap;

use client::{LONG, cluster, endpoints, node, open_delta, owned};
use control_plane_mock::{Change, ControlPlane, EventKind, Options, Resource, Scope};
use proto::envoy::config::cluster::v3::{
    Cluster,
    cluster::{ClusterDiscoveryType, DiscoveryType},
};
use proto::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use proto::type_url::{CLUSTER, CLUSTER_LOAD_ASSIGNMENT};

async fn start() -> ControlPlane {
    ControlPlane::start_default().await.expect("it starts")
}

fn none() -> Vec<String> {
    Vec::new()
}

#[tokio::test]
async fn a_wildcard_gets_everything_once_and_then_what_changes() {
    let control_plane = start().await;
    control_plane.put([cluster("a", ""), cluster("b", "")]);
    let mut stream = open_delta(control_plane.addr()).await;
    stream.change(CLUSTER, &[], &[]);
    assert_eq!(stream.accept().await, (owned(&["a", "b"]), none()));

    control_plane.put([cluster("a", ""), cluster("b", "changed")]);
    assert_eq!(stream.accept().await, (owned(&["b"]), none()));
    control_plane.delete(CLUSTER, ["a", "never-there"]);
    assert_eq!(stream.accept().await, (none(), owned(&["a"])));
}

#[tokio::test]
async fn names_that_do_not_exist_are_removed_and_sent_when_they_appear() {
    let control_plane = start().await;
    control_plane.put([endpoints("a")]);
    let mut stream = open_delta(control_plane.addr()).await;
    stream.change(CLUSTER_LOAD_ASSIGNMENT, &["a", "b"], &[]);
    assert_eq!(stream.accept().await, (owned(&["a"]), owned(&["b"])));
    control_plane.put([endpoints("b"), endpoints("c")]);
    assert_eq!(stream.accept().await, (owned(&["b"]), none()));
}

#[tokio::test]
async fn a_repeated_subscription_is_answered_again() {
    let control_plane = start().await;
    control_plane.put([endpoints("a")]);
    let mut stream = open_delta(control_plane.addr()).await;
    stream.change(CLUSTER_LOAD_ASSIGNMENT, &["a"], &[]);
    assert_eq!(stream.accept().await, (owned(&["a"]), none()));
    stream.change(CLUSTER_LOAD_ASSIGNMENT, &["a"], &["a"]);
    assert_eq!(stream.accept().await, (owned(&["a"]), none()));
}

#[tokio::test]
async fn an_unsubscribed_name_is_sent_no_more() {
    let control_plane = start().await;
    control_plane.put([endpoints("a"), endpoints("b")]);
    let mut stream = open_delta(control_plane.addr()).await;
    stream.change(CLUSTER_LOAD_ASSIGNMENT, &["a", "b"], &[]);
    assert_eq!(stream.accept().await, (owned(&["a", "b"]), none()));
    stream.change(CLUSTER_LOAD_ASSIGNMENT, &[], &["a"]);
    let only_b =
        |clients: &[control_plane_mock::Client]| clients[0].subscriptions[0].names == ["b"];
    assert!(control_plane.wait_until(LONG, only_b).await);
    control_plane.delete(CLUSTER_LOAD_ASSIGNMENT, ["a", "b"]);
    assert_eq!(stream.accept().await, (none(), owned(&["b"])));
}

#[tokio::test]
async fn a_name_unsubscribed_under_a_wildcard_is_told_again() {
    let control_plane = start().await;
    control_plane.put([cluster("a", "")]);
    let mut stream = open_delta(control_plane.addr()).await;
    stream.change(CLUSTER, &["*", "a", "gone"], &[]);
    assert_eq!(stream.accept().await, (owned(&["a"]), owned(&["gone"])));
    stream.change(CLUSTER, &[], &["a", "gone"]);
    assert_eq!(stream.accept().await, (owned(&["a"]), owned(&["gone"])));
}

#[tokio::test]
async fn what_the_client_has_from_an_earlier_stream_is_not_sent_again() {
    let control_plane = start().await;
    control_plane.put([cluster("same", ""), cluster("changed", "new")]);
    let version = |resource: Resource| resource.version().to_owned();
    let initial = HashMap::from([
        ("same".to_owned(), version(cluster("same", ""))),
        ("changed".to_owned(), version(cluster("changed", "old"))),
        ("gone".to_owned(), version(cluster("gone", ""))),
    ]);
    let mut stream = open_delta(control_plane.addr()).await;
    stream.send(DeltaDiscoveryRequest {
        node: node(),
        type_url: CLUSTER.into(),
        initial_resource_versions: initial,
        ..Default::default()
    });
    assert_eq!(stream.accept().await, (owned(&["changed"]), owned(&["gone"])));
}

#[tokio::test]
async fn a_client_that_has_everything_need_not_answer_to_be_up_to_date() {
    let control_plane = start().await;
    let version = control_plane.put([endpoints("a")]);
    let mut stream = open_delta(control_plane.addr()).await;
    stream.send(DeltaDiscoveryRequest {
        node: node(),
        type_url: CLUSTER_LOAD_ASSIGNMENT.into(),
        resource_names_subscribe: owned(&["a"]),
        initial_resource_versions: HashMap::from([(
            "a".to_owned(),
            endpoints("a").version().to_owned(),
        )]),
        ..Default::default()
    });
    let wait = control_plane.wait_ack(CLUSTER_LOAD_ASSIGNMENT, version, None, LONG);
    assert_eq!(wait.await.expect("it has it").error, None);
    control_plane.delete(CLUSTER_LOAD_ASSIGNMENT, ["a"]);
    assert_eq!(stream.accept().await, (none(), owned(&["a"])));
}

#[tokio::test]
async fn a_thousand_changed_clusters_are_one_push() {
    let control_plane = start().await;
    let clusters =
        |text: &str| (0..1000).map(|i| cluster(&format!("c{i}"), text)).collect::<Vec<_>>();
    control_plane.put(clusters("old"));
    let mut stream = open_delta(control_plane.addr()).await;
    stream.change(CLUSTER, &[], &[]);
    stream.accept().await;
    let mut events = control_plane.events();
    let version = control_plane.put(clusters("new"));
    assert_eq!(stream.accept().await.0.len(), 1000);
    control_plane.wait_ack(CLUSTER, version, None, LONG).await.expect("it came");
    let pushed = loop {
        let event = events.next().await.expect("it runs");
        if let EventKind::Pushed { resources, .. } = &event.kind {
            break resources.len();
        }
    };
    assert_eq!(pushed, 1000);
}

#[tokio::test]
async fn one_batch_is_pushed_in_the_order_of_make_before_break() {
    let control_plane = start().await;
    let mut stream = open_delta(control_plane.addr()).await;
    stream.change(CLUSTER_LOAD_ASSIGNMENT, &["a"], &[]);
    assert_eq!(stream.accept().await, (none(), owned(&["a"])));
    stream.change(CLUSTER, &[], &[]);
    assert_eq!(stream.accept().await, (none(), none()));
    let settled = |clients: &[control_plane_mock::Client]| {
        clients[0].subscriptions.iter().filter(|one| one.settled).count() == 2
    };
    assert!(control_plane.wait_until(LONG, settled).await);
    control_plane.put([endpoints("a"), cluster("a", "")]);
    assert_eq!(stream.receive().await.type_url, CLUSTER);
    assert_eq!(stream.receive().await.type_url, CLUSTER_LOAD_ASSIGNMENT);
}

#[tokio::test]
async fn the_endpoints_of_a_changed_cluster_are_sent_again_unless_switched_off() {
    for resend_endpoints in [true, false] {
        let options = Options { resend_endpoints, ..Default::default() };
        let control_plane = ControlPlane::start(options).await.expect("it starts");
        let eds_cluster = |text: &str| {
            let eds = ClusterDiscoveryType::Type(DiscoveryType::Eds.into());
            let cluster = Cluster {
                name: "a".into(),
                alt_stat_name: text.into(),
                cluster_discovery_type: Some(eds),
                ..Default::default()
            };
            Resource::pack(&cluster).expect("named")
        };
        control_plane.put([endpoints("a"), eds_cluster("old")]);
        let mut stream = open_delta(control_plane.addr()).await;
        stream.change(CLUSTER, &[], &[]);
        stream.accept().await;
        stream.change(CLUSTER_LOAD_ASSIGNMENT, &["a"], &[]);
        stream.accept().await;
        let mut events = control_plane.events();
        let version = control_plane.put([eds_cluster("new")]);
        assert_eq!(stream.accept().await.0, ["a"]);
        control_plane.wait_ack(CLUSTER, version, None, LONG).await.expect("it came");
        if resend_endpoints {
            assert_eq!(stream.receive().await.type_url, CLUSTER_LOAD_ASSIGNMENT);
        }
        let mut pushed = Vec::new();
        while let Some(event) = events.next().await {
            match event.kind {
                EventKind::Pushed { .. } => pushed.push(event.type_url.clone()),
                EventKind::Acked { .. } if event.type_url == CLUSTER => break,
                _ => {}
            }
        }
        assert_eq!(pushed.contains(&CLUSTER_LOAD_ASSIGNMENT.to_owned()), resend_endpoints);
    }
}

#[tokio::test]
async fn what_is_added_goes_before_what_is_removed_of_another_type() {
    let control_plane = start().await;
    control_plane.put([cluster("old", ""), endpoints("old")]);
    let mut stream = open_delta(control_plane.addr()).await;
    stream.change(CLUSTER, &[], &[]);
    assert_eq!(stream.accept().await, (owned(&["old"]), none()));
    stream.change(CLUSTER_LOAD_ASSIGNMENT, &["*"], &[]);
    assert_eq!(stream.accept().await, (owned(&["old"]), none()));
    let answered = |clients: &[control_plane_mock::Client]| {
        clients[0].subscriptions.iter().filter(|one| one.answered.is_some()).count() == 2
    };
    assert!(control_plane.wait_until(LONG, answered).await);

    control_plane.apply(vec![
        Change::Delete(Scope::All, CLUSTER.into(), "old".into()),
        Change::Put(Scope::All, endpoints("new")),
    ]);
    assert_eq!(stream.accept().await, (owned(&["new"]), none()));
    assert_eq!(stream.accept().await, (none(), owned(&["old"])));

    control_plane.apply(vec![
        Change::Delete(Scope::All, CLUSTER_LOAD_ASSIGNMENT.into(), "old".into()),
        Change::Put(Scope::All, endpoints("newer")),
    ]);
    assert_eq!(stream.accept().await, (owned(&["newer"]), owned(&["old"])));
}

#[tokio::test]
async fn a_resource_is_found_by_its_alias() {
    let control_plane = start().await;
    let aliased = cluster("route/a", "").with_aliases(owned(&["route/a.example.com"]));
    control_plane.put([aliased]);
    let mut stream = open_delta(control_plane.addr()).await;
    stream.change(CLUSTER, &["route/a.example.com"], &[]);
    let response = stream.receive().await;
    assert_eq!(response.resources[0].name, "route/a");
    assert_eq!(response.resources[0].aliases, ["route/a.example.com"]);
}
