//! Faults, over both protocols.

mod client;

use client::{LONG, NODE, cluster, endpoints, names, open_delta, open_sotw, owned};
use control_plane_mock::{ControlPlane, EventKind, Fault, FaultKind, UNKNOWN_NAME, UNKNOWN_TYPE};
use proto::envoy::config::cluster::v3::Cluster;
use proto::type_url::{CLUSTER, CLUSTER_LOAD_ASSIGNMENT};

async fn start() -> ControlPlane {
    let control_plane = ControlPlane::start_default().await.expect("it starts");
    control_plane.put([cluster("a", ""), endpoints("a")]);
    control_plane
}

#[tokio::test]
async fn a_withheld_type_is_pushed_when_the_fault_ends() {
    let control_plane = start().await;
    let withhold = control_plane.arm(Fault::from(FaultKind::Withhold).on_type(CLUSTER));
    let mut stream = open_delta(control_plane.addr()).await;
    stream.change(CLUSTER, &[], &[]);
    stream.change(CLUSTER_LOAD_ASSIGNMENT, &["a"], &[]);
    assert_eq!(stream.receive().await.type_url, CLUSTER_LOAD_ASSIGNMENT);
    assert!(control_plane.disarm(withhold));
    assert_eq!(stream.receive().await.type_url, CLUSTER);
    assert!(!control_plane.disarm(withhold));
}

#[tokio::test]
async fn a_delayed_push_does_not_hold_up_other_types() {
    let control_plane = start().await;
    control_plane.arm(Fault::from(FaultKind::Delay { millis: 100 }).on_type(CLUSTER));
    let mut stream = open_sotw(control_plane.addr()).await;
    stream.subscribe(CLUSTER, &[]);
    stream.subscribe(CLUSTER_LOAD_ASSIGNMENT, &["a"]);
    assert_eq!(stream.receive().await.type_url, CLUSTER_LOAD_ASSIGNMENT);
    assert_eq!(stream.receive().await.type_url, CLUSTER);
}

#[tokio::test]
async fn a_malformed_resource_comes_once() {
    let control_plane = start().await;
    control_plane.arm(Fault::from(FaultKind::Malformed).on_node(NODE).times(1));
    let mut stream = open_sotw(control_plane.addr()).await;
    stream.subscribe(CLUSTER, &[]);
    let broken = stream.receive().await;
    assert!(proto::any::unpack::<Cluster>(&broken.resources[0]).is_err());
    stream.answer(&broken, &[], Some("malformed"));
    control_plane.push_again(Some(CLUSTER), Some(NODE));
    let good = stream.receive().await;
    assert_eq!(names(&good), ["a"]);
}

#[tokio::test]
async fn unknown_resources_are_added_to_a_push() {
    let control_plane = start().await;
    control_plane.arm(FaultKind::UnknownResource);
    control_plane.arm(FaultKind::UnknownType);
    let mut stream = open_delta(control_plane.addr()).await;
    stream.change(CLUSTER, &[], &[]);
    let response = stream.receive().await;
    let added: Vec<_> = response.resources[1..]
        .iter()
        .map(|resource| {
            let any = resource.resource.as_ref().expect("there");
            (resource.name.as_str(), any.type_url.as_str())
        })
        .collect();
    assert_eq!(added, [(UNKNOWN_NAME, CLUSTER), (UNKNOWN_NAME, UNKNOWN_TYPE)]);
}

#[tokio::test]
async fn an_old_nonce_is_repeated_and_its_answer_accepted() {
    let control_plane = start().await;
    let mut stream = open_sotw(control_plane.addr()).await;
    stream.subscribe(CLUSTER, &[]);
    let first = stream.receive().await;
    stream.answer(&first, &[], None);
    control_plane.arm(FaultKind::RepeatNonce);
    let version = control_plane.put([cluster("b", "")]);
    let second = stream.receive().await;
    assert_eq!(second.nonce, first.nonce);
    stream.answer(&second, &[], None);
    control_plane.wait_ack(CLUSTER, version, None, LONG).await.expect("it came");
}

#[tokio::test]
async fn streams_are_dropped_at_once_in_place_of_a_push_and_at_their_first_request() {
    let control_plane = start().await;
    let mut events = control_plane.events();
    let mut first = open_sotw(control_plane.addr()).await;
    first.subscribe(CLUSTER, &[]);
    first.receive().await;
    control_plane.drop_streams(Some(NODE));
    assert_eq!(first.receive_end().await.code(), tonic::Code::Unavailable);

    control_plane.arm(Fault::from(FaultKind::RefuseStream).times(1));
    let mut second = open_delta(control_plane.addr()).await;
    second.change(CLUSTER, &[], &[]);
    assert_eq!(second.receive_end().await.code(), tonic::Code::Unavailable);

    control_plane.arm(Fault::from(FaultKind::DropStream).times(1));
    let mut third = open_delta(control_plane.addr()).await;
    third.change(CLUSTER, &[], &[]);
    assert_eq!(third.receive_end().await.code(), tonic::Code::Unavailable);

    let mut fourth = open_delta(control_plane.addr()).await;
    fourth.change(CLUSTER, &[], &[]);
    assert_eq!(fourth.accept().await.0, owned(&["a"]));
    let mut closed = 0;
    while closed < 3 {
        let event = events.next().await.expect("it runs");
        closed += u32::from(matches!(event.kind, EventKind::StreamClosed { .. }));
    }
}
