//! The interop cases of gRPC, by grpc-go's client and server with two sidecars between them.

use std::process::Command;

use pillion_tests::programs::{Process, Ready, free_address, tool};
use pillion_tests::scenario::config::{cluster, http_listener, routes, static_bootstrap};
use pillion_tests::scenario::{PATIENCE, Protocol, Sidecar};
use serde_json::json;
use tokio::task::block_in_place;

use super::Passed;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_interop_cases_of_grpc_pass_two_sidecars() {
    let (Some(client), Some(server)) =
        (tool("peers/grpc-interop-client"), tool("peers/grpc-interop-server"))
    else {
        eprintln!("did not run: gRPC's interop programs are not in target/tools/peers");
        return;
    };
    let (address, outbound, inbound) = (free_address(), free_address(), free_address());
    let mut command = Command::new(server);
    command.arg(format!("--port={}", address.port()));
    let mut server = Process::spawn("interop-server", &mut command).expect("it was built");
    let ready = block_in_place(|| server.wait_ready(Ready::Port(address), PATIENCE));
    ready.expect("it listens");
    let bootstrap = |listener, upstream| {
        let hcm = json!({"route_config": routes("up")});
        let clusters = [cluster("up", Protocol::Http2, &[upstream])];
        static_bootstrap(&[http_listener(listener, "up", &hcm)], &clusters)
    };
    let _sidecars = [
        Sidecar::start(&bootstrap(inbound, address), &[]),
        Sidecar::start(&bootstrap(outbound, inbound), &[]),
    ];
    let expected = super::expected("grpc-interop");
    let Passed::Cases(cases) = expected.passed else { panic!("cases are named") };
    for case in cases {
        let mut command = Command::new(&client);
        command.arg("--server_host=127.0.0.1").arg(format!("--server_port={}", outbound.port()));
        command.arg(format!("--test_case={case}"));
        let output = block_in_place(|| command.output()).expect("it was built");
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{case}: {log}");
    }
}
