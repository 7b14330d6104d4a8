//! How soon a certificate that the control plane pushes is served, and whether many of them leave something behind.

use std::time::{Duration, Instant};

use control_plane_mock::ControlPlane;
use tokio::runtime::Runtime;

use super::handshakes::{connector, server_certificate};
use super::{Scenario, able, turns};
use crate::identities::Identities;
use crate::measurement::{Figures, Metric, millis};
use crate::program::envoy::rotating_bootstrap;
use crate::program::{Program, Protocol, Running, Work};
use crate::{Result, upstream};

/// Pushes in a round.
const PUSHES: usize = 200;
/// Nobody waits longer for a certificate.
const LIMIT: Duration = Duration::from_secs(10);

/// One listener whose certificate comes over SDS, and changes again and again.
pub const SECRETS: Scenario = Scenario {
    name: "sds-rotation",
    about: "from the push of a certificate over SDS until a new connection is served with it, 200 pushes",
    compared_by: Metric::Served,
    run: |bench| {
        let protocol = Protocol::Http1;
        let work = Work { protocol, upstream: upstream::start(protocol)?, idle_clusters: 0 };
        Ok(turns::measure(bench, |program| Subject::start(program, &work), Subject::round))
    },
};

/// A proxy, and the control plane that only it talks to.
struct Subject {
    runtime: Runtime,
    control_plane: ControlPlane,
    identities: Identities,
    running: Running,
    /// Resident memory after the first round, in MB.
    first: Option<f64>,
}

impl Subject {
    fn start(program: Program, work: &Work) -> Result<Subject> {
        if !program.speaks_xds() {
            return Err("cannot do this".into());
        }
        able(program, work)?;
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build()?;
        let control_plane = runtime.block_on(ControlPlane::start_default())?;
        let identities = Identities::of(&control_plane)?;
        let server = control_plane.addr();
        let running = program.start_with(|admin, listen| {
            rotating_bootstrap(admin, listen, work, server, &identities.authority)
        })?;
        Ok(Subject { runtime, control_plane, identities, running, first: None })
    }

    fn round(&mut self) -> Result<Figures> {
        let connector = connector(&self.identities)?;
        let address = self.running.address;
        let shown = || self.runtime.block_on(server_certificate(&connector, address));
        let mut served = Vec::new();
        let mut before = shown()?;
        for _ in 0..PUSHES {
            let begin = Instant::now();
            self.control_plane.rotate_certificates();
            let mut now = shown()?;
            while now == before {
                if begin.elapsed() > LIMIT {
                    return Err(format!("the old certificate is served after {LIMIT:?}").into());
                }
                now = shown()?;
            }
            served.push(begin.elapsed());
            before = now;
        }
        served.sort_unstable();
        let memory = self.running.process.usage()?.resident_mb();
        let first = *self.first.get_or_insert(memory);
        Ok(Figures::from([
            (Metric::Served, millis(served[served.len() / 2])),
            (Metric::P99, millis(served[served.len() * 99 / 100])),
            (Metric::Memory, memory),
            (Metric::Growth, memory - first),
        ]))
    }
}
