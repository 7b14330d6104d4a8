//! What hosts report of their load (ORCA), and how long they take to answer.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::HeaderMap;
use prost::Message;

use crate::config::cluster::load_balancing::{ClientSideWeighted, PeakEwma};
use crate::upstream::cluster::host::since_start;

/// What is known of one host. Only hosts of clusters whose policy asks have it.
#[derive(Debug, Default)]
pub struct Measured {
    /// The weight by the last report, as bits of an `f32`; 0 for none.
    weight: AtomicU32,
    /// When the reports began, and when the last one came, in milliseconds since the start of the process.
    first_report: AtomicU64,
    last_report: AtomicU64,
    /// Smoothed latency in nanoseconds, as bits of an `f64`, and when it was measured.
    latency: AtomicU64,
    measured_at: AtomicU64,
}

impl Measured {
    /// Takes a report over; those without a usable figure are passed over.
    pub fn report(&self, report: &LoadReport, policy: &ClientSideWeighted) {
        let weight = weight(report, policy);
        if weight <= 0.0 {
            return;
        }
        let now = since_start().as_millis() as u64;
        let is_first = self.weight.load(Relaxed) == 0
            || now.saturating_sub(self.last_report.load(Relaxed)) >= millis(policy.expiration);
        if is_first {
            self.first_report.store(now, Relaxed);
        }
        self.last_report.store(now, Relaxed);
        self.weight.store((weight as f32).to_bits(), Relaxed);
    }

    /// The weight by reports, if they have come for long enough and still come.
    pub fn weight(&self, policy: &ClientSideWeighted) -> Option<f64> {
        let now = since_start().as_millis() as u64;
        let since = |stamp: &AtomicU64| now.saturating_sub(stamp.load(Relaxed));
        let weight = f32::from_bits(self.weight.load(Relaxed));
        let counts = weight > 0.0
            && since(&self.last_report) < millis(policy.expiration)
            && since(&self.first_report) >= millis(policy.blackout);
        counts.then_some(f64::from(weight))
    }

    /// Takes a response's latency over: a peak at once, less than before by and by.
    pub fn observe(&self, latency: Duration, policy: &PeakEwma) {
        let sample = latency.as_nanos() as f64;
        let smoothed = match self.latency(policy) {
            Some(known) if known > sample => {
                let kept = self.decay(policy);
                f64::from_bits(self.latency.load(Relaxed)) * kept + sample * (1.0 - kept)
            }
            _ => sample,
        };
        self.latency.store(smoothed.max(1.0).to_bits(), Relaxed);
        self.measured_at.store(since_start().as_nanos() as u64, Relaxed);
    }

    /// Smoothed latency in nanoseconds, which falls while nothing is measured, so that a slow host is tried again; none
    /// before the first response.
    pub fn latency(&self, policy: &PeakEwma) -> Option<f64> {
        let known = f64::from_bits(self.latency.load(Relaxed));
        (known > 0.0).then(|| known * self.decay(policy))
    }

    /// The share of the last value that still counts.
    fn decay(&self, policy: &PeakEwma) -> f64 {
        let measured = Duration::from_nanos(self.measured_at.load(Relaxed));
        let elapsed = since_start().saturating_sub(measured);
        (-elapsed.as_secs_f64() / policy.decay.as_secs_f64()).exp()
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// The fields of `xds.data.orca.v3.OrcaLoadReport` that weights come from.
#[derive(Clone, PartialEq, Message)]
pub struct LoadReport {
    /// `cpu_utilization`
    #[prost(double, tag = "1")]
    pub cpu_utilization: f64,
    /// `mem_utilization`
    #[prost(double, tag = "2")]
    pub mem_utilization: f64,
    /// `utilization`
    #[prost(btree_map = "string, double", tag = "5")]
    pub utilization: std::collections::BTreeMap<String, f64>,
    /// `rps_fractional`
    #[prost(double, tag = "6")]
    pub qps: f64,
    /// `eps`
    #[prost(double, tag = "7")]
    pub eps: f64,
    /// `named_metrics`
    #[prost(btree_map = "string, double", tag = "8")]
    pub named_metrics: std::collections::BTreeMap<String, f64>,
    /// `application_utilization`
    #[prost(double, tag = "9")]
    pub application_utilization: f64,
}

const BINARY: &str = "endpoint-load-metrics-bin";
const TEXT: &str = "endpoint-load-metrics";

impl LoadReport {
    /// The report in response headers or trailers: binary, or as text or JSON. None if there is none that can be read.
    pub fn from_headers(headers: &HeaderMap) -> Option<LoadReport> {
        if let Some(value) = headers.get(BINARY) {
            return decoded(value.as_bytes());
        }
        let text = headers.get(TEXT)?.to_str().ok()?;
        match text.split_once(' ') {
            Some(("BIN", encoded)) => decoded(encoded.as_bytes()),
            Some(("JSON", json)) => LoadReport::from_json(json),
            Some(("TEXT", pairs)) => LoadReport::from_pairs(pairs),
            _ => LoadReport::from_pairs(text),
        }
    }

    fn from_json(json: &str) -> Option<LoadReport> {
        let json: serde_json::Value = serde_json::from_str(json).ok()?;
        let mut report = LoadReport::default();
        for (name, value) in json.as_object()? {
            match value.as_object() {
                Some(fields) => {
                    for (inner, value) in fields {
                        report.set(&format!("{name}.{inner}"), value.as_f64()?);
                    }
                }
                None => report.set(name, value.as_f64()?),
            }
        }
        Some(report)
    }

    /// `name=value` pairs, separated by commas.
    fn from_pairs(pairs: &str) -> Option<LoadReport> {
        let mut report = LoadReport::default();
        for pair in pairs.split(',') {
            let (name, value) = pair.split_once(['=', ':'])?;
            report.set(name.trim(), value.trim().parse().ok()?);
        }
        Some(report)
    }

    fn set(&mut self, name: &str, value: f64) {
        match name {
            "cpu_utilization" | "cpuUtilization" => self.cpu_utilization = value,
            "mem_utilization" | "memUtilization" => self.mem_utilization = value,
            "application_utilization" | "applicationUtilization" => {
                self.application_utilization = value;
            }
            "rps_fractional" | "rpsFractional" => self.qps = value,
            "eps" => self.eps = value,
            name => {
                let (map, key) = match name.split_once('.') {
                    Some(("utilization", key)) => (&mut self.utilization, key),
                    Some(("named_metrics" | "namedMetrics", key)) => (&mut self.named_metrics, key),
                    _ => return,
                };
                map.insert(key.to_owned(), value);
            }
        }
    }

    /// A metric by the name that configuration has for it.
    fn metric(&self, name: &str) -> f64 {
        let found = match name.split_once('.') {
            Some(("named_metrics", key)) => self.named_metrics.get(key),
            Some(("utilization", key)) => self.utilization.get(key),
            _ => None,
        };
        match name {
            "cpu_utilization" => self.cpu_utilization,
            "mem_utilization" => self.mem_utilization,
            "application_utilization" => self.application_utilization,
            _ => found.copied().unwrap_or(0.0),
        }
    }
}

/// Requests over utilization, as gRFC A58 and Envoy compute it.
fn weight(report: &LoadReport, policy: &ClientSideWeighted) -> f64 {
    let positive = |value: f64| (value > 0.0).then_some(value);
    let named = policy.metrics.iter().map(|name| report.metric(name)).fold(0.0, f64::max);
    let utilization = positive(report.application_utilization)
        .or(positive(named))
        .or(positive(report.cpu_utilization));
    let (Some(utilization), Some(qps)) = (utilization, positive(report.qps)) else { return 0.0 };
    let penalty = positive(report.eps).map_or(0.0, |eps| eps / qps * policy.error_penalty);
    qps / (utilization + penalty)
}

/// A report in base64, with padding or without.
fn decoded(text: &[u8]) -> Option<LoadReport> {
    let text = text.trim_ascii_end();
    let text = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    LoadReport::decode(&*STANDARD_NO_PAD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn policy() -> ClientSideWeighted {
        ClientSideWeighted {
            blackout: Duration::from_secs(10),
            expiration: Duration::from_secs(180),
            update: Duration::from_secs(1),
            error_penalty: 1.0,
            metrics: vec!["named_metrics.queue".into()],
            slow_start: None,
        }
    }

    fn report(name: &'static str, value: &str) -> Option<LoadReport> {
        let value = HeaderValue::from_str(value).unwrap();
        let name = http::HeaderName::from_static(name);
        LoadReport::from_headers(&HeaderMap::from_iter([(name, value)]))
    }

    #[test]
    fn every_form_of_a_report_is_read() {
        let expected = LoadReport { cpu_utilization: 0.5, qps: 100.0, ..LoadReport::default() };
        // 09 00..e03f: field 1, double 0.5; 31 00..5940: field 6, double 100.
        let binary = "CQAAAAAAAOA/MQAAAAAAAFlA";
        for (name, value) in [
            (BINARY, binary),
            (TEXT, "TEXT cpu_utilization=0.5, rps_fractional=100"),
            (TEXT, "JSON {\"cpu_utilization\": 0.5, \"rps_fractional\": 100}"),
            (TEXT, "BIN CQAAAAAAAOA/MQAAAAAAAFlA"),
        ] {
            assert_eq!(report(name, value).as_ref(), Some(&expected), "{value}");
        }
        assert_eq!(report(TEXT, "JSON {"), None);
        assert_eq!(report(BINARY, "*"), None);
    }

    #[test]
    fn weights_are_requests_over_utilization() {
        let of = |text: &str| weight(&report(TEXT, text).unwrap(), &policy());
        assert_eq!(of("cpu_utilization=0.5,rps_fractional=100"), 200.0);
        assert_eq!(of("cpu_utilization=0.5,rps_fractional=100,eps=50"), 100.0);
        assert_eq!(of("application_utilization=1,cpu_utilization=0.5,rps_fractional=100"), 100.0);
        assert_eq!(of("named_metrics.queue=0.25,cpu_utilization=0.5,rps_fractional=100"), 400.0);
        assert_eq!(of("cpu_utilization=0.5"), 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn weights_count_after_the_blackout_until_they_expire() {
        let policy = policy();
        let measured = Measured::default();
        let now = LoadReport { cpu_utilization: 0.5, qps: 10.0, ..LoadReport::default() };
        tokio::time::advance(Duration::from_secs(1)).await;
        measured.report(&now, &policy);
        assert_eq!(measured.weight(&policy), None);
        tokio::time::advance(Duration::from_secs(10)).await;
        measured.report(&now, &policy);
        assert_eq!(measured.weight(&policy), Some(20.0));
        tokio::time::advance(Duration::from_secs(180)).await;
        assert_eq!(measured.weight(&policy), None);
        measured.report(&now, &policy);
        assert_eq!(measured.weight(&policy), None, "the blackout begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn latency_peaks_at_once_and_decays() {
        let second = Duration::from_secs(1);
        let policy = PeakEwma { decay: 10 * second, default_rtt: second };
        let measured = Measured::default();
        assert_eq!(measured.latency(&policy), None);
        measured.observe(Duration::from_nanos(100), &policy);
        measured.observe(Duration::from_nanos(500), &policy);
        assert_eq!(measured.latency(&policy), Some(500.0));
        tokio::time::advance(10 * second).await;
        let latency = measured.latency(&policy).unwrap();
        assert!((latency - 500.0 / std::f64::consts::E).abs() < 1.0, "{latency}");
    }
}
