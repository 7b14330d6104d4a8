//! Other people's clients and servers on both sides of the sidecar.

mod bodies;
mod curl;
mod grpc;
mod old_clients;
mod openssl;
mod pki;
mod programs;
mod websocket;

use std::net::SocketAddr;

use pillion_tests::programs::free_address;
use pillion_tests::scenario::config::{cluster, http_listener, static_bootstrap};
use pillion_tests::scenario::{Protocol, Sidecar};
use serde_json::Value;

/// A sidecar with one HTTP listener in front of one server, and the listener's address.
fn sidecar(upstream: SocketAddr, protocol: Protocol, hcm: &Value) -> (Sidecar, SocketAddr) {
    let listener = free_address();
    let listeners = [http_listener(listener, "up", hcm)];
    let bootstrap = static_bootstrap(&listeners, &[cluster("up", protocol, &[upstream])]);
    (Sidecar::start(&bootstrap, &[]), listener)
}
