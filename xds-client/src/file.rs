//! Filesystem subscriptions (`ConfigSource.path_config_source`): a file that holds a
//! `DiscoveryResponse` is read again whenever another one is moved into its place.

use std::ffi::OsString;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::envoy::service::discovery::v3::DiscoveryResponse;
use tokio::sync::{Notify, mpsc};

use crate::directory::{Directories, WatchError, parent};
use crate::resource::{ResourceError, Response};
use crate::sotw;
use crate::subscription::{
    Answer, Command, Event, Letter, Mailbox, Subscription, SubscriptionConfig, ToOwner, Update,
};
use crate::table::Table;

/// Where the resources are.
#[derive(Clone, Debug)]
pub struct FileConfig {
    /// The file (`path_config_source.path`).
    pub path: PathBuf,
    /// A folder whose every move into it makes the file be read again, for files behind a symbolic
    /// link (`path_config_source.watched_directory`). Without it, only a move onto `path` counts.
    pub watched_directory: Option<PathBuf>,
    /// Reads the file in whatever format its name says. May block.
    pub parse: fn(&Path) -> Result<DiscoveryResponse, String>,
}

/// Why a file cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It must be there when it is first configured.
    #[error("path_config_source.path {path:?}: the file does not exist")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The operating system does not watch the folder.
    #[error("path_config_source: {0}")]
    Watch(#[from] WatchError),
}

/// Subscribes to the resources in a file. The last good content stays in force when the file turns
/// bad. Events, answers and names work as on a stream, in state-of-the-world.
///
/// # Errors
/// If the file is not there or its folder cannot be watched.
pub fn watch(file: FileConfig, config: SubscriptionConfig) -> Result<Subscription, FileError> {
    if !file.path.exists() {
        return Err(FileError::Missing { path: file.path });
    }
    let changed = Arc::new(Notify::new());
    let watcher = watcher(&file, changed.clone())?;
    let (sender, inbox) = mpsc::unbounded_channel();
    let (events, receiver) = mpsc::unbounded_channel();
    let mailbox =
        Mailbox { type_url: Arc::from(config.type_url.as_str()), subscription: 0, sender };
    let reader = Reader {
        parse: file.parse,
        path: file.path,
        outbox: mailbox.sender.downgrade(),
        inbox,
        table: Table::new(config),
        events,
        due: true,
    };
    tokio::spawn(reader.run(changed, watcher));
    Ok(Subscription::new(receiver, mailbox))
}

/// Watches the folder of the file.
fn watcher(file: &FileConfig, changed: Arc<Notify>) -> Result<Directories, FileError> {
    let (folder, name): (PathBuf, Option<OsString>) = match &file.watched_directory {
        Some(folder) => (folder.clone(), None),
        None => (parent(&file.path), file.path.file_name().map(OsString::from)),
    };
    let on_move = move |moved: Option<&Path>| {
        let name = name.as_deref();
        if moved.is_none_or(|path| name.is_none_or(|name| path.file_name() == Some(name))) {
            changed.notify_one();
        }
    };
    let mut directories =
        Directories::new(on_move).map_err(|source| WatchError { path: folder.clone(), source })?;
    directories.watch(&folder)?;
    Ok(directories)
}

/// The task behind one file.
struct Reader {
    path: PathBuf,
    parse: fn(&Path) -> Result<DiscoveryResponse, String>,
    inbox: mpsc::UnboundedReceiver<ToOwner>,
    /// For the receiver to answer through; weak, for the task ends with the subscription.
    outbox: mpsc::WeakUnboundedSender<ToOwner>,
    table: Table,
    events: mpsc::UnboundedSender<Event>,
    /// Whether the file is to be read.
    due: bool,
}

impl Reader {
    async fn run(mut self, changed: Arc<Notify>, _watcher: Directories) {
        loop {
            if self.due && self.table.wants_anything() {
                self.due = false;
                self.read().await;
            }
            let table = &mut self.table;
            tokio::select! {
                biased;
                message = self.inbox.recv() => match message {
                    Some(message) => self.take_messages(message),
                    None => return,
                },
                () = changed.notified() => self.due = true,
                event = poll_fn(|cx| table.poll_expired(cx)) => self.send(event),
            }
        }
    }

    async fn read(&mut self) {
        let (parse, path) = (self.parse, self.path.clone());
        let parsed = tokio::task::spawn_blocking(move || parse(&path)).await;
        match parsed.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(response) => self.deliver(sotw::unwrap(response, "", &self.table)),
            Err(error) => self.report_unreadable(error),
        }
    }

    /// Tells the receiver that there is nothing new to apply, so that it waits no longer.
    fn report_unreadable(&mut self, error: String) {
        let path = self.path.display();
        tracing::warn!(%path, error, "cannot read configuration; what was read before stays in force");
        self.table.count_failure();
        self.table.end_first_fetch();
        let errors = vec![ResourceError::unnamed(format!("{path}: {error}"))];
        let answer = Answer::settled(errors);
        self.send(Event::Update(Update {
            version: String::new(),
            resources: Vec::new(),
            removed: Vec::new(),
            answer,
        }));
    }

    fn deliver(&mut self, response: Response) {
        let Some(sender) = self.outbox.upgrade() else { return };
        let delivery = self.table.receive(response, 0);
        if delivery.is_empty() && !self.table.is_wildcard() {
            self.table.answer(delivery.sequence, &[]);
            return;
        }
        let mailbox =
            Mailbox { type_url: Arc::from(self.table.type_url()), subscription: 0, sender };
        self.send(Event::Update(delivery.into_update(mailbox)));
    }

    /// A receiver that went away answers an update by dropping it.
    fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Takes everything that the receiver has asked for by now.
    fn take_messages(&mut self, first: ToOwner) {
        let mut next = Some(first);
        while let Some(message) = next {
            // Everything else is asked of clients.
            if let ToOwner::Letter(Letter { command, .. }) = message {
                self.take(command);
            }
            next = self.inbox.try_recv().ok();
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Subscribe(..) => {}
            Command::Unsubscribe => drop(self.table.clear()),
            Command::Add(names) => {
                for name in &names {
                    self.due |= self.table.add(name);
                }
            }
            Command::Remove(names) => {
                for name in &names {
                    self.table.remove(name);
                }
            }
            Command::Refresh(names) => {
                for name in &names {
                    self.due |= self.table.refresh(name);
                }
            }
            Command::Answer(sequence, errors) => {
                self.table.answer(sequence, &errors);
                let path = self.path.display();
                errors
                    .iter()
                    .for_each(|error| tracing::warn!(%path, %error, "refused configuration"));
            }
            // A reader that went away needs no reply.
            Command::State(reply) => drop(reply.send(self.table.state())),
            Command::Stats(reply) => drop(reply.send(self.table.stats().clone())),
        }
    }
}
