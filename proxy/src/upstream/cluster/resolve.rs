//! Hosts that come and go by themselves: `STRICT_DNS` and `LOGICAL_DNS` follow their names, `ORIGINAL_DST` forgets
//! hosts that nobody uses.
//!
//! All of it runs on the control thread and ends when the cluster retires.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::Cluster;
use crate::config::cluster::Discovery;

mod names;
mod resolver;

pub use resolver::{Answer, ResolveError, Resolver, SystemResolver};

use names::{Kind, Names};

/// Starts what the cluster's discovery needs, on the current runtime. The receiver hears when a DNS cluster has its
/// first answers, good or bad: from then on it may serve. None for kinds that resolve nothing.
pub fn start(
    cluster: &Arc<Cluster>,
    resolver: &Arc<dyn Resolver>,
) -> Option<oneshot::Receiver<()>> {
    let (kind, assignment, dns) = match &cluster.config().discovery {
        Discovery::StrictDns { assignment, dns } => (Kind::Strict, assignment, dns),
        Discovery::LogicalDns { assignment, dns } => (Kind::Logical, assignment, dns),
        Discovery::OriginalDst { cleanup_interval, .. } => {
            tokio::spawn(forget_unused(Arc::downgrade(cluster), *cleanup_interval));
            return None;
        }
        Discovery::Static(_) | Discovery::Eds { .. } | Discovery::Aggregate { .. } => return None,
    };
    let names = Names::new(kind, assignment.clone(), dns.clone());
    let (first, first_answers) = oneshot::channel();
    tokio::spawn(follow_names(Arc::downgrade(cluster), names, Arc::clone(resolver), first));
    Some(first_answers)
}

/// The cluster, unless it is gone or retired.
pub(super) fn alive(cluster: &Weak<Cluster>) -> Option<Arc<Cluster>> {
    cluster.upgrade().filter(|cluster| !cluster.is_retired())
}

async fn follow_names(
    cluster: Weak<Cluster>,
    mut names: Names,
    resolver: Arc<dyn Resolver>,
    first: oneshot::Sender<()>,
) {
    let mut first = Some(first);
    loop {
        let has_changed = names.resolve_due(&*resolver).await;
        let Some(cluster) = alive(&cluster) else { return };
        if has_changed || first.is_some() {
            cluster.set_assignment(&names.assignment());
        }
        drop(cluster);
        if let Some(first) = first.take() {
            // Nobody may want to know.
            let _ = first.send(());
        }
        sleep(names.until_due()).await;
    }
}

async fn forget_unused(cluster: Weak<Cluster>, interval: Duration) {
    let mut requests_before = HashMap::new();
    loop {
        sleep(interval).await;
        let Some(cluster) = alive(&cluster) else { return };
        if let Some(hosts) = cluster.original_dst() {
            hosts.clean_up(&mut requests_before);
        }
    }
}

#[cfg(test)]
mod tests;
