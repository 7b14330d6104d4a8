//! One downstream connection: listener filters, hand-off, filter chain, handshake, and then its protocol.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::downstream::filter_chain::Facts;
use crate::downstream::inspect::{self, Filter, FilterKind};
use crate::downstream::listener::{Chain, ConnectionSlot, Handler, Listener, State};
use crate::downstream::network_filters::first_bytes;
use crate::downstream::stats::ListenerStats;
use crate::downstream::tcp_proxy::until_closing;
use crate::downstream::worker::Worker;
use crate::http;
use crate::io::{Address, Stream};
use crate::telemetry::filter_state::FilterState;
use crate::telemetry::log_format::FormatContext;
use crate::telemetry::response_flags::ResponseFlags;
use crate::telemetry::stream_info::{ConnectionInfo, StreamInfo, TlsInfo};
use crate::tls::TlsStats;

/// Serves an accepted connection to its end.
pub async fn serve(stream: Stream, facts: Facts, slot: ConnectionSlot, worker: Rc<Worker>) {
    let accepted = Instant::now();
    let mut slot = slot;
    let mut listener = Arc::clone(slot.listener());
    let socket_local = facts.local.clone();
    let mut facts = facts;
    let Some(mut stream) = run_filters(stream, &listener, &mut facts).await else { return };
    if listener.state.load().config.use_original_dst
        && facts.local_restored
        && let Some(target) = facts.local.ip().and_then(|ip| worker.hand_off(ip))
        && !Arc::ptr_eq(&target, &listener)
    {
        slot.hand_to(&target);
        listener = target;
        match run_filters(stream, &listener, &mut facts).await {
            Some(passed) => stream = passed,
            None => return,
        }
    }
    let state = listener.state.load_full();
    let Some(chain) = state.chains.find(&facts).cloned() else {
        listener.stats.no_filter_chain_match.inc();
        let info = connection_info(facts, socket_local, None, accepted, &worker);
        log_connection(&state, &Rc::new(info), |info| {
            info.flags.insert(ResponseFlags::NO_ROUTE_FOUND);
            info.details = Some("filter_chain_not_found".into());
        });
        return;
    };
    if matches!(chain.handler, Handler::None) {
        return;
    }
    let open = OpenConnection::count(&listener.stats);
    let shaken = handshake(stream, &chain, &facts, &listener.stats).await;
    let mut info = connection_info(facts, socket_local, Some(&chain), accepted, &worker);
    let stream = match shaken {
        Ok((stream, tls)) => {
            info.tls = tls;
            stream
        }
        Err(reason) => {
            info.transport_failure = reason;
            log_connection(&state, &Rc::new(info), |_| {});
            return;
        }
    };
    let info = Rc::new(info);
    handle(stream, Rc::clone(&info), &chain, &worker).await;
    log_connection(&state, &info, |_| {});
    drop(open);
}

/// Gives an established connection to its chain's filters.
async fn handle(stream: Stream, info: Rc<ConnectionInfo>, chain: &Chain, worker: &Worker) {
    let drain = chain.drain.signal();
    match &chain.handler {
        Handler::Http(manager) => {
            let idle = manager.config.idle_timeout;
            if let Some(stream) = admit(stream, &info, chain, idle, worker).await {
                let http = Rc::clone(&worker.http);
                http::codec::serve(stream, info, Arc::clone(manager), http, drain).await;
            }
        }
        Handler::Tcp(proxy) => {
            proxy.serve(stream, info, &chain.guards, &worker.http, drain).await;
        }
        Handler::Direct(bytes) => answer(stream, bytes).await,
        Handler::None => {}
    }
}

/// Lets the network filters look at a connection that is to speak HTTP, once its first bytes have come. `None` closes it.
async fn admit(
    mut stream: Stream,
    info: &Rc<ConnectionInfo>,
    chain: &Chain,
    idle: Option<Duration>,
    worker: &Worker,
) -> Option<Stream> {
    let guards = &chain.guards;
    if guards.is_empty() {
        return Some(stream);
    }
    let drain = chain.drain.signal();
    let waiting = first_bytes::<Stream>(&mut stream, None);
    let waiting = timeout(idle.unwrap_or(Duration::MAX), waiting);
    let first = until_closing(waiting, drain.clone()).await?.ok()??;
    let mut facts = StreamInfo::new(Rc::clone(info), None);
    until_closing(guards.admit(&mut facts, &worker.http), drain).await?.ok()?;
    Some(stream.unread(first.bytes))
}

/// Writes the bytes and ends the connection. A peer that left before it got them misses nothing.
async fn answer(mut stream: Stream, bytes: &[u8]) {
    if stream.write_all(bytes).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}

/// Counts a connection in its listener while it is open; before it has a filter chain, it is not one yet.
struct OpenConnection {
    stats: Arc<ListenerStats>,
    since: Instant,
}

impl OpenConnection {
    fn count(stats: &Arc<ListenerStats>) -> Self {
        stats.downstream_cx_total.inc();
        stats.downstream_cx_active.inc();
        OpenConnection { stats: Arc::clone(stats), since: Instant::now() }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.stats.downstream_cx_active.dec();
        self.stats.downstream_cx_destroy.inc();
        self.stats.downstream_cx_length_ms.record(self.since.elapsed().as_millis() as u64);
    }
}

/// Runs the listener's filters within their timeout. `None` closes the connection.
async fn run_filters(
    stream: Stream,
    listener: &Arc<Listener>,
    facts: &mut Facts,
) -> Option<Stream> {
    let state = listener.state.load_full();
    let State { config, filters, .. } = &*state;
    if filters.is_empty() {
        return Some(stream);
    }
    let stats = &listener.stats;
    stats.downstream_pre_cx_active.inc();
    let limit = config.listener_filters_timeout.unwrap_or(Duration::MAX);
    let mut stream = stream;
    let mut ahead = BytesMut::new();
    let running = inspect::run(&mut stream, &mut ahead, filters, facts);
    let outcome = timeout(limit, running).await;
    stats.downstream_pre_cx_active.dec();
    match outcome {
        Ok(Ok(())) => Some(stream.unread(ahead.freeze())),
        Ok(Err(error)) => {
            count_refusal(stats, filters, &error);
            tracing::debug!(listener = %config.name, %error, "listener filter closed the connection");
            None
        }
        Err(_) => {
            stats.downstream_pre_cx_timeout.inc();
            config.continue_on_timeout.then(|| stream.unread(ahead.freeze()))
        }
    }
}

fn count_refusal(stats: &ListenerStats, filters: &[Filter], error: &inspect::InspectError) {
    match error {
        inspect::InspectError::Closed => stats.downstream_listener_filter_remote_close.inc(),
        inspect::InspectError::Refused(_) => {
            stats.downstream_listener_filter_error.inc();
            let proxied = |filter: &Filter| matches!(filter.kind, FilterKind::ProxyProtocol(_));
            if filters.iter().any(proxied) {
                stats.downstream_cx_proxy_proto_error.inc();
            }
        }
    }
}

/// Does the TLS handshake, if the chain has one. An error closes the connection; it may know why.
async fn handshake(
    stream: Stream,
    chain: &Chain,
    facts: &Facts,
    stats: &ListenerStats,
) -> Result<(Stream, Option<TlsInfo>), Option<Arc<str>>> {
    let Some(tls) = &chain.tls else { return Ok((stream, None)) };
    let Some(ready) = tls.slot.ready().clone() else {
        tls.slot.stats.downstream_context_secrets_not_ready.inc();
        tracing::debug!(chain = %chain.config.name, "closed: a secret is not there");
        return Err(Some("TLS_error:_secret_is_not_supplied_by_SDS".into()));
    };
    let limit = chain.config.handshake_timeout.unwrap_or(Duration::MAX);
    match timeout(limit, ready.accept(stream, &tls.stats)).await {
        Ok(Ok((stream, info))) => Ok((stream, Some(info))),
        Ok(Err(error)) => {
            tell_failure(error.reason.as_deref(), chain, &tls.stats, facts);
            Err(error.reason)
        }
        Err(_) => {
            stats.downstream_cx_transport_socket_connect_timeout.inc();
            Err(None)
        }
    }
}

/// Says in the log who was refused by which rule, or refused us. A client that just leaves (a port probe) is no news.
fn tell_failure(reason: Option<&str>, chain: &Chain, stats: &TlsStats, facts: &Facts) {
    let chain = &*chain.config.name;
    let (peer, server_name) = (&facts.remote, &*facts.server_name);
    let Some(reason) = reason else {
        tracing::debug!(%peer, chain, "the client left during the TLS handshake");
        return;
    };
    if let Some(left_out) = stats.warnings.pass(Instant::now()) {
        tracing::warn!(%peer, server_name, chain, left_out, "a client's TLS handshake failed: {reason}");
    }
}

fn connection_info(
    facts: Facts,
    direct_local: Address,
    chain: Option<&Chain>,
    accepted: Instant,
    worker: &Worker,
) -> ConnectionInfo {
    ConnectionInfo {
        id: worker.next_connection_id(),
        direct_local,
        local: facts.local,
        local_restored: facts.local_restored,
        source: facts.source,
        remote: facts.remote,
        direct_remote: facts.direct_remote,
        requested_server_name: (!facts.server_name.is_empty()).then_some(facts.server_name),
        transport_protocol: facts.transport_protocol,
        application_protocols: facts.application_protocols,
        filter_state: facts.filter_state,
        filter_chain_name: chain
            .map_or_else(|| Arc::from(""), |chain| Arc::clone(&chain.config.name)),
        tls: None,
        transport_failure: None,
        accepted,
    }
}

/// Writes the listener's access log for a connection that ends. What its filters count is in their own logs.
fn log_connection(
    state: &State,
    connection: &Rc<ConnectionInfo>,
    complete: impl FnOnce(&mut StreamInfo),
) {
    if state.access_logs.is_empty() {
        return;
    }
    let accepted = connection.accepted;
    let mut info = StreamInfo::new(Rc::clone(connection), None);
    complete(&mut info);
    info.duration = Some(accepted.elapsed());
    let context = FormatContext {
        info: &info,
        request: None,
        response: None,
        trailers: None,
        local_reply_body: None,
    };
    for log in &state.access_logs {
        log.log(&context);
    }
}

/// The facts of a connection as it comes from the socket.
pub fn first_facts(local: Address, remote: Address) -> Facts {
    Facts {
        local,
        local_restored: false,
        source: None,
        direct_remote: remote.clone(),
        remote,
        server_name: Arc::from(""),
        transport_protocol: "raw_buffer",
        application_protocols: Vec::new(),
        filter_state: FilterState::default(),
    }
}
