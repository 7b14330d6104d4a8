//! Why an HTTP/1 connection could not go on.

use std::io;

use crate::io::BodyError;

/// What ended a message, and the connection with it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The peer closed the connection in the middle of a message, or while an answer to it was due.
    #[error("the peer closed the connection before the message was complete")]
    Cut,
    /// The peer sent what is not HTTP/1.
    #[error("malformed HTTP/1: {0}")]
    Malformed(&'static str),
    /// The peer sent more than its message may hold.
    #[error("too large: {0}")]
    TooLarge(&'static str),
    /// Reading or writing failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The body of a message to the peer broke off, or is not as long as its head has said.
    #[error("a body to the peer broke off: {0}")]
    Body(#[source] BodyError),
}
