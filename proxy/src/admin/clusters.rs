//! `/clusters`: every cluster with its hosts, their counters and health.

use std::fmt::{self, Write};
use std::sync::Arc;

use serde_json::{Value, json};

use super::Context;
use super::json::{address, locality};
use super::query::Query;
use super::reply::{Answer, Reply};
use crate::config::cluster::{Discovery, Thresholds};
use crate::config::endpoint::Locality;
use crate::upstream::cluster::host::HostStats;
use crate::upstream::cluster::{Cluster, HealthFlags, Host};

/// A cluster to print.
struct Row {
    cluster: Arc<Cluster>,
    /// It came over CDS.
    added_via_api: bool,
}

pub(super) fn clusters(context: &Context, query: &Query) -> Answer {
    let filter = match query.regex("filter") {
        Ok(filter) => filter,
        Err(reply) => return reply.into(),
    };
    let wanted =
        |cluster: &Arc<Cluster>| filter.as_ref().is_none_or(|f| f.is_match(cluster.name()));
    let rows: Vec<Row> = context
        .registry
        .list()
        .into_iter()
        .filter(wanted)
        .map(|cluster| Row {
            added_via_api: context.discovery.is_dynamic_cluster(cluster.name()),
            cluster,
        })
        .collect();
    let as_json = query.get("format") == Some("json");
    Answer::later(move || match as_json {
        true => Reply::json(&json_of(&rows)),
        false => Reply::text(text_of(&rows)),
    })
}

impl Row {
    fn hosts(&self) -> Vec<Arc<Host>> {
        match self.cluster.original_dst() {
            Some(made) => made.all(),
            None => self.cluster.hosts().hosts().to_vec(),
        }
    }

    /// The name that statistics go by, with its colons.
    fn observability_name(&self) -> &str {
        let config = self.cluster.config();
        if config.name.replace(':', "_") == *config.stat_name {
            &config.name
        } else {
            &config.stat_name
        }
    }

    fn eds_service_name(&self) -> Option<&str> {
        match &self.cluster.config().discovery {
            Discovery::Eds { service_name, .. } => Some(service_name),
            _ => None,
        }
    }
}

fn text_of(rows: &[Row]) -> String {
    let mut out = String::new();
    for row in rows {
        write_cluster(row, &mut out).expect("a string takes every character");
    }
    out
}

fn write_cluster(row: &Row, out: &mut String) -> fmt::Result {
    let name = row.cluster.name();
    writeln!(out, "{name}::observability_name::{}", row.observability_name())?;
    let thresholds = &row.cluster.config().circuit_breakers;
    for (priority, thresholds) in ["default", "high"].into_iter().zip(thresholds.iter()) {
        for (limit, value) in limits(thresholds) {
            writeln!(out, "{name}::{priority}_priority::{limit}::{value}")?;
        }
    }
    writeln!(out, "{name}::added_via_api::{}", row.added_via_api)?;
    if let Some(service) = row.eds_service_name() {
        writeln!(out, "{name}::eds_service_name::{service}")?;
    }
    row.hosts().iter().try_for_each(|host| write_host(name, host, out))
}

fn write_host(cluster: &str, host: &Host, out: &mut String) -> fmt::Result {
    let at = format!("{cluster}::{}", host.address());
    for (name, value, _) in counts(&host.stats) {
        writeln!(out, "{at}::{name}::{value}")?;
    }
    let Locality { region, zone, sub_zone } = &**host.locality();
    let hostname = host.hostname().map_or("", |name| name);
    let canary = canary(host);
    writeln!(out, "{at}::hostname::{hostname}")?;
    writeln!(out, "{at}::health_flags::{}", host.health_flags())?;
    writeln!(out, "{at}::weight::{}", host.weight())?;
    writeln!(out, "{at}::region::{region}\n{at}::zone::{zone}\n{at}::sub_zone::{sub_zone}")?;
    writeln!(out, "{at}::canary::{canary}")?;
    writeln!(out, "{at}::priority::{}", host.priority())?;
    // -1 says that there is none: rates are computed where outlier detection needs them.
    writeln!(out, "{at}::success_rate::-1\n{at}::local_origin_success_rate::-1")
}

/// Whether the endpoint's metadata marks it as a canary (`envoy.lb: {canary: true}`).
fn canary(host: &Host) -> bool {
    let metadata = host.metadata();
    let mark = metadata.as_ref().and_then(|all| all.get("envoy.lb")?.get("canary"));
    mark == Some(&Value::Bool(true))
}

fn limits(thresholds: &Thresholds) -> [(&'static str, u32); 4] {
    [
        ("max_connections", thresholds.max_connections),
        ("max_pending_requests", thresholds.max_pending_requests),
        ("max_requests", thresholds.max_requests),
        ("max_retries", thresholds.max_retries),
    ]
}

/// A host's counts by name, and whether each is a gauge.
fn counts(stats: &HostStats) -> [(&'static str, u64, bool); 8] {
    [
        ("cx_active", stats.cx_active.get(), true),
        ("cx_connect_fail", stats.cx_connect_fail.get(), false),
        ("cx_total", stats.cx_total.get(), false),
        ("rq_active", stats.rq_active.get(), true),
        ("rq_error", stats.rq_error.get(), false),
        ("rq_success", stats.rq_success.get(), false),
        ("rq_timeout", stats.rq_timeout.get(), false),
        ("rq_total", stats.rq_total.get(), false),
    ]
}

/// `envoy.admin.v3.Clusters`. As in protobuf's JSON, what has its default value is left out.
fn json_of(rows: &[Row]) -> Value {
    let statuses: Vec<Value> = rows.iter().map(cluster_json).collect();
    match statuses.is_empty() {
        true => json!({}),
        false => json!({ "cluster_statuses": statuses }),
    }
}

fn cluster_json(row: &Row) -> Value {
    let [default, high] = row.cluster.config().circuit_breakers.each_ref().map(|thresholds| {
        let limits = limits(thresholds).into_iter().filter(|(_, value)| *value > 0);
        limits
            .map(|(name, value)| (name.to_string(), value.into()))
            .collect::<serde_json::Map<_, _>>()
    });
    let mut high = Value::Object(high);
    high["priority"] = "HIGH".into();
    let mut status = json!({
        "name": &**row.cluster.name(),
        "circuit_breakers": {"thresholds": [default, high]},
        "observability_name": row.observability_name(),
    });
    if row.added_via_api {
        status["added_via_api"] = true.into();
    }
    if let Some(service) = row.eds_service_name() {
        status["eds_service_name"] = service.into();
    }
    let hosts: Vec<Value> = row.hosts().iter().map(|host| host_json(host)).collect();
    if !hosts.is_empty() {
        status["host_statuses"] = hosts.into();
    }
    status
}

fn host_json(host: &Host) -> Value {
    let stats: Vec<Value> = counts(&host.stats)
        .into_iter()
        .map(|(name, value, is_gauge)| {
            let mut stat = json!({"name": name});
            if is_gauge {
                stat["type"] = "GAUGE".into();
            }
            if value > 0 {
                // Protobuf's JSON has 64-bit numbers as strings.
                stat["value"] = value.to_string().into();
            }
            stat
        })
        .collect();
    let mut status = json!({
        "address": address(host.address()),
        "stats": stats,
        "health_status": health_json(host.health_flags()),
        "weight": host.weight(),
        "locality": locality(host.locality()),
    });
    if let Some(hostname) = host.hostname().filter(|name| !name.is_empty()) {
        status["hostname"] = (**hostname).into();
    }
    if host.priority() > 0 {
        status["priority"] = host.priority().into();
    }
    status
}

/// `envoy.admin.v3.HostHealthStatus`.
fn health_json(flags: HealthFlags) -> Value {
    let names = [
        (HealthFlags::FAILED_ACTIVE_HC, "failed_active_health_check"),
        (HealthFlags::FAILED_OUTLIER_CHECK, "failed_outlier_check"),
        (HealthFlags::DEGRADED_ACTIVE_HC, "failed_active_degraded_check"),
        (HealthFlags::PENDING_DYNAMIC_REMOVAL, "pending_dynamic_removal"),
        (HealthFlags::PENDING_ACTIVE_HC, "pending_active_hc"),
        (HealthFlags::EXCLUDED_VIA_IMMEDIATE_HC_FAIL, "excluded_via_immediate_hc_fail"),
        (HealthFlags::ACTIVE_HC_TIMEOUT, "active_hc_timeout"),
    ];
    let eds = [
        (HealthFlags::EDS_STATUS_DRAINING, "DRAINING"),
        (HealthFlags::FAILED_EDS_HEALTH, "UNHEALTHY"),
        (HealthFlags::DEGRADED_EDS_HEALTH, "DEGRADED"),
    ];
    let eds = eds.into_iter().find(|(flag, _)| flags.intersects(*flag));
    let mut status = json!({"eds_health_status": eds.map_or("HEALTHY", |(_, name)| name)});
    for (_, name) in names.into_iter().filter(|(flag, _)| flags.intersects(*flag)) {
        status[name] = true.into();
    }
    status
}

#[cfg(test)]
mod tests;
