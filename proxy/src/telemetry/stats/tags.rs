//! Tag extraction: the variable parts of a metric's name as labels.
//!
//! Envoy tries a list of regular expressions on every name. Here a group's prefix is read once, segment by segment,
//! with the same result (`source/common/config/well_known_names.cc`).

/// A prefix without its variable parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tagged<'a> {
    /// What is left, with its trailing dot: `cluster.`.
    pub(super) base: String,
    /// Label and value, in the order in which Envoy prints them.
    pub(super) labels: Vec<(&'static str, &'a str)>,
}

impl<'a> Tagged<'a> {
    /// Takes a group's prefix apart, which ends in a dot.
    pub(super) fn of(prefix: &'a str) -> Tagged<'a> {
        let mut tagged = Tagged::default();
        if let Some(name) = prefix.strip_suffix(".http_local_rate_limit.") {
            tagged.take("http_local_rate_limit.", "envoy_local_http_ratelimit_prefix", name);
            return tagged;
        }
        let mut rest = prefix;
        let mut parent = "";
        while let Some((segment, tail)) = rest.split_once('.') {
            rest = tagged.segment(parent, segment, tail);
            parent = segment;
        }
        tagged.base.push_str(rest);
        tagged
    }

    /// Takes one segment, and the name that follows it, if it is a keyword; returns what is left.
    fn segment(&mut self, parent: &str, segment: &'a str, tail: &'a str) -> &'a str {
        let named = match (parent, segment) {
            ("", "cluster") => Some("envoy_cluster_name"),
            ("", "tcp") => Some("envoy_tcp_prefix"),
            ("", "vhost") => Some("envoy_virtual_host"),
            (_, "http") => Some("envoy_http_conn_manager_prefix"),
            (_, "vcluster") => Some("envoy_virtual_cluster"),
            (_, "route") => Some("envoy_route"),
            _ => None,
        };
        let name_and_rest = match (parent, segment) {
            ("", "listener") => {
                listener_address(tail).map(|found| ("envoy_listener_address", found))
            }
            // The name of a route configuration may have dots: it reaches up to the last one.
            (_, "rds") => {
                let name = tail.strip_suffix('.').map(|name| (name, ""));
                name.map(|found| ("envoy_rds_route_config", found))
            }
            _ => named.and_then(|label| Some((label, tail.split_once('.')?))),
        };
        if let Some((label, (name, rest))) = name_and_rest {
            self.take(segment, label, name);
            self.base.push('.');
            return rest;
        }
        match segment.strip_prefix("worker_").filter(|id| id.bytes().all(|b| b.is_ascii_digit())) {
            Some(id) => self.take("worker", "envoy_worker_id", id),
            None => self.base.push_str(segment),
        }
        self.base.push('.');
        tail
    }

    /// Envoy prints the more specific label first.
    fn take(&mut self, keyword: &str, label: &'static str, value: &'a str) {
        self.base.push_str(keyword);
        self.labels.insert(0, (label, value));
    }
}

/// `127.0.0.1_80.rest` or `[__1]_80.rest` at its end; none if a listener has a name there.
fn listener_address(text: &str) -> Option<(&str, &str)> {
    let mut dots = text.match_indices('.').map(|(index, _)| index);
    let end = dots.find(|end| {
        let Some((ip, port)) = text[..*end].rsplit_once('_') else { return false };
        let is_ip =
            ip.parse::<std::net::Ipv4Addr>().is_ok() || (ip.starts_with('[') && ip.ends_with(']'));
        is_ip && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    })?;
    Some((&text[..end], &text[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A prefix, its base and its labels.
    type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

    #[test]
    fn takes_the_variable_parts_out() {
        let cases: [Case; 13] = [
            ("cluster.c.", "cluster.", &[("envoy_cluster_name", "c")]),
            ("cluster.odd.name_x.", "cluster.name_x.", &[("envoy_cluster_name", "odd")]),
            ("cluster.c.external.", "cluster.external.", &[("envoy_cluster_name", "c")]),
            ("cluster_manager.", "cluster_manager.", &[]),
            ("http.in.", "http.", &[("envoy_http_conn_manager_prefix", "in")]),
            (
                "http.in.rds.a.b.",
                "http.rds.",
                &[("envoy_rds_route_config", "a.b"), ("envoy_http_conn_manager_prefix", "in")],
            ),
            (
                "listener.127.0.0.1_80.http.in.",
                "listener.http.",
                &[
                    ("envoy_http_conn_manager_prefix", "in"),
                    ("envoy_listener_address", "127.0.0.1_80"),
                ],
            ),
            (
                "listener.[__1]_80.worker_3.",
                "listener.worker.",
                &[("envoy_worker_id", "3"), ("envoy_listener_address", "[__1]_80")],
            ),
            ("listener.admin.", "listener.admin.", &[]),
            ("server.worker_0.", "server.worker.", &[("envoy_worker_id", "0")]),
            ("tcp.in.", "tcp.", &[("envoy_tcp_prefix", "in")]),
            (
                "vhost.v.vcluster.w.",
                "vhost.vcluster.",
                &[("envoy_virtual_cluster", "w"), ("envoy_virtual_host", "v")],
            ),
            (
                "a.b.http_local_rate_limit.",
                "http_local_rate_limit.",
                &[("envoy_local_http_ratelimit_prefix", "a.b")],
            ),
        ];
        for (prefix, base, labels) in cases {
            let tagged = Tagged::of(prefix);
            assert_eq!((tagged.base.as_str(), &*tagged.labels), (base, labels), "{prefix}");
        }
    }
}
