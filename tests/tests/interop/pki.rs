//! TLS contexts with the certificates of `tests/pki`.

use std::path::Path;

use serde_json::{Value, json};

const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";

/// The path of a file there.
pub fn file(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pki").join(name).display().to_string()
}

/// A certificate with its key.
pub fn certificate(name: &str) -> Value {
    json!({
        "certificate_chain": {"filename": file(&format!("{name}.pem"))},
        "private_key": {"filename": file(&format!("{name}.key"))},
    })
}

/// What both sides share: certificates to show, and trust in the authority.
pub fn common(certificates: &[&str]) -> Value {
    json!({
        "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": certificates.iter().map(|name| certificate(name)).collect::<Vec<_>>(),
        "validation_context": {"trusted_ca": {"filename": file("ca.pem")}},
    })
}

fn socket(kind: &str, mut context: Value) -> Value {
    context["@type"] = format!("{TLS}.{kind}").into();
    json!({"name": "envoy.transport_sockets.tls", "typed_config": context})
}

/// The listener with TLS: it has two certificates, wants one of its clients, and speaks both versions of HTTP.
pub fn tls_listener(mut listener: Value) -> Value {
    let mut common = common(&["server", "second"]);
    common["alpn_protocols"] = json!(["h2", "http/1.1"]);
    let context = json!({"common_tls_context": common, "require_client_certificate": true});
    listener["filter_chains"][0]["transport_socket"] = socket("DownstreamTlsContext", context);
    listener
}

/// The cluster with TLS, where `context` is an `UpstreamTlsContext`.
pub fn tls_cluster(mut cluster: Value, context: Value) -> Value {
    cluster["transport_socket"] = socket("UpstreamTlsContext", context);
    cluster
}
