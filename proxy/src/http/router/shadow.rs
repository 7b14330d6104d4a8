//! Copies of a request for other clusters (`request_mirror_policies`): sent and forgotten.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::BodyExt;

use super::Plan;
use crate::config::route::{Mirror, MirrorTarget, RouteAction};
use crate::http::call::{self, Call};
use crate::http::manager::Route;
use crate::http::stream::Stream;
use crate::http::worker::Worker;
use crate::io::Body;
use crate::route::RouteRequest;
use crate::route::header_mutation::apply;
use crate::upstream::balance::PickContext;
use crate::upstream::cluster::Cluster;

/// What is added to the host, so that logs tell copies from requests.
const SUFFIX: &str = "-shadow";

/// Where a copy goes.
pub struct Shadow<'a> {
    mirror: &'a Mirror,
    cluster: Arc<Cluster>,
}

/// The clusters that get a copy of this request. A cluster that does not exist gets none.
pub fn choose<'a>(
    stream: &Stream,
    route: &Route,
    action: &'a RouteAction,
    wanted: &RouteRequest<'_>,
) -> Vec<Shadow<'a>> {
    let mirrors = action.resilience.mirrors.iter().zip(&route.mirrors);
    let chosen = mirrors.filter(|(mirror, _)| match mirror.fraction {
        Some((part, whole)) => wanted.random % u64::from(whole) < u64::from(part),
        None => true,
    });
    let registry = &stream.connection.worker.registry;
    let shadows = chosen.filter_map(|(mirror, slot)| {
        let cluster = match (slot, &mirror.target) {
            (Some(slot), _) => slot.get(),
            (None, MirrorTarget::Header(name)) => registry.get(wanted.header(name)?),
            (None, MirrorTarget::Cluster(_)) => None,
        };
        Some(Shadow { mirror, cluster: cluster? })
    });
    shadows.collect()
}

/// Sends a copy of the request beside it.
pub fn send(stream: &Stream, plan: &Plan<'_>, shadow: &Shadow<'_>, parts: &Parts, body: Body) {
    if plan.upgrade.is_some() {
        return;
    }
    let mut copy = Request::new(()).into_parts().0;
    copy.method = parts.method.clone();
    copy.uri = parts.uri.clone();
    copy.headers = headers(stream, shadow.mirror, &parts.headers);
    let call =
        Call { parts: copy, body, downstream: stream.connection.protocol, scheme: stream.scheme };
    let task = Copy {
        worker: Rc::clone(&stream.connection.worker),
        cluster: Arc::clone(&shadow.cluster),
        call,
        original_dst: stream.connection.info.original_dst(),
    };
    let timeout = plan.timeouts.whole();
    tokio::task::spawn_local(async move {
        match timeout {
            // Nobody waits for the outcome.
            Some(timeout) => drop(tokio::time::timeout(timeout, task.run()).await),
            None => task.run().await,
        }
    });
}

/// The headers of a copy: who sent it is this proxy.
fn headers(stream: &Stream, mirror: &Mirror, headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    call::sign(&mut headers, &stream.connection.info);
    stream.with_format(|context| {
        for mutations in &mirror.mutations {
            apply(mutations, &mut headers, context);
        }
    });
    let host = match &mirror.host_rewrite {
        Some(host) => Some(host.clone()),
        None if mirror.append_suffix => headers.get(HOST).and_then(with_suffix),
        None => None,
    };
    if let Some(host) = host {
        headers.insert(HOST, host);
    }
    headers
}

/// The host with the suffix, before its port.
fn with_suffix(host: &HeaderValue) -> Option<HeaderValue> {
    let host = host.to_str().ok()?;
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (name, &host[name.len()..][..port.len() + 1])
        }
        _ => (host, ""),
    };
    HeaderValue::from_str(&[name, SUFFIX, port].concat()).ok()
}

/// A copy under way.
struct Copy {
    worker: Rc<Worker>,
    cluster: Arc<Cluster>,
    call: Call,
    original_dst: Option<SocketAddr>,
}

impl Copy {
    /// Sends it and reads the response to its end, so that the connection can be used again.
    async fn run(self) {
        let context = PickContext { original_dst: self.original_dst, ..PickContext::default() };
        let Some((response, lease)) = self.call.send(&self.worker, &self.cluster, &context).await
        else {
            return;
        };
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            if frame.is_err() {
                return;
            }
        }
        lease.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_goes_before_the_port() {
        for (host, expected) in
            [("a.b", "a.b-shadow"), ("a:81", "a-shadow:81"), ("[::1]:81", "[::1]-shadow:81")]
        {
            let host = HeaderValue::from_static(host);
            assert_eq!(with_suffix(&host).expect("it is legal"), expected);
        }
    }
}
