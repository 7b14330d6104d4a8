//! The control plane is killed, and the proxy is killed and starts anew: it must serve what it had, at once.

use std::time::{Duration, Instant};

use control_plane_mock::{ControlPlane, Options};
use tempfile::TempDir;

use super::mesh::{listener, up};
use super::replica::Replica;
use super::traffic::{Kind, Traffic};
use super::{Report, Size, time_until};
use crate::programs::{free_address, pillion};
use crate::scenario::config::{ads_bootstrap, resource};
use crate::scenario::{Connection, Protocol, Sidecar};

/// A proxy that starts must serve within this time.
const SERVES_WITHIN_MS: u128 = 1000;

/// Runs the drill.
pub async fn run(size: Size) -> Report {
    let replicas = [Replica::start("old"), Replica::start("new")];
    let (address, plane_address) = (free_address(), free_address());
    let plane = |replica: usize| {
        let resources = [up(&[replicas[replica].address]), listener(address, None)];
        async move {
            let options = Options { listen: plane_address, ..Options::default() };
            let plane = ControlPlane::start(options).await.expect("the port is free");
            plane.put(resources.iter().map(resource));
            plane
        }
    };
    let folder = TempDir::new().expect("a folder");
    let folder = folder.path().to_string_lossy();
    let bootstrap = ads_bootstrap(plane_address, "DELTA_GRPC");
    let start = || {
        let flags = ["--state-dir", folder.as_ref(), "--state-grace-s", "0"];
        Sidecar::spawn(&pillion(), &bootstrap, &flags)
    };
    let mut report = Report::default();
    let old = plane(0).await;
    let mut sidecar = start();
    sidecar.wait_live();
    sidecar.wait_stat("control_plane.state_saved", 1).await;
    old.stop().await;
    for _ in 0..size.pick(2, 20) {
        sidecar.process.signal("KILL").unwrap_or_else(|error| panic!("{error}"));
        sidecar.wait_exit();
        let began = Instant::now();
        sidecar = start();
        first_answer(address).await;
        let took = began.elapsed().as_millis();
        report.figure("killed without a control plane; serves after, ms", took);
        report.expect(took < SERVES_WITHIN_MS, format_args!("it takes {took} ms to serve"));
    }
    let traffic = Traffic::start(address, &[Kind::Http1, Kind::Http2], 4).await;
    let _new = plane(1).await;
    let took = time_until("the new replica", || traffic.answers_of("new") > 0).await;
    report.figure("control plane back with another replica; in use after, ms", took);
    report.expect_unseen("meanwhile", &traffic.stop().await);
    report
}

/// Asks until there is an answer, as a client does that keeps trying.
async fn first_answer(address: std::net::SocketAddr) {
    loop {
        if let Ok(mut connection) = Connection::open(address, Protocol::Http1).await
            && connection.get("/").await.is_ok_and(|answer| answer.status == 200)
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
