//! Levels of log lines under Envoy's names, which can be changed while the process runs.

use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::{Registry, reload};

/// A level, as Envoy names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// `trace`
    Trace,
    /// `debug`
    Debug,
    /// `info`
    #[default]
    Info,
    /// `warning` or `warn`
    Warning,
    /// `error`
    Error,
    /// `critical`: shows the same lines as `error`.
    Critical,
    /// `off`
    Off,
}

impl Level {
    /// The level of a name.
    pub fn parse(name: &str) -> Option<Level> {
        match name {
            "trace" => Some(Level::Trace),
            "debug" => Some(Level::Debug),
            "info" => Some(Level::Info),
            "warning" | "warn" => Some(Level::Warning),
            "error" => Some(Level::Error),
            "critical" => Some(Level::Critical),
            "off" => Some(Level::Off),
            _ => None,
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
            Level::Critical => "critical",
            Level::Off => "off",
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            Level::Trace => LevelFilter::TRACE,
            Level::Debug => LevelFilter::DEBUG,
            Level::Info => LevelFilter::INFO,
            Level::Warning => LevelFilter::WARN,
            Level::Error | Level::Critical => LevelFilter::ERROR,
            Level::Off => LevelFilter::OFF,
        }
    }
}

/// Envoy's loggers that exist here, with the modules that log under each. What no other logger has is `misc`.
const LOGGERS: [(&str, &[&str]); 16] = [
    ("admin", &["pillion::admin"]),
    ("config", &["pillion::config", "pillion::discovery", "xds_client"]),
    ("conn_handler", &["pillion::downstream"]),
    ("connection", &["pillion::io"]),
    ("dns", &["pillion::upstream::cluster::resolve", "hickory_resolver"]),
    ("filter", &["pillion::downstream::tcp_proxy", "pillion::http::filters"]),
    ("grpc", &["tonic"]),
    ("hc", &["pillion::upstream::cluster::health_check"]),
    ("http", &["pillion::http", "hyper"]),
    ("http2", &["h2"]),
    ("main", &["pillion::cli", "pillion::server"]),
    ("misc", &[]),
    ("pool", &["pillion::upstream::pool"]),
    ("router", &["pillion::http::router", "pillion::route"]),
    ("secret", &["pillion::tls", "rustls"]),
    ("upstream", &["pillion::upstream"]),
];

/// No logger has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownLogger;

/// Every logger's level. Cheap to clone; all clones change the same.
#[derive(Clone)]
pub struct LogLevels(Arc<Shared>);

struct Shared {
    handle: reload::Handle<Targets, Registry>,
    levels: Mutex<[Level; LOGGERS.len()]>,
}

impl LogLevels {
    /// All loggers at one level, and the layer that filters by it.
    pub fn new(level: Level) -> (LogLevels, reload::Layer<Targets, Registry>) {
        let levels = [level; LOGGERS.len()];
        let (layer, handle) = reload::Layer::new(targets(&levels));
        (LogLevels(Arc::new(Shared { handle, levels: Mutex::new(levels) })), layer)
    }

    /// Every logger with its level, by name.
    pub fn list(&self) -> Vec<(&'static str, Level)> {
        let levels = self.0.levels.lock();
        LOGGERS.iter().map(|(name, _)| *name).zip(*levels).collect()
    }

    /// Sets the level of every logger.
    pub fn set_all(&self, level: Level) {
        self.change(|levels| levels.fill(level));
    }

    /// Sets the levels of some loggers, or of none if a name is unknown.
    ///
    /// # Errors
    /// A name is unknown.
    pub fn set(&self, changes: &[(&str, Level)]) -> Result<(), UnknownLogger> {
        let index = |name: &str| LOGGERS.iter().position(|(known, _)| *known == name);
        let changes: Option<Vec<_>> =
            changes.iter().map(|(name, level)| Some((index(name)?, *level))).collect();
        let changes = changes.ok_or(UnknownLogger)?;
        self.change(|levels| changes.into_iter().for_each(|(at, level)| levels[at] = level));
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut [Level; LOGGERS.len()])) {
        let mut levels = self.0.levels.lock();
        change(&mut levels);
        if let Err(error) = self.0.handle.reload(targets(&levels)) {
            tracing::warn!(%error, "cannot change log levels");
        }
    }
}

/// The more specific module counts, as in [`Targets`].
fn targets(levels: &[Level; LOGGERS.len()]) -> Targets {
    let mut targets = Targets::new();
    for ((name, modules), level) in LOGGERS.iter().zip(levels) {
        if *name == "misc" {
            targets = targets.with_default(level.filter());
        }
        let modules = modules.iter().map(|module| (*module, level.filter()));
        targets = targets.with_targets(modules);
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logger_filters_its_modules_only() {
        let (levels, layer) = LogLevels::new(Level::Warning);
        levels.set(&[("upstream", Level::Debug), ("misc", Level::Error)]).unwrap();
        let enabled = |target: &str, level: tracing::Level| {
            levels.0.handle.with_current(|targets| targets.would_enable(target, &level)).unwrap()
        };
        assert!(enabled("pillion::upstream::cluster", tracing::Level::DEBUG));
        assert!(!enabled("pillion::upstream::pool::http1", tracing::Level::INFO));
        assert!(enabled("pillion::http", tracing::Level::WARN));
        assert!(!enabled("somewhere::else", tracing::Level::WARN));
        levels.set_all(Level::Off);
        assert!(!enabled("pillion::upstream", tracing::Level::ERROR));
        drop(layer);
    }

    #[test]
    fn levels_have_envoys_names() {
        for name in ["trace", "debug", "info", "warning", "error", "critical", "off"] {
            assert_eq!(Level::parse(name).unwrap().as_str(), name);
        }
        assert_eq!(Level::parse("warn"), Some(Level::Warning));
        assert_eq!(Level::parse("loud"), None);
    }

    #[test]
    fn an_unknown_logger_is_refused() {
        let (levels, _layer) = LogLevels::new(Level::Info);
        assert_eq!(
            levels.set(&[("admin", Level::Off), ("nobody", Level::Off)]),
            Err(UnknownLogger)
        );
        assert!(levels.list().iter().all(|(_, level)| *level == Level::Info));
    }
}
