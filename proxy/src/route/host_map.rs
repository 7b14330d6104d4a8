//! Finding the virtual host of an authority (`VirtualHost.domains`).

use std::borrow::Cow;
use std::collections::HashMap;

/// A map from domains to virtual hosts, by their position.
///
/// The order of precedence is Envoy's: exact names, `*.example.com` from the longest to the shortest, `example.*` likewise,
/// and `*`. A wildcard stands for at least one character. A look-up hashes once for each length of wildcard that exists.
#[derive(Clone, Debug, Default)]
pub struct HostMap {
    exact: HashMap<Box<str>, usize>,
    suffixes: Wildcards,
    prefixes: Wildcards,
    any: Option<usize>,
}

/// Wildcard domains without their star, by length, longest first.
#[derive(Clone, Debug, Default)]
struct Wildcards(Vec<(usize, HashMap<Box<str>, usize>)>);

impl HostMap {
    /// Adds a domain in lower case. A domain that exists already keeps its virtual host.
    pub fn insert(&mut self, domain: &str, host: usize) {
        if domain == "*" {
            self.any.get_or_insert(host);
        } else if let Some(suffix) = domain.strip_prefix('*') {
            self.suffixes.insert(suffix, host);
        } else if let Some(prefix) = domain.strip_suffix('*') {
            self.prefixes.insert(prefix, host);
        } else {
            self.exact.entry(domain.into()).or_insert(host);
        }
    }

    /// The virtual host of an authority, whose case is ignored.
    pub fn find(&self, authority: &str) -> Option<usize> {
        let host = match authority.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(authority.to_ascii_lowercase()),
            false => Cow::Borrowed(authority),
        };
        let by_suffix = |length| host.get(host.len() - length..);
        let by_prefix = |length| host.get(..length);
        (self.exact.get(&*host).copied())
            .or_else(|| self.suffixes.find(host.len(), by_suffix))
            .or_else(|| self.prefixes.find(host.len(), by_prefix))
            .or(self.any)
    }
}

impl Wildcards {
    fn insert(&mut self, part: &str, host: usize) {
        let at = self.0.partition_point(|(length, _)| *length > part.len());
        if self.0.get(at).is_none_or(|(length, _)| *length != part.len()) {
            self.0.insert(at, (part.len(), HashMap::new()));
        }
        self.0[at].1.entry(part.into()).or_insert(host);
    }

    fn find<'a>(&self, length: usize, part: impl Fn(usize) -> Option<&'a str>) -> Option<usize> {
        let shorter = self.0.iter().filter(|(wildcard, _)| *wildcard < length);
        shorter.into_iter().find_map(|(length, hosts)| hosts.get(part(*length)?).copied())
    }
}

/// An authority without its port; brackets of an IPv6 address stay.
pub fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_domain_wins() {
        let domains = [
            "*",
            "a.example",
            "*.example",
            "*.b.example",
            "*-b.example",
            "a.*",
            "a.example.*",
            "a.example:80",
        ];
        let mut map = HostMap::default();
        for (host, domain) in domains.iter().enumerate() {
            map.insert(domain, host);
        }
        for (authority, expected) in [
            ("a.example", "a.example"),
            ("A.Example", "a.example"),
            ("a.example:80", "a.example:80"),
            ("a.example:81", "a.*"),
            ("x.example", "*.example"),
            ("x.b.example", "*.b.example"),
            ("x-b.example", "*-b.example"),
            (".b.example", "*.example"),
            (".example", "*"),
            ("a.", "*"),
            ("a.x", "a.*"),
            ("a.example.org", "a.example.*"),
            ("other", "*"),
            ("", "*"),
            ("ä", "*"),
        ] {
            let found = map.find(authority).map(|host| domains[host]);
            assert_eq!(found, Some(expected), "{authority}");
        }
    }

    #[test]
    fn without_a_wildcard_for_all_some_authorities_have_no_host() {
        let mut map = HostMap::default();
        map.insert("*.example", 0);
        assert_eq!(map.find("a.example"), Some(0));
        assert_eq!(map.find("example"), None);
        assert_eq!(map.find("üüü.example:1"), None);
    }

    #[test]
    fn ports_are_cut_off_but_not_out_of_an_ipv6_address() {
        for (authority, expected) in
            [("a:80", "a"), ("a", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("", "")]
        {
            assert_eq!(without_port(authority), expected);
        }
    }
}
