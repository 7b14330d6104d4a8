//! The HTTP API.
use crate::core::Shared;
use std::sync::Arc;
use tokio::net::TcpListener;
pub(crate) async fn serve(_listener: TcpListener, _shared: Arc<Shared>) {}
