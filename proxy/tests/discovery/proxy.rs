//! A control thread without workers: sockets are bound, and nobody accepts.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use control_plane_mock::{Answer, ControlPlane, Options, Version};
use pillion::config::Context;
use pillion::config::bootstrap::Bootstrap;
use pillion::discovery::{Discovery, Environment, TypeDump, Versions};
use pillion::downstream::build::Builder;
use pillion::downstream::listener::{Handler, Listener};
use pillion::downstream::manager::ListenerManager;
use pillion::downstream::worker::Command;
use pillion::drain::{Settings, Strategy};
use pillion::http::manager::Routes;
use pillion::telemetry::log_writer::{LogWriter, LogWriterOptions};
use pillion::telemetry::stats::{Metric, Store};
use pillion::tls::{ClientContext, ServerContext};
use pillion::upstream::cluster::resolve::SystemResolver;
use pillion::upstream::cluster::{Cluster, ClusterRegistry};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::yaml;

/// Nothing takes longer, unless it never happens.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Proxy {
    pub discovery: Discovery,
    pub registry: Arc<ClusterRegistry>,
    pub listeners: Rc<RefCell<ListenerManager>>,
    store: Arc<Store>,
    _worker: mpsc::UnboundedReceiver<Command>,
}

/// Runs a test where discovery can run.
pub fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test)
}

/// Runs a test with a control plane in both variants of the protocol.
pub fn run_both<F: Future>(options: Options, test: impl Fn(ControlPlane, Proxy) -> F) {
    for api_type in ["GRPC", "DELTA_GRPC"] {
        run(async {
            let control_plane = ControlPlane::start(options.clone()).await.unwrap();
            let proxy = Proxy::start(&ads(&control_plane, api_type, yaml::LONG));
            test(control_plane, proxy).await;
        });
    }
}

/// A static cluster of management servers, whose port is to be put in.
pub const XDS_CLUSTER: &str = "{name: xds, type: STATIC, typed_extension_protocol_options: \
    {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {'@type': type.googleapis.com/envoy.extensions.upstreams.\
    http.v3.HttpProtocolOptions, explicit_http_config: {http2_protocol_options: {}}}}, load_assignment: {cluster_name: \
    xds, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: \
    PORT}}}}]}]}}";

/// A bootstrap with everything over ADS.
pub fn ads(control_plane: &ControlPlane, api_type: &str, timeout: &str) -> String {
    let source =
        format!("{{ads: {{}}, initial_fetch_timeout: {timeout}, resource_api_version: V3}}");
    format!(
        "{{node: {{id: test, cluster: test}}, dynamic_resources: {{cds_config: {source}, lds_config: {source}, \
         ads_config: {{api_type: {api_type}, transport_api_version: V3, grpc_services: [{{envoy_grpc: {{cluster_name: \
         xds}}}}]}}}}, static_resources: {{clusters: [{}]}}}}",
        XDS_CLUSTER.replace("PORT", &control_plane.addr().port().to_string()),
    )
}

impl Proxy {
    /// Starts discovery with a bootstrap.
    pub fn start(bootstrap: &str) -> Proxy {
        let bootstrap = Bootstrap::from_proto(&yaml::parse(bootstrap), &Context::default());
        let bootstrap = bootstrap.unwrap();
        let store = Arc::new(Store::default());
        let registry = ClusterRegistry::new(&store);
        let logs = LogWriter::start(LogWriterOptions::default(), &store).unwrap();
        let builder = Builder::new(Arc::clone(&store), Arc::clone(&registry), logs);
        let (worker, commands) = mpsc::unbounded_channel();
        let drain = Settings { time: Duration::from_secs(1), strategy: Strategy::Immediate };
        let manager = ListenerManager::new(builder, &store, vec![worker], Arc::default(), drain);
        let listeners = Rc::new(RefCell::new(manager));
        let environment = Environment {
            store: Arc::clone(&store),
            registry: Arc::clone(&registry),
            listeners: Rc::clone(&listeners),
            resolver: Arc::new(SystemResolver::default()),
            state: None,
        };
        let discovery = Discovery::start(&bootstrap, environment);
        Proxy { discovery, registry, listeners, store, _worker: commands }
    }

    pub async fn initialized(&self) {
        let done = tokio::time::timeout(PATIENCE, self.discovery.initialized()).await;
        done.unwrap_or_else(|_| panic!("not ready: {:?}", self.discovery.pending())).unwrap();
    }

    /// Waits until `condition` holds.
    pub async fn until(&self, what: &str, condition: impl Fn(&Proxy) -> bool) {
        let holds = async {
            while !condition(self) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let done = tokio::time::timeout(PATIENCE, holds).await;
        assert!(done.is_ok(), "never: {what}; pending: {:?}", self.discovery.pending());
    }

    pub fn cluster(&self, name: &str) -> Option<Arc<Cluster>> {
        self.registry.get(name)
    }

    /// The ports of a cluster's hosts, in order.
    pub fn ports(&self, cluster: &str) -> Vec<u16> {
        let cluster = self.cluster(cluster).unwrap_or_else(|| panic!("no cluster {cluster}"));
        cluster.hosts().hosts().iter().filter_map(|host| host.address().port()).collect()
    }

    pub fn listener(&self, name: &str) -> Option<Arc<Listener>> {
        self.listeners.borrow().get(name).cloned()
    }

    /// What handshakes of a listener's first chain need; none while a secret is missing.
    pub fn server(&self, listener: &str) -> Option<Arc<ServerContext>> {
        let state = self.listener(listener)?.state.load_full();
        let chain = state.chains.iter().next()?;
        chain.tls.as_ref()?.slot.ready().clone()
    }

    /// What handshakes of a cluster need; none while a secret is missing.
    pub fn client(&self, cluster: &str) -> Option<Arc<ClientContext>> {
        self.cluster(cluster)?.sockets.get()?.iter().next()?.ready().clone()
    }

    /// The route table of a listener's first chain.
    pub fn routes(&self, listener: &str) -> Option<Arc<Routes>> {
        let listener = self.listener(listener).unwrap_or_else(|| panic!("no listener {listener}"));
        let state = listener.state.load();
        let chain = state.chains.iter().next().unwrap();
        match &chain.handler {
            Handler::Http(manager) => manager.routes.load_full(),
            _ => panic!("the chain does not speak HTTP"),
        }
    }

    /// The value of a counter or gauge; none if there is no such metric.
    pub fn stat(&self, name: &str) -> Option<u64> {
        let mut found = None;
        for group in self.store.groups() {
            let Some(wanted) = name.strip_prefix(group.prefix()) else { continue };
            group.visit(&mut |name, metric| match metric {
                Metric::Counter(counter) if name == wanted => found = Some(counter.get()),
                Metric::Gauge(gauge) if name == wanted => found = Some(gauge.get()),
                _ => {}
            });
        }
        found
    }
}

/// The versions of a resource in a dump.
pub fn versions(dump: &TypeDump, name: &str) -> Versions {
    let found = dump.dynamic.iter().find(|dynamic| &*dynamic.name == name);
    found.unwrap_or_else(|| panic!("{name} is not in the dump")).versions.clone()
}

/// Waits for the answer to a push.
pub async fn answer(control_plane: &ControlPlane, type_url: &str, version: Version) -> Answer {
    control_plane.wait_ack(type_url, version, None, PATIENCE).await.unwrap()
}

/// Waits for the ACK of a push.
pub async fn accepted(control_plane: &ControlPlane, type_url: &str, version: Version) {
    assert_eq!(answer(control_plane, type_url, version).await.error, None);
}

/// Waits for the NACK of a push; gives its message.
pub async fn refused(control_plane: &ControlPlane, type_url: &str, version: Version) -> String {
    answer(control_plane, type_url, version).await.error.expect("a NACK")
}
