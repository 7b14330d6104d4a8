//! Following the changes of a folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::{Folder, FolderError, Scan};
use crate::core::Shared;
use crate::event::EventKind;

/// How long after a change the folder is read: a change of several files comes as one push.
const QUIET: Duration = Duration::from_millis(50);

/// Serves what lies in a folder and returns the task that follows its changes.
pub(crate) async fn watch(
    root: PathBuf,
    shared: Arc<Shared>,
) -> Result<impl Future<Output = ()> + Send + 'static, FolderError> {
    let changed = Arc::new(Notify::new());
    let watcher = start_watcher(&root, changed.clone())?;
    let (folder, scan) = scan(Folder::new(root)).await;
    apply(scan?, &shared);
    Ok(follow(folder, shared, watcher, changed))
}

fn start_watcher(
    root: &std::path::Path,
    changed: Arc<Notify>,
) -> Result<RecommendedWatcher, FolderError> {
    let error = |source| FolderError::Watch { path: root.to_owned(), source };
    let on_event = move |event: notify::Result<notify::Event>| {
        // Reading a file is an event of its own kind; to react to it would be a loop.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            changed.notify_one();
        }
    };
    let mut watcher = notify::recommended_watcher(on_event).map_err(error)?;
    watcher.watch(root, RecursiveMode::Recursive).map_err(error)?;
    Ok(watcher)
}

async fn follow(
    mut folder: Folder,
    shared: Arc<Shared>,
    _watcher: RecommendedWatcher,
    changed: Arc<Notify>,
) {
    loop {
        changed.notified().await;
        tokio::time::sleep(QUIET).await;
        let result;
        (folder, result) = scan(folder).await;
        match result {
            Ok(scan) => apply(scan, &shared),
            Err(error) => shared.report(EventKind::FolderFailed { error: error.to_string() }),
        }
    }
}

/// Scans on a thread of its own, so that clients are served meanwhile.
async fn scan(mut folder: Folder) -> (Folder, Result<Scan, FolderError>) {
    let scan = tokio::task::spawn_blocking(move || {
        let scan = folder.scan();
        (folder, scan)
    });
    scan.await.expect("a scan is never cancelled and does not panic")
}

/// Reports what is wrong and applies what has changed as one batch.
fn apply(scan: Scan, shared: &Shared) {
    for problem in scan.problems {
        let path = problem.path.display().to_string();
        shared.report(EventKind::FileBroken { path, error: problem.message });
    }
    let before = shared.lock().snapshot.version();
    let version = shared.update(|core| core.apply(scan.changes));
    if version != before {
        shared.report(EventKind::FolderRead { files: scan.files, version });
    }
}
