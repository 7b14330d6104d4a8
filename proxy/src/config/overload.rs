//! The overload manager (`envoy.config.overload.v3.OverloadManager`).

use std::path::PathBuf;
use std::time::Duration;

use crate::overload::{Least, Point, Timer};

mod translate;

/// What is watched, and what happens when it runs short.
#[derive(Clone, Debug, PartialEq)]
pub struct OverloadManager {
    /// `refresh_interval`; default 1 s.
    pub refresh_interval: Duration,
    /// `resource_monitors`
    pub monitors: Vec<Monitor>,
    /// `actions`
    pub actions: Vec<Action>,
    /// `loadshed_points`
    pub points: Vec<ShedPoint>,
}

/// What is watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Monitor {
    /// The name that triggers and statistics have for it.
    pub name: Box<str>,
    /// The resource.
    pub resource: Resource,
}

/// A resource whose pressure goes from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// `fixed_heap`: the process's own memory against so many bytes.
    FixedHeap(u64),
    /// `cgroup_memory`: the memory of the cgroup against its limit or so many bytes, whichever is less.
    CgroupMemory(Option<u64>),
    /// The process's own memory against the limit of its cgroup; without a limit there is no pressure.
    OwnMemory,
    /// `cpu_utilization` of the machine, or of the cgroup against its quota.
    Cpu {
        /// `mode: CONTAINER`
        container: bool,
    },
    /// `injected_resource`: what a file says.
    Injected(PathBuf),
    /// `downstream_connections`: a limit that is enforced at once.
    DownstreamConnections(u64),
}

/// From which pressure on something happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trigger {
    /// Its place in [`OverloadManager::monitors`].
    pub monitor: usize,
    /// Below or at this pressure nothing happens; with `full` equal to it, everything from it on.
    pub from: f64,
    /// From this pressure on everything.
    pub full: f64,
}

impl Trigger {
    /// How much happens at a pressure, from 0 to 1.
    pub fn value(&self, pressure: f64) -> f64 {
        if pressure >= self.full {
            1.0
        } else if pressure <= self.from {
            0.0
        } else {
            (pressure - self.from) / (self.full - self.from)
        }
    }
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// The name that statistics have for it.
    pub name: Box<str>,
    /// What it is.
    pub kind: ActionKind,
    /// The strongest one counts.
    pub triggers: Vec<Trigger>,
}

/// An overload action.
#[derive(Clone, Debug, PartialEq)]
pub enum ActionKind {
    /// `stop_accepting_requests`
    StopAcceptingRequests,
    /// `disable_http_keepalive`
    DisableHttpKeepalive,
    /// `stop_accepting_connections`
    StopAcceptingConnections,
    /// `reject_incoming_connections`
    RejectIncomingConnections,
    /// `shrink_heap`, at most once in this time.
    ShrinkHeap(Duration),
    /// `reduce_timeouts`
    ReduceTimeouts(Vec<(Timer, Least)>),
    /// `reset_high_memory_stream`, which has nothing to reset here.
    ResetHighMemoryStream,
}

/// Where load is shed.
#[derive(Clone, Debug, PartialEq)]
pub struct ShedPoint {
    /// The name that statistics have for it.
    pub name: Box<str>,
    /// The place.
    pub point: Point,
    /// The strongest one counts.
    pub triggers: Vec<Trigger>,
}

/// How often `shrink_heap` gives memory back by default.
const SHRINK_INTERVAL: Duration = Duration::from_secs(10);

impl OverloadManager {
    /// What holds where configuration says nothing: a proxy that comes close to the memory limit of its cgroup refuses
    /// requests, since past the limit the kernel would kill it with every request that is under way.
    pub fn by_default() -> Self {
        let trigger = |from, full| vec![Trigger { monitor: 0, from, full }];
        let action = |name: &str, kind, triggers| Action {
            name: format!("{ACTIONS}{name}").into(),
            kind,
            triggers,
        };
        let shrink = ActionKind::ShrinkHeap(SHRINK_INTERVAL);
        let stop = ActionKind::StopAcceptingRequests;
        OverloadManager {
            refresh_interval: Duration::from_secs(1),
            monitors: vec![Monitor {
                name: "pillion.resource_monitors.own_memory".into(),
                resource: Resource::OwnMemory,
            }],
            actions: vec![
                action("shrink_heap", shrink, trigger(0.85, 0.85)),
                action("stop_accepting_requests", stop, trigger(0.92, 0.98)),
            ],
            points: Vec::new(),
        }
    }
}

/// What names of actions start with.
const ACTIONS: &str = "envoy.overload_actions.";
/// What names of load shed points start with.
const POINTS: &str = "envoy.load_shed_points.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triggers_follow_envoys_formula() {
        let threshold = Trigger { monitor: 0, from: 0.9, full: 0.9 };
        assert_eq!([0.0, 0.89, 0.9, 1.0].map(|p| threshold.value(p)), [0.0, 0.0, 1.0, 1.0]);
        let scaled = Trigger { monitor: 0, from: 0.5, full: 0.75 };
        assert_eq!([0.5, 0.625, 0.75, 2.0].map(|p| scaled.value(p)), [0.0, 0.5, 1.0, 1.0]);
        let at_once = Trigger { monitor: 0, from: 0.0, full: 0.0 };
        assert_eq!(at_once.value(0.0), 1.0);
    }
}
