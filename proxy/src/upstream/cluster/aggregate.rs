//! Aggregate clusters: the hosts of other clusters as if they were one cluster's, the first cluster's priorities first.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Cluster, ClusterRegistry, ClusterSlot, Picked};
use crate::upstream::balance::PickContext;
use crate::upstream::balance::priority::{Availability, PriorityLoad};

/// The members of an aggregate cluster. They may come and go.
#[derive(Debug)]
pub(super) struct Aggregate {
    members: Vec<Arc<ClusterSlot>>,
    line: ArcSwap<Line>,
}

/// The members' priorities in one line.
#[derive(Debug, Default)]
struct Line {
    /// The members' hosts that the line was made from; 0 for a member that does not exist.
    snapshots: Vec<u64>,
    load: PriorityLoad,
    /// The member and its own priority for each place in the line.
    places: Vec<(usize, usize)>,
}

impl Aggregate {
    pub(super) fn new(members: &[Arc<str>], registry: &ClusterRegistry) -> Self {
        let members = members.iter().map(|name| registry.slot(name)).collect();
        Aggregate { members, line: ArcSwap::default() }
    }

    /// A member with room, then a host of it as the member itself picks. `panic_threshold` is in percent.
    pub(super) fn pick(&self, context: &PickContext<'_>, panic_threshold: f64) -> Option<Picked> {
        let line = self.line(panic_threshold);
        let (place, tier) = line.load.choose(fastrand::u64(..));
        let (member, priority) = *line.places.get(place)?;
        let member = self.members[member].get()?;
        let host = member.choose(&PickContext { at: Some((priority, tier)), ..*context })?;
        Some(Picked { host, member: Some(member) })
    }

    /// The line as the members' hosts are now: made anew by the pick that finds that they have changed.
    fn line(&self, panic_threshold: f64) -> Arc<Line> {
        let line = self.line.load_full();
        let ids = || self.members.iter().map(|member| member.get().map_or(0, |m| m.hosts().id()));
        if line.snapshots.iter().copied().eq(ids()) && !line.snapshots.is_empty() {
            return line;
        }
        let line = Arc::new(self.line_up(panic_threshold));
        self.line.store(Arc::clone(&line));
        line
    }

    /// Priorities without hosts have no place in it, nor have aggregate clusters, which have no hosts of their own.
    fn line_up(&self, panic_threshold: f64) -> Line {
        let mut line = Line::default();
        let mut available: Vec<Availability> = Vec::new();
        for (index, slot) in self.members.iter().enumerate() {
            let Some(member) = slot.get() else {
                line.snapshots.push(0);
                continue;
            };
            let hosts = member.hosts();
            line.snapshots.push(hosts.id());
            for (priority, counts) in hosts.priorities().iter().enumerate() {
                if counts.hosts > 0 {
                    line.places.push((index, priority));
                    available.push(*counts);
                }
            }
        }
        line.load = PriorityLoad::new(&available, panic_threshold);
        line
    }
}

impl Cluster {
    /// A host for an aggregate cluster, by the cluster's own policy.
    fn choose(&self, context: &PickContext<'_>) -> Option<Arc<super::Host>> {
        self.pick_by_policy(&self.hosts(), context)
    }
}
