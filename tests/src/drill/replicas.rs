//! One replica of five gets into trouble. Clients must not notice.

use std::time::Duration;

use super::mesh::{listener, watched};
use super::replica::Replica;
use super::traffic::{Kind, Traffic};
use super::{Report, Size, for_a_while, time_until};
use crate::programs::free_address;
use crate::scenario::Sidecar;
use crate::scenario::config::static_bootstrap;

const KINDS: [Kind; 3] = [Kind::Http1, Kind::Http2, Kind::Grpc];

/// A sidecar with five replicas under load.
struct Scene {
    replicas: Vec<Replica>,
    traffic: Traffic,
    report: Report,
    /// How long each trouble lasts.
    time: Duration,
    _sidecar: Sidecar,
}

/// Runs the drill.
pub async fn run(size: Size) -> Report {
    let replicas: Vec<_> = (0..5).map(|number| Replica::start(&format!("r{number}"))).collect();
    let addresses: Vec<_> = replicas.iter().map(|replica| replica.address).collect();
    let address = free_address();
    let bootstrap = static_bootstrap(&[listener(address, Some("0.5s"))], &[watched(&addresses)]);
    let sidecar = Sidecar::start(&bootstrap, &[]);
    let traffic = Traffic::start(address, &KINDS, size.pick(2, 8)).await;
    let time = size.pick(Duration::from_millis(1500), Duration::from_secs(10));
    let report = Report::default();
    let mut scene = Scene { replicas, traffic, report, time, _sidecar: sidecar };
    scene.lasts("all is well").await;
    scene.killed().await;
    scene.stalled().await;
    scene.failing().await;
    scene.slow().await;
    scene.flapping(size.pick(3, 20)).await;
    let last = scene.traffic.stop().await;
    scene.report.expect_unseen("at the end", &last);
    scene.report
}

impl Scene {
    /// Lets it last, and looks at what clients have seen since the last look.
    async fn lasts(&mut self, what: &str) {
        for_a_while(self.time).await;
        let seen = self.traffic.take();
        self.report.expect_unseen(what, &seen);
        self.report
            .figure("  answers of r0 meanwhile, %", format_args!("{:.1}", seen.share_of("r0")));
    }

    /// r0 must answer again.
    async fn back(&mut self, what: &str) {
        let seen = self.traffic.take();
        self.report.expect_unseen(what, &seen);
        let time = time_until("r0 to answer", || self.traffic.answers_of("r0") > 0).await;
        self.report.figure("  back after, ms", time);
    }

    async fn killed(&mut self) {
        self.replicas[0].kill();
        self.lasts("killed").await;
        self.replicas[0].restart();
        self.back("started again").await;
    }

    async fn stalled(&mut self) {
        self.replicas[0].signal("STOP");
        self.lasts("stalled").await;
        self.replicas[0].signal("CONT");
        self.back("goes on").await;
    }

    async fn failing(&mut self) {
        self.replicas[0].become_("failing");
        self.lasts("failing").await;
        self.replicas[0].become_("ok");
        self.back("well again").await;
    }

    async fn slow(&mut self) {
        self.replicas[0].become_("slow");
        self.lasts("slow").await;
        self.replicas[0].become_("ok");
        self.back("fast again").await;
    }

    async fn flapping(&mut self, times: usize) {
        for _ in 0..times {
            self.replicas[0].kill();
            self.traffic.flow(50).await;
            self.replicas[0].restart();
            self.traffic.flow(50).await;
        }
        let seen = self.traffic.take();
        self.report.expect_unseen("flapping", &seen);
    }
}
