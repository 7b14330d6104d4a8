//! Without a management server: static resources and files.

use std::fs;

use control_plane_mock::ControlPlane;
use pillion::discovery::Stage;

use crate::proxy::{Proxy, ads, run};
use crate::yaml::*;

#[test]
fn static_resources_need_no_management_server() {
    run(async {
        let bootstrap = format!(
            "{{static_resources: {{clusters: [{{name: a, type: STATIC, load_assignment: {{cluster_name: a, endpoints: \
             [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 1001}}}}}}}}]\
             }}]}}}}, {{name: dns, type: STRICT_DNS, load_assignment: {{cluster_name: dns, endpoints: [{{lb_endpoints: \
             [{{endpoint: {{address: {{socket_address: {{address: localhost, port_value: 1002}}}}}}}}]}}]}}, \
             dns_lookup_family: V4_ONLY}}], listeners: [{}]}}}}",
            listener_text("in", &direct_chain(200), "")
        );
        let proxy = Proxy::start(&bootstrap);
        proxy.initialized().await;
        assert_eq!(proxy.discovery.stage(), Stage::Live);
        assert_eq!(proxy.ports("a"), [1001]);
        assert_eq!(proxy.ports("dns"), [1002]);
        assert!(proxy.listener("in").is_some());
        let dump = proxy.discovery.dump();
        assert_eq!((dump.clusters.fixed.len(), dump.listeners.fixed.len()), (2, 1));
        assert!(dump.clusters.dynamic.is_empty());
        assert_eq!(&*dump.routes.fixed[0].0, "inline");
    });
}

#[test]
fn a_bootstrap_that_cannot_be_used_is_an_error() {
    run(async {
        let source = "{ads: {}, resource_api_version: V3}";
        let bootstrap = format!("{{dynamic_resources: {{cds_config: {source}}}}}");
        let proxy = Proxy::start(&bootstrap);
        let error = proxy.discovery.initialized().await.unwrap_err().to_string();
        assert!(
            error.contains("dynamic_resources.cds_config: ads: the bootstrap has no"),
            "{error}"
        );
        assert_eq!(proxy.discovery.stage(), Stage::Failed);
    });
}

#[test]
fn a_silent_management_server_does_not_keep_the_proxy_from_starting() {
    run(async {
        let control_plane = ControlPlane::start_default().await.unwrap();
        control_plane.arm(control_plane_mock::FaultKind::Withhold);
        let proxy = Proxy::start(&ads(&control_plane, "DELTA_GRPC", SHORT));
        proxy.initialized().await;
        assert_eq!(proxy.stat("cluster_manager.cds.init_fetch_timeout"), Some(1));
        assert_eq!(proxy.stat("listener_manager.lds.init_fetch_timeout"), Some(1));
    });
}

#[test]
fn clusters_and_endpoints_come_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, text: String| {
        let new = path("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, path(name)).unwrap();
    };
    let endpoint = |port: u16| {
        format!(
            "resources: [{{'@type': type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment, cluster_name: a, \
             endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: \
             {port}}}}}}}}}]}}]}}]"
        )
    };
    let cluster = format!(
        "resources: [{{'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: a, type: EDS, \
         eds_cluster_config: {{eds_config: {{path_config_source: {{path: {:?}}}}}}}}}]",
        path("eds.yaml")
    );
    run(async {
        write("eds.yaml", endpoint(1001));
        write("cds.yaml", cluster);
        let source = format!("{{path_config_source: {{path: {:?}}}}}", path("cds.yaml"));
        let proxy = Proxy::start(&format!("{{dynamic_resources: {{cds_config: {source}}}}}"));
        proxy.initialized().await;
        assert_eq!(proxy.ports("a"), [1001]);
        write("eds.yaml", endpoint(1002));
        proxy.until("new endpoints", |proxy| proxy.ports("a") == [1002]).await;
        write("eds.yaml", "no: resources".into());
        write("eds.yaml", endpoint(1003));
        proxy.until("endpoints after a bad file", |proxy| proxy.ports("a") == [1003]).await;
    });
}

#[test]
fn a_cluster_whose_time_to_live_runs_out_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cds.yaml");
    let wrapper = "resources: [{'@type': type.googleapis.com/envoy.service.discovery.v3.Resource, name: a, ttl: 0.2s, \
        resource: {'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster, name: a, type: STATIC}}]";
    fs::write(&path, wrapper).unwrap();
    run(async {
        let source = format!("{{path_config_source: {{path: {path:?}}}}}");
        let proxy = Proxy::start(&format!("{{dynamic_resources: {{cds_config: {source}}}}}"));
        proxy.initialized().await;
        proxy.until("the cluster is gone", |proxy| proxy.cluster("a").is_none()).await;
        assert_eq!(proxy.stat("cluster_manager.cluster_removed"), Some(1));
    });
}
