//! What a change costs that a control plane pushes to a proxy which holds a mesh of 1,000 clusters and 10,000 endpoints.

use std::thread;
use std::time::{Duration, Instant};

use control_plane_mock::{ControlPlane, Resource};
use pillion_tests::programs::free_address;
use proto::type_url;
use tokio::runtime::Runtime;

use super::{Scenario, installed, turns};
use crate::measurement::{Figures, Metric, Row, millis};
use crate::program::{Program, Running, envoy};
use crate::{Bench, Result, mesh};

/// A push of everything may take a busy machine some seconds.
const LIMIT: Duration = Duration::from_secs(60);
/// How long after the last ACK CPU time is read: work that was put off until then counts as well.
const SETTLE: Duration = Duration::from_millis(100);

const DELTA: &str = "DELTA_GRPC";
const SOTW: &str = "GRPC";

/// Every cluster changes.
pub const ALL_CLUSTERS: Scenario = Scenario {
    name: "ads-1000-clusters",
    about: "delta ADS, a push that changes each of 1,000 clusters of 10 endpoints",
    compared_by: Metric::PushCpu,
    run: |bench| measure(bench, DELTA, &EVERY_CLUSTER),
};

/// The same over the older protocol.
pub const ALL_CLUSTERS_SOTW: Scenario = Scenario {
    name: "ads-1000-clusters-sotw",
    about: "state-of-the-world ADS, a push that changes each of 1,000 clusters of 10 endpoints",
    compared_by: Metric::PushCpu,
    run: |bench| measure(bench, SOTW, &EVERY_CLUSTER),
};

/// The most frequent change of all.
pub const ONE_ENDPOINT: Scenario = Scenario {
    name: "ads-one-endpoint",
    about: "delta ADS, a push that changes one of 10,000 endpoints",
    compared_by: Metric::LastAck,
    run: |bench| measure(bench, DELTA, &SINGLE_ENDPOINT),
};

/// What is pushed, and how often in a round: CPU time is known to 10 ms only, and one small push is over in no time.
struct Push {
    resources: fn(generation: u32) -> Result<Vec<Resource>>,
    times: u32,
    /// Types that the proxy answers, the last one last.
    acks: &'static [&'static str],
}

const EVERY_CLUSTER: Push = Push {
    resources: mesh::clusters,
    times: 3,
    // The control plane sends the endpoints of a changed cluster again, as istiod does.
    acks: &[type_url::CLUSTER, type_url::CLUSTER_LOAD_ASSIGNMENT],
};

const SINGLE_ENDPOINT: Push = Push {
    resources: |generation| Ok(vec![mesh::one_endpoint_changed(generation)?]),
    times: 200,
    acks: &[type_url::CLUSTER_LOAD_ASSIGNMENT],
};

/// A proxy and the control plane that only it talks to.
struct Subject {
    runtime: Runtime,
    control_plane: ControlPlane,
    running: Running,
    generation: u32,
}

fn measure(bench: &Bench, api_type: &str, push: &Push) -> Result<Vec<Row>> {
    let prepare = |program| Subject::start(program, api_type);
    Ok(turns::measure(bench, prepare, |subject| subject.round(push)))
}

impl Subject {
    fn start(program: Program, api_type: &str) -> Result<Subject> {
        if !program.speaks_xds() {
            return Err("cannot do this".into());
        }
        installed(program)?;
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build()?;
        let control_plane = runtime.block_on(ControlPlane::start_default())?;
        control_plane.put(mesh::endpoints()?);
        let version = control_plane.put(mesh::clusters(0)?);

        let admin = free_address();
        let bootstrap = envoy::ads_bootstrap(admin, control_plane.addr(), api_type);
        let running = program.start_with_bootstrap(&bootstrap, admin, admin)?;
        let subject = Subject { runtime, control_plane, running, generation: 0 };
        subject.last_ack(EVERY_CLUSTER.acks, version)?;
        Ok(subject)
    }

    fn round(&mut self, push: &Push) -> Result<Figures> {
        let before = self.running.process.usage()?;
        let mut acked = Vec::new();
        for _ in 0..push.times {
            self.generation += 1;
            let resources = (push.resources)(self.generation)?;
            let begin = Instant::now();
            let version = self.control_plane.put(resources);
            acked.push(self.last_ack(push.acks, version)? - begin);
        }
        thread::sleep(SETTLE);
        let after = self.running.process.usage()?;
        acked.sort_unstable();
        Ok(Figures::from([
            (Metric::LastAck, millis(acked[acked.len() / 2])),
            (Metric::PushCpu, millis(after.cpu - before.cpu) / f64::from(push.times)),
            (Metric::Memory, after.resident_mb()),
        ]))
    }

    /// When the last answer to `version` came. A NACK is a failure.
    fn last_ack(&self, types: &[&str], version: u64) -> Result<Instant> {
        let mut last = None;
        for type_url in types {
            let answer = self.control_plane.wait_ack(type_url, version, None, LIMIT);
            let answer = self.runtime.block_on(answer)?;
            if let Some(error) = answer.error {
                return Err(format!("the push of {type_url} was refused: {error}").into());
            }
            last = last.max(Some(answer.at));
        }
        last.ok_or_else(|| "no type to wait for".into())
    }
}
