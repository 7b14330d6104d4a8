//! Builds the bootstrap of a case: a plain one with the case's differences merged over it, placeholders filled in.

use std::collections::BTreeMap;

use proto::type_url;
use serde_json::{Value, json};

use super::case::{AdsProtocol, Case, Config, Upstream, UpstreamProtocol};
use super::tls::FILES;

/// The cluster of the control plane, whose port is that of an upstream of this name.
pub const CONTROL_PLANE: &str = "control_plane";
/// The access log line of every case that has no format of its own.
const LOG: &str = "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n";
/// The type URL of the HttpConnectionManager.
pub const HCM: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
/// The type URL of the router filter.
pub const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const FILE_LOG: &str = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
const DOWNSTREAM_TLS: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const UPSTREAM_TLS: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
/// The type URL of a cluster's HTTP options.
pub const HTTP_OPTIONS: &str =
    "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The listeners and clusters that a configuration of a case describes, placeholders not yet filled in.
fn listeners_and_clusters(case: &Case, config: &Config) -> (Vec<Value>, Vec<Value>) {
    let filters = config
        .network_filters
        .clone()
        .unwrap_or_else(|| config.filters_before.iter().cloned().chain([hcm(config)]).collect());
    let mut chain = json!({"filters": filters});
    if !config.tls.is_null() {
        chain["transport_socket"] = tls_socket(DOWNSTREAM_TLS, &config.tls);
    }
    let mut listener = json!({
        "name": "listener",
        "address": address("{{listener}}"),
        "filter_chains": [chain],
    });
    if let Some(format) = &config.listener_log {
        let log = file_log(Some(&json!(format)));
        listener["access_log"] =
            json!([{"name": "envoy.access_loggers.file", "typed_config": log}]);
    }
    merge(&mut listener, &config.listener);
    let mut listeners = vec![listener];
    listeners.extend(config.listeners.iter().cloned());
    let of_upstream = |(name, upstream): (&String, &Upstream)| {
        let mut cluster = cluster(name, upstream.protocol);
        if let Some(tls) = config.cluster_tls.get(name) {
            cluster["transport_socket"] = tls_socket(UPSTREAM_TLS, tls);
        }
        merge(&mut cluster, config.cluster.get(name).unwrap_or(&Value::Null));
        cluster
    };
    let mut clusters: Vec<Value> = case.upstreams.iter().map(of_upstream).collect();
    clusters.extend(config.clusters.iter().cloned());
    (listeners, clusters)
}

/// The bootstrap: with everything in it, or with the control plane that has everything.
pub fn bootstrap(case: &Case, config: &Config) -> Value {
    let mut bootstrap = json!({
        "node": {"id": "node", "cluster": "differential"},
        "admin": {"address": address("{{admin}}")},
        // What Pillion does beyond Envoy; a case about that turns it on.
        "layered_runtime": {"layers": [
            {"name": "like_envoy", "static_layer": {"pillion.replay_on_reused_connection": false, "pillion.shed_at_memory_limit": false}},
        ]},
    });
    match config.ads {
        None => {
            let (listeners, clusters) = listeners_and_clusters(case, config);
            bootstrap["static_resources"] = json!({"listeners": listeners, "clusters": clusters});
        }
        Some(protocol) => {
            let api_type = match protocol {
                AdsProtocol::Sotw => "GRPC",
                AdsProtocol::Delta => "DELTA_GRPC",
            };
            let over_ads = json!({"ads": {}, "resource_api_version": "V3"});
            bootstrap["static_resources"] =
                json!({"clusters": [cluster(CONTROL_PLANE, UpstreamProtocol::Http2)]});
            bootstrap["dynamic_resources"] = json!({
                "cds_config": over_ads,
                "lds_config": over_ads,
                "ads_config": {
                    "api_type": api_type,
                    "transport_api_version": "V3",
                    "grpc_services": [{"envoy_grpc": {"cluster_name": CONTROL_PLANE}}],
                },
            });
        }
    }
    merge(&mut bootstrap, &config.bootstrap);
    bootstrap
}

/// What the control plane serves: listeners, clusters and the case's further resources, each with its `@type`.
pub fn resources(case: &Case, config: &Config) -> Value {
    let typed = |kind: &str, mut resource: Value| {
        resource["@type"] = json!(kind);
        resource
    };
    let (listeners, clusters) = listeners_and_clusters(case, config);
    let listeners = listeners.into_iter().map(|listener| typed(type_url::LISTENER, listener));
    let clusters = clusters.into_iter().map(|cluster| typed(type_url::CLUSTER, cluster));
    clusters.chain(listeners).chain(config.resources.values().cloned()).collect()
}

/// Merges `over` into `base` as a JSON merge patch (RFC 7396): objects key by key, a null removes its key, everything
/// else replaces. Null as the whole patch changes nothing.
pub fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (_, Value::Null) => {}
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    base.remove(key);
                } else {
                    merge(base.entry(key.clone()).or_insert(json!({})), value);
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// Replaces `{{name}}` in every text; a text that is one placeholder with only digits for a value becomes a number.
pub fn fill(value: &mut Value, values: &BTreeMap<String, String>) {
    match value {
        Value::String(text) if text.contains("{{") => {
            let filled = fill_text(text, values);
            let alone = text.starts_with("{{") && text.find("}}") == Some(text.len() - 2);
            *value = match filled.parse::<u64>() {
                Ok(number) if alone => json!(number),
                _ => json!(filled),
            };
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, values)),
        Value::Object(map) => map.values_mut().for_each(|item| fill(item, values)),
        _ => {}
    }
}

/// Replaces `{{name}}` in a text, also by the files with certificates.
pub fn fill_text(text: &str, values: &BTreeMap<String, String>) -> String {
    let filled = |text: String, values: &BTreeMap<String, String>| {
        values
            .iter()
            .fold(text, |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value))
    };
    let text = filled(text.to_owned(), values);
    if text.contains("{{") { repeat(filled(text, &FILES)) } else { text }
}

/// Replaces `{{TEXT*COUNT}}` by the text that many times, for what is too long to be written out.
fn repeat(text: String) -> String {
    let Some((before, rest)) = text.split_once("{{") else { return text };
    let Some((inner, after)) = rest.split_once("}}") else { return text };
    let after = repeat(after.to_owned());
    match inner.rsplit_once('*').and_then(|(unit, count)| Some((unit, count.parse().ok()?))) {
        Some((unit, count)) => format!("{before}{}{after}", unit.repeat(count)),
        None => format!("{before}{{{{{inner}}}}}{after}"),
    }
}

fn hcm(config: &Config) -> Value {
    let virtual_hosts = config.virtual_hosts.clone().unwrap_or_else(|| {
        let to_a = json!([{"match": {"prefix": "/"}, "route": {"cluster": "a"}}]);
        json!([{"name": "all", "domains": ["*"], "routes": config.routes.clone().unwrap_or(to_a)}])
    });
    let mut route_config = json!({"name": "routes", "virtual_hosts": virtual_hosts});
    merge(&mut route_config, &config.route_config);
    let router = json!({"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}});
    let filters: Value = config.http_filters.iter().cloned().chain([router]).collect();
    let mut hcm = json!({
        "@type": HCM,
        "stat_prefix": "ingress",
        // A client that reads up to the end of the connection would wait for the default of a second.
        "delayed_close_timeout": "0.05s",
        "route_config": route_config,
        "access_log": [{"name": "envoy.access_loggers.file", "typed_config": file_log(config.log.as_ref())}],
        "http_filters": filters,
    });
    merge(&mut hcm, &config.hcm);
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": hcm})
}

fn file_log(format: Option<&Value>) -> Value {
    let mut log = json!({"@type": FILE_LOG, "path": "{{log}}"});
    let format = match format {
        None => json!({"text_format_source": {"inline_string": LOG}}),
        Some(Value::Null) => return log,
        Some(Value::String(text)) => json!({"text_format_source": {"inline_string": text}}),
        Some(fields) => json!({"json_format": fields}),
    };
    log["log_format"] = format;
    log
}

fn cluster(name: &str, protocol: UpstreamProtocol) -> Value {
    let endpoint = json!({"endpoint": {"address": address(&format!("{{{{upstream.{name}}}}}"))}});
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    });
    if protocol == UpstreamProtocol::Http2 {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": HTTP_OPTIONS,
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        });
    }
    cluster
}

fn tls_socket(kind: &str, context: &Value) -> Value {
    let mut config = json!({"@type": kind});
    merge(&mut config, context);
    json!({"name": "envoy.transport_sockets.tls", "typed_config": config})
}

fn address(port: &str) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_replaces_adds_and_removes() {
        let mut value = json!({"kept": 1, "changed": {"a": 1, "b": 2}, "gone": 3});
        merge(
            &mut value,
            &json!({"changed": {"a": [7]}, "gone": null, "new": {"c": null, "d": 4}}),
        );
        assert_eq!(value, json!({"kept": 1, "changed": {"a": [7], "b": 2}, "new": {"d": 4}}));
        merge(&mut value, &Value::Null);
        assert_eq!(value["kept"], 1);
    }

    #[test]
    fn a_text_is_repeated() {
        let filled = fill_text("<{{ab*3}}> {{none}} {{*}}{{x*2}}", &BTreeMap::new());
        assert_eq!(filled, "<ababab> {{none}} {{*}}xx");
    }

    #[test]
    fn a_placeholder_alone_becomes_a_number() {
        let names = BTreeMap::from([("port".to_owned(), "81".to_owned())]);
        let mut value =
            json!({"port_value": "{{port}}", "text": "on {{port}}", "other": "{{none}}"});
        fill(&mut value, &names);
        assert_eq!(value, json!({"port_value": 81, "text": "on 81", "other": "{{none}}"}));
    }
}
