//! nginx's configuration.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use super::{Protocol, Work, idle_endpoints};

/// One process, no buffering on disk, connections to the upstream kept. `folder` takes what nginx insists on writing.
pub fn config(listen: SocketAddr, work: &Work, folder: &Path) -> String {
    let (http2, pass) = match work.protocol {
        Protocol::Grpc => (" http2", "grpc_pass grpc://upstream;"),
        _ => (
            "",
            "proxy_pass http://upstream; proxy_http_version 1.1; proxy_set_header Connection \"\";",
        ),
    };
    let mut blocks = String::new();
    for cluster in 0..work.idle_clusters {
        let servers: String =
            idle_endpoints(cluster).map(|address| format!(" server {address};")).collect();
        let _ = writeln!(blocks, "  upstream idle_{cluster} {{{servers} }}");
    }
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {}/{kind};\n", folder.display()))
        .concat();
    format!(
        "daemon off;
master_process off;
worker_processes 1;
pid {folder}/pid;
events {{ worker_connections 4096; }}
http {{
{temporary}  access_log off;
  client_max_body_size 0;
  keepalive_requests 1000000000;
  upstream upstream {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}
{blocks}  server {{
    listen {listen}{http2};
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    location / {{ {pass} }}
  }}
}}
",
        folder = folder.display(),
        upstream = work.upstream,
    )
}
