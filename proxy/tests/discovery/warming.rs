//! What waits for something else, and what it does meanwhile.

use std::sync::Arc;

use control_plane_mock::{Fault, FaultKind, Options};
use proto::type_url::{CLUSTER, CLUSTER_LOAD_ASSIGNMENT, LISTENER, ROUTE_CONFIGURATION};

use crate::proxy::{Proxy, accepted, run_both, versions};
use crate::yaml::*;
use pillion::discovery::Stage;

/// As go-control-plane: a changed cluster's endpoints are not sent again.
fn never_repeats() -> Options {
    Options { resend_endpoints: false, ..Options::default() }
}

fn is_warming(proxy: &Proxy) -> bool {
    proxy.stat("cluster_manager.warming_clusters") == Some(1)
}

#[test]
fn a_changed_cluster_takes_over_with_the_endpoints_at_hand() {
    run_both(never_repeats(), |control_plane, proxy| async move {
        control_plane.put([cluster("a", "a", ""), endpoints("a", &[1001])]);
        proxy.initialized().await;
        let before = proxy.cluster("a").unwrap();

        let version = control_plane.put([cluster("a", "a", "connect_timeout: 7s")]);
        accepted(&control_plane, CLUSTER, version).await;
        let after = proxy.cluster("a").unwrap();
        assert_eq!(after.config().connect_timeout.as_secs(), 7);
        assert!(Arc::ptr_eq(&before.hosts().hosts()[0], &after.hosts().hosts()[0]));
        assert!(before.is_retired());
        assert_eq!(proxy.stat("cluster_manager.cluster_modified"), Some(1));
        assert_eq!(proxy.stat("cluster.a.init_fetch_timeout"), Some(0));
    });
}

#[test]
fn a_cluster_of_another_service_warms_while_the_old_one_serves() {
    run_both(never_repeats(), |control_plane, proxy| async move {
        control_plane.put([cluster("a", "one", ""), endpoints("one", &[1001])]);
        proxy.initialized().await;
        let held =
            control_plane.arm(Fault::from(FaultKind::Withhold).on_type(CLUSTER_LOAD_ASSIGNMENT));
        control_plane.put([cluster("a", "two", ""), endpoints("two", &[1002])]);
        proxy.until("the new cluster warms", is_warming).await;
        assert_eq!(proxy.ports("a"), [1001]);
        let a = versions(&proxy.discovery.dump().clusters, "a");
        assert!(a.active.is_some() && a.warming.is_some());
        let pending = proxy.discovery.pending()[0].to_string();
        assert!(pending.starts_with("cluster \"a\" waits for endpoints of \"two\""), "{pending}");

        control_plane.disarm(held);
        proxy.until("the new cluster takes over", |proxy| proxy.ports("a") == [1002]).await;
        assert_eq!(proxy.stat("cluster_manager.warming_clusters"), Some(0));
        assert_eq!(proxy.discovery.dump().endpoints.dynamic.len(), 1);
    });
}

#[test]
fn a_cluster_that_goes_back_to_its_active_version_stops_warming() {
    run_both(never_repeats(), |control_plane, proxy| async move {
        control_plane.put([cluster("a", "one", ""), endpoints("one", &[1001])]);
        proxy.initialized().await;
        let before = proxy.cluster("a").unwrap();
        control_plane.arm(Fault::from(FaultKind::Withhold).on_type(CLUSTER_LOAD_ASSIGNMENT));
        control_plane.put([cluster("a", "silent", "")]);
        proxy.until("the new cluster warms", is_warming).await;
        let version = control_plane.put([cluster("a", "one", "")]);
        // On the same stream it comes after the ACK of the one before, which waits.
        control_plane.drop_streams(None);
        accepted(&control_plane, CLUSTER, version).await;
        assert!(Arc::ptr_eq(&before, &proxy.cluster("a").unwrap()));
        assert!(proxy.discovery.pending().is_empty());
    });
}

#[test]
fn a_cluster_does_not_serve_the_hosts_of_the_service_before() {
    run_both(never_repeats(), |control_plane, proxy| async move {
        control_plane.put([cluster("a", "one", ""), endpoints("one", &[1001])]);
        proxy.initialized().await;
        control_plane.put([cluster_within(SHORT, "a", "none", "")]);
        proxy.until("the cluster has no hosts", |proxy| proxy.ports("a").is_empty()).await;
        assert!(proxy.discovery.pending().is_empty());
    });
}

#[test]
fn a_cluster_without_endpoints_serves_none_after_its_initial_fetch_timeout() {
    run_both(never_repeats(), |control_plane, proxy| async move {
        control_plane.arm(Fault::from(FaultKind::Withhold).on_type(CLUSTER_LOAD_ASSIGNMENT));
        control_plane.put([cluster_within(SHORT, "a", "a", "")]);
        proxy.initialized().await;
        assert!(proxy.ports("a").is_empty());
        assert_eq!(proxy.stat("cluster.a.init_fetch_timeout"), Some(1));

        control_plane.clear_faults();
        let version = control_plane.put([endpoints("a", &[1001])]);
        accepted(&control_plane, CLUSTER_LOAD_ASSIGNMENT, version).await;
        assert_eq!(proxy.ports("a"), [1001]);
    });
}

#[test]
fn two_clusters_share_the_endpoints_of_a_service() {
    run_both(never_repeats(), |control_plane, proxy| async move {
        control_plane.put([cluster("a", "s", ""), endpoints("s", &[1001])]);
        proxy.initialized().await;
        let version = control_plane.put([cluster("b", "s", "")]);
        accepted(&control_plane, CLUSTER, version).await;
        assert_eq!(proxy.ports("b"), [1001]);
        let version = control_plane.delete(CLUSTER, ["a"]);
        accepted(&control_plane, CLUSTER, version).await;
        let version = control_plane.put([endpoints("s", &[1002])]);
        accepted(&control_plane, CLUSTER_LOAD_ASSIGNMENT, version).await;
        assert_eq!(proxy.ports("b"), [1002]);
    });
}

#[test]
fn a_listener_waits_for_its_routes() {
    run_both(Options::default(), |control_plane, proxy| async move {
        let silence =
            control_plane.arm(Fault::from(FaultKind::Withhold).on_type(ROUTE_CONFIGURATION));
        let version = control_plane.put([listener("in", &rds_chain("r"), "")]);
        accepted(&control_plane, LISTENER, version).await;
        let pending = proxy.discovery.pending()[0].to_string();
        assert!(pending.starts_with("listener \"in\" waits for routes r, for"), "{pending}");
        assert!(proxy.listener("in").is_none());
        assert_eq!(proxy.discovery.stage(), Stage::Listeners);
        assert_eq!(proxy.stat("listener_manager.total_listeners_warming"), Some(1));
        assert!(versions(&proxy.discovery.dump().listeners, "in").warming.is_some());

        control_plane.put([routes("r", "a", "")]);
        control_plane.disarm(silence);
        proxy.initialized().await;
        assert!(proxy.routes("in").is_some());
        assert!(versions(&proxy.discovery.dump().listeners, "in").active.is_some());
    });
}

#[test]
fn a_listener_opens_without_routes_after_their_initial_fetch_timeout() {
    run_both(Options::default(), |control_plane, proxy| async move {
        let silence =
            control_plane.arm(Fault::from(FaultKind::Withhold).on_type(ROUTE_CONFIGURATION));
        control_plane.put([listener("in", &rds_chain_within(SHORT, "r"), "")]);
        proxy.initialized().await;
        assert!(proxy.routes("in").is_none());
        assert_eq!(proxy.stat("http.in.rds.r.init_fetch_timeout"), Some(1));

        control_plane.disarm(silence);
        let version = control_plane.put([routes("r", "a", "")]);
        accepted(&control_plane, ROUTE_CONFIGURATION, version).await;
        assert!(proxy.routes("in").is_some());
    });
}

#[test]
fn a_listener_that_goes_back_to_its_active_version_stops_warming() {
    run_both(Options::default(), |control_plane, proxy| async move {
        control_plane.put([listener("in", &direct_chain(200), "")]);
        proxy.initialized().await;
        let before = proxy.listener("in").unwrap().state.load_full();
        control_plane.arm(Fault::from(FaultKind::Withhold).on_type(ROUTE_CONFIGURATION));
        let version = control_plane.put([listener("in", &rds_chain("r"), "")]);
        accepted(&control_plane, LISTENER, version).await;
        assert_eq!(proxy.discovery.pending().len(), 1);
        let version = control_plane.put([listener("in", &direct_chain(200), "")]);
        accepted(&control_plane, LISTENER, version).await;
        assert!(proxy.discovery.pending().is_empty());
        assert!(Arc::ptr_eq(&before, &proxy.listener("in").unwrap().state.load_full()));
        assert!(proxy.discovery.dump().routes.dynamic.is_empty());
    });
}

#[test]
fn a_new_listener_takes_a_table_that_is_there_at_once() {
    run_both(Options::default(), |control_plane, proxy| async move {
        control_plane.put([listener("one", &rds_chain("r"), ""), routes("r", "a", "")]);
        proxy.initialized().await;
        control_plane.arm(Fault::from(FaultKind::Withhold).on_type(ROUTE_CONFIGURATION));
        let version = control_plane.put([listener("two", &rds_chain("r"), "")]);
        accepted(&control_plane, LISTENER, version).await;
        assert!(Arc::ptr_eq(&proxy.routes("one").unwrap(), &proxy.routes("two").unwrap()));
    });
}
