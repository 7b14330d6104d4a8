//! Folders that are watched for what is moved into them.

use std::path::{Path, PathBuf};

use notify::event::{EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

/// The operating system does not watch a folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch the folder {path:?}: {source}")]
pub struct WatchError {
    /// The folder.
    pub path: PathBuf,
    /// What it says.
    pub source: notify::Error,
}

/// Watches folders, not the files in them: who replaces files moves others into their place, and a link that leads to a
/// folder of files (as Kubernetes mounts secrets) is replaced in the same way.
#[derive(Debug)]
pub struct Directories(RecommendedWatcher);

impl Directories {
    /// Watches nothing yet. `on_move` is called on a thread of the watcher: with the path of what was moved in, or with
    /// none if events were lost and anything may have changed.
    ///
    /// # Errors
    /// The operating system has no more watchers.
    pub fn new(on_move: impl Fn(Option<&Path>) + Send + 'static) -> Result<Self, notify::Error> {
        let on_event = move |event: notify::Result<notify::Event>| match event {
            Ok(event) if event.need_rescan() => on_move(None),
            Ok(event) => {
                if matches!(event.kind, EventKind::Modify(ModifyKind::Name(RenameMode::To))) {
                    event.paths.iter().for_each(|path| on_move(Some(path)));
                }
            }
            Err(error) => tracing::warn!(%error, "the watch on a folder fails"),
        };
        notify::recommended_watcher(on_event).map(Directories)
    }

    /// Watches one more folder. The paths in it are told as absolute ones.
    ///
    /// # Errors
    /// It does not exist, or cannot be watched.
    pub fn watch(&mut self, folder: &Path) -> Result<(), WatchError> {
        let watching = self.0.watch(folder, RecursiveMode::NonRecursive);
        watching.map_err(|source| WatchError { path: folder.to_owned(), source })
    }

    /// Watches a folder no longer. One that is gone is no longer watched anyhow.
    pub fn unwatch(&mut self, folder: &Path) {
        let _ = self.0.unwatch(folder);
    }
}

/// The folder that a file is in.
pub fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
