//! The endpoints of EDS clusters, by source and service name.

use std::sync::Arc;

use xds_client::Resource;

use super::inbox::{Inbox, Notice};
use super::resources::{Dynamic, Version, Versions};
use super::sources::{Kind, SourceError, Sources};
use super::state::Known;
use super::translate;
use super::watches::{Fetch, Watches};
use crate::config::ConfigError;
use crate::config::endpoint::Assignment;
use crate::config::source::{ConfigSource, SourceKind};

/// Every service that a cluster has asked for.
pub struct Endpoints {
    services: Watches<Service>,
}

/// A service: what clusters of it share.
struct Service {
    /// The clusters that have it.
    clusters: Vec<Arc<str>>,
    fetch: Fetch,
    versions: Versions,
    /// Its endpoints are those of an earlier process, of which the server has said nothing yet.
    is_unconfirmed: bool,
}

impl Service {
    fn new(fetch: Fetch) -> Self {
        Service {
            clusters: Vec::new(),
            fetch,
            versions: Versions::default(),
            is_unconfirmed: false,
        }
    }
}

/// What a response means for a service.
pub struct Taken {
    /// The clusters of the service.
    pub clusters: Vec<Arc<str>>,
    /// Its endpoints; none if they are what they were.
    pub assignment: Result<Option<Assignment>, ConfigError>,
}

impl Endpoints {
    /// No service yet; events will go to `inbox`.
    pub fn new(inbox: Inbox) -> Self {
        Endpoints { services: Watches::new(Kind::Endpoints, inbox, Notice::Endpoints) }
    }

    /// A cluster wants a service; true if its endpoints are known. Then a changed cluster need not wait until a server
    /// repeats what it has sent already, as many never do.
    ///
    /// # Errors
    /// The source cannot be reached by this configuration.
    pub fn watch(
        &mut self,
        sources: &mut Sources,
        source: &ConfigSource,
        name: &Arc<str>,
        cluster: &Arc<str>,
    ) -> Result<bool, SourceError> {
        let service = self.services.watch(sources, source, name, Service::new)?;
        if !service.clusters.contains(cluster) {
            service.clusters.push(Arc::clone(cluster));
        }
        let is_known = service.versions.active.is_some();
        if !is_known && service.fetch.is_answered() {
            let fetch = self.services.refresh(source, name);
            if let Some(service) = self.services.get_mut(&source.kind, name) {
                service.fetch = fetch;
            }
        }
        Ok(is_known)
    }

    /// Whether the server said something about a service, or let its time pass.
    pub fn is_answered(&self, source: &SourceKind, name: &str) -> bool {
        self.services.get(source, name).is_some_and(|service| service.fetch.is_answered())
    }

    /// The endpoints of a service, if they are known.
    pub fn known(&self, source: &SourceKind, name: &str) -> Option<Assignment> {
        let version = self.services.get(source, name)?.versions.active.as_ref()?;
        // It was translated before.
        translate::assignment(name, &version.body).ok()
    }

    /// A cluster no longer wants a service.
    pub fn unwatch(&mut self, source: &SourceKind, name: &str, cluster: &str) {
        let Some(service) = self.services.get_mut(source, name) else { return };
        service.clusters.retain(|other| **other != *cluster);
        if service.clusters.is_empty() {
            self.services.unwatch(source, name);
        }
    }

    /// Takes a resource in; none if nobody wants the service.
    pub fn take(&mut self, source: &SourceKind, resource: Resource) -> Option<Taken> {
        let service = self.services.get_mut(source, &resource.name)?;
        service.fetch.end();
        service.is_unconfirmed = false;
        let clusters = service.clusters.clone();
        let versions = &mut service.versions;
        if versions.is_active(&resource.body) {
            versions.refused = None;
            return Some(Taken { clusters, assignment: Ok(None) });
        }
        let assignment = translate::assignment(&resource.name, &resource.body);
        let version = Version::now(&resource.version, resource.body);
        match &assignment {
            Ok(_) => versions.activate(version),
            Err(error) => versions.refuse(version, error.to_string()),
        }
        Some(Taken { clusters, assignment: assignment.map(Some) })
    }

    /// The server has no endpoints for a service, or does not answer: gives the clusters that need not wait. Endpoints
    /// that are known stay.
    pub fn give_up(&mut self, source: &SourceKind, name: &str) -> Vec<Arc<str>> {
        let Some(service) = self.services.get_mut(source, name) else { return Vec::new() };
        service.fetch.end();
        service.is_unconfirmed = false;
        service.clusters.clone()
    }

    /// The services without endpoints, with their sources.
    pub fn without_any(&self) -> Vec<(SourceKind, Arc<str>)> {
        let services = self.services.by_source();
        let bare = services.filter(|(_, _, service)| service.versions.active.is_none());
        bare.map(|(source, name, _)| (source.clone(), Arc::clone(name))).collect()
    }

    /// These services have endpoints of an earlier process now.
    pub fn note_unconfirmed(&mut self, source: &SourceKind, names: &[String]) {
        for name in names {
            if let Some(service) = self.services.get_mut(source, name) {
                service.is_unconfirmed = true;
            }
        }
    }

    /// Whether the servers have said something about every service that has endpoints of an earlier process.
    pub fn are_confirmed(&self) -> bool {
        !self.services.iter().any(|(_, service)| service.is_unconfirmed)
    }

    /// What management servers have brought and is in force.
    pub fn last_good(&self) -> impl Iterator<Item = Known> {
        self.services.by_source().filter_map(|(source, name, service)| {
            Known::named(Kind::Endpoints, source, name, &service.versions)
        })
    }

    /// A copy for a dump.
    pub fn dump(&self) -> Vec<Dynamic> {
        let services = self.services.iter().map(|(name, service)| Dynamic {
            name: Arc::clone(name),
            versions: service.versions.clone(),
        });
        services.collect()
    }
}
