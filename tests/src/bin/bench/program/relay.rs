//! The floor of any proxy in user space: one thread that copies bytes and looks at none of them.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};

use crate::Result;

/// Bytes in flight in each direction of a connection.
const BUFFER: usize = 64 * 1024;

/// Relays every connection on `listen` to `upstream` until the process is ended.
pub fn run(listen: SocketAddr, upstream: SocketAddr) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (downstream, _) = listener.accept().await?;
            tokio::spawn(relay(downstream, upstream));
        }
    })
}

async fn relay(mut downstream: TcpStream, upstream: SocketAddr) {
    // A peer that goes away ends its connection and nothing else; the load generator counts what it lost.
    let Ok(mut upstream) = TcpStream::connect(upstream).await else { return };
    let _ = (downstream.set_nodelay(true), upstream.set_nodelay(true));
    let _ = copy_bidirectional_with_sizes(&mut downstream, &mut upstream, BUFFER, BUFFER).await;
}
