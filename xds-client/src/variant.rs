//! What state-of-the-world and delta have to say for themselves; everything else is shared.

use std::sync::Arc;

use http::uri::PathAndQuery;
use proto::envoy::config::core::v3::Node;
use proto::google::rpc::Status;

use crate::client::ClientConfig;
use crate::resource::Response;
use crate::table::{Table, Unanswered};
use crate::transport::{self, Link, Server};

/// The name that stands for everything the server has.
pub(crate) const WILDCARD: &str = "*";

/// The state that a variant of the protocol keeps about one type on the current stream.
pub(crate) trait Variant: Default + Send + 'static {
    type Request: prost::Message + 'static;
    type Response: prost::Message + Default + 'static;

    /// Opens a stream to a server.
    fn open(
        config: &ClientConfig,
        server: &Server,
        path: PathAndQuery,
    ) -> Link<Self::Request, Self::Response> {
        transport::open(server, path, config.max_message_size)
    }

    /// A stream begins. `resumes` says whether its server is the one that versions came from.
    fn start_stream(&mut self, stream: u64, resumes: bool);

    /// A server that versions did not come from answered: they are worth nothing.
    fn forget_versions(&mut self);

    /// These names are now wanted. Every name, here and below, may be [`WILDCARD`].
    fn added(&mut self, names: &[Arc<str>]);

    /// These names are no longer wanted.
    fn removed(&mut self, names: &[Arc<str>]);

    /// These names stay wanted and the server is to send them again.
    fn refreshed(&mut self, names: &[Arc<str>]);

    /// The receiver answered a response of this stream; `error` makes the answer a NACK.
    fn answered(&mut self, response: &Unanswered, error: Option<Status>);

    /// Whether something was sent on this stream.
    fn has_begun(&self) -> bool;

    /// Whether there is something to send.
    fn has_request(&self, table: &Table) -> bool;

    /// The next thing to send.
    fn next_request(&mut self, table: &Table) -> Option<Self::Request>;

    /// Answers that wait to be sent.
    fn unsent_answers(&self) -> usize;

    fn set_node(request: &mut Self::Request, node: Node);

    /// Type URL and control plane identifier of a response.
    fn envelope(response: &Self::Response) -> (&str, Option<&str>);

    /// Unwraps and checks a response.
    fn unwrap(&self, response: Self::Response, table: &Table) -> Response;
}
