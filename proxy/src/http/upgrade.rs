//! Upgrades (WebSocket and others): the connection leaves HTTP and becomes a tunnel.

use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::{Method, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use crate::config::route::RouteAction;
use crate::http::local_reply::LocalReply;
use crate::http::overdue::Limits;
use crate::http::present::Present;
use crate::http::stream::Stream;
use crate::io::relay::{Ended, relay};
use crate::telemetry::response_flags::ResponseFlags;
use crate::upstream::pool::ResponseLease;

/// The protocol that an HTTP/1 request wants to upgrade to.
pub fn requested(parts: &Parts) -> Option<&str> {
    let connection = parts.headers.get(CONNECTION)?.to_str().ok()?;
    let asks = connection.split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    let protocol = parts.headers.get(UPGRADE)?.to_str().ok()?;
    // HTTP/2 in clear text is spoken with prior knowledge only; the header means nothing here.
    (asks && !protocol.eq_ignore_ascii_case("h2c")).then_some(protocol)
}

/// The downstream's side of an upgrade that is allowed.
pub struct Upgrade(OnUpgrade);

/// Takes the downstream's side out of the request, if it asks for an upgrade.
///
/// # Errors
/// 403 if neither route nor connection manager allow this one.
pub fn take(
    parts: &mut Parts,
    present: Present,
    stream: &Stream,
    action: &RouteAction,
) -> Result<Option<Upgrade>, LocalReply> {
    if parts.method == Method::CONNECT {
        return Err(refused(stream));
    }
    let asked = if present.has(Present::UPGRADE) { requested(parts) } else { None };
    let Some(protocol) = asked.map(str::to_owned) else { return Ok(None) };
    let on_upgrade = parts.extensions.remove::<OnUpgrade>();
    let of = |list: &[(Box<str>, bool)]| {
        let entry = list.iter().find(|(name, _)| name.eq_ignore_ascii_case(&protocol));
        entry.map(|(_, enabled)| *enabled)
    };
    let config = &stream.connection.manager.config;
    let allowed = of(&action.upgrades).or_else(|| of(&config.upgrades)).unwrap_or(false);
    match on_upgrade {
        Some(on_upgrade) if allowed => {
            stream.connection.manager.stats.downstream_cx_upgrades_total.inc();
            Ok(Some(Upgrade(on_upgrade)))
        }
        _ => Err(refused(stream)),
    }
}

fn refused(stream: &Stream) -> LocalReply {
    stream.connection.manager.stats.downstream_rq_ws_on_non_ws_route.inc();
    LocalReply::new(StatusCode::FORBIDDEN, "upgrade_failed", "").close()
}

/// Two upgraded sides that get joined once the `101` is out.
pub struct Tunnel {
    downstream: OnUpgrade,
    upstream: OnUpgrade,
    lease: ResponseLease,
    limits: Limits,
}

impl Tunnel {
    /// Joins the downstream's side with the upstream's.
    pub fn new(
        downstream: Upgrade,
        upstream: OnUpgrade,
        lease: ResponseLease,
        limits: Limits,
    ) -> Self {
        Tunnel { downstream: downstream.0, upstream, lease, limits }
    }

    /// Relays until both sides have closed or the idle timeout passes. Owns the stream, which is recorded at the end.
    pub async fn run(self, mut stream: Stream) {
        let stats = std::sync::Arc::clone(&stream.connection.manager.stats);
        let sides = futures_util::future::try_join(self.downstream, self.upstream).await;
        let Ok((downstream, upstream)) = sides else {
            stream.flag(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
            return;
        };
        stats.downstream_cx_upgrades_active.inc();
        let mut downstream: TokioIo<Upgraded> = TokioIo::new(downstream);
        let mut upstream: TokioIo<Upgraded> = TokioIo::new(upstream);
        let relayed = relay(&mut downstream, &mut upstream, self.limits.idle).await;
        stats.downstream_cx_upgrades_active.dec();
        let mut info = stream.shared.info.borrow_mut();
        info.bytes_received += relayed.to_upstream;
        info.bytes_sent += relayed.to_downstream;
        match relayed.ended {
            Ended::Idle => info.flags.insert(ResponseFlags::STREAM_IDLE_TIMEOUT),
            Ended::ClosedByDownstream | Ended::Downstream => {
                info.flags.insert(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
                info.details = Some("downstream_remote_disconnect".into());
            }
            Ended::ClosedByUpstream | Ended::Upstream => {}
        }
        drop(info);
        stream.complete();
        // Only now is the upstream connection no longer in use.
        drop(self.lease);
    }
}
