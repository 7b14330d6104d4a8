use std::net::SocketAddr;
use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue};
use proto::envoy::config::rbac::v3 as pb;

use super::*;
use crate::config::matcher::tree::Scope;
use crate::config::matcher::{ConnectionView, MatchInput, PseudoHeaders, RequestView, TlsView};
use crate::config::testing::message;
use crate::config::{At, ConfigError, Context};
use crate::io::Address;
use crate::telemetry::stream_info::{CertificateInfo, Metadata};

/// Everything that a test's request shows; it outlives the borrowed view.
struct World {
    local: Address,
    remote: Address,
    direct: Address,
    client: Address,
    peer: CertificateInfo,
    headers: HeaderMap,
    metadata: Metadata,
    route: Metadata,
}

fn address(text: &str) -> Address {
    Address::Ip(text.parse::<SocketAddr>().unwrap())
}

fn world() -> World {
    let texts = |list: &[&str]| list.iter().map(|text| Box::from(*text)).collect();
    let header = |name: &'static str, value: &'static str| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    World {
        local: address("10.0.0.1:8080"),
        remote: address("10.1.0.1:1111"),
        direct: address("10.2.0.1:2222"),
        client: address("10.3.0.1:0"),
        peer: CertificateInfo {
            subject: "CN=client".into(),
            issuer: "CN=ca".into(),
            serial: "1".into(),
            sha256: "".into(),
            sha1: "".into(),
            uri_sans: texts(&["spiffe://td/ns/a/sa/one", "spiffe://td/ns/a/sa/two"]),
            dns_sans: texts(&["client.example"]),
            ip_sans: texts(&["10.9.9.9"]),
            email_sans: texts(&["a@b.example"]),
            not_before: SystemTime::UNIX_EPOCH,
            not_after: SystemTime::UNIX_EPOCH,
        },
        headers: HeaderMap::from_iter([header("x-one", "a"), header("x-two", "b")]),
        metadata: Metadata::from_iter([("ns".to_owned(), serde_json::json!({"k": "v"}))]),
        route: Metadata::from_iter([("ns".to_owned(), serde_json::json!({"k": "r"}))]),
    }
}

impl World {
    fn input(&self) -> MatchInput<'_> {
        let pseudo = PseudoHeaders {
            method: "GET",
            scheme: "http",
            authority: "a.example",
            path: "/a/b?q=1",
        };
        MatchInput {
            connection: ConnectionView {
                id: 1,
                local: &self.local,
                remote: &self.remote,
                direct_remote: &self.direct,
                server_name: "sni.example",
                transport_protocol: "tls",
                application_protocols: &[],
                filter_state: None,
                tls: Some(TlsView { version: "TLSv1.3", peer: Some(&self.peer), local: None }),
            },
            remote: &self.client,
            request: Some(RequestView { pseudo, headers: &self.headers, protocol: "HTTP/1.1" }),
            response: None,
            filter_state: None,
            metadata: Some(&self.metadata),
            route_metadata: Some(&self.route),
        }
    }
}

fn engine(rules: &str) -> Result<Engine, ConfigError> {
    let message: pb::Rbac = message(rules);
    let at = At::resource("listener", "l");
    let context = Context::default();
    let rules = ("rules", Some(&message));
    Engine::from_proto(rules, ("matcher", None), Scope::Request, &at, &context).map(Option::unwrap)
}

/// Whether an ALLOW policy with this permission and principal lets the world's request pass.
fn allows(permission: &str, principal: &str, input: &MatchInput<'_>) -> bool {
    let yaml =
        format!("policies: {{p: {{permissions: [{permission}], principals: [{principal}]}}}}");
    let engine = engine(&yaml).unwrap_or_else(|error| panic!("{error}: {yaml}"));
    engine.decide(input).decision == Decision::Allowed
}

const PERMISSIONS: &[(&str, bool)] = &[
    ("{any: true}", true),
    ("{and_rules: {rules: [{any: true}, {destination_port: 8080}]}}", true),
    ("{and_rules: {rules: [{any: true}, {destination_port: 80}]}}", false),
    ("{or_rules: {rules: [{destination_port: 80}, {destination_port: 8080}]}}", true),
    ("{or_rules: {rules: [{destination_port: 80}]}}", false),
    ("{not_rule: {destination_port: 80}}", true),
    ("{header: {name: x-one, string_match: {exact: a}}}", true),
    ("{header: {name: ':method', string_match: {exact: POST}}}", false),
    ("{url_path: {path: {exact: /a/b}}}", true),
    ("{url_path: {path: {suffix: q=1}}}", false),
    ("{destination_ip: {address_prefix: 10.0.0.0, prefix_len: 24}}", true),
    ("{destination_ip: {address_prefix: 10.1.0.0, prefix_len: 24}}", false),
    ("{destination_port_range: {start: 8080, end: 8081}}", true),
    ("{destination_port_range: {start: 8000, end: 8080}}", false),
    ("{requested_server_name: {suffix: .example}}", true),
    ("{metadata: {filter: ns, path: [{key: k}], value: {string_match: {exact: v}}}}", true),
    ("{metadata: {filter: ns, path: [{key: k}], value: {string_match: {exact: r}}}}", false),
    (
        "{sourced_metadata: {metadata_source: ROUTE, metadata_matcher:
          {filter: ns, path: [{key: k}], value: {string_match: {exact: r}}}}}",
        true,
    ),
    (
        "{uri_template: {name: t, typed_config: {'@type':
          type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig,
          path_template: '/a/*'}}}",
        true,
    ),
];

const MTLS: &str = "'@type':
    type.googleapis.com/envoy.extensions.rbac.principals.mtls_authenticated.v3.Config";

const PRINCIPALS: &[(&str, bool)] = &[
    ("{any: true}", true),
    (
        "{and_ids: {ids: [{any: true}, {source_ip: {address_prefix: 10.1.0.1, prefix_len: 32}}]}}",
        true,
    ),
    ("{or_ids: {ids: [{source_ip: {address_prefix: 10.3.0.1, prefix_len: 32}}]}}", false),
    ("{not_id: {any: true}}", false),
    ("{source_ip: {address_prefix: 10.1.0.1, prefix_len: 32}}", true),
    ("{source_ip: {address_prefix: 10.3.0.1, prefix_len: 32}}", false),
    ("{direct_remote_ip: {address_prefix: 10.2.0.1, prefix_len: 32}}", true),
    ("{remote_ip: {address_prefix: 10.3.0.1, prefix_len: 32}}", true),
    ("{remote_ip: {address_prefix: 10.1.0.1, prefix_len: 32}}", false),
    ("{header: {name: x-two, present_match: true}}", true),
    ("{url_path: {path: {prefix: /b}}}", false),
    ("{metadata: {filter: ns, path: [{key: k}], value: {present_match: true}}}", true),
    ("{filter_state: {key: k, string_match: {prefix: a}}}", false),
    ("{authenticated: {}}", true),
    ("{authenticated: {principal_name: {exact: 'spiffe://td/ns/a/sa/two'}}}", true),
    ("{authenticated: {principal_name: {exact: 'spiffe://td/ns/a/sa/tw'}}}", false),
    ("{authenticated: {principal_name: {exact: client.example}}}", true),
    ("{authenticated: {principal_name: {exact: CN=client}}}", true),
    ("{authenticated: {principal_name: {safe_regex: {regex: '.*/ns/a/.*'}}}}", true),
    ("{authenticated: {principal_name: {exact: 10.9.9.9}}}", false),
];

#[test]
fn every_kind_of_permission_decides() {
    let world = world();
    for (permission, expected) in PERMISSIONS {
        assert_eq!(allows(permission, "{any: true}", &world.input()), *expected, "{permission}");
    }
}

#[test]
fn every_kind_of_principal_decides() {
    let world = world();
    for (principal, expected) in PRINCIPALS {
        assert_eq!(allows("{any: true}", principal, &world.input()), *expected, "{principal}");
    }
}

#[test]
fn a_verified_certificate_is_a_custom_principal() {
    let world = world();
    let with =
        |config: &str| format!("{{custom: {{name: c, typed_config: {{{MTLS}, {config}}}}}}}");
    let san = |kind: &str, value: &str| {
        with(&format!("san_matcher: {{san_type: {kind}, matcher: {{exact: {value}}}}}"))
    };
    let mut input = world.input();
    for (principal, expected) in [
        (with("any_validated_client_certificate: true"), true),
        (san("URI", "'spiffe://td/ns/a/sa/one'"), true),
        (san("DNS", "client.example"), true),
        (san("EMAIL", "a@b.example"), true),
        (san("IP_ADDRESS", "10.9.9.9"), true),
        (san("DNS", "other.example"), false),
    ] {
        assert_eq!(allows("{any: true}", &principal, &input), expected, "{principal}");
    }
    input.connection.tls = Some(TlsView { version: "TLSv1.3", peer: None, local: None });
    let any = with("any_validated_client_certificate: true");
    assert!(!allows("{any: true}", &any, &input), "TLS alone is no certificate");
    assert!(allows("{any: true}", "{authenticated: {}}", &input));
    let named = "{authenticated: {principal_name: {prefix: s}}}";
    assert!(!allows("{any: true}", named, &input));
    input.connection.tls = None;
    assert!(!allows("{any: true}", "{authenticated: {}}", &input));
}

#[test]
fn a_connection_without_a_request_matches_no_rule_about_requests() {
    let world = world();
    let input = MatchInput { request: None, metadata: None, ..world.input() };
    for permission in [
        "{header: {name: x-one, string_match: {exact: a}}}",
        "{header: {name: x-one, string_match: {exact: a}, invert_match: true}}",
        "{url_path: {path: {prefix: /}}}",
        "{metadata: {filter: ns, path: [{key: k}], value: {present_match: true}}}",
    ] {
        assert!(!allows(permission, "{any: true}", &input), "{permission}");
    }
    assert!(allows("{destination_port: 8080}", "{authenticated: {}}", &input));
}

#[test]
fn the_action_and_the_first_policy_by_name_make_the_verdict() {
    let world = world();
    let policy = |port: u16| {
        format!("{{permissions: [{{destination_port: {port}}}], principals: [{{any: true}}]}}")
    };
    let (yes, no) = (policy(8080), policy(80));
    for (action, policies, decision, named, log) in [
        ("ALLOW", format!("{{b: {yes}, a: {yes}}}"), Decision::Allowed, Some("a"), None),
        ("ALLOW", format!("{{a: {no}, b: {yes}}}"), Decision::Allowed, Some("b"), None),
        ("ALLOW", format!("{{a: {no}}}"), Decision::Denied, None, None),
        ("ALLOW", "{}".to_owned(), Decision::Denied, None, None),
        ("DENY", format!("{{a: {yes}}}"), Decision::Denied, Some("a"), None),
        ("DENY", "{}".to_owned(), Decision::Allowed, None, None),
        ("LOG", format!("{{a: {yes}}}"), Decision::Allowed, Some("a"), Some(true)),
        ("LOG", format!("{{a: {no}}}"), Decision::Allowed, None, Some(false)),
    ] {
        let engine = engine(&format!("{{action: {action}, policies: {policies}}}")).unwrap();
        let verdict = Verdict { decision, policy: named, log };
        assert_eq!(engine.decide(&world.input()), verdict, "{action} {policies}");
    }
}

#[test]
fn a_globbed_path_that_denies_is_wider_than_one_that_allows() {
    let template = "{uri_template: {name: t, typed_config: {'@type':
        type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig,
        path_template: '/a/*'}}}";
    let world = world();
    let mut input = world.input();
    let mut request = input.request.unwrap();
    request.pseudo.path = "/a/{x}";
    input.request = Some(request);
    let matches = |action: &str, rule: &str| {
        let policy = format!("{{permissions: [{rule}], principals: [{{any: true}}]}}");
        let engine = engine(&format!("{{action: {action}, policies: {{p: {policy}}}}}")).unwrap();
        engine.decide(&input).policy.is_some()
    };
    assert!(!matches("ALLOW", template));
    assert!(matches("DENY", template));
    let not = format!("{{not_rule: {template}}}");
    assert!(!matches("ALLOW", &not), "what is not forbidden must not be met by an odd path");
}

#[test]
fn mistakes_are_refused_by_their_path() {
    let policy = |rest: &str| format!("policies: {{p: {{{rest}}}}}");
    let permission =
        |rule: &str| policy(&format!("permissions: [{rule}], principals: [{{any: true}}]"));
    let principal = |id: &str| policy(&format!("permissions: [{{any: true}}], principals: [{id}]"));
    for (yaml, path) in [
        (policy("principals: [{any: true}]"), ".policies[\"p\"].permissions"),
        (policy("permissions: [{any: true}]"), ".policies[\"p\"].principals"),
        (permission("{}"), ".policies[\"p\"].permissions[0]"),
        (permission("{any: false}"), ".policies[\"p\"].permissions[0].any"),
        (permission("{and_rules: {}}"), ".policies[\"p\"].permissions[0].and_rules.rules"),
        (
            permission("{destination_port: 70000}"),
            ".policies[\"p\"].permissions[0].destination_port",
        ),
        (
            permission("{destination_port_range: {start: 5, end: 5}}"),
            ".policies[\"p\"].permissions[0].destination_port_range",
        ),
        (
            permission("{matcher: {name: m}}"),
            ".policies[\"p\"].permissions[0].matcher.typed_config",
        ),
        (principal("{or_ids: {}}"), ".policies[\"p\"].principals[0].or_ids.ids"),
        (principal("{custom: {name: m}}"), ".policies[\"p\"].principals[0].custom.typed_config"),
        (principal("{filter_state: {key: ''}}"), ".policies[\"p\"].principals[0].filter_state.key"),
    ] {
        let error = engine(&yaml).unwrap_err();
        assert_eq!(error.path, format!("listener \"l\": rules{path}"), "{error}");
    }
}
