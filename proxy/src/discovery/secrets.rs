//! Secrets: those of the bootstrap, and those that come over SDS, by source and name.

mod files;
mod local;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use proto::envoy::extensions::transport_sockets::tls::v3::Secret as PbSecret;
use xds_client::{Event, Resource, ResourceError, Update};

use super::inbox::{Inbox, Notice};
use super::resources::{Dynamic, Version, Versions};
use super::sources::{Kind, SourceError, Sources};
use super::stats::{RotationStats, SubscriptionStats};
use super::translate;
use super::watches::{Fetch, Watches};
use crate::config::source::{ConfigSource, SourceKind};
use crate::config::tls::{NamedSecret, Secret, SecretFiles, SecretKind, SecretSource};
use crate::config::{At, ConfigError, Files};
use crate::telemetry::stats::{SharedStats, Store};
use crate::tls::{Expires, FactoryStats, SecretCell, Slot, TlsContext};
use files::{Directories, folders, read_stable};
use local::Local;

/// What Envoy prints as the version of a secret that has not come.
const UNINITIALIZED: &str = "uninitialized";

/// Every secret that a TLS context has asked for. Clusters and listeners share it.
pub struct Secrets {
    /// The bootstrap's secrets, or why one cannot be used.
    fixed: HashMap<Arc<str>, Result<Arc<SecretCell>, ConfigError>>,
    watched: Watches<Entry>,
    /// Those that stand where they are used.
    local: Vec<Local>,
    directories: Directories,
    store: Arc<Store>,
    stats: SharedStats,
    /// Every context that was made, while it is held.
    contexts: Vec<Weak<dyn Expires>>,
}

/// The secrets, as clusters and listeners hold them.
pub type SharedSecrets = Rc<RefCell<Secrets>>;

/// A secret of a source.
struct Entry {
    cell: Arc<SecretCell>,
    fetch: Fetch,
    versions: Versions,
    /// The files that the active version was read from.
    files: Files,
    stats: Arc<SubscriptionStats>,
    rotation: Arc<RotationStats>,
}

impl Secrets {
    /// The bootstrap's secrets, and no other yet; events will go to `inbox`.
    pub fn new(fixed: &[Arc<Secret>], store: &Arc<Store>, inbox: &Inbox) -> SharedSecrets {
        let mut directories = Directories::new(inbox);
        let mut local = Vec::new();
        let fixed = fixed.iter().map(|secret| {
            let cell = match &secret.files {
                None => SecretCell::with(&secret.name, &secret.kind),
                Some(files) => Local::new(&secret.name, files, &mut directories).map(|secret| {
                    let cell = Arc::clone(secret.cell());
                    local.push(secret);
                    cell
                }),
            };
            (Arc::clone(&secret.name), cell)
        });
        let fixed = fixed.collect();
        Rc::new(RefCell::new(Secrets {
            fixed,
            watched: Watches::new(Kind::Secrets, inbox.clone(), Notice::Secrets),
            local,
            directories,
            store: Arc::clone(store),
            stats: SharedStats::default(),
            contexts: Vec::new(),
        }))
    }

    /// A TLS context with its secrets. Those of a source are subscribed to for as long as somebody holds the context.
    /// `factory` is the prefix of its statistics.
    ///
    /// # Errors
    /// A secret is not there in the bootstrap, its source cannot be reached by this configuration, or it cannot be used.
    pub fn tls<C: TlsContext>(
        &mut self,
        sources: &mut Sources,
        context: &Arc<C>,
        factory: String,
        at: &At<'_>,
    ) -> Result<Arc<Slot<C>>, ConfigError> {
        let stats = self.stats.get(&self.store, factory, FactoryStats::new);
        let mut find = |NamedSecret { name, source }: &NamedSecret| match source {
            SecretSource::Bootstrap => self.of_bootstrap(name),
            SecretSource::Sds(source) => {
                self.watch(sources, name, source).map_err(|error| format!("sds_config: {error}"))
            }
            SecretSource::Files(files) => self.read(name, files).map_err(|error| error.to_string()),
        };
        let slot = Slot::new(Arc::clone(context), at, stats, &mut find)?;
        // Those that are gone are swept when the list would have to grow.
        if self.contexts.len() == self.contexts.capacity() {
            self.contexts.retain(|context| context.strong_count() > 0);
        }
        let context: Arc<dyn Expires> = slot.clone();
        self.contexts.push(Arc::downgrade(&context));
        Ok(slot)
    }

    /// When the first certificate or trust anchor of any context expires.
    pub fn first_expiry(&self) -> Option<SystemTime> {
        let contexts = self.contexts.iter().filter_map(Weak::upgrade);
        contexts.filter_map(|context| context.expires()).min()
    }

    fn of_bootstrap(&self, name: &Arc<str>) -> Result<Arc<SecretCell>, String> {
        match self.fixed.get(name) {
            Some(Ok(cell)) => Ok(Arc::clone(cell)),
            Some(Err(error)) => Err(error.to_string()),
            None => Err(format!(
                "Unknown static secret: {name}; define it in static_resources.secrets, or set \
                 sds_config"
            )),
        }
    }

    fn read(
        &mut self,
        name: &Arc<str>,
        files: &SecretFiles,
    ) -> Result<Arc<SecretCell>, ConfigError> {
        let secret = Local::new(name, files, &mut self.directories)?;
        let cell = Arc::clone(secret.cell());
        self.local.push(secret);
        Ok(cell)
    }

    fn watch(
        &mut self,
        sources: &mut Sources,
        name: &Arc<str>,
        source: &ConfigSource,
    ) -> Result<Arc<SecretCell>, SourceError> {
        let Secrets { watched, store, stats: shared, .. } = self;
        let entry = watched.watch(sources, source, name, |fetch| {
            let prefix = format!("sds.{}.", name.replace(':', "_"));
            let stats = shared.get(store, prefix.clone(), SubscriptionStats::new);
            stats.update_attempt.inc();
            let mut versions = Versions::default();
            let nothing = PbSecret { name: name.to_string(), ..PbSecret::default() };
            versions.warm(Version::now(UNINITIALIZED, proto::any::pack(&nothing)));
            Entry {
                cell: SecretCell::new(name),
                fetch,
                versions,
                files: Files::default(),
                stats,
                rotation: shared.get(store, prefix, RotationStats::new),
            }
        })?;
        Ok(Arc::clone(&entry.cell))
    }

    /// Takes an event of SDS.
    pub fn on_event(&mut self, source: &SourceKind, event: Event) {
        match event {
            Event::Update(update) => self.on_update(source, update),
            Event::ResourceTimeout(name) => {
                let entry = self.watched.get_mut(source, &name);
                // An answer may have overtaken the timer.
                if let Some(entry) = entry.filter(|entry| !entry.fetch.is_answered()) {
                    entry.stats.timed_out();
                    entry.settle();
                }
            }
            // Secrets are asked for by name, and one that vanishes stays.
            Event::InitialFetchTimeout | Event::Expired(_) => {}
        }
        self.forget_unused();
    }

    /// A secret that the server removes stays in use, as in Envoy: whoever needs it would have nothing to serve with.
    fn on_update(&mut self, source: &SourceKind, update: Update) {
        let Update { version, resources, removed, answer } = update;
        let mut errors = Vec::new();
        for resource in resources {
            let name = resource.name.clone();
            let Some(entry) = self.watched.get_mut(source, &name) else { continue };
            let before = folders(&entry.files);
            if let Err(error) = entry.take(resource) {
                tracing::warn!(secret = name, %error, "a secret was refused; the one before stays");
                errors.push(ResourceError::new(&name, error.to_string()));
            }
            self.directories.replace(&before, &folders(&entry.files));
        }
        for name in removed {
            if let Some(entry) = self.watched.get_mut(source, &name) {
                entry.stats.accepted(&version);
                entry.settle();
            }
        }
        // What stands in the answer already was refused before it came here.
        for error in answer.errors() {
            if let Some(entry) = self.watched.get_mut(source, &error.name) {
                entry.stats.rejected();
                entry.settle();
            }
        }
        answer.reject(errors);
    }

    /// Something was moved into these folders: secrets read from files in them are read again.
    pub fn on_moved(&mut self, moved: &HashSet<PathBuf>) {
        for entry in self.watched.iter_mut() {
            if folders(&entry.files).iter().any(|folder| moved.contains(folder)) {
                entry.rotate();
            }
        }
        self.local.iter_mut().for_each(|secret| secret.on_moved(moved, &mut self.directories));
    }

    /// Ends the subscriptions to secrets that nobody holds any more.
    pub fn forget_unused(&mut self) {
        let directories = &mut self.directories;
        self.watched.retain(|entry| {
            let is_used = Arc::strong_count(&entry.cell) > 1;
            if !is_used {
                directories.replace(&folders(&entry.files), &BTreeSet::new());
            }
            is_used
        });
        self.local.retain(|secret| secret.is_used(directories));
    }

    /// A copy for a dump.
    pub fn dump(&self) -> Vec<Dynamic> {
        let secrets = self.watched.iter().map(|(name, entry)| Dynamic {
            name: Arc::clone(name),
            versions: entry.versions.clone(),
        });
        let mut secrets: Vec<Dynamic> = secrets.collect();
        secrets.sort_by(|a, b| a.name.cmp(&b.name));
        secrets
    }
}

impl Entry {
    /// Nobody is to wait any longer.
    fn settle(&mut self) {
        self.fetch.end();
        self.cell.settle();
    }

    /// Takes a resource in, and everybody who uses the secret changes to it.
    fn take(&mut self, resource: Resource) -> Result<(), ConfigError> {
        self.settle();
        if self.versions.is_active(&resource.body) && self.files.read.is_empty() {
            self.versions.refused = None;
            self.stats.accepted(&resource.version);
            return Ok(());
        }
        let version = Version::now(&resource.version, resource.body);
        let taken = read(&self.cell, &version).and_then(|(secret, files)| {
            self.cell.set(&secret)?;
            self.files = files;
            Ok(())
        });
        self.stats.answered(&resource.version, taken.is_ok());
        match &taken {
            Ok(()) => self.versions.activate(version),
            Err(error) => self.versions.refuse(version, error.to_string()),
        }
        taken
    }

    /// Reads the files again, and changes to what is in them now.
    fn rotate(&mut self) {
        let Some(version) = self.versions.active.clone() else { return };
        let rotated = read(&self.cell, &version).and_then(|(secret, files)| {
            if files == self.files {
                return Ok(());
            }
            self.cell.set(&secret)?;
            self.files = files;
            self.versions.activate(Version::now(&version.version, (*version.body).clone()));
            Ok(())
        });
        if let Err(error) = rotated {
            self.rotation.key_rotation_failed.inc();
            let name = &**self.cell.name();
            tracing::warn!(secret = name, %error, "files were replaced by bad ones; those before stay in use");
        }
    }
}

/// Translates a secret and reads its files.
fn read(cell: &SecretCell, version: &Version) -> Result<(SecretKind, Files), ConfigError> {
    let name = cell.name();
    let translate = || translate::secret(name, &version.body);
    read_stable(&At::resource("secret", name), translate)
        .map(|(secret, files)| (secret.kind, files))
}
