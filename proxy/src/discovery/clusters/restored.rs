//! Clusters and endpoints of an earlier process, until the control plane has its own.

use std::time::Duration;

use xds_client::{Event, Resource, Update};

use super::Clusters;
use crate::discovery::sources::Sources;
use crate::discovery::state::restore::Stored;

impl Clusters {
    /// Whether the server of CDS has answered, or there is none.
    pub fn is_confirmed(&self) -> bool {
        self.cds.is_confirmed()
    }

    /// For how long the server of CDS has been asked without an answer.
    pub fn unanswered_for(&self) -> Option<Duration> {
        self.cds.unanswered_for()
    }

    /// How long clusters that the server of CDS has brought have been waiting for their endpoints.
    pub fn warming_for(&self) -> Option<Duration> {
        self.cds.answered_for().filter(|_| !self.warming.is_empty())
    }

    /// Puts clusters of an earlier process in force.
    pub fn restore(&mut self, sources: &mut Sources, resources: Vec<Resource>) {
        self.cds.note_unconfirmed(&resources);
        self.on_update(sources, Update::local("", resources));
    }

    /// Gives services that have no endpoints those of an earlier process; true if there were some.
    pub fn restore_endpoints(&mut self, stored: &mut Stored) -> bool {
        let found = stored.take_endpoints(self.endpoints.without_any());
        for (source, resources) in &found {
            let names: Vec<String> =
                resources.iter().map(|resource| resource.name.clone()).collect();
            self.on_endpoints(source, Event::Update(Update::local("", resources.clone())));
            self.endpoints.note_unconfirmed(source, &names);
        }
        !found.is_empty()
    }

    /// Whether the servers have said something about every service that has endpoints of an earlier process.
    pub fn endpoints_are_confirmed(&self) -> bool {
        self.endpoints.are_confirmed()
    }

    /// Whether the server of CDS has said everything that it has.
    pub fn is_complete(&self) -> bool {
        self.cds.is_complete()
    }

    /// Removes the clusters of an earlier process that the server does not have.
    pub fn remove_stale(&mut self) {
        let stale = self.cds.take_stale();
        if !stale.is_empty() {
            tracing::info!(clusters = stale.len(), "removed what the control plane does not have");
            self.remove(stale);
        }
    }
}
