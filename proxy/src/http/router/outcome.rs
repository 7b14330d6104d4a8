//! What an attempt tells of its host: counters, and outlier detection.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};

use crate::http::sanitize::names;
use crate::upstream::cluster::{Cluster, Host, Outcome};
use crate::upstream::pool::ResetReason;

/// The host answered. `grpc` says that the request was gRPC, whose status counts if it stands in the head.
pub fn answered(
    cluster: &Cluster,
    host: &Arc<Host>,
    grpc: bool,
    status: StatusCode,
    headers: &HeaderMap,
) {
    match status.is_server_error() {
        true => host.stats.rq_error.inc(),
        false => host.stats.rq_success.inc(),
    }
    report(cluster, host, grpc, status, headers);
}

/// The host answered, and the request is sent again because of that.
pub fn repeated(
    cluster: &Cluster,
    host: &Arc<Host>,
    grpc: bool,
    status: StatusCode,
    headers: &HeaderMap,
) {
    host.stats.rq_error.inc();
    report(cluster, host, grpc, status, headers);
}

fn report(
    cluster: &Cluster,
    host: &Arc<Host>,
    grpc: bool,
    status: StatusCode,
    headers: &HeaderMap,
) {
    let config = cluster.config();
    if config.health_check.is_some()
        && headers.contains_key(&names::X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL)
    {
        cluster.fail_at_once(host);
    }
    if config.outlier_detection.is_some() {
        let of_grpc = if grpc { grpc_as_http(headers) } else { None };
        cluster.report(host, Outcome::Answered(of_grpc.unwrap_or(status.as_u16())));
    }
}

/// The host gave no answer.
pub fn failed(cluster: &Cluster, host: &Arc<Host>, reason: ResetReason) {
    host.stats.rq_error.inc();
    match reason {
        // The cluster is full, which is not the host's fault.
        ResetReason::Overflow => {}
        ResetReason::ConnectionTimeout => cluster.report(host, Outcome::TimedOut),
        _ => cluster.report(host, Outcome::Broken),
    }
}

/// The host's answer did not come in time.
pub fn timed_out(cluster: &Cluster, host: &Arc<Host>) {
    host.stats.rq_timeout.inc();
    cluster.report(host, Outcome::TimedOut);
}

/// The host takes so long that another one is asked beside it.
pub fn slow(cluster: &Cluster, host: &Arc<Host>) {
    cluster.report(host, Outcome::TimedOut);
}

/// The HTTP status that stands for `grpc-status`, if there is one.
fn grpc_as_http(headers: &HeaderMap) -> Option<u16> {
    let status: u8 = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    Some(match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    })
}
