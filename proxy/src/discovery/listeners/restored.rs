//! Listeners and route tables of an earlier process, until the control plane has its own.

use std::time::Duration;

use xds_client::{Event, Resource, Update};

use super::Listeners;
use crate::discovery::sources::Sources;
use crate::discovery::state::restore::Stored;

impl Listeners {
    /// Whether the server of LDS has answered, or there is none.
    pub fn is_confirmed(&self) -> bool {
        self.lds.is_confirmed()
    }

    /// For how long the server of LDS has been asked without an answer.
    pub fn unanswered_for(&self) -> Option<Duration> {
        self.lds.unanswered_for()
    }

    /// Whether the server of LDS has said everything that it has.
    pub fn is_complete(&self) -> bool {
        self.lds.is_complete()
    }

    /// Removes the listeners of an earlier process that the server does not have.
    pub fn remove_stale(&mut self) {
        let stale = self.lds.take_stale();
        if !stale.is_empty() {
            tracing::info!(listeners = stale.len(), "removed what the control plane does not have");
            stale.iter().for_each(|name| self.remove(name));
            self.forget_unused();
        }
    }

    /// While resources of an earlier process serve, listeners without a certificate stay closed: clients then find another
    /// replica sooner than by connections that end at once.
    pub fn keep_closed(&mut self, closed: bool) {
        self.keeps_closed = closed;
        self.finish_ready();
    }

    /// Puts listeners of an earlier process in force.
    pub fn restore(&mut self, sources: &mut Sources, resources: Vec<Resource>) {
        self.lds.note_unconfirmed(&resources);
        self.on_update(sources, Update::local("", resources));
    }

    /// Gives connection managers that have no route table that of an earlier process; true if there were some.
    pub fn restore_routes(&mut self, stored: &mut Stored) -> bool {
        let found = stored.take_routes(self.routes.without_any());
        for (source, resources) in &found {
            let names: Vec<String> =
                resources.iter().map(|resource| resource.name.clone()).collect();
            self.on_routes(source, Event::Update(Update::local("", resources.clone())));
            self.routes.note_unconfirmed(source, &names);
        }
        !found.is_empty()
    }

    /// Whether the servers have said something about every route table of an earlier process.
    pub fn routes_are_confirmed(&self) -> bool {
        self.routes.are_confirmed()
    }
}
