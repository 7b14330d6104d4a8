use super::*;
use crate::config::source::SourceKind;
use crate::config::tls::SanKind;
use proto::Registry;
use rustls::{CipherSuite, NamedGroup};

fn upstream(yaml: &str) -> Result<UpstreamTls, String> {
    let message = Registry::load().from_yaml(yaml).expect("the test's YAML is a message");
    let at = At::resource("cluster", "a");
    UpstreamTls::from_proto(&message, &at, &Context::default()).map_err(|error| error.to_string())
}

fn downstream(yaml: &str) -> Result<DownstreamTls, String> {
    let message = Registry::load().from_yaml(yaml).expect("the test's YAML is a message");
    let at = At::resource("listener", "a");
    DownstreamTls::from_proto(&message, &at, &Context::default()).map_err(|error| error.to_string())
}

const SDS: &str = "tls_certificate_sds_secret_configs: [{name: default, sds_config: {ads: {}}}]";

#[test]
fn a_mesh_context_names_its_secrets() {
    let tls = upstream(&format!(
        "{{sni: web, common_tls_context: {{{SDS}, alpn_protocols: [h2], combined_validation_context: \
         {{default_validation_context: {{match_typed_subject_alt_names: \
         [{{san_type: URI, matcher: {{exact: 'spiffe://a/b'}}}}]}}, \
         validation_context_sds_secret_config: {{name: ROOTCA}}}}}}}}"
    ))
    .expect("it is valid");
    assert_eq!(&*tls.sni, "web");
    assert_eq!(tls.common.alpn, [b"h2".to_vec()]);
    let SecretRef::Named(NamedSecret { name, source: SecretSource::Sds(source) }) =
        &tls.common.certificates[0]
    else {
        panic!("not from SDS");
    };
    assert_eq!(&**name, "default");
    assert_eq!(source.kind, SourceKind::Ads);
    let validation = tls.common.validation.expect("there is one");
    assert_eq!(validation.context.subject_alt_names[0].kind, SanKind::Uri);
    let root = validation.named.expect("the roots have a name");
    assert_eq!(&*root.name, "ROOTCA");
    assert!(matches!(root.source, SecretSource::Bootstrap));
}

#[test]
fn clients_stop_at_tls_1_2_unless_told_otherwise() {
    let versions = |common: CommonTls| (common.allow_tls12, common.allow_tls13);
    assert_eq!(versions(upstream("{}").expect("valid").common), (true, false));
    let server = format!("{{common_tls_context: {{{SDS}}}}}");
    assert_eq!(versions(downstream(&server).expect("valid").common), (true, true));
    let params =
        |params: &str| upstream(&format!("{{common_tls_context: {{tls_params: {{{params}}}}}}}"));
    let only_13 = "tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3";
    assert_eq!(versions(params(only_13).expect("valid").common), (false, true));
    assert_eq!(
        params("tls_minimum_protocol_version: TLSv1_3").expect_err("the maximum is 1.2"),
        "cluster \"a\": common_tls_context.tls_params.tls_maximum_protocol_version: \
         is lower than tls_minimum_protocol_version"
    );
}

#[test]
fn unsafe_cipher_suites_are_left_out() {
    let suites = |names: &str| {
        upstream(&format!("{{common_tls_context: {{tls_params: {{cipher_suites: [{names}]}}}}}}"))
    };
    let tls = suites("ECDHE-ECDSA-AES256-GCM-SHA384, AES128-SHA").expect("one is safe");
    assert_eq!(
        tls.common.tls12_cipher_suites,
        Some(vec![CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384])
    );
    assert_eq!(
        suites("AES128-SHA").expect_err("none is safe"),
        "cluster \"a\": common_tls_context.tls_params.cipher_suites: none of the suites is supported"
    );
    assert_eq!(
        suites("ECDHE-RSA-AES128-GCM-SHA256, ROT13").expect_err("there is none of this name"),
        "cluster \"a\": common_tls_context.tls_params.cipher_suites[1]: \"ROT13\" is no cipher suite"
    );
}

#[test]
fn curves_are_taken_by_name() {
    let curves = |names: &str| {
        upstream(&format!("{{common_tls_context: {{tls_params: {{ecdh_curves: [{names}]}}}}}}"))
    };
    let tls = curves("P-256, X25519").expect("both are there");
    assert_eq!(tls.common.groups, Some(vec![NamedGroup::secp256r1, NamedGroup::X25519]));
    assert_eq!(
        curves("P-256, P-111").expect_err("there is no such curve"),
        "cluster \"a\": common_tls_context.tls_params.ecdh_curves[1]: \"P-111\" is not supported; \
         X25519, P-256, P-384 and X25519MLKEM768 are"
    );
}

#[test]
fn servers_need_a_certificate_and_may_forbid_resumption() {
    assert_eq!(
        downstream("{}").expect_err("no certificate"),
        "listener \"a\": common_tls_context: no TLS certificates found for server context"
    );
    let tls = downstream(&format!(
        "{{common_tls_context: {{{SDS}}}, require_client_certificate: true, \
         disable_stateless_session_resumption: true, disable_stateful_session_resumption: true}}"
    ))
    .expect("it is valid");
    assert!(tls.require_client_certificate);
    assert!(!tls.stateless_resumption && !tls.stateful_resumption);
}

#[test]
fn contexts_that_break_a_rule_are_refused() {
    let common = |fields: &str| {
        upstream(&format!("{{common_tls_context: {{{fields}}}}}")).expect_err("it breaks a rule")
    };
    assert_eq!(
        common(
            "validation_context: {match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: a}}]}"
        ),
        "cluster \"a\": common_tls_context.validation_context: SAN-based verification of peer \
         certificates without trusted CA is insecure and not allowed"
    );
    assert_eq!(
        common("tls_certificate_sds_secret_configs: [{}]"),
        "cluster \"a\": common_tls_context.tls_certificate_sds_secret_configs[0].name: must not be empty"
    );
    assert_eq!(
        common("alpn_protocols: ['']"),
        "cluster \"a\": common_tls_context.alpn_protocols[0]: a protocol's name has 1 to 255 bytes"
    );
    assert_eq!(
        common("combined_validation_context: {}"),
        "cluster \"a\": common_tls_context.combined_validation_context.default_validation_context: \
         is required"
    );
    assert_eq!(
        upstream(&format!("{{sni: {}}}", "x".repeat(256))).expect_err("it is too long"),
        "cluster \"a\": sni: is longer than 255 bytes"
    );
    assert_eq!(
        upstream("{auto_sni_san_validation: true}").expect_err("nobody is trusted"),
        "cluster \"a\": auto_sni_san_validation: needs a trusted_ca: \
         anyone can make a certificate with a name"
    );
}
