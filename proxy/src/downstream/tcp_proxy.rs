//! `envoy.filters.network.tcp_proxy`: relays a connection to a host of a cluster.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use xxhash_rust::xxh64::xxh64;

use crate::config::metadata_match::MetadataMatch;
use crate::config::network_filter::TcpProxy as Config;
use crate::downstream::network_filters::{Guards, first_bytes};
use crate::downstream::stats::TcpStats;
use crate::drain::{DrainSignal, Phase};
use crate::http::worker::Worker;
use crate::io::Stream;
use crate::io::relay::{Ended, Relayed, relay};
use crate::telemetry::access_log::AccessLogger;
use crate::telemetry::log_format::FormatContext;
use crate::telemetry::response_flags::ResponseFlags;
use crate::telemetry::stream_info::{ConnectionInfo, StreamInfo};
use crate::upstream::balance::PickContext;
use crate::upstream::cluster::{Cluster, ClusterSlot, Host, Outcome};
use crate::upstream::pool::{PoolError, ResetReason, TcpLease};

/// A TCP proxy, ready to serve.
pub struct TcpProxy {
    /// The configuration.
    pub config: Arc<Config>,
    /// The configuration's clusters, in its order.
    pub clusters: Vec<Arc<ClusterSlot>>,
    /// `tcp.<stat_prefix>.`
    pub stats: Arc<TcpStats>,
    /// Sessions now.
    pub sessions: crate::telemetry::stats::Gauge,
    /// `access_log`
    pub access_logs: Vec<AccessLogger>,
}

impl TcpProxy {
    /// How many sessions are under way.
    pub fn active(&self) -> u64 {
        self.sessions.get()
    }

    /// Serves a connection to its end, and records it once.
    pub async fn serve(
        &self,
        stream: Stream,
        connection: Rc<ConnectionInfo>,
        guards: &Guards,
        worker: &Worker,
        drain: DrainSignal,
    ) {
        self.stats.downstream_cx_total.inc();
        self.sessions.inc();
        let mut info = StreamInfo::new(connection, None);
        self.session(stream, &mut info, guards, worker, drain).await;
        self.sessions.dec();
        info.duration = Some(info.elapsed());
        let context = FormatContext {
            info: &info,
            request: None,
            response: None,
            trailers: None,
            local_reply_body: None,
        };
        for log in &self.access_logs {
            log.log(&context);
        }
    }

    async fn session(
        &self,
        mut stream: Stream,
        info: &mut StreamInfo,
        guards: &Guards,
        worker: &Worker,
        drain: DrainSignal,
    ) {
        let Some((cluster, metadata)) = self.choose() else {
            self.stats.downstream_cx_no_route.inc();
            info.flags.insert(ResponseFlags::NO_CLUSTER_FOUND);
            return;
        };
        info.upstream.cluster = Some(Arc::clone(cluster.name()));
        let Some(mut lease) = self.connect(&cluster, metadata, info, worker).await else { return };
        info.upstream.local = lease.local_address().cloned();
        info.upstream.tls = lease.tls().cloned();
        if !guards.is_empty() {
            let admitting = self.admit(stream, &mut lease, info, guards, worker);
            let Some(Some(admitted)) = until_closing(admitting, drain.clone()).await else {
                return;
            };
            cluster.stats().upstream_cx_rx_bytes_total.add(info.bytes_sent);
            stream = admitted;
        }
        let relaying = relay(&mut stream, &mut lease.stream, self.config.idle_timeout);
        let limit = self.config.max_duration.unwrap_or(Duration::MAX);
        let Some(relayed) = until_closing(timeout(limit, relaying), drain).await else { return };
        match relayed {
            Ok(relayed) => {
                let stats = cluster.stats();
                stats.upstream_cx_tx_bytes_total.add(relayed.to_upstream);
                stats.upstream_cx_rx_bytes_total.add(relayed.to_downstream);
                if relayed.ended == Ended::Upstream {
                    lease.closed_by_host();
                    info.upstream.transport_failure = lease.transport_failure();
                }
                self.note(relayed, info);
            }
            Err(_) => {
                self.stats.max_downstream_connection_duration.inc();
                info.flags.insert(ResponseFlags::DURATION_TIMEOUT);
            }
        }
    }

    /// Lets the network filters look at the connection once its first bytes have come; the host may speak before.
    async fn admit(
        &self,
        mut stream: Stream,
        lease: &mut TcpLease,
        info: &mut StreamInfo,
        guards: &Guards,
        worker: &Worker,
    ) -> Option<Stream> {
        let idle = self.config.idle_timeout.unwrap_or(Duration::MAX);
        let Ok(first) = timeout(idle, first_bytes(&mut stream, Some(&mut lease.stream))).await
        else {
            self.stats.idle_timeout.inc();
            return None;
        };
        let first = first?;
        info.bytes_sent = first.sent;
        self.stats.downstream_cx_tx_bytes_total.add(first.sent);
        if guards.admit(info, worker).await.is_err() {
            info.bytes_received = first.bytes.len() as u64;
            self.stats.downstream_cx_rx_bytes_total.add(info.bytes_received);
            return None;
        }
        Some(stream.unread(first.bytes))
    }

    /// The cluster, at random by weight, with the subset of its hosts.
    fn choose(&self) -> Option<(Arc<Cluster>, Option<&MetadataMatch>)> {
        let clusters = &self.config.clusters;
        let total: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
        let mut point = fastrand::u64(..total.max(1));
        for (cluster, slot) in clusters.iter().zip(&self.clusters) {
            let weight = u64::from(cluster.weight);
            if point < weight {
                return Some((slot.get()?, cluster.metadata_match.as_deref()));
            }
            point -= weight;
        }
        None
    }

    /// A connection to a host, in `max_connect_attempts` attempts.
    async fn connect(
        &self,
        cluster: &Arc<Cluster>,
        metadata: Option<&MetadataMatch>,
        info: &mut StreamInfo,
        worker: &Worker,
    ) -> Option<TcpLease> {
        let context = PickContext {
            original_dst: info.connection.original_dst(),
            hash: self.config.hash_source_ip.then(|| source_hash(info)).flatten(),
            metadata,
            ..PickContext::default()
        };
        let attempts = self.config.max_connect_attempts.max(1);
        let source = info.connection.source;
        for attempt in 1..=attempts {
            let Ok(picked) = cluster.pick(&context) else {
                info.flags.insert(ResponseFlags::NO_HEALTHY_UPSTREAM);
                return None;
            };
            let host = &picked.host;
            let connected = worker.pools.tcp(picked.owner(cluster), host, 0, source).await;
            if matches!(&connected, Err(error) if error.reason == ResetReason::Overflow) {
                info.flags.insert(ResponseFlags::UPSTREAM_OVERFLOW);
                return None;
            }
            note_host(info, host, attempt);
            picked.owner(cluster).report(host, outcome_of(&connected));
            match connected {
                Ok(lease) => return Some(lease),
                Err(error) => {
                    info.flags.insert(ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
                    info.upstream.transport_failure = error.transport_failure;
                }
            }
        }
        info.flags.insert(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
        cluster.stats().upstream_cx_connect_attempts_exceeded.inc();
        None
    }

    fn note(&self, relayed: Relayed, info: &mut StreamInfo) {
        info.bytes_received = relayed.to_upstream;
        info.bytes_sent += relayed.to_downstream;
        self.stats.downstream_cx_rx_bytes_total.add(relayed.to_upstream);
        self.stats.downstream_cx_tx_bytes_total.add(relayed.to_downstream);
        match relayed.ended {
            Ended::ClosedByDownstream | Ended::ClosedByUpstream | Ended::Downstream => {}
            Ended::Upstream => info.flags.insert(ResponseFlags::UPSTREAM_REMOTE_RESET),
            // Envoy sets no flag for it.
            Ended::Idle => self.stats.idle_timeout.inc(),
        }
    }
}

/// The hash of the client's address without its port.
fn source_hash(info: &StreamInfo) -> Option<u64> {
    let client = info.connection.remote.ip()?.ip().to_string();
    Some(xxh64(client.as_bytes(), 0))
}

/// What a connection, or none, says of the host.
fn outcome_of(connected: &Result<TcpLease, PoolError>) -> Outcome {
    match connected {
        Ok(_) => Outcome::SessionConnected,
        Err(error) if error.reason == ResetReason::ConnectionTimeout => Outcome::TimedOut,
        Err(_) => Outcome::Broken,
    }
}

fn note_host(info: &mut StreamInfo, host: &Host, attempt: u32) {
    info.upstream.host = Some(host.address().clone());
    info.upstream.hostname = host.hostname().cloned();
    info.upstream.attempts = attempt;
}

/// The future's output, unless the drain comes to its end first.
pub(super) async fn until_closing<F: Future>(
    future: F,
    mut drain: DrainSignal,
) -> Option<F::Output> {
    tokio::pin!(future);
    loop {
        if drain.phase() == Phase::Closing {
            return None;
        }
        tokio::select! {
            output = &mut future => return Some(output),
            _ = drain.changed() => {}
        }
    }
}
