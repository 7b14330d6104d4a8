//! Listener filters: what the first bytes of a connection tell, before its filter chain is chosen.

use std::rc::Rc;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncReadExt;

use crate::config::filter_state::StateValues;
use crate::config::listener::Predicate;
use crate::downstream::filter_chain::Facts;
use crate::downstream::stats::{HttpInspectorStats, TlsInspectorStats};
use crate::io::{Address, Source, Stream};
use crate::telemetry::log_format::FormatContext;
use crate::telemetry::stream_info::StreamInfo;

pub mod http;
pub mod proxy_protocol;
pub mod tls;

use proxy_protocol::ProxyProtocol;

/// What a filter says of the bytes so far, of which there is at least one.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// It needs more bytes.
    More,
    /// It is done, with what it found.
    Done(T),
    /// The connection must close, for this reason.
    Refuse(&'static str),
}

/// Why listener filters ended a connection.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The peer closed or broke the connection before it said enough.
    #[error("the peer closed the connection before the listener filters were done")]
    Closed,
    /// A filter refused it.
    #[error("{0}")]
    Refused(&'static str),
}

/// A listener filter, ready to run.
pub struct Filter {
    /// What it does.
    pub kind: FilterKind,
    /// `filter_disabled`: for which connections it is skipped.
    pub disabled: Option<Predicate>,
}

/// What a listener filter does.
pub enum FilterKind {
    /// `envoy.filters.listener.original_dst`
    OriginalDst,
    /// `envoy.filters.listener.original_src`, with its mark.
    OriginalSrc(u32),
    /// `envoy.filters.listener.set_filter_state`
    FilterState(Arc<StateValues>),
    /// `envoy.filters.listener.proxy_protocol`
    ProxyProtocol(ProxyProtocol),
    /// `envoy.filters.listener.tls_inspector`
    TlsInspector(Arc<TlsInspectorStats>),
    /// `envoy.filters.listener.http_inspector`
    HttpInspector(Arc<HttpInspectorStats>),
}

/// Runs the filters in order. Bytes that were read and that the connection still has to see stand in `ahead` afterwards,
/// also when the future is dropped before its end.
///
/// # Errors
/// The peer left, or a filter refused the connection.
pub async fn run(
    stream: &mut Stream,
    ahead: &mut BytesMut,
    filters: &[Filter],
    facts: &mut Facts,
) -> Result<(), InspectError> {
    for filter in filters {
        if filter.disabled.as_ref().is_some_and(|rule| rule.holds(facts.local.port())) {
            continue;
        }
        match &filter.kind {
            FilterKind::OriginalDst => {
                if let Some(original) = stream.tcp().and_then(original_destination) {
                    facts.local = original;
                    facts.local_restored = true;
                }
            }
            FilterKind::OriginalSrc(mark) => {
                facts.source = facts.remote.ip().map(|ip| Source { ip: ip.ip(), mark: *mark });
            }
            FilterKind::FilterState(values) => {
                let info = StreamInfo::new(Rc::new(facts.clone().into_connection_info()), None);
                values.set(&FormatContext::of(&info), &mut facts.filter_state);
            }
            FilterKind::ProxyProtocol(filter) => {
                let outcome = until_done(stream, ahead, |bytes| filter.look(bytes)).await;
                filter.count(ahead, &outcome);
                let header = outcome?;
                ahead.advance(header.length);
                if let Some((source, destination)) = header.addresses {
                    facts.remote = Address::Ip(source);
                    facts.local = Address::Ip(destination);
                    facts.local_restored = true;
                }
            }
            FilterKind::TlsInspector(stats) => {
                let outcome = until_done(stream, ahead, tls::look).await;
                tls::count(stats, &outcome);
                if let Some(hello) = outcome? {
                    facts.transport_protocol = "tls";
                    facts.server_name = Arc::from(hello.server_name);
                    facts.application_protocols = hello.alpn;
                }
            }
            FilterKind::HttpInspector(stats) if facts.transport_protocol == "raw_buffer" => {
                let outcome = until_done(stream, ahead, http::look).await;
                http::count(stats, &outcome);
                if let Some(version) = outcome? {
                    facts.application_protocols = vec![version.to_owned()];
                }
            }
            FilterKind::HttpInspector(_) => {}
        }
    }
    Ok(())
}

/// Reads until the filter has seen enough.
async fn until_done<T>(
    stream: &mut Stream,
    ahead: &mut BytesMut,
    look: impl Fn(&[u8]) -> Step<T>,
) -> Result<T, InspectError> {
    loop {
        if !ahead.is_empty() {
            match look(ahead) {
                Step::Done(found) => return Ok(found),
                Step::Refuse(reason) => return Err(InspectError::Refused(reason)),
                Step::More => {}
            }
        }
        match stream.read_buf(ahead).await {
            Ok(0) | Err(_) => return Err(InspectError::Closed),
            Ok(_) => {}
        }
    }
}

/// The destination that the connection had before the kernel redirected it (`SO_ORIGINAL_DST`). TPROXY redirects without
/// rewriting it: there it is the socket's own address.
fn original_destination(socket: &tokio::net::TcpStream) -> Option<Address> {
    let local = socket.local_addr().ok()?;
    let socket = socket2::SockRef::from(socket);
    let (original, transparent) = match local {
        std::net::SocketAddr::V4(_) => (socket.original_dst_v4(), socket.ip_transparent_v4()),
        std::net::SocketAddr::V6(_) => (socket.original_dst_v6(), socket.ip_transparent_v6()),
    };
    match original {
        Ok(original) => original.as_socket().map(Address::Ip),
        Err(_) if transparent.is_ok_and(|transparent| transparent) => Some(Address::Ip(local)),
        Err(_) => None,
    }
}
