//! Requests and responses of both protocols in one form, so that everything above the wire exists once.

use std::collections::HashMap;
use std::sync::Arc;

use proto::envoy::config::core::v3::{ControlPlane, Node};
use proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    Resource as Wrapper,
};
use proto::{any, convert};
use tokio::sync::mpsc::UnboundedSender;
use tonic::Status;

use crate::event::Protocol;
use crate::resource::Resource;
use crate::snapshot::Version;

/// A request of either protocol.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) node: Option<Node>,
    pub(crate) type_url: String,
    /// The nonce of the response that this answers; empty when it answers none.
    pub(crate) nonce: String,
    /// The NACK's message.
    pub(crate) error: Option<String>,
    pub(crate) names: Names,
}

/// How a request says what the client wants.
#[derive(Debug)]
pub(crate) enum Names {
    /// All names.
    Sotw(Vec<String>),
    /// Changes to the names.
    Delta {
        subscribe: Vec<String>,
        unsubscribe: Vec<String>,
        /// Version by name of what the client has from an earlier stream.
        initial: HashMap<String, String>,
    },
}

impl From<DiscoveryRequest> for Request {
    fn from(request: DiscoveryRequest) -> Self {
        Self {
            node: request.node,
            type_url: request.type_url,
            nonce: request.response_nonce,
            error: request.error_detail.map(|status| status.message),
            names: Names::Sotw(request.resource_names),
        }
    }
}

impl From<DeltaDiscoveryRequest> for Request {
    fn from(request: DeltaDiscoveryRequest) -> Self {
        Self {
            node: request.node,
            type_url: request.type_url,
            nonce: request.response_nonce,
            error: request.error_detail.map(|status| status.message),
            names: Names::Delta {
                subscribe: request.resource_names_subscribe,
                unsubscribe: request.resource_names_unsubscribe,
                initial: request.initial_resource_versions,
            },
        }
    }
}

/// A response of either protocol.
#[derive(Debug, Clone)]
pub(crate) struct Push {
    pub(crate) type_url: String,
    pub(crate) version: Version,
    pub(crate) nonce: String,
    pub(crate) resources: Vec<Arc<Resource>>,
    pub(crate) removed: Vec<String>,
}

impl From<Push> for DiscoveryResponse {
    fn from(push: Push) -> Self {
        let resources = push.resources.iter().map(|resource| match resource.ttl() {
            None => resource.any().clone(),
            // Only the wrapper can carry a time to live in this protocol.
            Some(_) => any::pack(&wrap(resource)),
        });
        Self {
            version_info: push.version.to_string(),
            resources: resources.collect(),
            type_url: push.type_url,
            nonce: push.nonce,
            control_plane: Some(identifier()),
            ..Default::default()
        }
    }
}

impl From<Push> for DeltaDiscoveryResponse {
    fn from(push: Push) -> Self {
        let resources = push.resources.iter().map(|resource| wrap(resource));
        Self {
            system_version_info: push.version.to_string(),
            resources: resources.collect(),
            type_url: push.type_url,
            nonce: push.nonce,
            removed_resources: push.removed,
            control_plane: Some(identifier()),
            ..Default::default()
        }
    }
}

fn wrap(resource: &Resource) -> Wrapper {
    Wrapper {
        name: resource.name().to_owned(),
        aliases: resource.aliases().to_vec(),
        version: resource.version().to_owned(),
        resource: Some(resource.any().clone()),
        ttl: resource.ttl().map(convert::to_proto_duration),
        ..Default::default()
    }
}

fn identifier() -> ControlPlane {
    ControlPlane { identifier: env!("CARGO_PKG_NAME").to_owned() }
}

/// The sending half of a stream. It holds at most one response of each type, since a type waits for its answer.
#[derive(Debug, Clone)]
pub(crate) enum Outbox {
    Sotw(UnboundedSender<Result<DiscoveryResponse, Status>>),
    Delta(UnboundedSender<Result<DeltaDiscoveryResponse, Status>>),
}

impl Outbox {
    pub(crate) fn protocol(&self) -> Protocol {
        match self {
            Self::Sotw(_) => Protocol::Sotw,
            Self::Delta(_) => Protocol::Delta,
        }
    }

    /// Sends a response. A client that has gone is noticed by the stream's reader.
    pub(crate) fn send(&self, push: Push) {
        match self {
            Self::Sotw(sender) => drop(sender.send(Ok(push.into()))),
            Self::Delta(sender) => drop(sender.send(Ok(push.into()))),
        }
    }

    /// Ends the stream with this status.
    pub(crate) fn fail(&self, status: Status) {
        match self {
            Self::Sotw(sender) => drop(sender.send(Err(status))),
            Self::Delta(sender) => drop(sender.send(Err(status))),
        }
    }

    /// Returns when the client has gone.
    pub(crate) async fn closed(&self) {
        match self {
            Self::Sotw(sender) => sender.closed().await,
            Self::Delta(sender) => sender.closed().await,
        }
    }
}

/// The sum of the encoded resources, in bytes.
pub(crate) fn size(resources: &[Arc<Resource>]) -> usize {
    let sizes = resources.iter().map(|resource| resource.any().value.len());
    sizes.sum()
}

/// The EDS name of a cluster; `None` for a cluster that takes no endpoints from EDS.
pub(crate) fn endpoints_name(cluster: &Resource) -> Option<String> {
    use proto::envoy::config::cluster::v3::{
        Cluster,
        cluster::{ClusterDiscoveryType, DiscoveryType},
    };
    let cluster: Cluster = any::unpack(cluster.any()).ok()?;
    let eds = ClusterDiscoveryType::Type(DiscoveryType::Eds.into());
    if cluster.cluster_discovery_type != Some(eds) {
        return None;
    }
    let service = cluster.eds_cluster_config.map(|eds| eds.service_name);
    Some(service.filter(|name| !name.is_empty()).unwrap_or(cluster.name))
}
