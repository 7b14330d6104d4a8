//! The state-of-the-world protocol.

mod client;

use client::{LONG, NODE, cluster, endpoints, names, open_sotw};
use control_plane_mock::{ControlPlane, EventKind, Options, Protocol};
use proto::envoy::service::cluster::v3::cluster_discovery_service_client::ClusterDiscoveryServiceClient;
use proto::envoy::service::discovery::v3::DiscoveryRequest;
use proto::type_url::{CLUSTER, CLUSTER_LOAD_ASSIGNMENT};

async fn start() -> ControlPlane {
    ControlPlane::start_default().await.expect("it starts")
}

#[tokio::test]
async fn a_wildcard_gets_everything_even_nothing_and_again_on_every_change() {
    let control_plane = start().await;
    let mut stream = open_sotw(control_plane.addr()).await;
    stream.subscribe(CLUSTER, &[]);
    let empty = stream.receive().await;
    assert_eq!(names(&empty), [] as [&str; 0]);
    stream.answer(&empty, &[], None);

    control_plane.put([cluster("b", ""), cluster("a", "")]);
    let first = stream.receive().await;
    assert_eq!(names(&first), ["a", "b"]);
    stream.answer(&first, &[], None);

    let version = control_plane.delete(CLUSTER, ["a"]);
    let second = stream.receive().await;
    assert_eq!((names(&second), second.version_info), (vec!["b".to_owned()], version.to_string()));
}

#[tokio::test]
async fn a_named_subscription_is_answered_when_the_name_exists() {
    let control_plane = start().await;
    let mut stream = open_sotw(control_plane.addr()).await;
    stream.subscribe(CLUSTER_LOAD_ASSIGNMENT, &["a"]);
    control_plane.put([endpoints("other")]);
    control_plane.put([endpoints("a")]);
    let first = stream.receive().await;
    assert_eq!(names(&first), ["a"]);

    stream.answer(&first, &["a", "other"], None);
    let second = stream.receive().await;
    assert_eq!(names(&second), ["a", "other"]);
}

#[tokio::test]
async fn what_changes_before_the_answer_is_one_push_after_it() {
    let control_plane = start().await;
    let mut stream = open_sotw(control_plane.addr()).await;
    stream.subscribe(CLUSTER, &[]);
    let first = stream.receive().await;
    control_plane.put([cluster("a", "")]);
    let version = control_plane.put([cluster("b", "")]);
    stream.answer(&first, &[], None);
    let second = stream.receive().await;
    assert_eq!(names(&second), ["a", "b"]);
    assert_eq!(second.version_info, version.to_string());
}

#[tokio::test]
async fn a_request_with_a_stale_nonce_is_dropped() {
    let control_plane = start().await;
    let mut events = control_plane.events();
    control_plane.put([endpoints("a"), endpoints("b")]);
    let mut stream = open_sotw(control_plane.addr()).await;
    stream.subscribe(CLUSTER_LOAD_ASSIGNMENT, &["a"]);
    let first = stream.receive().await;
    stream.answer(&first, &["a", "b"], None);
    let second = stream.receive().await;
    stream.answer(&first, &["a"], None);
    stream.answer(&second, &["a", "b"], None);

    let mut kinds = Vec::new();
    while kinds.len() < 7 {
        kinds.push(events.next().await.expect("it runs").kind.clone());
    }
    let stale = EventKind::StaleNonce { nonce: first.nonce };
    assert!(kinds.contains(&stale), "{kinds:?}");
    let subscribed = &control_plane.clients()[0].subscriptions[0].names;
    assert_eq!(subscribed, &["a", "b"]);
}

#[tokio::test]
async fn an_ack_and_a_nack_can_be_waited_for() {
    let control_plane = start().await;
    let mut stream = open_sotw(control_plane.addr()).await;
    let version = control_plane.put([cluster("a", "")]);
    stream.subscribe(CLUSTER, &[]);
    let first = stream.receive().await;
    stream.answer(&first, &[], None);
    let answer = control_plane.wait_ack(CLUSTER, version, Some(NODE), LONG).await.expect("it came");
    assert_eq!((answer.node.as_str(), answer.error), (NODE, None));

    let version = control_plane.put([cluster("a", "bad")]);
    let second = stream.receive().await;
    stream.answer(&second, &[], Some("no such thing"));
    let answer = control_plane.wait_ack(CLUSTER, version, None, LONG).await.expect("it came");
    assert_eq!((answer.version, answer.error.as_deref()), (version, Some("no such thing")));
}

#[tokio::test]
async fn a_wait_in_vain_says_who_is_subscribed_to_what() {
    let control_plane = start().await;
    let wait = control_plane.wait_ack(CLUSTER, 1, Some("n"), std::time::Duration::ZERO);
    let error = wait.await.expect_err("nobody is there").to_string();
    assert!(error.contains("no node \"n\" is subscribed"), "{error}");
}

#[tokio::test]
async fn nodes_see_their_own_view() {
    let control_plane = start().await;
    control_plane.put([cluster("a", "common"), cluster("b", "common")]);
    control_plane.set_node_view(NODE, [cluster("c", "own")]);
    control_plane.set_node_view(NODE, [cluster("a", "own")]);
    let mut stream = open_sotw(control_plane.addr()).await;
    stream.subscribe(CLUSTER, &[]);
    let response = stream.receive().await;
    assert_eq!(names(&response), ["a", "b"]);
    assert_eq!(response.resources[0], *cluster("a", "own").any());
    assert_eq!(response.resources[1], *cluster("b", "common").any());
}

#[tokio::test]
async fn a_service_of_one_type_needs_no_type_url_and_refuses_another() {
    let control_plane = start().await;
    control_plane.put([cluster("a", "")]);
    let mut client =
        ClusterDiscoveryServiceClient::new(client::channel(control_plane.addr()).await);
    let request = DiscoveryRequest { node: client::node(), ..Default::default() };
    let other = DiscoveryRequest { type_url: CLUSTER_LOAD_ASSIGNMENT.into(), ..Default::default() };
    let requests = tokio_stream::iter([request, other]);
    let mut responses = client.stream_clusters(requests).await.expect("it exists").into_inner();
    let first = responses.message().await.expect("a response").expect("a response");
    assert_eq!(names(&first), ["a"]);
    let error = responses.message().await.expect_err("the type is refused");
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn a_closed_stream_is_forgotten() {
    let control_plane = start().await;
    let stream = open_sotw(control_plane.addr()).await;
    stream.subscribe(CLUSTER, &[]);
    let one = |clients: &[control_plane_mock::Client]| {
        clients.len() == 1 && clients[0].protocol == Protocol::Sotw && clients[0].node == NODE
    };
    assert!(control_plane.wait_until(LONG, one).await);
    drop(stream);
    assert!(control_plane.wait_until(LONG, <[_]>::is_empty).await);
}

#[tokio::test]
async fn a_stopped_control_plane_frees_its_address() {
    let control_plane = start().await;
    let mut stream = open_sotw(control_plane.addr()).await;
    let listen = control_plane.addr();
    control_plane.stop().await;
    stream.receive_end().await;
    let options = Options { listen, ..Default::default() };
    ControlPlane::start(options).await.expect("the address is free");
}

#[tokio::test]
async fn a_resource_with_a_time_to_live_comes_in_a_wrapper() {
    let control_plane = start().await;
    control_plane.put([cluster("a", "").with_ttl(std::time::Duration::from_secs(3))]);
    let mut stream = open_sotw(control_plane.addr()).await;
    stream.subscribe(CLUSTER, &[]);
    let response = stream.receive().await;
    let wrapper: proto::envoy::service::discovery::v3::Resource =
        proto::any::unpack(&response.resources[0]).expect("a wrapper");
    assert_eq!((wrapper.name.as_str(), wrapper.ttl.expect("there").seconds), ("a", 3));
    let version = control_plane.put([cluster("a", "").with_ttl(std::time::Duration::from_secs(4))]);
    stream.answer(&response, &[], None);
    assert_eq!(stream.receive().await.version_info, version.to_string());
}
