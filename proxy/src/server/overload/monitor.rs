//! What overload is measured by.

use std::path::PathBuf;
use std::sync::Arc;

use super::cgroup::Cgroup;
use super::cpu::CpuMeter;
use crate::config::overload::Resource;
use crate::overload::Overload;
use crate::telemetry::memory::Memory;

/// A resource that can be looked at.
pub enum Monitor {
    FixedHeap(u64),
    CgroupMemory { cgroup: Cgroup, most: Option<u64> },
    OwnMemory(Cgroup),
    Cpu(CpuMeter),
    Injected(PathBuf),
    Connections { limit: u64, overload: Arc<Overload> },
}

impl Monitor {
    /// Looks at `resource`. A limit of connections holds from now on.
    pub fn new(resource: Resource, overload: &Arc<Overload>) -> Self {
        match resource {
            Resource::FixedHeap(max) => Monitor::FixedHeap(max),
            Resource::CgroupMemory(most) => Monitor::CgroupMemory { cgroup: Cgroup::own(), most },
            Resource::OwnMemory => Monitor::OwnMemory(Cgroup::own()),
            Resource::Cpu { container: false } => Monitor::Cpu(CpuMeter::of_machine()),
            Resource::Cpu { container: true } => Monitor::Cpu(CpuMeter::of_cgroup(Cgroup::own())),
            Resource::Injected(path) => Monitor::Injected(path),
            Resource::DownstreamConnections(limit) => {
                overload.limit_connections(limit);
                Monitor::Connections { limit, overload: Arc::clone(overload) }
            }
        }
    }

    /// How much of the resource is in use: 1 is all of it.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn pressure(&mut self) -> Result<f64, String> {
        match self {
            Monitor::FixedHeap(max) => Ok(share(Memory::now().private, *max)),
            Monitor::CgroupMemory { cgroup, most } => {
                let limit = cgroup.memory_limit().into_iter().chain(*most).min();
                // Without any limit there is no pressure, as in Envoy.
                limit.map_or(Ok(0.0), |limit| Ok(share(cgroup.memory_usage()?, limit)))
            }
            Monitor::OwnMemory(cgroup) => {
                let limit = cgroup.memory_limit();
                Ok(limit.map_or(0.0, |limit| share(Memory::now().private, limit)))
            }
            Monitor::Cpu(meter) => meter.utilization(),
            Monitor::Injected(path) => {
                let text = std::fs::read_to_string(&*path)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                let number = text.trim().parse().ok().filter(|n| (0.0..=1.0).contains(n));
                number.ok_or_else(|| {
                    format!("{}: {:?} is no number from 0 to 1", path.display(), text.trim())
                })
            }
            Monitor::Connections { limit, overload } => Ok(share(overload.connections(), *limit)),
        }
    }
}

fn share(used: u64, of: u64) -> f64 {
    used as f64 / of.max(1) as f64
}
