//! What a route changes in a request on its way upstream: headers, path and host.

use std::borrow::Cow;
use std::time::Duration;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Uri};

use super::Plan;
use crate::config::route::HostRewrite;
use crate::http::present::Present;
use crate::http::request;
use crate::http::sanitize::{append_to_list, names};
use crate::http::stream::Stream;
use crate::route::action::{rewrite_host, rewrite_path};

/// Changes the request's headers, host and path on their way upstream.
pub fn rewrite(stream: &Stream, plan: &Plan<'_>, parts: &mut Parts, present: Present) {
    if present.has(Present::X_ENVOY) {
        parts.headers.remove(&names::X_ENVOY_UPSTREAM_ALT_STAT_NAME);
    }
    let Plan { route, action, weighted, timeouts, .. } = plan;
    let suppress = stream.connection.manager.config.router.suppress_envoy_headers;
    timeouts.tell(&mut parts.headers, Duration::ZERO, suppress);
    stream.with_format(|context| {
        route.mutate_request(*weighted, &mut parts.headers, context);
    });
    let path = request::path(&parts.uri);
    let host = rewrite_host(action, *weighted, &parts.headers, path);
    let host = host.and_then(|host: Cow<'_, str>| HeaderValue::from_str(&host).ok());
    if let Some(new) = rewrite_path(&action.path_rewrite, &route.config.matches, path) {
        let original = HeaderValue::from_str(path).ok();
        if let Ok(uri) = Uri::try_from(new) {
            if let (Some(original), false) = (original, suppress) {
                parts.headers.insert(&names::X_ENVOY_ORIGINAL_PATH, original);
            }
            parts.uri = uri;
        }
    }
    match (host, &action.host_rewrite) {
        // A weighted cluster's host is no rewrite that anybody is told of.
        (Some(host), HostRewrite::None | HostRewrite::Auto) => {
            parts.headers.insert(HOST, host);
        }
        (Some(host), _) => set_host(parts, host, action.append_x_forwarded_host, suppress),
        (None, _) => {}
    }
}

/// Puts a new host in, and says what the old one was.
pub fn set_host(parts: &mut Parts, host: HeaderValue, append: bool, suppress: bool) {
    let Some(original) = parts.headers.insert(HOST, host) else { return };
    if !suppress {
        parts.headers.insert(&names::X_ENVOY_ORIGINAL_HOST, original.clone());
    }
    if append {
        append_to_list(&mut parts.headers, &names::X_FORWARDED_HOST, &original, ",");
    }
}
