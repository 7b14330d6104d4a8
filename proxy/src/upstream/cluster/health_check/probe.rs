//! One check of one host, whatever it asks.

use std::sync::Arc;
use std::time::Duration;

use super::{grpc, http, tcp};
use crate::config::cluster::{HealthCheck, Probe as Config};
use crate::io::{Address, Stream};
use crate::upstream::cluster::{Cluster, Host};
use crate::upstream::connect::{ConnectError, Connected, connect_to};

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The host is well.
    Well {
        /// It asks to be spared (`x-envoy-degraded`).
        degraded: bool,
    },
    /// It says that it is not.
    Unwell {
        /// `retriable_statuses`: once is not enough to believe it.
        retriable: bool,
        /// `x-envoy-immediate-health-check-fail`
        at_once: bool,
    },
    /// It answers for another service than is asked for.
    OtherService,
    /// It cannot be asked.
    Unreachable,
    /// It does not answer in time.
    Late,
}

impl Found {
    /// The host says that it is not well, which is believed.
    pub const UNWELL: Found = Found::Unwell { retriable: false, at_once: false };
    /// The host is well.
    pub const WELL: Found = Found::Well { degraded: false };
}

/// Checks one host; keeps its connection from check to check.
pub struct Probe {
    config: Arc<HealthCheck>,
    http1: Option<http::Http1>,
    http2: Option<http::Http2>,
    /// A connection of a TCP check that sends something.
    pub tcp: Option<Stream>,
}

impl Probe {
    /// A probe that has no connection yet.
    pub fn new(config: Arc<HealthCheck>) -> Self {
        Probe { config, http1: None, http2: None, tcp: None }
    }

    /// `timeout`
    pub fn timeout(&self) -> Duration {
        self.config.timeout
    }

    /// Asks the host once.
    pub async fn check(&mut self, cluster: &Cluster, host: &Host) -> Found {
        let config = Arc::clone(&self.config);
        let limit = config.timeout;
        let checking = async {
            match &config.probe {
                Config::Tcp(probe) => tcp::check(self, probe, cluster, host).await,
                Config::Http(probe) => http::check(self, probe, cluster, host).await,
                Config::Grpc(probe) => grpc::check(self, probe, cluster, host).await,
            }
        };
        let found = tokio::time::timeout(limit, checking).await.unwrap_or(Found::Late);
        if !config.reuse_connection || matches!(found, Found::Late | Found::Unreachable) {
            self.http1 = None;
            self.http2 = None;
            self.tcp = None;
        }
        found
    }

    /// A new connection to where the host is checked.
    pub async fn connect(&self, cluster: &Cluster, host: &Host) -> Result<Connected, ConnectError> {
        connect_to(&address(host), cluster, host).await
    }

    /// The HTTP/1.1 connection that is kept, or a new one.
    pub async fn http1(&mut self, cluster: &Cluster, host: &Host) -> Option<&mut http::Http1> {
        if self.http1.as_ref().is_none_or(|kept| kept.is_closed()) {
            let connected = self.connect(cluster, host).await.ok()?;
            self.http1 = Some(http::open_http1(connected).await?);
        }
        self.http1.as_mut()
    }

    /// The HTTP/2 connection that is kept, or a new one.
    pub async fn http2(&mut self, cluster: &Cluster, host: &Host) -> Option<&mut http::Http2> {
        if self.http2.as_ref().is_none_or(|kept| kept.is_closed()) {
            let connected = self.connect(cluster, host).await.ok()?;
            self.http2 = Some(http::open_http2(connected, cluster).await?);
        }
        self.http2.as_mut()
    }
}

/// Where the host is checked: at its health check address, at its health check port, or where it serves.
fn address(host: &Host) -> Address {
    let own = host.check();
    let address = own.and_then(|own| own.address.clone());
    let port = own.and_then(|own| own.port);
    match (address.unwrap_or_else(|| host.address().clone()), port) {
        (Address::Ip(mut ip), Some(port)) => {
            ip.set_port(port);
            Address::Ip(ip)
        }
        (address, _) => address,
    }
}

/// The host header: as configured, or the endpoint's name, or the cluster's.
pub fn authority(configured: &str, cluster: &Cluster, host: &Host) -> String {
    let own = host.check().and_then(|own| own.hostname.as_deref());
    let named = own.or(host.hostname().map(|name| &**name));
    match configured {
        "" => named.unwrap_or(cluster.name()).to_owned(),
        configured => configured.to_owned(),
    }
}
