//! The control plane of this repository, over TCP, with everything that it can do wrong.

use std::time::Duration;

use control_plane_mock::{ControlPlane, Fault, FaultKind, Resource};
use proto::envoy::config::cluster::v3::Cluster;
use proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_client::{Client, Event, Protocol, ResourceStatus, Server, Subscription, transport};

use crate::script::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn cluster(name: &str, alt: &str) -> Resource {
    let cluster = Cluster { name: name.into(), alt_stat_name: alt.into(), ..Default::default() };
    Resource::pack(&cluster).expect("it has a name")
}

fn assignment(name: &str) -> Resource {
    let assignment = ClusterLoadAssignment { cluster_name: name.into(), ..Default::default() };
    Resource::pack(&assignment).expect("it has a name")
}

/// A client with both subscriptions, whose updates are accepted as they come.
struct Proxy {
    _client: Client,
    clusters: Subscription,
    endpoints: Subscription,
}

impl Proxy {
    fn start(control_plane: &ControlPlane, protocol: Protocol) -> Self {
        let target = control_plane.addr().to_string().parse().expect("an address is a target");
        let service = transport::channel(&[target]).expect("one target");
        let server = Server { name: "mock".into(), service, metadata: Default::default() };
        let client = start_with(config(protocol, vec![server]));
        let (clusters, endpoints) = (client.subscribe(clusters()), client.subscribe(endpoints()));
        endpoints.handle().add(["a", "b"]);
        Self { _client: client, clusters, endpoints }
    }

    /// Accepts everything until `condition` comes true.
    async fn accept_until<T>(&mut self, condition: impl Future<Output = T>) -> T {
        tokio::pin!(condition);
        loop {
            let event = tokio::select! {
                value = &mut condition => return value,
                event = self.clusters.next() => event,
                event = self.endpoints.next() => event,
            };
            match event {
                Some(Event::Update(update)) => update.accept(),
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn whatever_goes_wrong_once_the_client_ends_up_with_everything() {
    let faults = [
        FaultKind::DropStream,
        FaultKind::RefuseStream,
        FaultKind::Malformed,
        FaultKind::UnknownResource,
        FaultKind::UnknownType,
        FaultKind::RepeatNonce,
    ];
    for protocol in [Protocol::Sotw, Protocol::Delta] {
        for fault in faults {
            survive(protocol, fault).await;
        }
    }
}

/// The fault hits the first push of clusters or the second; a third one puts everything right.
async fn survive(protocol: Protocol, fault: FaultKind) {
    let control_plane = ControlPlane::start_default().await.expect("a free port");
    control_plane.put([cluster("a", "1"), cluster("b", "1"), assignment("a"), assignment("b")]);
    control_plane.arm(Fault::from(fault).on_type(CDS).times(2));
    let mut proxy = Proxy::start(&control_plane, protocol);
    for alt in ["2", "3"] {
        let version = control_plane.put([cluster("a", alt)]);
        let answered = control_plane.wait_ack(CDS, version, None, PATIENCE);
        let answer = proxy.accept_until(answered).await;
        answer.unwrap_or_else(|error| panic!("{fault:?} over {protocol:?}: {error}"));
    }
    let version = control_plane.put([cluster("a", "4"), cluster("c", "4"), assignment("a")]);
    for type_url in [CDS, EDS] {
        let answered = control_plane.wait_ack(type_url, version, None, PATIENCE);
        let answer = proxy.accept_until(answered).await;
        let answer = answer.unwrap_or_else(|error| panic!("{fault:?} over {protocol:?}: {error}"));
        assert_eq!(answer.error, None, "{fault:?} over {protocol:?}");
    }
    for (subscription, expected) in [(&proxy.clusters, 3), (&proxy.endpoints, 2)] {
        let resources = resources(subscription).await;
        let acked = resources.iter().filter(|resource| resource.1 == ResourceStatus::Acked);
        assert!(acked.count() >= expected, "{fault:?} over {protocol:?}: {resources:?}");
    }
}
