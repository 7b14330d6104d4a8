//! What is refused, and that everything else is not.

use std::sync::Arc;

use control_plane_mock::Options;
use proto::type_url::{CLUSTER, CLUSTER_LOAD_ASSIGNMENT, LISTENER, ROUTE_CONFIGURATION};

use crate::proxy::{accepted, refused, run_both, versions};
use crate::yaml::*;

#[test]
fn a_refused_cluster_keeps_its_last_good_version_and_the_others_of_its_response() {
    run_both(Options::default(), |control_plane, proxy| async move {
        control_plane.put([static_cluster("a", 1001)]);
        proxy.initialized().await;
        let good = proxy.cluster("a").unwrap();

        let bad = cluster("a", "a", "connect_timeout: -1s");
        let version = control_plane.put([bad, static_cluster("b", 1002)]);
        let error = refused(&control_plane, CLUSTER, version).await;
        assert!(error.contains("a: cluster \"a\": connect_timeout"), "{error}");
        assert!(Arc::ptr_eq(&good, &proxy.cluster("a").unwrap()));
        assert_eq!(proxy.ports("b"), [1002]);
        let dump = proxy.discovery.dump();
        assert_eq!(dump.clusters.version, "1");
        let a = versions(&dump.clusters, "a");
        assert!(a.active.is_some());
        assert!(a.refused.unwrap().details.contains("connect_timeout"));
        assert_eq!(proxy.stat("cluster_manager.cds.update_rejected"), Some(1));

        let version = control_plane.put([static_cluster("a", 1003)]);
        accepted(&control_plane, CLUSTER, version).await;
        assert_eq!(proxy.ports("a"), [1003]);
        assert!(versions(&proxy.discovery.dump().clusters, "a").refused.is_none());
    });
}

#[test]
fn a_refused_listener_keeps_its_last_good_version_and_the_others_of_its_response() {
    run_both(Options::default(), |control_plane, proxy| async move {
        control_plane.put([listener("a", &direct_chain(200), "")]);
        proxy.initialized().await;
        let good = proxy.listener("a").unwrap().state.load_full();

        let bad = listener("a", &direct_chain(200), "udp_listener_config: {}");
        let version = control_plane.put([bad, listener("b", &direct_chain(200), "")]);
        let error = refused(&control_plane, LISTENER, version).await;
        assert!(error.contains("a: listener \"a\": udp_listener_config"), "{error}");
        assert!(Arc::ptr_eq(&good, &proxy.listener("a").unwrap().state.load_full()));
        assert!(proxy.listener("b").is_some());
        assert!(versions(&proxy.discovery.dump().listeners, "a").refused.is_some());
        assert_eq!(proxy.stat("listener_manager.lds.update_rejected"), Some(1));
    });
}

#[test]
fn an_address_that_is_taken_refuses_the_listener() {
    run_both(Options::default(), |control_plane, proxy| async move {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let text = listener_text("a", &direct_chain(200), "");
        let text = text.replace("port_value: 0", &format!("port_value: {port}"));
        let listener: proto::envoy::config::listener::v3::Listener = parse(&text);
        let listener = control_plane_mock::Resource::pack(&listener).unwrap();
        proxy.initialized().await;
        let version = control_plane.put([listener]);
        let error = refused(&control_plane, LISTENER, version).await;
        assert!(error.contains("a: listener \"a\": address: cannot bind"), "{error}");
        assert!(proxy.listener("a").is_none());
    });
}

#[test]
fn listeners_are_not_opened_once_they_were_stopped_by_hand() {
    run_both(Options::default(), |control_plane, proxy| async move {
        proxy.initialized().await;
        proxy.listeners.borrow_mut().stop(false);
        let version = control_plane.put([listener("in", &direct_chain(200), "")]);
        accepted(&control_plane, LISTENER, version).await;
        assert!(proxy.listener("in").is_none());
        assert!(proxy.discovery.dump().listeners.dynamic.is_empty());
    });
}

#[test]
fn refused_endpoints_and_routes_leave_those_before() {
    run_both(Options::default(), |control_plane, proxy| async move {
        let chain = rds_chain("r");
        let service = [cluster("a", "a", ""), endpoints("a", &[1001]), routes("r", "a", "")];
        control_plane.put(service.into_iter().chain([listener("in", &chain, "")]));
        proxy.initialized().await;
        let table = proxy.routes("in").unwrap();

        let mut bad: proto::envoy::config::endpoint::v3::ClusterLoadAssignment =
            parse("{cluster_name: a, endpoints: [{priority: 129}]}");
        bad.cluster_name = "a".into();
        let version = control_plane.put([control_plane_mock::Resource::pack(&bad).unwrap()]);
        let error = refused(&control_plane, CLUSTER_LOAD_ASSIGNMENT, version).await;
        assert!(error.contains("endpoints[0].priority"), "{error}");
        assert_eq!(proxy.ports("a"), [1001]);
        assert_eq!(proxy.stat("cluster.a.update_rejected"), Some(1));

        let version = control_plane.put([routes("r", "missing", "validate_clusters: true")]);
        let error = refused(&control_plane, ROUTE_CONFIGURATION, version).await;
        assert!(error.contains("unknown cluster 'missing'"), "{error}");
        assert!(Arc::ptr_eq(&table, &proxy.routes("in").unwrap()));
        assert_eq!(proxy.stat("http.in.rds.r.update_rejected"), Some(1));
    });
}
