//! Writes resources down a moment after they have changed.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::{Known, StateOptions, StateStats, file};

/// How long changes are waited for that belong to the first one.
const PAUSE: Duration = Duration::from_secs(1);
/// The shortest time between two files.
const INTERVAL: Duration = Duration::from_secs(10);

/// Keeps the last good resources on disk. It ends when dropped.
pub struct Keeper {
    changed: Rc<Notify>,
    _task: AbortOnDropHandle<()>,
}

/// Who has the resources.
pub trait Holder {
    /// Those that serve; none while they are not to be kept.
    fn last_good(&self) -> Option<Vec<Known>>;
}

impl Keeper {
    /// Keeps what `holder` has, as the proxy `owner`.
    pub fn start<H: Holder + 'static>(
        options: StateOptions,
        owner: String,
        holder: Weak<RefCell<H>>,
        stats: Arc<StateStats>,
    ) -> Self {
        let changed = Rc::new(Notify::new());
        let task =
            tokio::task::spawn_local(keep(options, owner, holder, stats, Rc::clone(&changed)));
        Keeper { changed, _task: AbortOnDropHandle::new(task) }
    }

    /// Something may have changed.
    pub fn changed(&self) {
        self.changed.notify_one();
    }
}

async fn keep<H: Holder>(
    options: StateOptions,
    owner: String,
    holder: Weak<RefCell<H>>,
    stats: Arc<StateStats>,
    changed: Rc<Notify>,
) {
    let mut last = None;
    let mut next = Instant::now();
    loop {
        changed.notified().await;
        sleep(PAUSE).await;
        sleep_until(next).await;
        let Some(holder) = holder.upgrade() else { return };
        let Some(resources) = holder.borrow().last_good() else { continue };
        drop(holder);
        let (folder, owner) = (options.folder.clone(), owner.clone());
        let write = move || file::write(&folder, &owner, &resources, last);
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(sum)) if last == Some(sum) => continue,
            Ok(Ok(sum)) => {
                last = Some(sum);
                stats.state_saved.inc();
            }
            Ok(Err(error)) => {
                stats.state_save_failed.inc();
                tracing::warn!(%error, "cannot keep the last good resources on disk");
            }
            // The process ends.
            Err(_) => return,
        }
        next = Instant::now() + INTERVAL;
    }
}
