use proto::envoy::config::bootstrap::v3 as pb;

use super::*;
use crate::config::Context as ConfigContext;
use crate::discovery::{Dynamic, Refused, TypeDump, Version, Versions};
use crate::telemetry::stats::Store;

const BOOTSTRAP: &str = "
node: {id: test}
static_resources:
  secrets:
  - name: s
    tls_certificate: {certificate_chain: {inline_string: c}, private_key: {inline_string: k}}
  clusters:
  - name: a
    connect_timeout: 1s
    type: STATIC
    load_assignment:
      cluster_name: a
      endpoints:
      - locality: {zone: z}
        lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 9}}, hostname: h}
          health_status: DEGRADED
";

fn bootstrap(registry: &Registry) -> Bootstrap {
    let message: pb::Bootstrap = registry.from_yaml(BOOTSTRAP).unwrap();
    Bootstrap::from_proto(&message, &ConfigContext::default()).unwrap()
}

/// A dump with a static cluster, a dynamic one that warms and was then refused, and a dynamic listener.
fn input(registry: &Registry, names: Option<&str>) -> Input {
    let bootstrap = bootstrap(registry);
    let (config, body) = bootstrap.clusters[0].clone();
    let version = |number: &str| Version::now(number, body.clone());
    let refused = Refused { failed: version("3"), details: "why".into() };
    let dump = Dump {
        clusters: TypeDump {
            version: "2".into(),
            fixed: vec![("a".into(), version(""))],
            dynamic: vec![Dynamic {
                name: "b".into(),
                versions: Versions {
                    active: Some(version("1")),
                    warming: Some(version("2")),
                    refused: Some(Box::new(refused)),
                },
            }],
        },
        listeners: TypeDump {
            dynamic: vec![Dynamic {
                name: "l".into(),
                versions: Versions { warming: Some(version("1")), ..Versions::default() },
            }],
            ..TypeDump::default()
        },
        ..Dump::default()
    };
    let cluster = Cluster::new(
        config,
        &Arc::new(Store::default()),
        &crate::upstream::cluster::ClusterRegistry::new(&Store::default()),
        None,
    );
    Input {
        bootstrap: Arc::new(bootstrap),
        started: SystemTime::UNIX_EPOCH,
        dump,
        endpoints_of: Some(vec![cluster]),
        names: names.map(|names| Regex::new(names).unwrap()),
    }
}

fn printed(names: Option<&str>, resource: Option<&str>, mask: Option<&str>) -> Reply {
    let registry = Registry::load();
    let parts = Parts { resource: resource.map(str::to_string), mask: mask.map(Mask::parse) };
    parts.print(section::all(&input(&registry, names), &registry))
}

fn value(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.body);
    serde_json::from_str(&reply.body).unwrap()
}

#[test]
fn everything_is_a_config_dump_message() {
    let reply = printed(None, None, None);
    let registry = Registry::load();
    registry.from_json::<proto::envoy::admin::v3::ConfigDump>(&reply.body).unwrap();
    let dump = value(&reply);
    let types: Vec<_> = dump["configs"].as_array().unwrap().iter().map(|c| &c["@type"]).collect();
    let names =
        ["Bootstrap", "Clusters", "Endpoints", "Listeners", "ScopedRoutes", "Routes", "Secrets"];
    let expected = names.map(|n| format!("type.googleapis.com/envoy.admin.v3.{n}ConfigDump"));
    assert_eq!(types, expected.each_ref());
    assert_eq!(dump["configs"][0]["last_updated"], "1970-01-01T00:00:00Z");

    let clusters = &dump["configs"][1];
    assert_eq!(clusters["version_info"], "2");
    assert_eq!(clusters["static_clusters"][0]["cluster"]["name"], "a");
    assert!(clusters["static_clusters"][0].get("version_info").is_none());
    let active = &clusters["dynamic_active_clusters"][0];
    assert_eq!(
        (&active["version_info"], &active["error_state"]["details"]),
        (&"1".into(), &"why".into())
    );
    assert_eq!(clusters["dynamic_warming_clusters"][0]["version_info"], "2");

    let endpoints = &dump["configs"][2]["static_endpoint_configs"][0]["endpoint_config"];
    let host = &endpoints["endpoints"][0]["lb_endpoints"][0];
    assert_eq!(
        (&host["health_status"], &host["endpoint"]["hostname"]),
        (&"DEGRADED".into(), &"h".into())
    );
    let listener = &dump["configs"][3]["dynamic_listeners"][0];
    assert!(listener.get("active_state").is_none());
    assert_eq!(listener["warming_state"]["version_info"], "1");
}

#[test]
fn keys_are_redacted() {
    let reply = printed(None, None, None);
    let dump = value(&reply);
    let secret = &dump["configs"][6]["static_secrets"][0];
    assert_eq!(secret["name"], "s");
    let certificate = &secret["secret"]["tls_certificate"];
    assert_eq!(certificate["private_key"]["inline_string"], "[redacted]");
    let in_bootstrap = &dump["configs"][0]["bootstrap"]["static_resources"]["secrets"][0];
    assert_eq!(in_bootstrap["tls_certificate"]["private_key"]["inline_string"], "[redacted]");
}

#[test]
fn one_resource_gives_its_elements() {
    let dump = value(&printed(None, Some("static_clusters"), Some("cluster.name")));
    assert_eq!(
        dump["configs"],
        json!([{
            "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster",
            "cluster": {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "a"}
        }])
    );
    assert_eq!(value(&printed(None, Some("static_listeners"), None)), json!({}));
    let unknown = printed(None, Some("bogus"), None);
    assert_eq!(
        (unknown.status.as_u16(), unknown.body.as_str()),
        (404, "bogus not found in config dump")
    );
    assert_eq!(printed(None, Some("bootstrap"), None).status, 400);
}

#[test]
fn a_mask_or_a_pattern_narrows_the_dump() {
    let dump = value(&printed(None, None, Some("bootstrap.node.id")));
    assert_eq!(dump["configs"][0]["bootstrap"], json!({"node": {"id": "test"}}));
    assert_eq!(dump["configs"].as_array().unwrap().len(), 1);
    assert_eq!(printed(None, None, Some("bogus")).status, 400);

    let dump = value(&printed(Some("^b$"), None, None));
    let clusters = &dump["configs"][1];
    assert!(clusters.get("static_clusters").is_none());
    assert_eq!(clusters["dynamic_active_clusters"].as_array().unwrap().len(), 1);
}
