//! Whether a route matches a request (`RouteMatch`).

use http::Method;

use super::request::{RouteRequest, without_query};
use crate::config::route::{PathMatch, RouteMatch};

/// Whether every part of `rule` matches `request`; `path` is what path specifiers see (see [`matched_path`]).
pub fn matches(rule: &RouteMatch, request: &RouteRequest<'_>, path: &str) -> bool {
    let chosen = |(numerator, denominator): (u32, u32)| {
        request.random % u64::from(denominator) < u64::from(numerator)
    };
    path_matches(rule, request.method, path)
        && rule.fraction.is_none_or(chosen)
        && (!rule.grpc || request.is_grpc())
        && (rule.headers.is_empty() || {
            let pseudo = request.pseudo();
            rule.headers.iter().all(|header| header.matches(&pseudo, request.headers))
        })
        && rule.certificate_presented.is_none_or(|wanted| wanted == request.certificate.presented)
        && rule.certificate_validated.is_none_or(|wanted| wanted == request.certificate.validated)
        && rule.query.iter().all(|parameter| parameter.matches(request.path))
}

/// The part of a path that path specifiers see: without query and fragment, and without what follows the first semicolon
/// when the route configuration says `ignore_path_parameters_in_path_matching`.
pub fn matched_path(path: &str, ignore_parameters: bool) -> &str {
    let path = without_query(path);
    match ignore_parameters {
        true => path.split(';').next().unwrap_or(path),
        false => path,
    }
}

fn path_matches(rule: &RouteMatch, method: &Method, path: &str) -> bool {
    let same = |part: &str, pattern: &str| match rule.case_sensitive {
        true => part == pattern,
        false => part.eq_ignore_ascii_case(pattern),
    };
    let starts_with =
        |pattern: &str| path.get(..pattern.len()).is_some_and(|start| same(start, pattern));
    if path.is_empty() {
        // Only CONNECT has no path, and only `connect_matcher` takes it.
        return matches!(rule.path, PathMatch::Connect) && method == Method::CONNECT;
    }
    match &rule.path {
        PathMatch::Prefix(prefix) => starts_with(prefix),
        PathMatch::Exact(exact) => same(path, exact),
        PathMatch::SeparatedPrefix(prefix) => {
            starts_with(prefix) && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
        }
        PathMatch::Regex(regex) => regex.matches(path),
        PathMatch::Connect => method == Method::CONNECT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::matcher::{FullRegex, HeaderMatcher, HeaderRule, QueryMatcher, QueryRule};
    use crate::route::request::ClientCertificate;
    use http::{HeaderMap, HeaderValue, header};

    fn rule(path: PathMatch) -> RouteMatch {
        RouteMatch {
            path,
            case_sensitive: true,
            headers: Vec::new(),
            query: Vec::new(),
            grpc: false,
            fraction: None,
            certificate_presented: None,
            certificate_validated: None,
        }
    }

    fn ask(
        rule: &RouteMatch,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        random: u64,
    ) -> bool {
        let certificate = ClientCertificate::default();
        let (scheme, authority) = ("http", "a");
        let request = RouteRequest {
            method,
            scheme,
            authority,
            path,
            headers,
            certificate,
            info: None,
            random,
        };
        matches(rule, &request, matched_path(path, false))
    }

    #[test]
    fn paths_match_without_query_and_fragment() {
        let regex = || FullRegex(regex::Regex::new(r"\A(?:/a.)\z").unwrap());
        for (path_match, path, expected) in [
            (PathMatch::Prefix("/".into()), "/x?y", true),
            (PathMatch::Prefix("/a".into()), "/ab", true),
            (PathMatch::Prefix("/a?".into()), "/a?", false),
            (PathMatch::Prefix("/abc".into()), "/ab", false),
            (PathMatch::Exact("/a".into()), "/a?b=c", true),
            (PathMatch::Exact("/a".into()), "/a#b", true),
            (PathMatch::Exact("/a".into()), "/a/", false),
            (PathMatch::SeparatedPrefix("/a".into()), "/a", true),
            (PathMatch::SeparatedPrefix("/a".into()), "/a?b", true),
            (PathMatch::SeparatedPrefix("/a".into()), "/a/b", true),
            (PathMatch::SeparatedPrefix("/a".into()), "/ab", false),
            (PathMatch::Regex(regex()), "/ab?c", true),
            (PathMatch::Regex(regex()), "/abc", false),
            (PathMatch::Connect, "/", false),
            (PathMatch::Prefix("/ä".into()), "/x", false),
        ] {
            let rule = rule(path_match);
            let found = ask(&rule, &Method::GET, path, &HeaderMap::new(), 0);
            assert_eq!(found, expected, "{rule:?} on {path}");
        }
    }

    #[test]
    fn case_may_be_ignored() {
        for path_match in [
            PathMatch::Prefix("/abc".into()),
            PathMatch::Exact("/abc".into()),
            PathMatch::SeparatedPrefix("/abc".into()),
        ] {
            let mut rule = rule(path_match);
            assert!(!ask(&rule, &Method::GET, "/ABC", &HeaderMap::new(), 0));
            rule.case_sensitive = false;
            assert!(ask(&rule, &Method::GET, "/ABC", &HeaderMap::new(), 0), "{rule:?}");
        }
    }

    #[test]
    fn connect_without_a_path_matches_only_the_connect_matcher() {
        let headers = HeaderMap::new();
        assert!(ask(&rule(PathMatch::Connect), &Method::CONNECT, "", &headers, 0));
        assert!(ask(&rule(PathMatch::Connect), &Method::CONNECT, "/chat", &headers, 0));
        assert!(!ask(&rule(PathMatch::Connect), &Method::GET, "", &headers, 0));
        assert!(!ask(&rule(PathMatch::Prefix("".into())), &Method::CONNECT, "", &headers, 0));
    }

    #[test]
    fn path_parameters_are_ignored_on_demand() {
        assert_eq!(matched_path("/a;v=1/b?c", true), "/a");
        assert_eq!(matched_path("/a;v=1/b?c", false), "/a;v=1/b");
        assert_eq!(matched_path("/a?b;c", true), "/a");
    }

    #[test]
    fn every_other_condition_must_hold_too() {
        let mut full = rule(PathMatch::Prefix("/".into()));
        full.grpc = true;
        full.fraction = Some((25, 100));
        full.headers.push(HeaderMatcher {
            name: "x-a".into(),
            rule: HeaderRule::Present(true),
            invert: false,
            missing_is_empty: false,
        });
        full.query.push(QueryMatcher { name: "q".into(), rule: QueryRule::Present(true) });

        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("1"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let get = Method::GET;
        assert!(ask(&full, &get, "/?q", &headers, 124));
        assert!(!ask(&full, &get, "/?q", &headers, 125), "the fraction");
        assert!(!ask(&full, &get, "/", &headers, 0), "the query");
        let content_type = headers.remove(header::CONTENT_TYPE).unwrap();
        assert!(!ask(&full, &get, "/?q", &headers, 0), "gRPC");
        headers.insert(header::CONTENT_TYPE, content_type);
        headers.remove("x-a");
        assert!(!ask(&full, &get, "/?q", &headers, 0), "the header");
    }
}
