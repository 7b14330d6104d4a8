//! HAProxy's configuration.

use std::fmt::Write;
use std::net::SocketAddr;

use super::{Protocol, Work, idle_endpoints};

/// One thread, connections to servers always reused, as Envoy does.
pub fn config(listen: SocketAddr, work: &Work) -> String {
    let (mode, options) = match work.protocol {
        Protocol::Tcp => ("tcp", ""),
        Protocol::Http1 => ("http", ""),
        Protocol::Http2 | Protocol::Grpc => ("http", " proto h2"),
    };
    let reuse = if mode == "http" { "http-reuse always" } else { "" };
    let mut config = format!(
        "global
  nbthread 1
  maxconn 4096
defaults
  mode {mode}
  {reuse}
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend bench
  bind {listen}{options}
  default_backend upstream
backend upstream
  server only {upstream}{options}
",
        upstream = work.upstream
    );
    for cluster in 0..work.idle_clusters {
        let _ = writeln!(config, "backend idle_{cluster}");
        for (endpoint, address) in idle_endpoints(cluster).enumerate() {
            let _ = writeln!(config, "  server s{endpoint} {address}{options}");
        }
    }
    config
}
