//! The log of changes of health: a line of JSON each, as Envoy's `HealthCheckEvent` prints.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::config::cluster::Probe;
use crate::io::Address;
use crate::upstream::cluster::{Cluster, Host};

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A host became unhealthy.
    Ejected(&'static str),
    /// A host became healthy; whether by its first check.
    Added(bool),
    /// A check failed and `always_log_health_check_failures` is set; whether it was the first.
    Failed(&'static str, bool),
    /// A check passed and `always_log_health_check_success` is set.
    Passed,
    /// A host became degraded.
    Degraded,
    /// A host is no longer degraded.
    NoLongerDegraded,
}

/// A file that events are appended to.
pub struct EventLog {
    /// None if it could not be opened, which was logged.
    file: Mutex<Option<File>>,
}

impl EventLog {
    /// Opens the file. A health check without its log is better than none.
    pub fn open(path: &str, cluster: &Arc<str>) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|error| {
            tracing::error!(%cluster, path, %error, "the log of health checks cannot be opened");
        });
        EventLog { file: Mutex::new(file.ok()) }
    }

    /// Appends an event.
    pub fn write(&self, cluster: &Cluster, host: &Host, event: Event) {
        let mut file = self.file.lock();
        let Some(open) = file.as_mut() else { return };
        let mut line = line(cluster, host, event).to_string();
        line.push('\n');
        if let Err(error) = open.write_all(line.as_bytes()) {
            tracing::error!(cluster = %cluster.name(), %error, "the log of health checks is given up");
            *file = None;
        }
    }
}

fn line(cluster: &Cluster, host: &Host, event: Event) -> Value {
    let kind = cluster.config().health_check.as_ref().map(|check| match &check.probe {
        Probe::Http(_) => "HTTP",
        Probe::Tcp(_) => "TCP",
        Probe::Grpc(_) => "GRPC",
    });
    let (name, told) = match event {
        Event::Ejected(failure) => ("eject_unhealthy_event", json!({"failure_type": failure})),
        Event::Added(first) => ("add_healthy_event", json!({"first_check": first})),
        Event::Failed(failure, first) => {
            ("health_check_failure_event", json!({"failure_type": failure, "first_check": first}))
        }
        Event::Passed => ("successful_health_check_event", json!({})),
        Event::Degraded => ("degraded_healthy_host", json!({})),
        Event::NoLongerDegraded => ("no_longer_degraded_host", json!({})),
    };
    let address = match host.address() {
        Address::Ip(ip) => json!({"socket_address": {
            "address": ip.ip().to_string(), "port_value": ip.port(),
        }}),
        Address::Pipe(path) => json!({"pipe": {"path": path.to_string_lossy()}}),
    };
    let mut line = Map::new();
    line.insert("health_checker_type".into(), kind.into());
    line.insert("host".into(), address);
    line.insert("cluster_name".into(), (**cluster.name()).into());
    line.insert(name.into(), told);
    line.insert(
        "timestamp".into(),
        crate::telemetry::log_format::timestamp(SystemTime::now()).into(),
    );
    Value::Object(line)
}
