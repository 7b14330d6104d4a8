//! The overload manager: looks at resources in intervals, and tells the data path what that means.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_local;
use tokio::time::MissedTickBehavior;

use crate::config::overload::{Action, ActionKind, OverloadManager, ShedPoint, Trigger};
use crate::overload::{Overload, PointStats};
use crate::server::memory;
use crate::stat_group;
use crate::telemetry::stats::Store;

mod cgroup;
mod cpu;
mod monitor;

use monitor::Monitor;

stat_group! {
    /// `overload.<resource monitor>.`
    pub struct MonitorStats {
        counter failed_updates,
        gauge pressure,
        counter skipped_updates,
    }
}

stat_group! {
    /// `overload.<action>.`
    pub struct ActionStats {
        gauge active,
        gauge scale_percent,
    }
}

stat_group! {
    /// `overload.envoy.overload_actions.shrink_heap.`
    pub struct ShrinkStats {
        counter shrink_count,
    }
}

stat_group! {
    /// `overload.`
    pub struct ManagerStats {
        histogram refresh_interval_delay,
    }
}

/// A resource with its pressure at the last look.
struct Watched {
    name: Box<str>,
    monitor: Monitor,
    stats: Arc<MonitorStats>,
    pressure: f64,
    fails: bool,
}

/// An action with what it does now.
struct Driven {
    config: Action,
    stats: Arc<ActionStats>,
    value: f64,
}

/// When memory was last given back.
struct Shrinking {
    stats: Arc<ShrinkStats>,
    last: Option<Instant>,
}

/// A load shed point with its statistics.
struct Shed {
    config: ShedPoint,
    stats: Arc<PointStats>,
}

struct Manager {
    overload: Arc<Overload>,
    watched: Vec<Watched>,
    actions: Vec<Driven>,
    points: Vec<Shed>,
    shrinking: Shrinking,
}

/// Watches what the configuration names, from now until the process ends.
pub fn start(config: OverloadManager, overload: Arc<Overload>, store: &Store) {
    let stats = store.register(ManagerStats::new("overload."));
    let refresh = config.refresh_interval;
    let mut manager = Manager::new(config, overload, store);
    spawn_local(async move {
        let mut ticks = tokio::time::interval(refresh);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        loop {
            ticks.tick().await;
            stats.refresh_interval_delay.record(last.elapsed().as_millis() as u64);
            last = Instant::now();
            manager.look();
        }
    });
}

impl Manager {
    fn new(config: OverloadManager, overload: Arc<Overload>, store: &Store) -> Self {
        let prefix = |name: &str| format!("overload.{name}.");
        let watched = config.monitors.into_iter().map(|monitor| Watched {
            stats: store.register(MonitorStats::new(prefix(&monitor.name))),
            monitor: Monitor::new(monitor.resource, &overload),
            name: monitor.name,
            pressure: 0.0,
            fails: false,
        });
        let watched = watched.collect();
        let mut shrink = ShrinkStats::new("");
        let actions = config.actions.into_iter().map(|config| {
            match &config.kind {
                ActionKind::ReduceTimeouts(timers) => overload.timers.configure(timers),
                ActionKind::ShrinkHeap(_) => shrink = ShrinkStats::new(prefix(&config.name)),
                _ => {}
            }
            let stats = store.register(ActionStats::new(prefix(&config.name)));
            Driven { config, stats, value: 0.0 }
        });
        let actions: Vec<Driven> = actions.collect();
        let shrinks = |action: &Driven| matches!(action.config.kind, ActionKind::ShrinkHeap(_));
        let stats = match actions.iter().any(shrinks) {
            true => store.register(shrink),
            false => Arc::new(shrink),
        };
        let points = config.points.into_iter().map(|config| {
            let stats = store.register(PointStats::new(prefix(&config.name)));
            // Each point is configured once.
            let _ = overload.point(config.point).stats.set(Arc::clone(&stats));
            Shed { config, stats }
        });
        let points = points.collect();
        Manager { overload, watched, actions, points, shrinking: Shrinking { stats, last: None } }
    }

    /// Looks at every resource, and does what follows.
    fn look(&mut self) {
        for watched in &mut self.watched {
            watched.look();
        }
        let watched = &self.watched;
        let strongest = |triggers: &[Trigger]| {
            let values = triggers.iter().map(|t| t.value(watched[t.monitor].pressure));
            values.fold(0.0, f64::max)
        };
        let mut engaged = false;
        for shed in &self.points {
            let value = strongest(&shed.config.triggers);
            engaged |= value > 0.0;
            self.overload.point(shed.config.point).share.set(value);
            shed.stats.scale_percent.set(percent(value));
        }
        for action in &mut self.actions {
            action.becomes(strongest(&action.config.triggers), &self.overload);
            engaged |= action.value > 0.0;
            if let ActionKind::ShrinkHeap(interval) = action.config.kind
                && action.value >= 1.0
            {
                self.shrinking.shrink(interval);
            }
        }
        self.overload.engage(engaged);
    }
}

impl Watched {
    /// A resource that cannot be looked at keeps its pressure.
    fn look(&mut self) {
        match self.monitor.pressure() {
            Ok(pressure) => {
                self.pressure = pressure;
                self.stats.pressure.set(percent(pressure));
                self.fails = false;
            }
            Err(error) => {
                self.stats.failed_updates.inc();
                if !std::mem::replace(&mut self.fails, true) {
                    tracing::warn!(monitor = %self.name, error, "a resource cannot be looked at");
                }
            }
        }
    }
}

impl Driven {
    fn becomes(&mut self, value: f64, overload: &Overload) {
        let before = std::mem::replace(&mut self.value, value);
        self.stats.active.set(u64::from(value >= 1.0));
        self.stats.scale_percent.set(percent(value));
        if before == value {
            return;
        }
        if before == 0.0 || value == 0.0 {
            let percent = percent(value);
            tracing::warn!(action = %self.config.name, percent, "overload: an action begins or ends");
        }
        match &self.config.kind {
            ActionKind::StopAcceptingRequests => overload.stop_accepting_requests.set(value),
            ActionKind::DisableHttpKeepalive => overload.disable_http_keepalive.set(value),
            ActionKind::StopAcceptingConnections => overload.pause_accepting(value >= 1.0),
            ActionKind::RejectIncomingConnections => {
                overload.reject_incoming_connections.set(value);
            }
            ActionKind::ReduceTimeouts(_) => overload.timers.set(value),
            ActionKind::ShrinkHeap(_) | ActionKind::ResetHighMemoryStream => {}
        }
    }
}

impl Shrinking {
    /// The allocator gives memory back as it gets free; what else can go is code that is not in use.
    fn shrink(&mut self, interval: Duration) {
        if self.last.is_some_and(|last| last.elapsed() < interval) {
            return;
        }
        self.last = Some(Instant::now());
        memory::release_code();
        self.stats.shrink_count.inc();
    }
}

/// In whole percent, cut off as Envoy's.
fn percent(value: f64) -> u64 {
    (value * 100.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::overload::{Monitor as MonitorConfig, Resource};

    fn manager(file: &std::path::Path, kind: ActionKind) -> Manager {
        let resource = Resource::Injected(file.into());
        let trigger = Trigger { monitor: 0, from: 0.5, full: 1.0 };
        let config = OverloadManager {
            refresh_interval: Duration::from_secs(1),
            monitors: vec![MonitorConfig { name: "m".into(), resource }],
            actions: vec![Action { name: "a".into(), kind, triggers: vec![trigger] }],
            points: Vec::new(),
        };
        Manager::new(config, Arc::default(), &Store::default())
    }

    #[test]
    fn an_action_follows_its_resource_and_keeps_the_last_value_when_it_cannot_be_read() {
        let file = std::env::temp_dir().join(format!("pillion-overload-{}", std::process::id()));
        let mut manager = manager(&file, ActionKind::StopAcceptingRequests);
        manager.look();
        assert_eq!(manager.watched[0].stats.failed_updates.get(), 1);
        assert!(!manager.overload.stop_accepting_requests.hits());
        for (text, percent, active) in [("0.75\n", 50, 0), ("1.0", 100, 1), ("high", 100, 1)] {
            std::fs::write(&file, text).unwrap();
            manager.look();
            let stats = &manager.actions[0].stats;
            assert_eq!((stats.scale_percent.get(), stats.active.get()), (percent, active));
        }
        assert!(manager.overload.stop_accepting_requests.hits());
        assert_eq!(manager.watched[0].stats.failed_updates.get(), 2);
        std::fs::write(&file, "0").unwrap();
        manager.look();
        assert!(!manager.overload.stop_accepting_requests.hits());
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn memory_is_given_back_at_most_once_in_its_interval() {
        let file = std::env::temp_dir().join(format!("pillion-shrink-{}", std::process::id()));
        std::fs::write(&file, "1").unwrap();
        let mut manager = manager(&file, ActionKind::ShrinkHeap(Duration::from_secs(60)));
        manager.look();
        manager.look();
        assert_eq!(manager.shrinking.stats.shrink_count.get(), 1);
        std::fs::remove_file(&file).unwrap();
    }
}
