//! CONNECT that ends here (`connect_config`): the tunnel goes on to the host as plain TCP.

use http::{HeaderMap, Response, StatusCode};

use super::failure::{Failed, reply_to};
use super::{Plan, charged, host, outcome};
use crate::http::body::Source;
use crate::http::local_reply::LocalReply;
use crate::http::service::Answer;
use crate::http::stream::Stream;
use crate::http::upgrade::{Tunnel, UpstreamSide};

/// Connects to a host and answers the CONNECT.
///
/// # Errors
/// The proxy's own answer where no host can be connected to.
pub async fn terminate(
    stream: &mut Stream,
    mut plan: Plan<'_>,
    headers: &HeaderMap,
) -> Result<Answer, LocalReply> {
    let cluster = &plan.cluster;
    let picked = host::pick(stream, &plan, headers)?;
    stream.shared.info.borrow_mut().upstream.attempts = 1;
    let priority = usize::from(plan.action.high_priority);
    let source = stream.connection.info.source;
    let pools = &stream.connection.worker.pools;
    let connecting = pools.tcp(picked.owner(cluster), &picked.host, priority, source);
    let lease = match plan.timeouts.wait(stream, cluster, std::pin::pin!(connecting)).await? {
        Ok(lease) => lease,
        Err(error) => {
            outcome::failed(picked.owner(cluster), &picked.host, error.reason);
            return Err(charged(stream, cluster, reply_to(Failed::from(error), stream, false)));
        }
    };
    stream.shared.info.borrow_mut().upstream.local = lease.local_address().cloned();
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = StatusCode::OK;
    stream.with_format(|context| {
        plan.route.mutate_response(plan.weighted, &mut head.headers, context);
    });
    let limits = plan.timeouts.for_response(stream);
    let upgrade = plan.upgrade.take();
    let tunnel =
        upgrade.map(|client| Tunnel::new(client, UpstreamSide::Tcp(lease), limits)).map(Box::new);
    Ok(Answer { head, source: Source::Local(bytes::Bytes::new()), limits, tunnel })
}
