//! The bootstrap (`envoy.config.bootstrap.v3.Bootstrap`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prost::bytes::Bytes;
use prost::encoding::message::encode as encode_message;
use proto::envoy::config::bootstrap::v3 as pb;
use proto::envoy::config::core::v3::Node;
use proto::google::protobuf::Any;

use crate::config::access_log::AccessLog;
use crate::config::cluster::Cluster;
use crate::config::endpoint::Locality;
use crate::config::listener::Listener;
use crate::config::overload::OverloadManager;
use crate::config::source::{ApiConfigSource, ConfigSource};
use crate::config::tls::Secret;
use crate::io::Address;

mod management;
mod runtime;
mod translate;

/// What the process starts with.
#[derive(Debug)]
pub struct Bootstrap {
    /// `node`, with the command line's `--service-*` over it; as the management server gets it.
    pub node: Node,
    /// `static_resources.secrets`
    pub secrets: Vec<Arc<Secret>>,
    /// `static_resources.clusters`, with the message each came from (for `/config_dump`).
    pub clusters: Vec<(Arc<Cluster>, Any)>,
    /// `static_resources.listeners`, with the message each came from.
    pub listeners: Vec<(Arc<Listener>, Any)>,
    /// `dynamic_resources.ads_config`
    pub ads: Option<ApiConfigSource>,
    /// `dynamic_resources.lds_config`
    pub lds: Option<ConfigSource>,
    /// `dynamic_resources.cds_config`
    pub cds: Option<ConfigSource>,
    /// `admin`
    pub admin: Option<Admin>,
    /// `stats_flush_interval`; default 5 s.
    pub stats_flush_interval: Duration,
    /// `cluster_manager.load_stats_config`: to whom load is reported.
    pub load_stats: Option<ApiConfigSource>,
    /// `cluster_manager.local_cluster_name`
    pub local_cluster_name: Option<Arc<str>>,
    /// `overload_manager`
    pub overload: Option<OverloadManager>,
    /// Runtime values of `layered_runtime`, flattened; later layers win.
    pub runtime: Runtime,
    /// The message without its static clusters, in binary form.
    rest: Bytes,
}

/// A `Bootstrap` in binary form, the static clusters apart: they may be many, and are translated one by one.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BootstrapParts {
    /// The message without `static_resources.clusters`.
    #[prost(bytes = "bytes", tag = "1")]
    pub rest: Bytes,
    /// `static_resources.clusters`
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub clusters: Vec<Bytes>,
}

impl Bootstrap {
    /// The whole message, for `/config_dump`; secrets are redacted when it is printed.
    pub fn dump(&self) -> Any {
        let mut value = self.rest.to_vec();
        for (_, cluster) in &self.clusters {
            // Parts of a message that follow each other are merged by whoever reads them.
            let resources = ClustersOnly { clusters: vec![cluster.value.clone()] };
            encode_message(STATIC_RESOURCES, &resources, &mut value);
        }
        Any { type_url: proto::any::type_url_of::<pb::Bootstrap>(), value }
    }
}

/// `Bootstrap.static_resources`
const STATIC_RESOURCES: u32 = 2;

/// `Bootstrap.StaticResources`, with clusters that are encoded already.
#[derive(Clone, PartialEq, prost::Message)]
struct ClustersOnly {
    #[prost(bytes = "vec", repeated, tag = "2")]
    clusters: Vec<Vec<u8>>,
}

impl Bootstrap {
    /// `node.locality`, if it says anything.
    pub fn locality(&self) -> Option<Locality> {
        let locality = self.node.locality.as_ref()?;
        let locality = Locality {
            region: locality.region.as_str().into(),
            zone: locality.zone.as_str().into(),
            sub_zone: locality.sub_zone.as_str().into(),
        };
        (locality != Locality::default()).then_some(locality)
    }
}

/// Runtime values by their dotted keys.
pub type Runtime = std::collections::HashMap<String, serde_json::Value>;

/// The number of a runtime key, or the default where there is none.
pub fn runtime_number(runtime: &Runtime, key: &str, default: f64) -> f64 {
    // Numbers of a Struct are floating.
    runtime.get(key).and_then(serde_json::Value::as_f64).unwrap_or(default)
}

/// Whether a runtime key is on, or the default where there is none.
pub fn runtime_flag(runtime: &Runtime, key: &str, default: bool) -> bool {
    runtime.get(key).and_then(serde_json::Value::as_bool).unwrap_or(default)
}

/// `Admin`.
#[derive(Clone, Debug)]
pub struct Admin {
    /// `address`
    pub address: Address,
    /// `access_log`
    pub access_log: Vec<AccessLog>,
    /// `profile_path`, accepted without effect.
    pub profile_path: Option<PathBuf>,
}
