//! The admin interface: looking into the process, and telling it what to do, under Envoy's paths and formats.
//!
//! It runs on the control thread. An endpoint reads what it needs there and answers at once, or hands the work of
//! printing to another thread, so that a large answer delays neither configuration nor probes.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use proto::envoy::admin::v3::server_info::State;
use serde_json::Value;

use crate::config::bootstrap::Bootstrap;
use crate::discovery::Discovery;
use crate::downstream::manager::ListenerManager;
use crate::telemetry::log_level::LogLevels;
use crate::telemetry::log_writer::LogWriter;
use crate::telemetry::stats::Store;
use crate::upstream::cluster::ClusterRegistry;

mod certs;
mod clusters;
mod config_dump;
mod endpoints;
mod info;
mod init_dump;
mod json;
mod listeners;
mod logging;
mod process;
mod query;
mod reply;
mod runtime;
mod server;
mod stats;

pub use server::Serving;

/// What the endpoints show and change.
pub struct Context {
    /// Every statistic.
    pub store: Arc<Store>,
    /// Every cluster.
    pub registry: Arc<ClusterRegistry>,
    /// Every listener.
    pub listeners: Rc<RefCell<ListenerManager>>,
    /// The resources of the control plane.
    pub discovery: Rc<Discovery>,
    /// Access logs, to be opened anew.
    pub logs: LogWriter,
    /// The levels of log lines.
    pub log_levels: LogLevels,
    /// What the process started with.
    pub bootstrap: Arc<Bootstrap>,
    /// The process itself.
    pub process: Rc<dyn Process>,
    /// `ServerInfo.version`
    pub version: String,
    /// The version of hot restart; `disabled` without.
    pub hot_restart_version: String,
    /// `ServerInfo.command_line_options`
    pub command_line_options: Value,
}

impl Context {
    /// Brings gauges up to date that nobody keeps while no one looks.
    async fn refresh_stats(&self) {
        self.discovery.refresh_stats().await;
        self.process.refresh_stats();
    }
}

/// What the admin interface needs of the process.
pub trait Process {
    /// Its state now.
    fn state(&self) -> State;
    /// How long it runs.
    fn uptime(&self) -> Duration;
    /// How long it or those before it, which it took over from by hot restarts, run.
    fn uptime_of_all(&self) -> Duration;
    /// Brings `server.*` gauges up to date that nobody else keeps.
    fn refresh_stats(&self);
    /// `/healthcheck/fail` (true) and `/healthcheck/ok` (false).
    fn fail_health_check(&self, fail: bool);
    /// `/drain_listeners`
    fn drain_listeners(&self, drain: DrainListeners);
    /// `/quitquitquit`
    fn quit(&self);
}

/// How listeners are to be drained (the parameters of `/drain_listeners`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainListeners {
    /// `inboundonly`: only those with `traffic_direction: INBOUND`.
    pub inbound_only: bool,
    /// `graceful`: go on accepting for the drain time, while responses ask clients to go elsewhere.
    pub graceful: bool,
    /// `skip_exit`: drain connections but never stop accepting.
    pub skip_exit: bool,
}
