//! Load reports (LRS): how many requests each locality of a cluster got, for a control plane that places load by it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use http::uri::PathAndQuery;
use proto::convert::duration;
use proto::envoy::config::core::v3::Node;
use proto::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};
use tokio::time::{Instant, sleep, sleep_until};
use xds_client::Server;
use xds_client::transport;

use crate::stat_group;
use crate::telemetry::stats::Store;
use crate::upstream::cluster::ClusterRegistry;
use period::Period;

mod period;

const METHOD: &str = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats";
/// Tells the server that it may ask for all clusters without naming them.
const ALL_CLUSTERS: &str = "envoy.lrs.supports_send_all_clusters";
/// Between two streams, as in Envoy.
const RETRY: Duration = Duration::from_secs(5);
/// Shorter intervals are not kept.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
/// A response holds names.
const MAX_RESPONSE: usize = 16 << 20;

stat_group! {
    /// `load_reporter.` As in Envoy, a report is the response, and what the server says is the request for it.
    pub struct LoadReporterStats {
        counter errors,
        counter requests,
        counter responses,
        counter retries,
    }
}

/// Reports the load of clusters to a management server.
pub struct LoadReporter {
    server: Server,
    node: Node,
    registry: Arc<ClusterRegistry>,
    stats: Arc<LoadReporterStats>,
    asked: Asked,
    periods: BTreeMap<Arc<str>, Period>,
}

/// What the server asked for last.
#[derive(Default)]
struct Asked {
    clusters: HashSet<String>,
    all: bool,
    by_endpoint: bool,
}

impl LoadReporter {
    /// A reporter to `server`, which has asked for nothing yet.
    pub fn new(
        server: Server,
        mut node: Node,
        registry: Arc<ClusterRegistry>,
        store: &Store,
    ) -> Self {
        node.client_features.push(ALL_CLUSTERS.to_owned());
        let stats = store.register(LoadReporterStats::new("load_reporter."));
        let (asked, periods) = (Asked::default(), BTreeMap::new());
        LoadReporter { server, node, registry, stats, asked, periods }
    }

    /// Reports for ever, on one stream after the other.
    pub async fn run(mut self) {
        loop {
            self.stream().await;
            self.stats.errors.inc();
            sleep(RETRY).await;
            self.stats.retries.inc();
        }
    }

    /// Reports on one stream until it ends.
    async fn stream(&mut self) {
        let method = PathAndQuery::from_static(METHOD);
        let mut link = transport::open::<LoadStatsRequest, LoadStatsResponse>(
            &self.server,
            method,
            MAX_RESPONSE,
        );
        let hello = LoadStatsRequest { node: Some(self.node.clone()), cluster_stats: Vec::new() };
        let mut next = Some(hello);
        let mut interval = None;
        let mut due = Instant::now();
        loop {
            if let Some(request) = next.take() {
                if link.requests.send(request).await.is_err() {
                    return;
                }
                self.stats.responses.inc();
            }
            tokio::select! {
                response = link.responses.next() => match response {
                    Some(Ok(Some(response))) => {
                        interval = self.on_response(response);
                        due = Instant::now() + interval.unwrap_or_default();
                    }
                    // The server has accepted the stream.
                    Some(Ok(None)) => {}
                    Some(Err(status)) => {
                        let message = status.message();
                        tracing::warn!(server = self.server.name, message, "lost the stream for load reports");
                        return;
                    }
                    None => return,
                },
                () = sleep_until(due), if interval.is_some() => {
                    next = Some(self.report());
                    due = Instant::now() + interval.unwrap_or(RETRY);
                }
            }
        }
    }

    /// Takes in what the server asks for: it stands for what was asked for before, and clusters that are in both are counted on.
    /// Gives the interval.
    fn on_response(&mut self, response: LoadStatsResponse) -> Option<Duration> {
        self.stats.requests.inc();
        let interval =
            response.load_reporting_interval.as_ref().and_then(|interval| duration(interval).ok());
        self.asked = Asked {
            clusters: response.clusters.into_iter().collect(),
            all: response.send_all_clusters,
            by_endpoint: response.report_endpoint_granularity,
        };
        let asked = &self.asked;
        self.periods.retain(|name, _| asked.all || asked.clusters.contains(&**name));
        self.follow();
        interval.map(|interval| interval.max(SHORTEST_INTERVAL))
    }

    /// Counts from now on for clusters that are asked for and have appeared.
    fn follow(&mut self) {
        for cluster in self.registry.list() {
            let is_asked = self.asked.all || self.asked.clusters.contains(&**cluster.name());
            if is_asked && !self.periods.contains_key(cluster.name()) {
                self.periods.insert(Arc::clone(cluster.name()), Period::begin(&cluster));
            }
        }
    }

    /// What happened since the last report.
    fn report(&mut self) -> LoadStatsRequest {
        let clusters: HashMap<_, _> =
            self.registry.list().into_iter().map(|c| (Arc::clone(c.name()), c)).collect();
        let by_endpoint = self.asked.by_endpoint;
        let reports = self
            .periods
            .iter_mut()
            .filter_map(|(name, period)| Some(period.end(clusters.get(name)?, by_endpoint)));
        let cluster_stats = reports.collect();
        self.periods.retain(|name, _| clusters.contains_key(name));
        self.follow();
        LoadStatsRequest { node: None, cluster_stats }
    }
}
