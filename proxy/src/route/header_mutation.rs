//! Applying header mutations: of the weighted cluster, route, virtual host and route configuration, in Envoy's order.

use http::{HeaderMap, HeaderValue};

use super::table::RouteEntry;
use crate::config::headers::{AppendAction, HeaderAdd, HeaderMutations, HeaderText};
use crate::config::route::WeightedCluster;
use crate::telemetry::log_format::FormatContext;

impl<S> RouteEntry<S> {
    /// Changes the headers that go upstream. Operators read the context, not the headers that change.
    pub fn mutate_request(
        &self,
        weighted: Option<&WeightedCluster>,
        headers: &mut HeaderMap,
        context: &FormatContext<'_>,
    ) {
        let levels = self.levels([
            weighted.map(|weighted| &weighted.request_headers),
            Some(&self.config.request_headers),
            Some(&self.virtual_host.request_headers),
            Some(&self.configuration.request_headers),
        ]);
        for mutations in levels {
            apply(mutations, headers, context);
        }
    }

    /// Changes the headers that go downstream. `%RESP(...)%` reads them as each level finds them.
    pub fn mutate_response(
        &self,
        weighted: Option<&WeightedCluster>,
        headers: &mut HeaderMap,
        context: &FormatContext<'_>,
    ) {
        let levels = self.levels([
            weighted.map(|weighted| &weighted.response_headers),
            Some(&self.config.response_headers),
            Some(&self.virtual_host.response_headers),
            Some(&self.configuration.response_headers),
        ]);
        for mutations in levels {
            remove(mutations, headers);
            let context = FormatContext { response: Some(headers), ..*context };
            let values = evaluate(mutations, headers, &context);
            write(values, headers);
        }
    }

    /// The levels in the order in which they are done; they come as weighted cluster, route, virtual host, configuration.
    /// The last one wins, which is the least specific one by default.
    fn levels<'a>(
        &self,
        mut levels: [Option<&'a HeaderMutations>; 4],
    ) -> impl Iterator<Item = &'a HeaderMutations> {
        if self.configuration.most_specific_wins {
            levels[1..].reverse();
        }
        levels.into_iter().flatten().filter(|mutations| !mutations.is_empty())
    }
}

/// Changes headers as one level says. Operators read the context, not the headers that change.
pub fn apply(mutations: &HeaderMutations, headers: &mut HeaderMap, context: &FormatContext<'_>) {
    remove(mutations, headers);
    let values = evaluate(mutations, headers, context);
    write(values, headers);
}

fn remove(mutations: &HeaderMutations, headers: &mut HeaderMap) {
    for name in &mutations.remove {
        headers.remove(name);
    }
}

/// The values to write, all made before any is written, so that none sees another.
fn evaluate<'a>(
    mutations: &'a HeaderMutations,
    headers: &HeaderMap,
    context: &FormatContext<'_>,
) -> Vec<(&'a HeaderAdd, HeaderValue)> {
    let wanted = mutations.add.iter().filter(|add| match add.action {
        AppendAction::Append | AppendAction::Overwrite => true,
        AppendAction::AddIfAbsent => !headers.contains_key(&add.name),
        AppendAction::OverwriteIfExists => headers.contains_key(&add.name),
    });
    let values = wanted.filter_map(|add| Some((add, value(add, context)?)));
    values.collect()
}

/// The value of one header; none if it is empty and must not be, or if it cannot stand in a header.
fn value(add: &HeaderAdd, context: &FormatContext<'_>) -> Option<HeaderValue> {
    let value = match &add.value {
        HeaderText::Literal(value) => value.clone(),
        HeaderText::Format(format) => {
            let mut text = Vec::new();
            format.write(context, &mut text);
            HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()?
        }
    };
    (add.keep_empty || !value.is_empty()).then_some(value)
}

/// Overwrites first, then appends.
fn write(values: Vec<(&HeaderAdd, HeaderValue)>, headers: &mut HeaderMap) {
    let overwrites =
        |action| matches!(action, AppendAction::Overwrite | AppendAction::OverwriteIfExists);
    let (overwriting, appending): (Vec<_>, Vec<_>) =
        values.into_iter().partition(|(add, _)| overwrites(add.action));
    for (add, value) in overwriting {
        headers.insert(&add.name, value);
    }
    for (add, value) in appending {
        headers.append(&add.name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::time::Instant;

    use crate::config::route::RouteConfiguration;
    use crate::config::{At, Context};
    use crate::io::Address;
    use crate::route::{Found, RouteRequest, RouteTable};
    use crate::telemetry::stream_info::{ConnectionInfo, StreamInfo};
    use http::Method;
    use proto::envoy::config::core::v3::header_value_option::HeaderAppendAction;
    use proto::envoy::config::core::v3::{HeaderValue as PbValue, HeaderValueOption};
    use proto::envoy::config::route::v3 as pb;

    fn option(key: &str, value: &str, action: HeaderAppendAction) -> HeaderValueOption {
        let header = PbValue { key: key.into(), value: value.into(), raw_value: Vec::new() };
        HeaderValueOption {
            header: Some(header),
            append_action: action.into(),
            ..Default::default()
        }
    }

    /// A route with one weighted cluster, where every level sets `x-level` and appends its name to `x-order`.
    fn entry(most_specific_wins: bool) -> Arc<RouteEntry<()>> {
        let level = |name: &str| {
            vec![
                option("x-level", name, HeaderAppendAction::OverwriteIfExistsOrAdd),
                option("x-order", name, HeaderAppendAction::AppendIfExistsOrAdd),
            ]
        };
        let cluster = pb::weighted_cluster::ClusterWeight {
            name: "c".into(),
            weight: Some(proto::google::protobuf::UInt32Value { value: 1 }),
            request_headers_to_add: level("weighted"),
            response_headers_to_add: level("weighted"),
            ..Default::default()
        };
        let weighted = pb::WeightedCluster { clusters: vec![cluster], ..Default::default() };
        let specifier = pb::route_action::ClusterSpecifier::WeightedClusters(weighted);
        let path = pb::route_match::PathSpecifier::Prefix("/".into());
        let route = pb::Route {
            r#match: Some(pb::RouteMatch { path_specifier: Some(path), ..Default::default() }),
            action: Some(pb::route::Action::Route(pb::RouteAction {
                cluster_specifier: Some(specifier),
                ..Default::default()
            })),
            request_headers_to_add: level("route"),
            response_headers_to_add: level("route"),
            ..Default::default()
        };
        let host = pb::VirtualHost {
            name: "all".into(),
            domains: vec!["*".into()],
            routes: vec![route],
            request_headers_to_add: level("host"),
            response_headers_to_add: level("host"),
            ..Default::default()
        };
        let message = pb::RouteConfiguration {
            virtual_hosts: vec![host],
            request_headers_to_add: level("configuration"),
            response_headers_to_add: level("configuration"),
            most_specific_header_mutations_wins: most_specific_wins,
            ..Default::default()
        };
        let at = At::resource("route configuration", "test");
        let config = RouteConfiguration::from_proto(&message, &at, &Context::default()).unwrap();
        let table = RouteTable::build(&Arc::new(config), |_| ());
        let Found::Route(entry) = table.find(&request(&HeaderMap::new())) else {
            panic!("the route does not match");
        };
        entry.clone()
    }

    fn request(headers: &HeaderMap) -> RouteRequest<'_> {
        let method = &Method::GET;
        RouteRequest {
            method,
            scheme: "http",
            authority: "a",
            path: "/",
            headers,
            certificate: Default::default(),
            info: None,
            random: 0,
        }
    }

    fn stream_info() -> StreamInfo {
        let address = Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], 80)));
        let connection = ConnectionInfo {
            id: 1,
            remote: address.clone(),
            direct_remote: address.clone(),
            local: address.clone(),
            direct_local: address,
            local_restored: false,
            source: None,
            requested_server_name: None,
            transport_protocol: "raw_buffer",
            application_protocols: Vec::new(),
            filter_state: Default::default(),
            filter_chain_name: "".into(),
            tls: None,
            transport_failure: None,
            accepted: Instant::now(),
        };
        StreamInfo::new(Rc::new(connection), None)
    }

    fn context(info: &StreamInfo) -> FormatContext<'_> {
        FormatContext {
            info,
            request: None,
            response: None,
            trailers: None,
            local_reply_body: None,
        }
    }

    fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn levels_are_done_in_order_and_the_last_one_wins() {
        let info = stream_info();
        for (most_specific_wins, order) in [
            (false, ["weighted", "route", "host", "configuration"]),
            (true, ["weighted", "configuration", "host", "route"]),
        ] {
            let entry = entry(most_specific_wins);
            let empty = HeaderMap::new();
            let weighted = entry.choose_cluster(&request(&empty)).weighted;
            let mut headers = HeaderMap::new();
            entry.mutate_request(weighted, &mut headers, &context(&info));
            assert_eq!(values(&headers, "x-order"), order);
            assert_eq!(values(&headers, "x-level"), [order[3]]);
            let mut headers = HeaderMap::new();
            entry.mutate_response(weighted, &mut headers, &context(&info));
            assert_eq!(values(&headers, "x-order"), order);
            let mut headers = HeaderMap::new();
            entry.mutate_response(None, &mut headers, &context(&info));
            assert_eq!(values(&headers, "x-order"), order[1..]);
        }
    }

    fn apply(
        add: &[HeaderValueOption],
        remove: &[&str],
        before: &[(&'static str, &'static str)],
    ) -> Vec<String> {
        let remove: Vec<String> = remove.iter().map(|name| (*name).into()).collect();
        let at = At::resource("route", "r");
        let mutations = HeaderMutations::both_from_proto((add, &remove), (&[], &[]), &at);
        let mutations = mutations.unwrap().0;
        let mut headers = HeaderMap::new();
        for (name, value) in before {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let info = stream_info();
        super::remove(&mutations, &mut headers);
        let values = evaluate(&mutations, &headers, &context(&info));
        write(values, &mut headers);
        let mut after: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
            .collect();
        after.sort();
        after
    }

    #[test]
    fn every_append_action_does_what_its_name_says() {
        use HeaderAppendAction::*;
        for (action, present, absent) in [
            (AppendIfExistsOrAdd, &["x=new", "x=old"][..], &["x=new"][..]),
            (AddIfAbsent, &["x=old"], &["x=new"]),
            (OverwriteIfExistsOrAdd, &["x=new"], &["x=new"]),
            (OverwriteIfExists, &["x=new"], &[]),
        ] {
            let add = [option("x", "new", action)];
            assert_eq!(apply(&add, &[], &[("x", "old")]), present, "{action:?}");
            assert_eq!(apply(&add, &[], &[]), absent, "{action:?}");
        }
    }

    #[test]
    fn removals_come_first_and_overwrites_before_appends() {
        use HeaderAppendAction::*;
        let add = [
            option("x", "appended", AppendIfExistsOrAdd),
            option("x", "written", OverwriteIfExistsOrAdd),
            option("y", "added", AddIfAbsent),
        ];
        let after = apply(&add, &["y"], &[("x", "old"), ("x", "older"), ("y", "old")]);
        assert_eq!(after, ["x=appended", "x=written", "y=added"]);
    }

    #[test]
    fn empty_values_are_added_only_on_demand() {
        let mut add = option("x", "", HeaderAppendAction::AppendIfExistsOrAdd);
        assert!(apply(std::slice::from_ref(&add), &[], &[]).is_empty());
        add.keep_empty_value = true;
        assert_eq!(apply(&[add], &[], &[]), ["x="]);
    }
}
