//! Serving the resources of an earlier process while no control plane answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use xds_client::{DEFAULT_INITIAL_FETCH_TIMEOUT, Pause, Resource};

use super::file::{self, Kept};
use super::{StateOptions, StateStats, source_key};
use crate::config::source::SourceKind;
use crate::discovery::clusters::Clusters;
use crate::discovery::full_state::QUIET;
use crate::discovery::inbox::{Inbox, Notice};
use crate::discovery::listeners::Listeners;
use crate::discovery::pending::Pending;
use crate::discovery::sources::{Kind, Sources};

/// When to look again whether a control plane's time is over, if nothing is known that has not taken its time already.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Decides whether the resources of an earlier process serve.
pub struct Restore {
    options: StateOptions,
    owner: String,
    stats: Arc<StateStats>,
    inbox: Inbox,
    phase: Phase,
}

enum Phase {
    /// The control plane may still answer in time.
    Waiting,
    /// Resources of an earlier process serve.
    Serving(Serving),
    /// What serves is the control plane's.
    Over,
}

struct Serving {
    since: Instant,
    stored: Stored,
    /// Listeners and routes are not asked for before the clusters that they need are there.
    held: Vec<Pause>,
    /// When the control plane has answered, so that it has the rest of its time to confirm what it does not change.
    answered: Option<Instant>,
}

/// Resources of an earlier process that nobody has asked for yet.
#[derive(Default)]
pub struct Stored {
    clusters: Option<Vec<Resource>>,
    listeners: Option<Vec<Resource>>,
    endpoints: HashMap<(String, String), Resource>,
    routes: HashMap<(String, String), Resource>,
}

impl Stored {
    fn new(kept: Vec<Kept>) -> Self {
        let mut stored = Stored::default();
        let (mut clusters, mut listeners) = (Vec::new(), Vec::new());
        for Kept { type_url, source, resource } in kept {
            let key = (source, resource.name.clone());
            match type_url.as_str() {
                url if url == Kind::Clusters.type_url() => clusters.push(resource),
                url if url == Kind::Listeners.type_url() => listeners.push(resource),
                url if url == Kind::Endpoints.type_url() => {
                    stored.endpoints.insert(key, resource);
                }
                url if url == Kind::Routes.type_url() => {
                    stored.routes.insert(key, resource);
                }
                // A later version of this program may keep more.
                _ => {}
            }
        }
        stored.clusters = Some(clusters);
        stored.listeners = Some(listeners);
        stored
    }

    /// The endpoints of these services, by source, each once.
    pub fn take_endpoints(
        &mut self,
        names: Vec<(SourceKind, Arc<str>)>,
    ) -> Vec<(SourceKind, Vec<Resource>)> {
        take(&mut self.endpoints, names)
    }

    /// The route tables of these names, by source, each once.
    pub fn take_routes(
        &mut self,
        names: Vec<(SourceKind, Arc<str>)>,
    ) -> Vec<(SourceKind, Vec<Resource>)> {
        take(&mut self.routes, names)
    }
}

fn take(
    from: &mut HashMap<(String, String), Resource>,
    names: Vec<(SourceKind, Arc<str>)>,
) -> Vec<(SourceKind, Vec<Resource>)> {
    let mut taken: HashMap<SourceKind, Vec<Resource>> = HashMap::new();
    for (source, name) in names {
        let key = source_key(&source).map(|key| (key, name.to_string()));
        if let Some(resource) = key.and_then(|key| from.remove(&key)) {
            taken.entry(source).or_default().push(resource);
        }
    }
    taken.into_iter().collect()
}

impl Restore {
    /// Waits for the control plane from now on. The end of its time comes as [`Notice::Grace`].
    pub fn new(options: StateOptions, owner: String, stats: Arc<StateStats>, inbox: Inbox) -> Self {
        notify_after(options.grace, &inbox);
        Restore { options, owner, stats, inbox, phase: Phase::Waiting }
    }

    /// Whether resources of an earlier process serve.
    pub fn is_serving(&self) -> bool {
        matches!(self.phase, Phase::Serving(_))
    }

    /// What is waited for, if resources of an earlier process serve.
    pub fn pending(&self) -> Option<Pending> {
        let Phase::Serving(serving) = &self.phase else { return None };
        let what = "its resources, while those of an earlier process serve";
        Some(Pending::new("control plane", what, serving.since))
    }

    /// An initial fetch timeout ends the wait before its time.
    pub fn first_fetch_failed(&mut self, sources: &Sources, clusters: &Clusters) {
        if matches!(self.phase, Phase::Waiting) {
            self.begin(sources, clusters);
        }
    }

    /// The control plane's time to answer, or to confirm what it found, may be over.
    pub fn on_time(
        &mut self,
        sources: &Sources,
        clusters: &mut Clusters,
        listeners: &mut Listeners,
    ) {
        let is_answered = clusters.is_confirmed() && listeners.is_confirmed();
        let waited =
            [clusters.unanswered_for(), clusters.warming_for(), listeners.unanswered_for()];
        let waited = waited.into_iter().flatten().max().unwrap_or_default();
        match &self.phase {
            Phase::Waiting if is_answered => self.phase = Phase::Over,
            Phase::Waiting if waited >= self.options.grace => self.begin(sources, clusters),
            Phase::Serving(Serving { answered: Some(answered), .. }) => {
                if answered.elapsed() >= DEFAULT_INITIAL_FETCH_TIMEOUT {
                    return self.end(clusters, listeners);
                }
                return notify_after(QUIET, &self.inbox);
            }
            Phase::Waiting | Phase::Serving(_) | Phase::Over => {}
        }
        if !matches!(self.phase, Phase::Over) {
            let rest = self.options.grace.checked_sub(waited).filter(|rest| !rest.is_zero());
            notify_after(rest.unwrap_or(LOOK_AGAIN), &self.inbox);
        }
    }

    fn begin(&mut self, sources: &Sources, clusters: &Clusters) {
        self.phase = Phase::Over;
        let folder = self.options.folder.display();
        let kept = match file::read(&self.options.folder, &self.owner) {
            Ok(Some(kept)) => kept,
            Ok(None) => {
                tracing::warn!(%folder, "the control plane does not answer, and no earlier process has kept its resources");
                return;
            }
            Err(error) => {
                tracing::error!(%error, "the control plane does not answer, and the resources of an earlier process cannot be used");
                return;
            }
        };
        tracing::error!(
            %folder, resources = kept.len(),
            "the control plane does not answer: SERVING THE LAST GOOD RESOURCES OF AN EARLIER PROCESS until it does"
        );
        self.stats.serving_from_state.set(1);
        let held = match clusters.is_confirmed() {
            true => Vec::new(),
            false => sources.pause(&[Kind::Listeners, Kind::Routes]),
        };
        let stored = Stored::new(kept);
        let since = Instant::now();
        self.phase = Phase::Serving(Serving { since, stored, held, answered: None });
    }

    /// Goes as far as it can; true if resources came into force on which others may depend.
    pub fn advance(
        &mut self,
        sources: &mut Sources,
        clusters: &mut Clusters,
        listeners: &mut Listeners,
    ) -> bool {
        let Phase::Serving(serving) = &mut self.phase else { return false };
        if clusters.is_confirmed() && clusters.is_settled() {
            serving.held.clear();
        }
        if !(clusters.is_confirmed() && listeners.is_confirmed()) {
            return serving.restore(self.options.grace, sources, clusters, listeners);
        }
        if serving.answered.is_none() {
            serving.answered = Some(Instant::now());
            serving.stored = Stored::default();
            tracing::info!(
                "the control plane answers: its resources replace those of an earlier process"
            );
            notify_after(QUIET, &self.inbox);
        }
        let is_complete = clusters.is_complete() && listeners.is_complete();
        if is_complete && clusters.is_settled() && listeners.is_settled() {
            listeners.remove_stale();
            if listeners.routes_are_confirmed() {
                // Nothing leads to them any more.
                clusters.remove_stale();
                if clusters.endpoints_are_confirmed() {
                    self.end(clusters, listeners);
                }
            }
        }
        false
    }

    fn end(&mut self, clusters: &mut Clusters, listeners: &mut Listeners) {
        listeners.remove_stale();
        listeners.keep_closed(false);
        clusters.remove_stale();
        self.stats.serving_from_state.set(0);
        self.phase = Phase::Over;
        tracing::info!("everything that serves is the control plane's again");
    }
}

impl Serving {
    /// Puts in force what is asked for and has not been answered. A control plane that has answered at all has its time for the
    /// rest, too.
    fn restore(
        &mut self,
        grace: Duration,
        sources: &mut Sources,
        clusters: &mut Clusters,
        listeners: &mut Listeners,
    ) -> bool {
        let grace = if clusters.is_confirmed() { grace } else { Duration::ZERO };
        let is_due = |waited: Option<Duration>| waited.is_some_and(|waited| waited >= grace);
        let stored = &mut self.stored;
        let mut is_news = false;
        if is_due(clusters.unanswered_for())
            && let Some(resources) = stored.clusters.take()
        {
            clusters.restore(sources, resources);
            is_news = true;
        }
        is_news |= clusters.restore_endpoints(stored);
        if is_due(listeners.unanswered_for())
            && let Some(resources) = stored.listeners.take()
        {
            listeners.keep_closed(true);
            listeners.restore(sources, resources);
            is_news = true;
        }
        is_news | listeners.restore_routes(stored)
    }
}

fn notify_after(time: Duration, inbox: &Inbox) {
    let inbox = inbox.downgrade();
    tokio::task::spawn_local(async move {
        tokio::time::sleep(time).await;
        if let Some(inbox) = inbox.upgrade() {
            // Nobody listens when the process ends.
            let _ = inbox.send(Notice::Grace);
        }
    });
}
