//! Redirects that the proxy follows itself (`internal_redirect_policy`).

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HOST, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use crate::config::route::{InternalRedirect, RedirectPredicate};
use crate::http::manager::Route;
use crate::http::request;
use crate::http::sanitize::names;
use crate::http::service::{self, Routed};
use crate::http::stats::HttpStats;
use crate::http::stream::Stream;
use crate::telemetry::stats::Counter;

/// The redirects that a request has followed so far.
#[derive(Default)]
pub struct Redirects {
    count: u32,
    /// From which route to which.
    taken: Vec<(Arc<str>, Arc<str>)>,
}

/// Whether a response is a redirect that the policy is about.
pub fn is_redirect(policy: &InternalRedirect, status: StatusCode) -> bool {
    policy.codes.contains(&status.as_u16())
}

/// Makes the request the one that the response asks for, and finds its route. If that may not be, the request stays as it
/// is and the statistics tell why.
pub fn follow(
    stream: &mut Stream,
    (policy, from): (&InternalRedirect, &Route),
    redirects: &mut Redirects,
    parts: &mut Parts,
    (status, headers): (StatusCode, &HeaderMap),
) -> Option<Routed> {
    if !headers.contains_key(LOCATION) {
        return None;
    }
    let before = (parts.method.clone(), parts.uri.clone(), parts.headers.clone(), stream.scheme);
    let followed = try_follow(stream, (policy, from), redirects, parts, (status, headers));
    if followed.is_err() {
        (parts.method, parts.uri, parts.headers, stream.scheme) = before;
    }
    let counter = |refused: Refused| {
        let stats = &stream.connection.manager.stats;
        refused.counter(stats).inc();
    };
    followed.map_err(counter).ok()
}

/// Why a redirect is passed on instead.
#[derive(Clone, Copy)]
enum Refused {
    BadLocation,
    NoRoute,
    Predicate,
    TooMany,
    UnsafeScheme,
}

impl Refused {
    fn counter(self, stats: &HttpStats) -> &Counter {
        match self {
            Refused::BadLocation => &stats.passthrough_internal_redirect_bad_location,
            Refused::NoRoute => &stats.passthrough_internal_redirect_no_route,
            Refused::Predicate => &stats.passthrough_internal_redirect_predicate,
            Refused::TooMany => &stats.passthrough_internal_redirect_too_many_redirects,
            Refused::UnsafeScheme => &stats.passthrough_internal_redirect_unsafe_scheme,
        }
    }
}

fn try_follow(
    stream: &mut Stream,
    (policy, from): (&InternalRedirect, &Route),
    redirects: &mut Redirects,
    parts: &mut Parts,
    (status, headers): (StatusCode, &HeaderMap),
) -> Result<Routed, Refused> {
    let target = target(headers).ok_or(Refused::BadLocation)?;
    let (was_https, is_https) = (stream.scheme == "https", target.scheme == "https");
    if was_https != is_https && !policy.allow_cross_scheme {
        return Err(Refused::UnsafeScheme);
    }
    if redirects.count >= policy.max {
        return Err(Refused::TooMany);
    }
    let original = original_url(stream, parts);
    copy_headers(policy, headers, &mut parts.headers);
    parts.headers.insert(HOST, target.host);
    parts.uri = target.path;
    stream.scheme = target.scheme;
    let routed = service::find_route(stream, parts, fastrand::u64(..));
    let to = routed.route().map(|route| &route.config.name).ok_or(Refused::NoRoute)?;
    let step = (Arc::clone(&from.config.name), Arc::clone(to));
    if !policy.predicates.iter().all(|one| one.accepts(&step, redirects, (was_https, is_https))) {
        return Err(Refused::Predicate);
    }
    if status == StatusCode::SEE_OTHER && parts.method != Method::HEAD {
        // RFC 9110 §15.4.4: what was asked for is got elsewhere.
        parts.method = Method::GET;
        parts.headers.remove(CONTENT_LENGTH);
    }
    if let Some(original) = original {
        parts.headers.insert(&names::X_ENVOY_ORIGINAL_URL, original);
    }
    redirects.count += 1;
    redirects.taken.push(step);
    Ok(routed)
}

impl RedirectPredicate {
    fn accepts(
        &self,
        step: &(Arc<str>, Arc<str>),
        redirects: &Redirects,
        (was_https, is_https): (bool, bool),
    ) -> bool {
        match self {
            RedirectPredicate::AllowListedRoutes(names) => {
                names.iter().any(|name| **name == *step.1)
            }
            RedirectPredicate::PreviousRoutes => !redirects.taken.contains(step),
            RedirectPredicate::SafeCrossScheme => was_https || !is_https,
        }
    }
}

/// Where a response redirects to.
struct Target {
    scheme: &'static str,
    host: HeaderValue,
    path: Uri,
}

/// The absolute URL in `location`, without its fragment.
fn target(headers: &HeaderMap) -> Option<Target> {
    let location = headers.get(LOCATION)?.to_str().ok()?;
    let location = location.split('#').next().unwrap_or_default();
    let url: Uri = location.parse().ok()?;
    let scheme = match url.scheme_str()? {
        scheme if scheme.eq_ignore_ascii_case("http") => "http",
        scheme if scheme.eq_ignore_ascii_case("https") => "https",
        _ => return None,
    };
    let host = HeaderValue::from_str(url.authority()?.as_str()).ok()?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    Some(Target { scheme, host, path: path.parse().ok()? })
}

/// `x-envoy-original-url`
fn original_url(stream: &Stream, parts: &Parts) -> Option<HeaderValue> {
    let host = request::authority(&parts.headers);
    let url = format!("{}://{host}{}", stream.scheme, request::path(&parts.uri));
    HeaderValue::from_str(&url).ok()
}

/// `response_headers_to_copy`: what the response does not have, the request loses.
fn copy_headers(policy: &InternalRedirect, from: &HeaderMap, to: &mut HeaderMap) {
    for name in &policy.copy {
        to.remove(name);
        for value in from.get_all(name) {
            to.append(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_locations_lead_somewhere() {
        for (location, expected) in [
            ("http://a/b?c#d", Some(("http", "a", "/b?c"))),
            ("https://a:81", Some(("https", "a:81", "/"))),
            ("/relative", None),
            ("ftp://a/b", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(location))]);
            let found = target(&headers);
            let found = found.as_ref().map(|target| {
                (target.scheme, target.host.to_str().expect("ASCII"), request::path(&target.path))
            });
            assert_eq!(found, expected, "{location}");
        }
    }

    #[test]
    fn copied_headers_replace_those_of_the_request() {
        let policy = InternalRedirect {
            max: 1,
            codes: vec![302],
            predicates: Vec::new(),
            allow_cross_scheme: false,
            copy: vec![names::X_REQUEST_ID.clone(), names::X_FORWARDED_HOST.clone()],
        };
        let value = HeaderValue::from_static;
        let from = HeaderMap::from_iter([(names::X_REQUEST_ID.clone(), value("new"))]);
        let mut to = HeaderMap::from_iter([
            (names::X_REQUEST_ID.clone(), value("old")),
            (names::X_FORWARDED_HOST.clone(), value("gone")),
        ]);
        copy_headers(&policy, &from, &mut to);
        assert_eq!(to, from);
    }
}
