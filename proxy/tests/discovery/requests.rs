//! What the control plane is asked for, and how.

use std::collections::BTreeSet;
use std::time::Duration;

use control_plane_mock::{Client, ControlPlane, EventKind, Events, Options, Resource};
use proto::type_url::{CLUSTER_LOAD_ASSIGNMENT, ROUTE_CONFIGURATION};
use tokio::time::timeout;

use crate::proxy::{Proxy, XDS_CLUSTER, run, run_both};
use crate::yaml::*;

/// The names of the next request of a type that changes the subscription.
async fn next_names(events: &mut Events, type_url: &str) -> BTreeSet<String> {
    let next = async {
        loop {
            let event = events.next().await.expect("the control plane runs");
            match &event.kind {
                EventKind::Subscribed { added, .. } if event.type_url == type_url => {
                    return added.iter().cloned().collect();
                }
                _ => {}
            }
        }
    };
    timeout(Duration::from_secs(20), next).await.expect("a request")
}

#[test]
fn the_names_that_a_response_brings_leave_as_one_request() {
    run_both(Options::default(), |control_plane, proxy| async move {
        let mut events = control_plane.events();
        let names: BTreeSet<String> = (0..50).map(|n| format!("n{n}")).collect();
        let clusters = names.iter().map(|name| cluster(name, name, ""));
        let listeners = names.iter().map(|name| listener(name, &rds_chain(name), ""));
        let endpoints = names.iter().map(|name| endpoints(name, &[1]));
        let routes = names.iter().map(|name| routes(name, name, ""));
        let all: Vec<Resource> = clusters.chain(listeners).chain(endpoints).chain(routes).collect();
        control_plane.put(all);
        assert_eq!(next_names(&mut events, CLUSTER_LOAD_ASSIGNMENT).await, names);
        assert_eq!(next_names(&mut events, ROUTE_CONFIGURATION).await, names);
        proxy.initialized().await;
    });
}

#[test]
fn each_type_can_have_a_stream_of_its_own() {
    for api_type in ["GRPC", "DELTA_GRPC"] {
        run(async {
            let control_plane = ControlPlane::start_default().await.unwrap();
            let source = format!(
                "{{api_config_source: {{api_type: {api_type}, transport_api_version: V3, grpc_services: \
                 [{{envoy_grpc: {{cluster_name: xds}}}}]}}, resource_api_version: V3}}"
            );
            let eds =
                format!("{{name: a, type: EDS, eds_cluster_config: {{eds_config: {source}}}}}");
            let message: proto::envoy::config::cluster::v3::Cluster = parse(&eds);
            control_plane.put([
                Resource::pack(&message).unwrap(),
                endpoints("a", &[1001]),
                listener("in", &direct_chain(200), ""),
            ]);
            let port = control_plane.addr().port().to_string();
            let proxy = Proxy::start(&format!(
                "{{node: {{id: test, cluster: test}}, dynamic_resources: {{cds_config: {source}, lds_config: {source}}}, \
                 static_resources: {{clusters: [{}]}}}}",
                XDS_CLUSTER.replace("PORT", &port)
            ));
            proxy.initialized().await;
            assert_eq!(proxy.ports("a"), [1001]);
            assert!(proxy.listener("in").is_some());
            assert_eq!(control_plane.clients().len(), 3);
            let one_type = |client: &Client| client.subscriptions.len() == 1;
            assert!(control_plane.clients().iter().all(one_type));
        });
    }
}
