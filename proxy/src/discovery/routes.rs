//! Route tables that come over RDS, by source and name.

use std::sync::Arc;

use xds_client::Resource;

use super::inbox::{Inbox, Notice};
use super::resources::{Dynamic, Version, Versions};
use super::sources::{Kind, SourceError, Sources};
use super::state::Known;
use super::stats::{ReloadStats, SubscriptionStats};
use super::translate;
use super::watches::{Fetch, Watches};
use crate::config::source::{ConfigSource, SourceKind};
use crate::config::{At, ConfigError};
use crate::downstream::build::Builder;
use crate::http::manager::RouteSlot;
use crate::telemetry::stats::Store;

/// Every route table that a listener has asked for.
pub struct Routes {
    tables: Watches<Table>,
    store: Arc<Store>,
}

struct Table {
    slot: RouteSlot,
    fetch: Fetch,
    versions: Versions,
    /// It is that of an earlier process, of which the server has said nothing yet.
    is_unconfirmed: bool,
    stats: Arc<SubscriptionStats>,
    reloads: Arc<ReloadStats>,
}

impl Routes {
    /// No table yet; events will go to `inbox`.
    pub fn new(store: Arc<Store>, inbox: Inbox) -> Self {
        Routes { tables: Watches::new(Kind::Routes, inbox, Notice::Routes), store }
    }

    /// A connection manager with this `stat_prefix` wants a table; true if it need not wait for it.
    ///
    /// # Errors
    /// The source cannot be reached by this configuration.
    pub fn watch(
        &mut self,
        sources: &mut Sources,
        stat_prefix: &str,
        source: &ConfigSource,
        name: &Arc<str>,
    ) -> Result<bool, SourceError> {
        let store = &self.store;
        let table = self.tables.watch(sources, source, name, |fetch| {
            let safe = |text: &str| text.replace(':', "_");
            let prefix = format!("http.{}.rds.{}.", safe(stat_prefix), safe(name));
            Table {
                slot: RouteSlot::default(),
                fetch,
                versions: Versions::default(),
                is_unconfirmed: false,
                reloads: store.register(ReloadStats::new(prefix.clone())),
                stats: SubscriptionStats::start(store, prefix),
            }
        });
        Ok(table?.fetch.is_answered())
    }

    /// Where a table that is watched is published.
    pub fn slot(&self, source: &SourceKind, name: &str) -> RouteSlot {
        let table = self.tables.get(source, name);
        table.map(|table| Arc::clone(&table.slot)).unwrap_or_default()
    }

    /// Takes a resource in and publishes its table. False if nobody wants it.
    ///
    /// # Errors
    /// It is refused; the table before it stays.
    pub fn take(
        &mut self,
        source: &SourceKind,
        resource: Resource,
        builder: &Builder,
    ) -> Result<bool, ConfigError> {
        let Some(table) = self.tables.get_mut(source, &resource.name) else { return Ok(false) };
        table.fetch.end();
        table.is_unconfirmed = false;
        if table.versions.is_active(&resource.body) {
            table.versions.refused = None;
            table.stats.accepted(&resource.version);
            return Ok(true);
        }
        let at = At::resource("route configuration", &resource.name);
        let config = translate::routes(&resource.name, &resource.body).and_then(|config| {
            if config.validate_clusters == Some(true) {
                builder.validate_clusters(&config, &at)?;
            }
            Ok(config)
        });
        let version = Version::now(&resource.version, resource.body);
        table.stats.answered(&resource.version, config.is_ok());
        match config {
            Ok(config) => {
                table.slot.store(Some(Arc::new(builder.route_table(&config))));
                table.reloads.reloaded();
                table.versions.activate(version);
                Ok(true)
            }
            Err(error) => {
                table.versions.refuse(version, error.to_string());
                Err(error)
            }
        }
    }

    /// The server does not answer: listeners serve without the table.
    pub fn give_up(&mut self, source: &SourceKind, name: &str) {
        // An answer may have overtaken the timer.
        let table = self.tables.get_mut(source, name).filter(|table| !table.fetch.is_answered());
        if let Some(table) = table {
            table.fetch.end();
            table.stats.timed_out();
        }
    }

    /// Ends the subscriptions to tables that no connection manager holds any more.
    pub fn forget_unused(&mut self) {
        self.tables.retain(|table| Arc::strong_count(&table.slot) > 1);
    }

    /// The server has no table of this name, and one that is in use stays.
    pub fn confirm(&mut self, source: &SourceKind, name: &str) {
        if let Some(table) = self.tables.get_mut(source, name) {
            table.is_unconfirmed = false;
        }
    }

    /// The tables that are not there, with their sources.
    pub fn without_any(&self) -> Vec<(SourceKind, Arc<str>)> {
        let tables = self.tables.by_source();
        let bare = tables.filter(|(_, _, table)| table.versions.active.is_none());
        bare.map(|(source, name, _)| (source.clone(), Arc::clone(name))).collect()
    }

    /// These tables are those of an earlier process now.
    pub fn note_unconfirmed(&mut self, source: &SourceKind, names: &[String]) {
        for name in names {
            if let Some(table) = self.tables.get_mut(source, name) {
                table.is_unconfirmed = true;
            }
        }
    }

    /// Whether the servers have said something about every table of an earlier process.
    pub fn are_confirmed(&self) -> bool {
        !self.tables.iter().any(|(_, table)| table.is_unconfirmed)
    }

    /// What management servers have brought and is in force.
    pub fn last_good(&self) -> impl Iterator<Item = Known> {
        self.tables.by_source().filter_map(|(source, name, table)| {
            Known::named(Kind::Routes, source, name, &table.versions)
        })
    }

    /// A copy for a dump.
    pub fn dump(&self) -> Vec<Dynamic> {
        let tables = self.tables.iter().map(|(name, table)| Dynamic {
            name: Arc::clone(name),
            versions: table.versions.clone(),
        });
        tables.collect()
    }
}
