//! Streams of HTTP/2 in the terms of the rest: bodies that come in and go out, tunnels, and the sign of life of a connection.

mod body;
mod keep_alive;
mod send;
mod tunnel;

pub use body::{Http2Body, Upload};
pub use keep_alive::KeepAlive;
pub use send::send_body;
pub use tunnel::Http2Tunnel;
