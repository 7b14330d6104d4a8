use std::net::SocketAddr;
use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::config::matcher::{ConnectionView, PseudoHeaders, RequestView, TlsView};
use crate::config::testing::message;
use crate::config::{At, ConfigError, Context};
use crate::io::Address;
use crate::telemetry::stream_info::{CertificateInfo, Metadata};

struct World {
    local: Address,
    remote: Address,
    peer: CertificateInfo,
    headers: HeaderMap,
    metadata: Metadata,
}

fn world() -> World {
    let address = |text: &str| Address::Ip(text.parse::<SocketAddr>().unwrap());
    let header = |name: &'static str, value: &'static str| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    World {
        local: address("10.0.0.1:80"),
        remote: address("10.1.0.1:1111"),
        peer: CertificateInfo {
            subject: "CN=c".into(),
            issuer: "".into(),
            serial: "".into(),
            sha256: "".into(),
            sha1: "".into(),
            uri_sans: ["spiffe://m/a".into(), "spiffe://m/b".into()].into(),
            dns_sans: ["c.example".into()].into(),
            ip_sans: [].into(),
            email_sans: [].into(),
            not_before: SystemTime::UNIX_EPOCH,
            not_after: SystemTime::UNIX_EPOCH,
        },
        headers: HeaderMap::from_iter([header("x-a", "1"), header("x-a", "2")]),
        metadata: Metadata::from_iter([("ns".to_owned(), serde_json::json!({"k": "v"}))]),
    }
}

impl World {
    fn input(&self) -> MatchInput<'_> {
        let pseudo =
            PseudoHeaders { method: "GET", scheme: "http", authority: "a", path: "/p?q=a%20b&q=c" };
        MatchInput {
            connection: ConnectionView {
                id: 1,
                local: &self.local,
                remote: &self.remote,
                direct_remote: &self.remote,
                server_name: "sni.example",
                transport_protocol: "tls",
                application_protocols: &[],
                filter_state: None,
                tls: Some(TlsView { version: "TLSv1.3", peer: Some(&self.peer), local: None }),
            },
            remote: &self.remote,
            request: Some(RequestView { pseudo, headers: &self.headers, protocol: "HTTP/1.1" }),
            response: None,
            filter_state: None,
            metadata: Some(&self.metadata),
            route_metadata: None,
        }
    }
}

/// A tree whose actions are the names of their extensions.
fn tree(yaml: &str) -> Result<Tree<String>, ConfigError> {
    let message = message(yaml);
    let at = At::resource("listener", "l");
    Tree::from_proto(&message, Scope::Request, &|a, _| Ok(a.name.clone()), &at, &Context::default())
}

fn find(yaml: &str, input: &MatchInput<'_>) -> Result<Option<String>, Unknown> {
    let tree = tree(yaml).unwrap_or_else(|error| panic!("{error}: {yaml}"));
    tree.find(input).map(|found| found.cloned())
}

const COMMON: &str = "envoy.extensions.matching.common_inputs";
const HTTP: &str = "envoy.type.matcher.v3";

fn input(kind: &str) -> String {
    format!("{{name: i, typed_config: {{'@type': type.googleapis.com/{kind}}}}}")
}

fn action(name: &str) -> String {
    format!("{{action: {{name: {name}, typed_config: {{}}}}}}")
}

fn single(kind: &str, rule: &str) -> String {
    format!("{{single_predicate: {{input: {}, {rule}}}}}", input(kind))
}

fn list(entries: &[(String, String)], otherwise: &str) -> String {
    let entries = entries.iter().map(|(p, then)| format!("{{predicate: {p}, on_match: {then}}}"));
    let entries = entries.collect::<Vec<_>>().join(", ");
    format!("{{matcher_list: {{matchers: [{entries}]}}, on_no_match: {otherwise}}}")
}

#[test]
fn every_input_gives_its_value() {
    let world = world();
    let input = world.input();
    for (kind, value) in [
        (format!("{COMMON}.network.v3.DestinationIPInput"), "10.0.0.1"),
        (format!("{COMMON}.network.v3.DestinationPortInput"), "80"),
        (format!("{COMMON}.network.v3.SourceIPInput"), "10.1.0.1"),
        (format!("{COMMON}.network.v3.SourcePortInput"), "1111"),
        (format!("{COMMON}.network.v3.DirectSourceIPInput"), "10.1.0.1"),
        (format!("{COMMON}.network.v3.ServerNameInput"), "sni.example"),
        (format!("{COMMON}.ssl.v3.UriSanInput"), "spiffe://m/a,spiffe://m/b"),
        (format!("{COMMON}.ssl.v3.DnsSanInput"), "c.example"),
        (format!("{COMMON}.ssl.v3.SubjectInput"), "CN=c"),
        (format!("{HTTP}.HttpRequestHeaderMatchInput, header_name: X-A"), "1,2"),
        (format!("{HTTP}.HttpRequestHeaderMatchInput, header_name: ':method'"), "GET"),
        (format!("{HTTP}.HttpRequestHeaderMatchInput, header_name: host"), "a"),
    ] {
        let rule = format!("value_match: {{exact: '{value}'}}");
        let yaml = list(&[(single(&kind, &rule), action("hit"))], &action("miss"));
        assert_eq!(find(&yaml, &input), Ok(Some("hit".into())), "{yaml}");
    }
}

#[test]
fn predicates_combine_and_a_missing_value_matches_nothing() {
    let world = world();
    let port = format!("{COMMON}.network.v3.DestinationPortInput");
    let yes = single(&port, "value_match: {exact: '80'}");
    let no = single(&port, "value_match: {exact: '81'}");
    let missing = single(
        &format!("{HTTP}.HttpRequestHeaderMatchInput, header_name: x-none"),
        "value_match: {prefix: a}",
    );
    let both = |kind: &str, a: &str, b: &str| format!("{{{kind}: {{predicate: [{a}, {b}]}}}}");
    for (predicate, expected) in [
        (both("or_matcher", &no, &yes), true),
        (both("or_matcher", &no, &missing), false),
        (both("and_matcher", &yes, &yes), true),
        (both("and_matcher", &yes, &no), false),
        (format!("{{not_matcher: {no}}}"), true),
        (format!("{{not_matcher: {yes}}}"), false),
        (format!("{{not_matcher: {missing}}}"), true),
        (missing.clone(), false),
    ] {
        let yaml = list(&[(predicate, action("hit"))], &action("miss"));
        let expected = if expected { "hit" } else { "miss" };
        assert_eq!(find(&yaml, &world.input()), Ok(Some(expected.into())), "{yaml}");
    }
}

#[test]
fn maps_take_exact_values_and_the_longest_prefix() {
    let world = world();
    let path = input(&format!("{HTTP}.HttpRequestHeaderMatchInput, header_name: ':path'"));
    let map = |kind: &str, entries: &str| {
        let miss = action("miss");
        format!(
            "{{matcher_tree: {{input: {path}, {kind}: {{map: {{{entries}}}}}}}, on_no_match: {miss}}}"
        )
    };
    let (a, b) = (action("a"), action("b"));
    let nested = list(
        &[(
            single(
                &format!("{COMMON}.network.v3.DestinationPortInput"),
                "value_match: {exact: '1'}",
            ),
            action("never"),
        )],
        "{}",
    );
    let nested = nested.replace(", on_no_match: {}", "");
    for (yaml, expected) in [
        (map("exact_match_map", &format!("'/p?q=a%20b&q=c': {a}, '/p': {b}")), "a"),
        (map("exact_match_map", &format!("'/p': {b}")), "miss"),
        (map("prefix_match_map", &format!("'/': {a}, '/p': {b}")), "b"),
        (map("prefix_match_map", &format!("'/x': {a}")), "miss"),
        (map("prefix_match_map", &format!("'/': {a}, '/p': {{matcher: {nested}}}")), "a"),
    ] {
        assert_eq!(find(&yaml, &world.input()), Ok(Some(expected.into())), "{yaml}");
    }
}

#[test]
fn what_is_passed_over_lets_the_next_one_match() {
    let world = world();
    let always =
        single(&format!("{COMMON}.network.v3.DestinationPortInput"), "value_match: {prefix: '8'}");
    let keep = action("kept").replacen('{', "{keep_matching: true, ", 1);
    let yaml = list(&[(always.clone(), keep), (always, action("next"))], &action("miss"));
    assert_eq!(find(&yaml, &world.input()), Ok(Some("next".into())));
}

#[test]
fn addresses_and_metadata_have_matchers_of_their_own() {
    let world = world();
    let custom = |config: &str| {
        format!(
            "custom_match: {{name: c, typed_config: {{'@type': type.googleapis.com/{config}}}}}"
        )
    };
    let ip = custom(
        "envoy.extensions.matching.input_matchers.ip.v3.Ip, stat_prefix: s,
         cidr_ranges: [{address_prefix: 10.1.0.0, prefix_len: 16}]",
    );
    let metadata = custom(
        "envoy.extensions.matching.input_matchers.metadata.v3.Metadata,
         value: {string_match: {exact: v}}",
    );
    let dynamic =
        format!("{COMMON}.network.v3.DynamicMetadataInput, filter: ns, path: [{{key: k}}]");
    for predicate in
        [single(&format!("{COMMON}.network.v3.SourceIPInput"), &ip), single(&dynamic, &metadata)]
    {
        let yaml = list(&[(predicate, action("hit"))], &action("miss"));
        assert_eq!(find(&yaml, &world.input()), Ok(Some("hit".into())), "{yaml}");
    }
}

#[test]
fn the_names_of_a_peer_without_tls_cannot_be_told() {
    let world = world();
    let mut input = world.input();
    input.connection.tls = None;
    let san = single(&format!("{COMMON}.ssl.v3.UriSanInput"), "value_match: {prefix: s}");
    let known =
        single(&format!("{COMMON}.network.v3.DestinationPortInput"), "value_match: {exact: '80'}");
    let hit = |predicate: String| list(&[(predicate, action("hit"))], &action("miss"));
    assert_eq!(find(&hit(san.clone()), &input), Err(Unknown));
    assert_eq!(find(&hit(format!("{{not_matcher: {san}}}")), &input), Err(Unknown));
    let either = format!("{{or_matcher: {{predicate: [{san}, {known}]}}}}");
    assert_eq!(find(&hit(either), &input), Ok(Some("hit".into())));
    input.connection.tls = Some(TlsView { version: "TLSv1.3", peer: None, local: None });
    assert_eq!(find(&hit(san), &input), Ok(Some("miss".into())), "a peer without a name");
}

#[test]
fn mistakes_are_refused_by_their_path() {
    let port = format!("{COMMON}.network.v3.DestinationPortInput");
    let rule = single(&port, "value_match: {exact: '80'}");
    let one = |predicate: &str| list(&[(predicate.into(), action("a"))], &action("b"));
    let predicate = "matcher_list.matchers[0].predicate";
    for (yaml, path) in [
        ("{matcher_list: {}}".to_owned(), "matcher_list.matchers".to_owned()),
        (one("{}"), predicate.to_owned()),
        (
            one(&format!("{{or_matcher: {{predicate: [{rule}]}}}}")),
            format!("{predicate}.or_matcher.predicate"),
        ),
        (
            one(&single("x.Unknown", "value_match: {exact: a}")
                .replace("'@type': type.googleapis.com/x.Unknown", "")),
            format!("{predicate}.single_predicate.input.typed_config"),
        ),
        (
            one(&single(&port, "custom_match: {name: c}")),
            format!("{predicate}.single_predicate.custom_match.typed_config"),
        ),
        (
            list(&[(rule.clone(), "{}".into())], &action("b")),
            "matcher_list.matchers[0].on_match".to_owned(),
        ),
        (
            format!("{{matcher_tree: {{input: {}, exact_match_map: {{}}}}}}", input(&port)),
            "matcher_tree.exact_match_map.map".to_owned(),
        ),
        (
            format!("{{matcher_tree: {{input: {}, custom_match: {{name: c}}}}}}", input(&port)),
            "matcher_tree.custom_match.typed_config".to_owned(),
        ),
    ] {
        let error = tree(&yaml).map(|_| ()).unwrap_err();
        assert_eq!(error.path, format!("listener \"l\": {path}"), "{error}: {yaml}");
    }
}
