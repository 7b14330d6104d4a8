//! The scripted upstreams of a case.

use serde::Deserialize;

use super::headers::Headers;
use super::tls::TlsServer;

/// A scripted upstream.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    /// TLS around it.
    pub tls: Option<TlsServer>,
    /// What it speaks.
    pub protocol: UpstreamProtocol,
    /// The type of the gRPC messages that it receives: then bodies are told as JSON.
    pub grpc: Option<String>,
    /// Answers in the order of the requests (TCP: of the connections); the last one repeats.
    pub replies: Vec<Reply>,
}

/// What an upstream speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Bytes.
    Tcp,
    /// The port refuses connections.
    Refused,
}

/// One answer of an upstream.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reply {
    /// Status, 200 unless given.
    pub status: u16,
    /// Headers, without the framing that the upstream adds.
    pub headers: Headers,
    /// The body; the upstream's name unless given.
    pub body: Option<String>,
    /// A gRPC message with its `@type` instead of the body. Content type and `grpc-status: 0` are added.
    pub grpc: Option<serde_json::Value>,
    /// Trailers; they make an HTTP/1 body chunked.
    pub trailers: Headers,
    /// These bytes instead of all the above (HTTP/1 and TCP); over HTTP/2 no answer but REFUSED_STREAM, or what `then` says.
    pub raw: Option<String>,
    /// Waits for the step `release` with this name first; an HTTP/2 answer that ends in a reset waits before the reset.
    pub hold: Option<String>,
    /// Answers before it reads the request's body (HTTP/1), or before the first byte (TCP).
    pub early: bool,
    /// Sends back what it receives, after everything else (HTTP/1 after an upgrade, TCP).
    pub echo: bool,
    /// What becomes of the connection.
    pub then: Then,
}

impl Default for Reply {
    fn default() -> Self {
        Self {
            status: 200,
            headers: Headers::default(),
            body: None,
            grpc: None,
            trailers: Headers::default(),
            raw: None,
            hold: None,
            early: false,
            echo: false,
            then: Then::default(),
        }
    }
}

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// It stays open.
    #[default]
    Keep,
    /// It is closed.
    Close,
    /// It is reset (HTTP/2: the stream, with INTERNAL_ERROR).
    Reset,
}
