//! How clusters get their hosts: over EDS, or from DNS.

use std::sync::Arc;

use tokio::sync::oneshot;
use xds_client::{Event, ResourceError, Update};

use super::{Clusters, Warming};
use crate::config::cluster::{Cluster as Config, Discovery};
use crate::config::endpoint::Assignment;
use crate::config::source::SourceKind;
use crate::config::{At, ConfigError};
use crate::discovery::endpoints::Taken;
use crate::discovery::inbox::Notice;
use crate::discovery::sources::Sources;
use crate::discovery::stats::SubscriptionStats;
use crate::upstream::cluster::{Cluster, health_check};

impl Clusters {
    /// Subscribes to the endpoints of an EDS cluster; true if they are known, or for other clusters.
    pub(super) fn watch_endpoints(
        &mut self,
        sources: &mut Sources,
        config: &Config,
        at: &At<'_>,
    ) -> Result<bool, ConfigError> {
        let Discovery::Eds { source, service_name } = &config.discovery else { return Ok(true) };
        let known = self.endpoints.watch(sources, source, service_name, &config.name);
        known.map_err(|error| at.field("eds_cluster_config").field("eds_config").error(error))
    }

    /// Gives a new cluster the endpoints that are known. It has them already if the one before is of the same service.
    pub(super) fn assign_known(&self, cluster: &Cluster, before: Option<&Cluster>) {
        let Discovery::Eds { source, service_name } = &cluster.config().discovery else { return };
        if before.is_some_and(|before| uses(before, &source.kind, service_name)) {
            return;
        }
        if let Some(assignment) = self.endpoints.known(&source.kind, service_name) {
            cluster.set_assignment(&assignment);
        }
    }

    /// Tells the discovery loop when the names of a DNS cluster were asked for once.
    pub(super) fn await_names(&self, cluster: &Arc<Cluster>, first: oneshot::Receiver<()>) {
        let (inbox, cluster) = (self.inbox.clone(), Arc::downgrade(cluster));
        tokio::task::spawn_local(async move {
            // An error means that the cluster is gone.
            if first.await.is_ok()
                && let Some(cluster) = cluster.upgrade()
            {
                // Nobody listens when the process ends.
                let _ = inbox.send(Notice::Resolved(cluster));
            }
        });
    }

    /// A DNS cluster has its first answers. As below, clusters that are ready are to be installed then.
    pub fn on_resolved(&mut self, cluster: &Arc<Cluster>) {
        let warming = self.warming.get(cluster.name());
        if warming.is_some_and(|warming| Arc::ptr_eq(&warming.cluster, cluster)) {
            self.has_hosts(cluster.name());
        }
    }

    /// The hosts of a warming cluster are there: they are checked once, if they are to be, before it is ready.
    pub(super) fn has_hosts(&mut self, name: &Arc<str>) {
        let Some(warming) = self.warming.get_mut(name) else { return };
        let had_them = std::mem::replace(&mut warming.has_hosts, true);
        self.ready.extend(warming.is_ready().then(|| Arc::clone(name)));
        if had_them || warming.is_checked {
            return;
        }
        let (inbox, cluster) = (self.inbox.clone(), Arc::downgrade(&warming.cluster));
        tokio::task::spawn_local(async move {
            health_check::first_round(cluster.clone()).await;
            if let Some(cluster) = cluster.upgrade() {
                // Nobody listens when the process ends.
                let _ = inbox.send(Notice::Checked(cluster));
            }
        });
    }

    /// The hosts of a cluster have been checked once. As below, clusters that are ready are to be installed then.
    pub fn on_checked(&mut self, cluster: &Arc<Cluster>) {
        let warming = self.warming.get_mut(cluster.name());
        if let Some(warming) = warming.filter(|warming| Arc::ptr_eq(&warming.cluster, cluster)) {
            warming.is_checked = true;
            self.ready.extend(warming.is_ready().then(|| Arc::clone(cluster.name())));
        }
    }

    /// Takes an event of EDS.
    pub fn on_endpoints(&mut self, source: &SourceKind, event: Event) {
        match event {
            Event::Update(update) => self.on_assignments(source, update),
            // An answer may have overtaken the timer.
            Event::ResourceTimeout(name) if self.endpoints.is_answered(source, &name) => {}
            Event::ResourceTimeout(name) => {
                self.give_up(source, &name, SubscriptionStats::timed_out);
            }
            // Endpoints are asked for by name, and a service that vanishes keeps its endpoints.
            Event::InitialFetchTimeout | Event::Expired(_) => {}
        }
    }

    fn on_assignments(&mut self, source: &SourceKind, update: Update) {
        let Update { version, resources, removed, answer } = update;
        let mut errors = Vec::new();
        for resource in resources {
            let name = resource.name.clone();
            let Some(Taken { clusters, assignment }) = self.endpoints.take(source, resource) else {
                continue;
            };
            self.count(&clusters, |stats| stats.answered(&version, assignment.is_ok()));
            match assignment {
                Ok(None) => {}
                Ok(Some(assignment)) => {
                    for cluster in &clusters {
                        self.assign(cluster, source, &name, &assignment);
                    }
                    self.finish(clusters, source, &name);
                }
                Err(error) => errors.push(ResourceError::new(&name, error.to_string())),
            }
        }
        for name in removed {
            self.give_up(source, &name, SubscriptionStats::empty);
        }
        for error in &errors {
            // Counted above.
            self.give_up(source, &error.name, |_| {});
        }
        self.install();
        answer.reject(errors);
    }

    /// Sets the endpoints of a service for the active and the warming cluster of a name, where they are of that service.
    fn assign(&self, cluster: &str, source: &SourceKind, service: &str, assignment: &Assignment) {
        let active = self.entries.get(cluster).and_then(|entry| entry.active.as_ref());
        let warming = self.warming.get(cluster).map(|warming| &warming.cluster);
        for cluster in active.into_iter().chain(warming) {
            if uses(cluster, source, service) {
                cluster.set_assignment(assignment);
            }
        }
    }

    fn warms_with(&self, cluster: &str, source: &SourceKind, service: &str) -> Option<&Warming> {
        self.warming.get(cluster).filter(|warming| uses(&warming.cluster, source, service))
    }

    fn waits_for(&self, cluster: &str, source: &SourceKind, service: &str) -> bool {
        self.warms_with(cluster, source, service).is_some_and(|warming| !warming.has_hosts)
    }

    /// The server has nothing good for a service, or says nothing: clusters that wait for it serve without hosts.
    fn give_up(&mut self, source: &SourceKind, service: &str, count: fn(&SubscriptionStats)) {
        let clusters = self.endpoints.give_up(source, service);
        self.count(&clusters, count);
        for cluster in clusters.iter().filter(|cluster| self.waits_for(cluster, source, service)) {
            // A predecessor's hosts may be those of another service.
            self.assign(cluster, source, service, &Assignment::default());
        }
        self.finish(clusters, source, service);
    }

    /// Those of these clusters that wait for the service have it now, and are ready unless they wait for secrets too.
    fn finish(&mut self, mut clusters: Vec<Arc<str>>, source: &SourceKind, service: &str) {
        clusters.retain(|cluster| self.waits_for(cluster, source, service));
        for cluster in clusters {
            self.has_hosts(&cluster);
        }
    }

    fn count(&self, clusters: &[Arc<str>], count: impl Fn(&SubscriptionStats)) {
        let entries = clusters.iter().filter_map(|cluster| self.entries.get(cluster));
        entries.filter_map(|entry| entry.eds.as_deref()).for_each(count);
    }

    /// A version of a cluster is gone: its subscription ends unless another version needs it.
    pub(super) fn release(&mut self, gone: &Cluster) {
        let Discovery::Eds { source, service_name } = &gone.config().discovery else { return };
        let (name, source) = (gone.name(), &source.kind);
        let active = self.entries.get(name).and_then(|entry| entry.active.as_ref());
        let is_used = active.is_some_and(|active| uses(active, source, service_name))
            || self.warms_with(name, source, service_name).is_some();
        if !is_used {
            self.endpoints.unwatch(source, service_name, name);
        }
    }
}

/// Whether the cluster's hosts are those of this service.
fn uses(cluster: &Cluster, source: &SourceKind, service: &str) -> bool {
    match &cluster.config().discovery {
        Discovery::Eds { source: own, service_name } => {
            own.kind == *source && **service_name == *service
        }
        _ => false,
    }
}
