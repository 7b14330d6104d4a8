//! The compiled route table.

use std::sync::Arc;

use super::host_map::{HostMap, without_port};
use super::request::RouteRequest;
use super::route_match;
use crate::config::headers::HeaderMutations;
use crate::config::route::{
    Action, ClusterSpecifier, MirrorTarget, RequireTls, Route, RouteConfiguration, VirtualHost,
    WeightedTarget,
};

/// A route configuration, ready for requests. `S` is the handle of a cluster, resolved once when the table is built.
#[derive(Debug)]
pub struct RouteTable<S> {
    config: Arc<RouteConfiguration>,
    hosts: HostMap,
    virtual_hosts: Vec<VirtualHostEntry<S>>,
}

#[derive(Debug)]
struct VirtualHostEntry<S> {
    config: Arc<VirtualHost>,
    routes: Vec<Arc<RouteEntry<S>>>,
}

/// A route with everything that a stream needs of it, so that a stream keeps nothing else of the table.
#[derive(Debug)]
pub struct RouteEntry<S> {
    /// The route.
    pub config: Arc<Route>,
    /// The virtual host that it belongs to.
    pub virtual_host: Arc<VirtualHost>,
    /// The route configuration that it belongs to.
    pub configuration: Arc<RouteConfiguration>,
    /// One for each cluster that the action names, in order; none for one that a header names.
    pub clusters: Vec<Option<S>>,
    /// One for each of the action's mirrors, likewise.
    pub mirrors: Vec<Option<S>>,
    /// Whether header mutations on the way read the request's headers.
    pub reads_heads: bool,
}

/// What a table says to a request.
#[derive(Debug)]
pub enum Found<'a, S> {
    /// This route takes it.
    Route(&'a Arc<RouteEntry<S>>),
    /// The virtual host wants TLS (`require_tls`): answer 301 to [`tls_redirect_location`](super::action::tls_redirect_location).
    TlsRequired,
    /// No virtual host has the authority, or none of its routes matches.
    Nothing,
}

impl<S> RouteTable<S> {
    /// Compiles `config`; `cluster` gives the handle of a cluster by its name.
    pub fn build(
        config: &Arc<RouteConfiguration>,
        mut cluster: impl FnMut(&Arc<str>) -> S,
    ) -> RouteTable<S> {
        let mut hosts = HostMap::default();
        for (position, virtual_host) in config.virtual_hosts.iter().enumerate() {
            for domain in &virtual_host.domains {
                hosts.insert(domain, position);
            }
        }
        let virtual_hosts = config.virtual_hosts.iter().map(|virtual_host| {
            let routes = virtual_host.routes.iter().map(|route| {
                Arc::new(RouteEntry {
                    config: route.clone(),
                    virtual_host: virtual_host.clone(),
                    configuration: config.clone(),
                    clusters: resolve(&route.action, &mut cluster),
                    mirrors: resolve_mirrors(&route.action, &mut cluster),
                    reads_heads: reads_heads(config, virtual_host, route),
                })
            });
            VirtualHostEntry { config: virtual_host.clone(), routes: routes.collect() }
        });
        RouteTable { config: config.clone(), hosts, virtual_hosts: virtual_hosts.collect() }
    }

    /// The configuration that the table was built from.
    pub fn config(&self) -> &Arc<RouteConfiguration> {
        &self.config
    }

    /// The first matching route of the virtual host that has the request's authority. There is no way from one virtual
    /// host to the next.
    pub fn find(&self, request: &RouteRequest<'_>) -> Found<'_, S> {
        let authority = match self.config.ignore_port {
            true => without_port(request.authority),
            false => request.authority,
        };
        let Some(position) = self.hosts.find(authority) else {
            return Found::Nothing;
        };
        let host = &self.virtual_hosts[position];
        if wants_tls(host.config.require_tls, request) {
            return Found::TlsRequired;
        }
        let path = route_match::matched_path(request.path, self.config.ignore_path_parameters);
        let mut routes = host.candidates(request).iter();
        routes
            .find(|route| route_match::matches(&route.config.matches, request, path))
            .map_or(Found::Nothing, Found::Route)
    }
}

impl<S> VirtualHostEntry<S> {
    /// The routes that may take the request: all, or those that the tree leads to.
    fn candidates(&self, request: &RouteRequest<'_>) -> &[Arc<RouteEntry<S>>] {
        let Some(tree) = &self.config.tree else { return &self.routes };
        let found = request.match_input().and_then(|input| tree.find(&input).ok().flatten());
        found.map_or(&[], |range| &self.routes[range.clone()])
    }
}

/// Whether the client must come again over TLS. Like Envoy, this trusts `x-forwarded-proto` and `x-envoy-internal`, which
/// the connection manager has set.
fn wants_tls(rule: RequireTls, request: &RouteRequest<'_>) -> bool {
    let external = || request.header("x-envoy-internal") != Some("true");
    let applies = match rule {
        RequireTls::None => return false,
        RequireTls::ExternalOnly => external(),
        RequireTls::All => true,
    };
    applies && request.forwarded_proto() != "https"
}

fn reads_heads(config: &RouteConfiguration, host: &VirtualHost, route: &Route) -> bool {
    let levels = [
        &config.request_headers,
        &config.response_headers,
        &host.request_headers,
        &host.response_headers,
        &route.request_headers,
        &route.response_headers,
    ];
    let weighted = match &route.action {
        Action::Forward(action) => match &action.cluster {
            ClusterSpecifier::Weighted(weighted) => &weighted.clusters[..],
            _ => &[],
        },
        _ => &[],
    };
    let mirrors = match &route.action {
        Action::Forward(action) => &action.resilience.mirrors[..],
        _ => &[],
    };
    let mirrored = mirrors.iter().flat_map(|mirror| &mirror.mutations);
    let weighted = weighted.iter();
    let weighted = weighted.flat_map(|entry| [&entry.request_headers, &entry.response_headers]);
    levels.into_iter().chain(weighted).chain(mirrored).any(HeaderMutations::reads_heads)
}

fn resolve<S>(action: &Action, cluster: &mut impl FnMut(&Arc<str>) -> S) -> Vec<Option<S>> {
    let Action::Forward(action) = action else {
        return Vec::new();
    };
    match &action.cluster {
        ClusterSpecifier::Cluster(name) => vec![Some(cluster(name))],
        ClusterSpecifier::Header(_) => vec![None],
        ClusterSpecifier::Weighted(weighted) => {
            let targets = weighted.clusters.iter().map(|entry| match &entry.cluster {
                WeightedTarget::Cluster(name) => Some(cluster(name)),
                WeightedTarget::Header(_) => None,
            });
            targets.collect()
        }
    }
}

fn resolve_mirrors<S>(action: &Action, cluster: &mut impl FnMut(&Arc<str>) -> S) -> Vec<Option<S>> {
    let Action::Forward(action) = action else {
        return Vec::new();
    };
    let targets = action.resilience.mirrors.iter().map(|mirror| match &mirror.target {
        MirrorTarget::Cluster(name) => Some(cluster(name)),
        MirrorTarget::Header(_) => None,
    });
    targets.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{At, Context};
    use http::{HeaderMap, Method};
    use proto::envoy::config::route::v3 as pb;

    /// A route for a path prefix, which goes to the cluster `name`.
    fn route(prefix: &str, name: &str) -> pb::Route {
        let path = pb::route_match::PathSpecifier::Prefix(prefix.into());
        let cluster = pb::route_action::ClusterSpecifier::Cluster(name.into());
        pb::Route {
            r#match: Some(pb::RouteMatch { path_specifier: Some(path), ..Default::default() }),
            action: Some(pb::route::Action::Route(pb::RouteAction {
                cluster_specifier: Some(cluster),
                ..Default::default()
            })),
            ..Default::default()
        }
    }

    fn host(domains: &[&str], routes: Vec<pb::Route>) -> pb::VirtualHost {
        pb::VirtualHost {
            name: domains[0].into(),
            domains: domains.iter().map(|domain| (*domain).into()).collect(),
            routes,
            ..Default::default()
        }
    }

    /// The handles are the clusters' names.
    fn table(message: pb::RouteConfiguration) -> RouteTable<String> {
        let at = At::resource("route configuration", "test");
        let config = RouteConfiguration::from_proto(&message, &at, &Context::default()).unwrap();
        RouteTable::build(&Arc::new(config), |name| name.to_string())
    }

    fn find(
        table: &RouteTable<String>,
        authority: &str,
        path: &str,
        headers: &HeaderMap,
    ) -> String {
        let method = &Method::GET;
        let certificate = Default::default();
        let scheme = "http";
        let request = RouteRequest {
            method,
            scheme,
            authority,
            path,
            headers,
            certificate,
            info: None,
            random: 0,
        };
        match table.find(&request) {
            Found::Route(route) => route.clusters[0].clone().unwrap_or_default(),
            Found::TlsRequired => "tls".into(),
            Found::Nothing => "nothing".into(),
        }
    }

    #[test]
    fn routes_are_tried_in_order_within_one_virtual_host() {
        let table = table(pb::RouteConfiguration {
            virtual_hosts: vec![
                host(&["a.example"], vec![route("/x/y", "first"), route("/x", "second")]),
                host(&["*"], vec![route("/", "any")]),
            ],
            ..Default::default()
        });
        let headers = HeaderMap::new();
        assert_eq!(find(&table, "a.example", "/x/y/z", &headers), "first");
        assert_eq!(find(&table, "A.example", "/x/z", &headers), "second");
        assert_eq!(find(&table, "a.example", "/", &headers), "nothing");
        assert_eq!(find(&table, "b.example", "/x/y", &headers), "any");
    }

    #[test]
    fn ports_and_path_parameters_are_ignored_on_demand() {
        let mut message = pb::RouteConfiguration {
            virtual_hosts: vec![host(&["a.example"], vec![route("/x/y", "found")])],
            ..Default::default()
        };
        let headers = HeaderMap::new();
        let exact = table(message.clone());
        assert_eq!(find(&exact, "a.example:81", "/x/y", &headers), "nothing");
        message.ignore_port_in_host_matching = true;
        message.ignore_path_parameters_in_path_matching = true;
        let lenient = table(message);
        assert_eq!(find(&lenient, "a.example:81", "/x/y;v=1", &headers), "found");
        assert_eq!(find(&lenient, "a.example:81", "/x;v=1/y", &headers), "nothing");
    }

    #[test]
    fn a_route_knows_whether_mutations_read_heads() {
        use proto::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
        for (value, expected) in [("%PROTOCOL%", false), ("%REQ(x)%", true), ("x", false)] {
            let header =
                HeaderValue { key: "x-a".into(), value: value.into(), ..Default::default() };
            let mut virtual_host = host(&["*"], vec![route("/", "a")]);
            virtual_host.response_headers_to_add =
                vec![HeaderValueOption { header: Some(header), ..Default::default() }];
            let virtual_hosts = vec![virtual_host];
            let table = table(pb::RouteConfiguration { virtual_hosts, ..Default::default() });
            assert_eq!(table.virtual_hosts[0].routes[0].reads_heads, expected, "{value}");
        }
    }

    #[test]
    fn tls_is_required_of_all_or_of_external_requests() {
        use pb::virtual_host::TlsRequirementType;
        let header = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(
                http::HeaderName::from_static(name),
                http::HeaderValue::from_static(value),
            )])
        };
        for (rule, headers, expected) in [
            (TlsRequirementType::None, HeaderMap::new(), "a"),
            (TlsRequirementType::All, HeaderMap::new(), "tls"),
            (TlsRequirementType::All, header("x-forwarded-proto", "https"), "a"),
            (TlsRequirementType::All, header("x-envoy-internal", "true"), "tls"),
            (TlsRequirementType::ExternalOnly, HeaderMap::new(), "tls"),
            (TlsRequirementType::ExternalOnly, header("x-envoy-internal", "true"), "a"),
        ] {
            let mut virtual_host = host(&["*"], vec![route("/", "a")]);
            virtual_host.require_tls = rule.into();
            let virtual_hosts = vec![virtual_host];
            let table = table(pb::RouteConfiguration { virtual_hosts, ..Default::default() });
            assert_eq!(find(&table, "x", "/", &headers), expected, "{rule:?} {headers:?}");
        }
    }
}
