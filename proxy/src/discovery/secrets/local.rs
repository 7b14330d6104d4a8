//! Secrets that stand in a listener, a cluster or the bootstrap, with files that are read again when they move.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::files::{Directories, folders, read_stable};
use crate::config::tls::{SecretFiles, SecretKind};
use crate::config::{At, ConfigError, Files};
use crate::tls::SecretCell;

/// One of them.
pub(super) struct Local {
    cell: Arc<SecretCell>,
    source: SecretFiles,
    files: Files,
}

impl Local {
    /// Reads it, and watches its folders.
    ///
    /// # Errors
    /// A file cannot be read, or its content cannot be used.
    pub(super) fn new(
        name: &Arc<str>,
        source: &SecretFiles,
        directories: &mut Directories,
    ) -> Result<Local, ConfigError> {
        let (secret, files) = read(name, source)?;
        let cell = SecretCell::with(name, &secret)?;
        directories.replace(&BTreeSet::new(), &folders(&files));
        Ok(Local { cell, source: source.clone(), files })
    }

    /// What those who use it share.
    pub(super) fn cell(&self) -> &Arc<SecretCell> {
        &self.cell
    }

    /// Whether anybody uses it. If not, its folders are watched no more.
    pub(super) fn is_used(&self, directories: &mut Directories) -> bool {
        let is_used = Arc::strong_count(&self.cell) > 1;
        if !is_used {
            directories.replace(&folders(&self.files), &BTreeSet::new());
        }
        is_used
    }

    /// Something was moved into these folders: if one is its own, it is read again.
    pub(super) fn on_moved(&mut self, moved: &HashSet<PathBuf>, directories: &mut Directories) {
        let before = folders(&self.files);
        if before.is_disjoint(&moved.iter().cloned().collect()) {
            return;
        }
        let name = self.cell.name();
        let changed = read(name, &self.source).and_then(|(secret, files)| {
            if files != self.files {
                self.cell.set(&secret)?;
                directories.replace(&before, &folders(&files));
                self.files = files;
            }
            Ok(())
        });
        if let Err(error) = changed {
            let name = &**name;
            tracing::warn!(secret = name, %error, "files were replaced by bad ones; those before stay in use");
        }
    }
}

fn read(name: &str, source: &SecretFiles) -> Result<(SecretKind, Files), ConfigError> {
    read_stable(&At::resource(name, ""), || source.read())
}
