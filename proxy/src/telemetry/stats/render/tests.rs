//! The formats, compared with what Envoy 1.40 prints.

use super::*;
use crate::stat_group;
use crate::telemetry::stats::Store;

stat_group! {
    /// A cluster, in small.
    pub struct ClusterStats {
        codes upstream_rq, counter upstream_rq_total, gauge upstream_cx_active, histogram upstream_rq_time,
    }
}

stat_group! {
    /// A connection manager, in small.
    pub struct ManagerStats { codes downstream_rq, text version }
}

struct Samples {
    store: Store,
    cluster: Arc<ClusterStats>,
    manager: Arc<ManagerStats>,
}

fn samples() -> Samples {
    let store = Store::default();
    let cluster = store.register(ClusterStats::new("cluster.out|80||a:b."));
    let manager = store.register(ManagerStats::new("listener.127.0.0.1_80.http.in."));
    cluster.upstream_rq.record(503);
    cluster.upstream_rq_total.inc();
    cluster.upstream_cx_active.set(2);
    manager.downstream_rq.record_class(200);
    Samples { store, cluster, manager }
}

#[test]
fn text_is_sorted_with_histograms_last() {
    let samples = samples();
    *samples.manager.version.lock() = "1.2".to_string();
    samples.cluster.upstream_rq_time.record(5);
    let expected = "\
cluster.out|80||a_b.upstream_cx_active: 2
cluster.out|80||a_b.upstream_rq_503: 1
cluster.out|80||a_b.upstream_rq_5xx: 1
cluster.out|80||a_b.upstream_rq_completed: 1
cluster.out|80||a_b.upstream_rq_total: 1
listener.127.0.0.1_80.http.in.downstream_rq_1xx: 0
listener.127.0.0.1_80.http.in.downstream_rq_2xx: 1
listener.127.0.0.1_80.http.in.downstream_rq_3xx: 0
listener.127.0.0.1_80.http.in.downstream_rq_4xx: 0
listener.127.0.0.1_80.http.in.downstream_rq_5xx: 0
listener.127.0.0.1_80.http.in.downstream_rq_completed: 1
listener.127.0.0.1_80.http.in.version: \"1.2\"
cluster.out|80||a_b.upstream_rq_time: P0(nan,5) P25(nan,5) P50(nan,5) P75(nan,5) P90(nan,5) P95(nan,5) \
P99(nan,5) P99.5(nan,5) P99.9(nan,5) P100(nan,5)
";
    assert_eq!(text(&samples.store.groups(), &StatsQuery::default()), expected);
}

#[test]
fn a_query_selects_by_use_name_and_kind() {
    let samples = samples();
    let groups = samples.store.groups();
    let filter = Some(Regex::new("_rq_(5|t)").unwrap());
    let found = text(&groups, &StatsQuery { filter, used_only: true, ..Default::default() });
    let names: Vec<&str> = found.lines().filter_map(|line| line.split(": ").next()).collect();
    let cluster = ["upstream_rq_503", "upstream_rq_5xx", "upstream_rq_total"];
    assert_eq!(names, cluster.map(|name| format!("cluster.out|80||a_b.{name}")));

    let kind = StatKind::parse("Histograms");
    assert_eq!(
        text(&groups, &StatsQuery { kind, ..Default::default() }),
        "cluster.out|80||a_b.upstream_rq_time: No recorded values\n"
    );
}

#[test]
fn json_has_envoys_shape() {
    let samples = samples();
    let filter = Some(Regex::new("upstream_rq_t").unwrap());
    let printed = json(&samples.store.groups(), &StatsQuery { filter, ..Default::default() });
    let parsed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let stats = &parsed["stats"];
    assert_eq!(stats[0]["name"], "cluster.out|80||a_b.upstream_rq_total");
    assert_eq!(stats[0]["value"], 1);
    let histograms = &stats[1]["histograms"];
    assert_eq!(histograms["supported_quantiles"][7], 99.5);
    let computed = &histograms["computed_quantiles"][0];
    assert_eq!(computed["name"], "cluster.out|80||a_b.upstream_rq_time");
    assert_eq!(computed["values"].as_array().unwrap().len(), 10);
    assert!(computed["values"][0]["cumulative"].is_null());
}

#[test]
fn prometheus_has_labels_types_and_buckets() {
    let samples = samples();
    samples.cluster.upstream_rq_time.record(7);
    let printed = prometheus(&samples.store.groups(), &StatsQuery::default());
    let head: String = printed.lines().take(17).map(|line| format!("{line}\n")).collect();
    let expected = "\
# TYPE envoy_cluster_upstream_rq counter
envoy_cluster_upstream_rq{envoy_response_code=\"503\",envoy_cluster_name=\"out|80||a_b\"} 1
# TYPE envoy_cluster_upstream_rq_completed counter
envoy_cluster_upstream_rq_completed{envoy_cluster_name=\"out|80||a_b\"} 1
# TYPE envoy_cluster_upstream_rq_total counter
envoy_cluster_upstream_rq_total{envoy_cluster_name=\"out|80||a_b\"} 1
# TYPE envoy_cluster_upstream_rq_xx counter
envoy_cluster_upstream_rq_xx{envoy_response_code_class=\"5\",envoy_cluster_name=\"out|80||a_b\"} 1
# TYPE envoy_listener_http_downstream_rq_completed counter
envoy_listener_http_downstream_rq_completed{envoy_http_conn_manager_prefix=\"in\",\
envoy_listener_address=\"127.0.0.1_80\"} 1
# TYPE envoy_listener_http_downstream_rq_xx counter
";
    assert!(head.starts_with(expected), "{head}");
    let bucket = |le: &str, count: u64| {
        let labels = format!("envoy_cluster_name=\"out|80||a_b\",le=\"{le}\"");
        format!("envoy_cluster_upstream_rq_time_bucket{{{labels}}} {count}\n")
    };
    for (le, count) in [("0.5", 0), ("5", 0), ("10", 1), ("3600000", 1), ("+Inf", 1)] {
        assert!(printed.contains(&bucket(le, count)), "{le}\n{printed}");
    }
    assert!(printed.contains("# TYPE envoy_cluster_upstream_cx_active gauge\n"));
    assert!(printed.ends_with(
        "envoy_cluster_upstream_rq_time_sum{envoy_cluster_name=\"out|80||a_b\"} 7\n\
envoy_cluster_upstream_rq_time_count{envoy_cluster_name=\"out|80||a_b\"} 1\n"
    ));
}

#[test]
fn prometheus_escapes_label_values_and_prints_text_on_demand() {
    let store = Store::default();
    let manager = store.register(ManagerStats::new("cluster.a\"b\\c."));
    *manager.version.lock() = "line\nbreak".to_string();
    let query = StatsQuery { text_readouts: true, ..Default::default() };
    let printed = prometheus(&store.groups(), &query);
    let line = r#"envoy_cluster_version{envoy_cluster_name="a\"b\\c",text_value="line\nbreak"} 0"#;
    assert!(printed.contains(line), "{printed}");
    let without = prometheus(&store.groups(), &StatsQuery::default());
    assert!(!without.contains("envoy_cluster_version"));
}
