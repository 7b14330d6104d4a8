//! The folders that files of secrets are in.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use xds_client::directory::{self, parent};

use crate::config::{At, ConfigError, Files};
use crate::discovery::inbox::{Inbox, Notice};

/// Watched folders. Moves into them go to the discovery loop, those that come together as one notice.
pub(super) struct Directories {
    /// None until the first folder is wanted, for it takes a thread.
    watcher: Option<Watcher>,
    folders: Arc<Mutex<Folders>>,
    inbox: Inbox,
}

struct Watcher {
    directories: directory::Directories,
    _forward: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Folders {
    /// How many secrets want a folder.
    wanted: HashMap<PathBuf, usize>,
    /// What moved into, since it was last told.
    moved: HashSet<PathBuf>,
}

impl Directories {
    /// Watches nothing yet.
    pub(super) fn new(inbox: &Inbox) -> Self {
        Directories { watcher: None, folders: Arc::default(), inbox: inbox.clone() }
    }

    /// A secret wants these folders now, and no longer those before.
    pub(super) fn replace(&mut self, before: &BTreeSet<PathBuf>, now: &BTreeSet<PathBuf>) {
        for folder in now.difference(before) {
            if let Err(error) = self.want(folder) {
                tracing::warn!(%error, "files of secrets in it are not read again when they change");
            }
        }
        for folder in before.difference(now) {
            self.release(folder);
        }
    }

    fn want(&mut self, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let watcher = match &mut self.watcher {
            Some(watcher) => watcher,
            none => none.insert(Watcher::start(&self.folders, &self.inbox)?),
        };
        let mut folders = self.folders.lock();
        let count = folders.wanted.entry(folder.to_owned()).or_insert(0);
        *count += 1;
        if *count == 1 {
            drop(folders);
            watcher.directories.watch(folder)?;
        }
        Ok(())
    }

    fn release(&mut self, folder: &Path) {
        let mut folders = self.folders.lock();
        let Some(count) = folders.wanted.get_mut(folder) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        folders.wanted.remove(folder);
        drop(folders);
        if let Some(watcher) = &mut self.watcher {
            watcher.directories.unwatch(folder);
        }
    }
}

impl Watcher {
    fn start(
        folders: &Arc<Mutex<Folders>>,
        inbox: &Inbox,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let moved = Arc::new(Notify::new());
        let (notify, noted) = (Arc::clone(&moved), Arc::clone(folders));
        let directories = directory::Directories::new(move |path| {
            let mut folders = noted.lock();
            match path {
                Some(path) => drop(folders.moved.insert(parent(path))),
                None => folders.moved = folders.wanted.keys().cloned().collect(),
            }
            notify.notify_one();
        })?;
        let (inbox, folders) = (inbox.clone(), Arc::clone(folders));
        let forward = tokio::task::spawn_local(async move {
            loop {
                moved.notified().await;
                let moved = std::mem::take(&mut folders.lock().moved);
                if inbox.send(Notice::Moved(moved)).is_err() {
                    break;
                }
            }
        });
        Ok(Watcher { directories, _forward: AbortOnDropHandle::new(forward) })
    }
}

/// The folders to watch for these files: those that the configuration names, or else those that the files are in.
pub(super) fn folders(files: &Files) -> BTreeSet<PathBuf> {
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    match files.watched.is_empty() {
        true => files.read.iter().map(|(path, _)| absolute(parent(path))).collect(),
        false => files.watched.iter().cloned().map(absolute).collect(),
    }
}

/// How often files that change while they are read are read again.
const MAX_READS: usize = 5;

/// Reads a secret that stands at `at`. Its files may be about to be replaced: they are read until two reads agree.
///
/// # Errors
/// They cannot be read, or never agree.
pub(super) fn read_stable<T>(
    at: &At<'_>,
    read: impl Fn() -> Result<(T, Files), ConfigError>,
) -> Result<(T, Files), ConfigError> {
    let (mut secret, mut files) = read()?;
    for _ in 0..MAX_READS {
        if files.read.is_empty() {
            return Ok((secret, files));
        }
        let (again, same) = read()?;
        if same == files {
            return Ok((again, same));
        }
        (secret, files) = (again, same);
    }
    Err(at.error("its files change faster than they can be read"))
}
