//! Picks a second of each load balancing policy, and how long its tables take to build. Runs in this process: no program
//! is started, no request is sent.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pillion::config::cluster::Cluster as Config;
use pillion::config::endpoint::Assignment;
use pillion::config::{At, Context};
use pillion::telemetry::stats::Store;
use pillion::upstream::balance::PickContext;
use pillion::upstream::cluster::{Cluster, ClusterRegistry};
use proto::Registry;
use proto::envoy::config::cluster::v3 as pb;
use proto::envoy::config::endpoint::v3::ClusterLoadAssignment;

use crate::Result;

/// Its name on the command line.
pub const NAME: &str = "picks";

/// Policies by name, with their fields and whether hosts have unequal weights.
const POLICIES: [(&str, &str, bool); 10] = [
    ("round robin", "lb_policy: ROUND_ROBIN", false),
    ("round robin, weighted", "lb_policy: ROUND_ROBIN", true),
    ("least request", "lb_policy: LEAST_REQUEST", false),
    ("least request, weighted", "lb_policy: LEAST_REQUEST", true),
    ("random", "lb_policy: RANDOM", false),
    ("ring hash", "lb_policy: RING_HASH", false),
    (
        "ring hash, 8 Mi points",
        "lb_policy: RING_HASH, ring_hash_lb_config: {minimum_ring_size: 8388608}",
        false,
    ),
    ("maglev", "lb_policy: MAGLEV", false),
    (
        "locality weights",
        "lb_policy: ROUND_ROBIN, common_lb_config: {locality_weighted_lb_config: {}}",
        false,
    ),
    (
        "peak EWMA",
        "load_balancing_policy: {policies: [{typed_extension_config: {name: p, typed_config: \
         {'@type': type.googleapis.com/xds.type.v3.TypedStruct, type_url: \
         type.googleapis.com/envoy.extensions.load_balancing_policies.peak_ewma.v3alpha.PeakEwma}}}]}",
        false,
    ),
];
const HOSTS: [usize; 3] = [10, 1_000, 10_000];

/// Measures and prints all of it.
pub fn run(quick: bool) -> Result<()> {
    let time = Duration::from_millis(if quick { 50 } else { 500 });
    println!(
        "\npicks: picks a second of one thread, and the time to build a table after all hosts changed"
    );
    println!("| policy | {} |", HOSTS.map(|hosts| format!("{hosts} hosts")).join(" | "));
    println!("|---|--:|--:|--:|");
    for (name, fields, weighted) in POLICIES {
        let mut cells = Vec::new();
        for hosts in HOSTS {
            let (picks, build) = measure(fields, weighted, hosts, time)?;
            cells.push(format!("{:.1} M/s, {:.1} ms", picks / 1e6, build.as_secs_f64() * 1e3));
        }
        println!("| {name} | {} |", cells.join(" | "));
    }
    Ok(())
}

/// Picks a second, and the time that an assignment of so many new hosts takes.
fn measure(fields: &str, weighted: bool, hosts: usize, time: Duration) -> Result<(f64, Duration)> {
    let message: pb::Cluster = Registry::load().from_yaml(&format!("{{name: a, {fields}}}"))?;
    let at = At::resource("cluster", "a");
    let config = Config::from_proto(&message, &at, &Context::default())?;
    let store = Arc::new(Store::default());
    let registry = ClusterRegistry::new(&store);
    let cluster = Cluster::new(Arc::new(config), &store, &registry, None);
    let assignment = assignment(weighted, hosts)?;
    let begin = Instant::now();
    cluster.set_assignment(&assignment);
    let build = begin.elapsed();
    let (begin, mut picks) = (Instant::now(), 0_u64);
    while begin.elapsed() < time {
        for _ in 0..1000 {
            let hash = Some(picks.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let context = PickContext { hash, ..PickContext::default() };
            black_box(cluster.pick(&context)?);
            picks += 1;
        }
    }
    Ok((picks as f64 / begin.elapsed().as_secs_f64(), build))
}

/// Hosts in three localities of different weight.
fn assignment(weighted: bool, hosts: usize) -> Result<Assignment> {
    let group = |zone: usize| {
        let hosts = (zone..hosts).step_by(3).map(|host| {
            let weight = if weighted { host % 7 + 1 } else { 1 };
            format!(
                "{{load_balancing_weight: {weight}, endpoint: {{address: {{socket_address: \
                 {{address: 10.{}.{}.{}, port_value: 80}}}}}}}}",
                host >> 16,
                (host >> 8) & 255,
                host & 255
            )
        });
        let hosts = hosts.collect::<Vec<_>>().join(",");
        let weight = zone + 1;
        format!(
            "{{locality: {{zone: z{zone}}}, load_balancing_weight: {weight}, lb_endpoints: [{hosts}]}}"
        )
    };
    let groups: Vec<_> = (0..3).map(group).collect();
    let yaml = format!("{{cluster_name: a, endpoints: [{}]}}", groups.join(","));
    let message: ClusterLoadAssignment = Registry::load().from_yaml(&yaml)?;
    let at = At::resource("endpoints", "a");
    Ok(Assignment::from_proto(&message, &at, &Context::default())?)
}
