//! Everything over one stream: what comes, changes, comes again and goes.

use std::sync::Arc;

use control_plane_mock::Options;
use proto::type_url::{CLUSTER, CLUSTER_LOAD_ASSIGNMENT, LISTENER, ROUTE_CONFIGURATION};

use crate::proxy::{Proxy, accepted, run_both, versions};
use crate::yaml::*;

/// A cluster with endpoints, and a listener with routes to it.
fn a_service() -> [control_plane_mock::Resource; 4] {
    [
        cluster("a", "a", ""),
        endpoints("a", &[1001, 1002]),
        listener("in", &rds_chain("r"), ""),
        routes("r", "a", ""),
    ]
}

#[test]
fn a_service_becomes_a_cluster_with_hosts_and_a_listener_with_routes() {
    run_both(Options::default(), |control_plane, proxy| async move {
        control_plane.put(a_service());
        proxy.initialized().await;
        assert_eq!(proxy.ports("a"), [1001, 1002]);
        assert_eq!(proxy.routes("in").unwrap().config().name.as_ref(), "r");
        assert_eq!(proxy.listeners.borrow().list().len(), 1);
        assert!(proxy.discovery.pending().is_empty());
        assert!(proxy.discovery.is_dynamic_cluster("a"));
        assert!(!proxy.discovery.is_dynamic_cluster("xds"));

        let dump = proxy.discovery.dump();
        for (dump, name) in [
            (&dump.clusters, "a"),
            (&dump.endpoints, "a"),
            (&dump.listeners, "in"),
            (&dump.routes, "r"),
        ] {
            let versions = versions(dump, name);
            assert!(versions.active.is_some() && versions.warming.is_none(), "{name}");
        }
        assert_eq!(dump.clusters.version, "1");
        assert_eq!(&*dump.clusters.fixed[0].0, "xds");

        let expected = [
            ("cluster_manager.cds.update_success", 1),
            ("cluster_manager.active_clusters", 2),
            ("cluster_manager.warming_clusters", 0),
            ("listener_manager.lds.update_success", 1),
            ("listener_manager.total_listeners_warming", 0),
            ("cluster.a.update_success", 1),
            ("http.in.rds.r.update_success", 1),
            ("http.in.rds.r.config_reload", 1),
        ];
        for (name, value) in expected {
            assert_eq!(proxy.stat(name), Some(value), "{name}");
        }
        proxy.discovery.refresh_stats().await;
        assert_eq!(proxy.stat("control_plane.connected_state"), Some(1));
    });
}

#[test]
fn new_endpoints_and_routes_reach_what_serves() {
    run_both(Options::default(), |control_plane, proxy| async move {
        control_plane.put(a_service());
        proxy.initialized().await;
        let (before, host) = (proxy.cluster("a").unwrap(), proxy.cluster("a").unwrap());
        let host = Arc::clone(&host.hosts().hosts()[1]);

        let version = control_plane.put([endpoints("a", &[1002, 1003]), static_cluster("b", 1)]);
        accepted(&control_plane, CLUSTER_LOAD_ASSIGNMENT, version).await;
        assert_eq!(proxy.ports("a"), [1002, 1003]);
        assert!(Arc::ptr_eq(&before, &proxy.cluster("a").unwrap()));
        assert!(Arc::ptr_eq(&host, &proxy.cluster("a").unwrap().hosts().hosts()[0]));

        let table = proxy.routes("in").unwrap();
        let version = control_plane.put([routes("r", "b", "")]);
        accepted(&control_plane, ROUTE_CONFIGURATION, version).await;
        assert!(!Arc::ptr_eq(&table, &proxy.routes("in").unwrap()));
    });
}

#[test]
fn clusters_and_listeners_that_are_removed_go_and_endpoints_and_routes_stay() {
    run_both(Options::default(), |control_plane, proxy| async move {
        control_plane.put(a_service());
        proxy.initialized().await;

        control_plane.delete(CLUSTER_LOAD_ASSIGNMENT, ["a"]);
        control_plane.delete(ROUTE_CONFIGURATION, ["r"]);
        let version =
            control_plane.put([static_cluster("b", 1), listener("l", &direct_chain(200), "")]);
        accepted(&control_plane, CLUSTER, version).await;
        accepted(&control_plane, LISTENER, version).await;
        assert_eq!(proxy.ports("a"), [1001, 1002]);
        assert!(proxy.routes("in").is_some());

        let version = control_plane.delete(CLUSTER, ["a"]);
        accepted(&control_plane, CLUSTER, version).await;
        assert!(proxy.cluster("a").is_none() && proxy.cluster("b").is_some());
        let version = control_plane.delete(LISTENER, ["in"]);
        accepted(&control_plane, LISTENER, version).await;
        assert!(proxy.listener("in").is_none() && proxy.listener("l").is_some());
        assert_eq!(proxy.discovery.dump().endpoints.dynamic.len(), 0);
        // Nobody is subscribed to what only they needed.
        let names = |clients: &[control_plane_mock::Client], type_url| {
            let subscription = clients.first().and_then(|client| client.subscription(type_url));
            subscription.map_or(0, |subscription| subscription.names.len())
        };
        let unsubscribed =
            |clients: &[control_plane_mock::Client]| names(clients, CLUSTER_LOAD_ASSIGNMENT) == 0;
        assert!(control_plane.wait_until(std::time::Duration::from_secs(20), unsubscribed).await);
    });
}

#[test]
fn what_comes_again_unchanged_is_left_alone() {
    run_both(Options::default(), |control_plane, proxy| async move {
        control_plane.put(a_service());
        proxy.initialized().await;
        let cluster = proxy.cluster("a").unwrap();
        let hosts = proxy.cluster("a").unwrap().hosts().hosts().clone();
        let (listener, table) = (proxy.listener("in").unwrap(), proxy.routes("in").unwrap());
        let state = listener.state.load_full();
        let counted = |proxy: &Proxy, name| proxy.stat(name).unwrap();
        let before = counted(&proxy, "listener_manager.lds.update_success");

        control_plane.push_again(None, None);
        for stat in
            ["cluster.a.", "http.in.rds.r.", "cluster_manager.cds.", "listener_manager.lds."]
        {
            let name = format!("{stat}update_success");
            proxy.until(&name, |proxy| proxy.stat(&name).unwrap() > before).await;
        }
        assert!(Arc::ptr_eq(&cluster, &proxy.cluster("a").unwrap()));
        assert!(Arc::ptr_eq(&hosts, proxy.cluster("a").unwrap().hosts().hosts()));
        assert!(Arc::ptr_eq(&state, &proxy.listener("in").unwrap().state.load_full()));
        assert!(Arc::ptr_eq(&table, &proxy.routes("in").unwrap()));
        assert_eq!(counted(&proxy, "cluster_manager.cluster_modified"), 0);
        assert_eq!(counted(&proxy, "cluster_manager.cds.config_reload"), 1);
    });
}

#[test]
fn static_resources_are_not_changed_over_xds() {
    run_both(Options::default(), |control_plane, proxy| async move {
        proxy.initialized().await;
        let before = proxy.ports("xds");
        let version = control_plane.put([static_cluster("xds", 1)]);
        accepted(&control_plane, CLUSTER, version).await;
        let version = control_plane.delete(CLUSTER, ["xds"]);
        accepted(&control_plane, CLUSTER, version).await;
        assert_eq!(proxy.ports("xds"), before);
    });
}

#[test]
fn a_listener_that_differs_in_its_chains_only_is_updated_in_place() {
    run_both(Options::default(), |control_plane, proxy| async move {
        control_plane.put([listener("in", &direct_chain(200), "")]);
        proxy.initialized().await;
        let before = proxy.listener("in").unwrap();

        let version = control_plane.put([listener("in", &direct_chain(201), "")]);
        accepted(&control_plane, LISTENER, version).await;
        assert!(Arc::ptr_eq(&before, &proxy.listener("in").unwrap()));
        assert_eq!(proxy.stat("listener_manager.listener_in_place_updated"), Some(1));

        let more = "listener_filters_timeout: 3s";
        let version = control_plane.put([listener("in", &direct_chain(201), more)]);
        accepted(&control_plane, LISTENER, version).await;
        assert!(!Arc::ptr_eq(&before, &proxy.listener("in").unwrap()));
        assert_eq!(proxy.stat("listener_manager.listener_in_place_updated"), Some(1));
        assert_eq!(proxy.stat("listener_manager.listener_modified"), Some(2));
    });
}
