//! A TLS session over another stream. It notes what breaks it, which codecs above it do not pass on.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use rustls::Error;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_rustls::TlsStream;

use crate::io::Stream;

/// A session whose handshake is done.
pub struct Tls {
    pub(super) session: TlsStream<Stream>,
    fault: Arc<Fault>,
}

/// What has broken a session after its handshake, if anything has: in TLS 1.3 a server refuses a client's certificate only
/// then.
#[derive(Debug, Default)]
pub struct Fault {
    error: OnceLock<Error>,
    is_told: AtomicBool,
}

impl Fault {
    /// What it was.
    pub fn error(&self) -> Option<&Error> {
        self.error.get()
    }

    /// Whether nobody has asked this before.
    pub fn is_news(&self) -> bool {
        !self.is_told.swap(true, Relaxed)
    }
}

impl Tls {
    /// A session that notes in `fault` what breaks it.
    pub fn new(session: impl Into<TlsStream<Stream>>, fault: Arc<Fault>) -> Self {
        Tls { session: session.into(), fault }
    }

    /// The session.
    pub fn session(&self) -> &TlsStream<Stream> {
        &self.session
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.session).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &polled
            && let Some(cause) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>())
        {
            // The first one is the reason of all that come after.
            let _ = self.fault.error.set(cause.clone());
        }
        polled
    }
}
