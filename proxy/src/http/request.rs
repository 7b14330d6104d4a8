//! The request's head: admitted or refused, brought into one form for both protocol versions, and sanitised.
//!
//! Behind [`admit`] the authority stands in the `host` header, and of the URI only the path with its query counts.

use bytes::Bytes;
use http::header::{COOKIE, EXPECT, HOST};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};

use crate::config::hcm::{HttpConnectionManager, StripHostPort, Underscores};
use crate::http::connection::Connection;
use crate::http::guard::{Refusal, valid_authority};
use crate::http::local_reply::LocalReply;
use crate::http::path::{self, Normalized};
use crate::http::present::Present;
use crate::route::request::is_grpc;
use crate::telemetry::response_flags::ResponseFlags;
use crate::telemetry::stream_info::Protocol;

/// Checks the request's head and brings it into the common form.
///
/// # Errors
/// The answer that refuses the request.
pub fn admit(
    parts: &mut Parts,
    present: Present,
    connection: &Connection,
) -> Result<(), LocalReply> {
    let config = &connection.manager.config;
    match connection.protocol {
        // The guard has checked what HTTP/1 brings.
        Protocol::Http2 => {
            check_size(&parts.headers, config, &parts.uri)?;
            if present.has(Present::COOKIE) {
                join_cookies(&mut parts.headers);
            }
        }
        _ => add_default_host(parts, config),
    }
    apply_underscores(&mut parts.headers, connection)?;
    settle_authority(parts, present)?;
    if present.has(Present::EXPECT) && !config.proxy_100_continue {
        // hyper answers 100-continue when the body is first read; other expectations are the upstream's.
        let expected = parts.headers.get(EXPECT).map(HeaderValue::as_bytes);
        if expected.is_some_and(|expected| expected.eq_ignore_ascii_case(b"100-continue")) {
            parts.headers.remove(EXPECT);
        }
    }
    settle_path(parts, present, connection)?;
    normalize_host(parts, connection);
    Ok(())
}

/// The request's authority; empty for a request that [`admit`] has not seen.
pub fn authority(headers: &HeaderMap) -> &str {
    headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

/// The request's path with its query.
pub fn path(uri: &Uri) -> &str {
    uri.path_and_query().map_or("", PathAndQuery::as_str)
}

fn bad_request(details: &'static str) -> LocalReply {
    LocalReply::new(StatusCode::BAD_REQUEST, details, "")
        .flag(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR)
        .close()
}

/// The answer for what the guard has refused.
pub fn refused(refusal: Refusal, connection: &Connection) -> LocalReply {
    let stats = &connection.manager.stats;
    if refusal == Refusal::FRAGMENT {
        stats.downstream_rq_failed_path_normalization.inc();
        return LocalReply::new(refusal.status, refusal.details, "").close();
    }
    if refusal == Refusal::LATE {
        stats.downstream_rq_header_timeout.inc();
        return LocalReply::new(refusal.status, refusal.details, "request header timeout").close();
    }
    if refusal == Refusal::UNDERSCORE {
        count_rejected(connection);
    }
    stats.downstream_cx_protocol_error.inc();
    let reason = refusal.status.canonical_reason().unwrap_or_default();
    LocalReply::new(refusal.status, refusal.details, reason)
        .flag(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR)
        .close()
}

/// The answer for a body whose framing is broken.
pub fn broken_body(connection: &Connection) -> LocalReply {
    refused(Refusal::SYNTAX, connection)
}

fn count_rejected(connection: &Connection) {
    let stats = connection.manager.codec_stats(connection.protocol);
    stats.requests_rejected_with_underscores_in_headers.inc();
}

/// HTTP/1.0 knows no `host`.
fn add_default_host(parts: &mut Parts, config: &HttpConnectionManager) {
    if parts.version >= Version::HTTP_11 || parts.headers.contains_key(HOST) {
        return;
    }
    let host = config.default_host_for_http10.as_deref();
    if let Some(value) = host.and_then(|host| HeaderValue::from_str(host).ok()) {
        parts.headers.insert(HOST, value);
    }
}

/// `max_request_headers_kb` and `max_headers_count`: the codec refuses most excess, this refuses exactly.
fn check_size(
    headers: &HeaderMap,
    config: &HttpConnectionManager,
    uri: &Uri,
) -> Result<(), LocalReply> {
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let size = size + path(uri).len();
    let details = if size > config.max_request_headers_kb as usize * 1024 {
        "http2.headers_too_large"
    } else if headers.len() > config.max_headers_count as usize {
        "http2.too_many_headers"
    } else {
        return Ok(());
    };
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    Err(LocalReply::new(status, details, "").flag(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR).close())
}

fn apply_underscores(headers: &mut HeaderMap, connection: &Connection) -> Result<(), LocalReply> {
    let action = connection.manager.config.underscores;
    if action == Underscores::Allow {
        return Ok(());
    }
    let odd: Vec<_> = headers.keys().filter(|name| name.as_str().contains('_')).cloned().collect();
    if action == Underscores::Reject && !odd.is_empty() {
        count_rejected(connection);
        return Err(bad_request("http2.unexpected_underscore"));
    }
    let stats = connection.manager.codec_stats(connection.protocol);
    for name in odd {
        stats.dropped_headers_with_underscores.add(headers.get_all(&name).iter().count() as u64);
        headers.remove(name);
    }
    Ok(())
}

/// HTTP/2 may split the cookies, nobody else does (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let Some(first) = crumbs.next() else { return };
    let Some(second) = crumbs.next() else { return };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    let joined = HeaderValue::from_maybe_shared(Bytes::from(joined));
    headers.insert(COOKIE, joined.expect("legal values and \"; \" are a legal value"));
}

/// Moves `:authority` or the authority of an absolute URI into `host`.
fn settle_authority(parts: &mut Parts, present: Present) -> Result<(), LocalReply> {
    if present.has(Present::MANY_HOSTS) {
        return Err(bad_request("http2.invalid_authority"));
    }
    if let Some(authority) = parts.uri.authority() {
        if authority.as_str().contains('@') {
            return Err(bad_request("http2.invalid_authority"));
        }
        let value = HeaderValue::from_str(authority.as_str());
        parts.headers.insert(HOST, value.map_err(|_| bad_request("http2.invalid_authority"))?);
    }
    match parts.headers.get(HOST) {
        None => Err(LocalReply::new(StatusCode::BAD_REQUEST, "missing_host_header", "").close()),
        Some(host) if !valid_authority(host.as_bytes()) => {
            Err(bad_request("http.invalid_authority"))
        }
        Some(_) => Ok(()),
    }
}

/// Reduces the URI to its path and query, normalised as configured.
fn settle_path(
    parts: &mut Parts,
    present: Present,
    connection: &Connection,
) -> Result<(), LocalReply> {
    if parts.method == Method::CONNECT {
        return Ok(());
    }
    let stats = &connection.manager.stats;
    let Some(now) = parts.uri.path_and_query() else {
        return Err(LocalReply::new(StatusCode::NOT_FOUND, "missing_path_rejected", ""));
    };
    if !now.as_str().starts_with('/') {
        stats.downstream_rq_non_relative_path.inc();
        return Err(LocalReply::new(StatusCode::NOT_FOUND, "absolute_path_rejected", ""));
    }
    let failed = || {
        stats.downstream_rq_failed_path_normalization.inc();
        LocalReply::new(StatusCode::BAD_REQUEST, "path_normalization_failed", "").close()
    };
    let normalized = path::normalize(now.as_str(), &connection.manager.config);
    // An authority that is still there saves reading it once more, should it go upstream by HTTP/2.
    if matches!(normalized, Normalized::Unchanged) && may_keep_authority(parts) {
        return Ok(());
    }
    let now = now.clone();
    let (settled, refused) = match normalized {
        Normalized::Unchanged => (now, None),
        Normalized::Changed(path) => (PathAndQuery::try_from(path).map_err(|_| failed())?, None),
        Normalized::Rejected(path) => (PathAndQuery::try_from(path).unwrap_or(now), Some(failed())),
        Normalized::Redirect(path) => {
            // gRPC follows no redirects.
            let grpc = present.has(Present::CONTENT_TYPE) && is_grpc(&parts.headers);
            let reply =
                if grpc { failed() } else { redirect_to(&path, connection).ok_or_else(failed)? };
            (PathAndQuery::try_from(path).unwrap_or(now), Some(reply))
        }
    };
    parts.uri = Uri::from(settled);
    refused.map_or(Ok(()), Err)
}

/// Whether the URI may stay as it is. That of HTTP/1 in absolute form may not: it is one to a proxy.
fn may_keep_authority(parts: &Parts) -> bool {
    parts.version == Version::HTTP_2 || parts.uri.authority().is_none()
}

/// Sends the client to the normalised path.
fn redirect_to(path: &str, connection: &Connection) -> Option<LocalReply> {
    let location = HeaderValue::from_str(path).ok()?;
    connection.manager.stats.downstream_rq_redirected_with_normalized_path.inc();
    let reply = LocalReply::new(StatusCode::TEMPORARY_REDIRECT, "path_normalization_failed", "");
    Some(reply.header(http::header::LOCATION, location))
}

/// Strips the host's trailing dot and port as configured.
fn normalize_host(parts: &mut Parts, connection: &Connection) {
    let config = &connection.manager.config;
    if !config.strip_trailing_host_dot && config.strip_host_port == StripHostPort::No {
        return;
    }
    let host = authority(&parts.headers);
    let (name, port) = split_port(host);
    let strip_port = port.is_some_and(|port| match config.strip_host_port {
        StripHostPort::No => false,
        StripHostPort::Any => true,
        StripHostPort::Matching => connection.info.local.port() == Some(port),
    });
    let dotless = if config.strip_trailing_host_dot { name.trim_end_matches('.') } else { name };
    let settled = match port {
        Some(port) if !strip_port => format!("{dotless}:{port}"),
        _ => dotless.to_owned(),
    };
    if settled != host
        && let Ok(value) = HeaderValue::from_str(&settled)
    {
        parts.headers.insert(HOST, value);
    }
}

/// The host and its port; the brackets of an IPv6 literal stay.
fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (authority, None),
        },
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_split_off_hosts_and_ipv6_literals() {
        assert_eq!(split_port("a.b:80"), ("a.b", Some(80)));
        assert_eq!(split_port("a.b"), ("a.b", None));
        assert_eq!(split_port("[::1]:80"), ("[::1]", Some(80)));
        assert_eq!(split_port("[::1]"), ("[::1]", None));
        assert_eq!(split_port("a:x"), ("a:x", None));
    }

    #[test]
    fn split_cookies_are_joined() {
        let crumbs = ["a=1", "b=2", "c=3"].map(|value| (COOKIE, HeaderValue::from_static(value)));
        let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("x"))]);
        join_cookies(&mut headers);
        assert!(!headers.contains_key(COOKIE));
        for (name, value) in crumbs {
            headers.append(name, value);
        }
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }
}
