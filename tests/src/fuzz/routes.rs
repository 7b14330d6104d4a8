//! Route tables: built from random configurations and asked by random requests.

use std::sync::Arc;

use fastrand::Rng;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pillion::config::route::{Action, RouteConfiguration};
use pillion::config::{At, Context};
use pillion::route::action::{redirect_location, rewrite_host, rewrite_path};
use pillion::route::request::RouteRequest;
use pillion::route::table::{Found, RouteEntry, RouteTable};
use proto::Registry;
use serde_json::{Value, json};

use super::Check;
use super::input::{one, some, text};
use super::text::{context, stream};

const PATHS: &[&str] = &["/", "/a", "/a/b", "/a/bc?x=1", "/A", "", "*", "/é"];
const HOSTS: &[&str] = &["a.b", "b", "x.a.b:80", "[::1]:80", "", "A.B"];
const NAMES: &[&str] = &["x", "y", "z"];

/// The same request always gets the same answer, and everything that the route does to it works.
pub fn routes() -> Check {
    let registry = Registry::load();
    let info = stream();
    Box::new(move |rng| {
        let config = configuration(rng).to_string();
        let Ok(message) = registry.from_json(&config) else { panic!("no configuration: {config}") };
        let at = At::resource("route configuration", "r");
        // What is random may break rules, such as that of a single default host.
        let Ok(config) = RouteConfiguration::from_proto(&message, &at, &Context::default()) else {
            return;
        };
        let table = RouteTable::build(&Arc::new(config), Arc::clone);
        for _ in 0..4 {
            let headers = headers(rng);
            let (authority, path) =
                (text(rng, HOSTS, &[".", ":"]), text(rng, PATHS, &["/a", "?", ";", "#"]));
            let method = one(rng, &[Method::GET, Method::CONNECT]).clone();
            let request = RouteRequest {
                info: None,
                certificate: Default::default(),
                method: &method,
                scheme: one::<&str>(rng, &["http", "https"]),
                authority: &authority,
                path: &path,
                headers: &headers,
                random: rng.u64(..),
            };
            let (Found::Route(found), Found::Route(again)) =
                (table.find(&request), table.find(&request))
            else {
                continue;
            };
            assert!(Arc::ptr_eq(found, again));
            apply(found, &request, &context(&info));
        }
    })
}

fn apply(
    route: &RouteEntry<Arc<str>>,
    request: &RouteRequest<'_>,
    context: &pillion::telemetry::log_format::FormatContext<'_>,
) {
    let choice = route.choose_cluster(request);
    assert!(choice.weighted.is_none_or(|chosen| chosen.weight > 0), "a cluster without weight");
    let (mut sent, mut returned) = (request.headers.clone(), HeaderMap::new());
    route.mutate_request(choice.weighted, &mut sent, context);
    route.mutate_response(choice.weighted, &mut returned, context);
    for name in &route.config.request_headers.remove {
        let adds = |list: &pillion::config::headers::HeaderMutations| {
            list.add.iter().any(|add| add.name == *name)
        };
        let levels = [
            &route.config.request_headers,
            &route.virtual_host.request_headers,
            &route.configuration.request_headers,
        ];
        let added = levels.into_iter().any(adds)
            || choice.weighted.is_some_and(|w| adds(&w.request_headers));
        assert!(added || !sent.contains_key(name), "{name} is still there");
    }
    match &route.config.action {
        Action::Forward(action) => {
            let path = rewrite_path(&action.path_rewrite, &route.config.matches, request.path);
            let host = rewrite_host(action, choice.weighted, &sent, request.path);
            std::hint::black_box((path, host));
        }
        Action::Redirect(redirect) => {
            std::hint::black_box(redirect_location(redirect, &route.config.matches, request));
        }
        Action::Direct(_) => {}
    }
}

fn headers(rng: &mut Rng) -> HeaderMap {
    let pairs = some(rng, 4, |rng| {
        let value = text(rng, &["1", "abc", "18446744073709551615", ""], &["a", "9", "é"]);
        let value = HeaderValue::from_bytes(value.as_bytes()).ok();
        (
            HeaderName::from_static(one::<&str>(rng, NAMES)),
            value.unwrap_or(HeaderValue::from_static("1")),
        )
    });
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name, value);
    }
    headers
}

fn configuration(rng: &mut Rng) -> Value {
    let hosts = some(rng, 3, |rng| {
        let mut host = json!({
            "name": rng.u32(..).to_string(),
            "domains": [one(rng, &["*", "a.b", "*.b", "a.*", "b", "*-x", "[::1]"])],
            "routes": some(rng, 5, route),
        });
        mutations(rng, &mut host);
        host
    });
    let mut config = json!({"name": "r", "virtual_hosts": hosts, "most_specific_header_mutations_wins": rng.bool()});
    mutations(rng, &mut config);
    config
}

fn route(rng: &mut Rng) -> Value {
    let matches = [
        json!({"prefix": "/"}),
        json!({"prefix": "/a", "case_sensitive": false}),
        json!({"path": "/a/b"}),
        json!({"path_separated_prefix": "/a"}),
        json!({"safe_regex": {"regex": "/(a|b)+.*"}}),
        json!({"connect_matcher": {}}),
        json!({"prefix": "/", "headers": [{"name": "x", "string_match": {"contains": "1"}, "invert_match": true}]}),
        json!({"prefix": "/", "headers": [{"name": "y", "range_match": {"start": 0, "end": 9}}]}),
        json!({"prefix": "/", "query_parameters": [{"name": "x", "string_match": {"exact": "1"}}]}),
        json!({"prefix": "/", "runtime_fraction": {"default_value": {"numerator": 50}}}),
    ];
    let mut weights = some(rng, 2, |rng| json!({"name": "c", "weight": rng.u32(..3)}));
    weights.push(json!({"name": "d", "weight": 1}));
    let regex = json!({"pattern": {"regex": "(a)|b"}, "substitution": "\\1$x"});
    let action = match rng.u8(..6) {
        0 => json!({"route": {"cluster": "c", "prefix_rewrite": one(rng, PATHS)}}),
        1 => {
            json!({"route": {"cluster_header": "z", "regex_rewrite": regex, "host_rewrite_header": "x"}})
        }
        2 => json!({"route": {"weighted_clusters": {"clusters": weights}}}),
        3 => json!({"route": {"weighted_clusters": {"clusters": weights, "header_name": "x"}}}),
        4 => {
            json!({"redirect": {"https_redirect": rng.bool(), "prefix_rewrite": "/n", "port_redirect": rng.u16(..)}})
        }
        _ => json!({"direct_response": {"status": 200}}),
    };
    let mut route = json!({"match": one(rng, &matches)});
    if let (Value::Object(route), Value::Object(action)) = (&mut route, action) {
        route.extend(action);
    }
    mutations(rng, &mut route);
    route
}

/// Puts header mutations into a message that has them.
fn mutations(rng: &mut Rng, into: &mut Value) {
    const ACTIONS: &[&str] = &[
        "APPEND_IF_EXISTS_OR_ADD",
        "ADD_IF_ABSENT",
        "OVERWRITE_IF_EXISTS_OR_ADD",
        "OVERWRITE_IF_EXISTS",
    ];
    for direction in ["request", "response"] {
        into[format!("{direction}_headers_to_remove")] = json!(some(rng, 1, |rng| one(rng, NAMES)));
        into[format!("{direction}_headers_to_add")] = json!(some(rng, 2, |rng| json!({
            "header": {"key": one(rng, NAMES), "value": one(rng, &["v", "%REQ(x)%", "%PROTOCOL%%%", ""])},
            "append_action": one(rng, ACTIONS),
            "keep_empty_value": rng.bool(),
        })));
    }
}
