//! A packed resource into the model.

use std::sync::Arc;

use prost::{Message, Name};
use proto::google::protobuf::Any;

use crate::config::cluster::Cluster;
use crate::config::endpoint::Assignment;
use crate::config::listener::Listener;
use crate::config::route::RouteConfiguration;
use crate::config::tls::Secret;
use crate::config::{At, ConfigError, Context, Files, any};
use crate::http::filters;

use proto::envoy::config::cluster::v3::Cluster as PbCluster;
use proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
use proto::envoy::config::listener::v3::Listener as PbListener;
use proto::envoy::config::route::v3::RouteConfiguration as PbRouteConfiguration;
use proto::envoy::extensions::transport_sockets::tls::v3::Secret as PbSecret;

/// The cluster of this name in `body`.
///
/// # Errors
/// It is none, has another name, or a field is refused. The same holds for the functions below.
pub fn cluster(name: &str, body: &Any) -> Result<Arc<Cluster>, ConfigError> {
    let own_name = |message: &PbCluster| (message.name.clone(), "name");
    translate(At::resource("cluster", name), name, body, own_name, Cluster::from_proto)
        .map(Arc::new)
}

/// The endpoints of the service of this name in `body`.
pub fn assignment(name: &str, body: &Any) -> Result<Assignment, ConfigError> {
    let own_name = |message: &ClusterLoadAssignment| (message.cluster_name.clone(), "cluster_name");
    let at = At::resource("cluster load assignment", name);
    translate(at, name, body, own_name, Assignment::from_proto)
}

/// The listener of this name in `body`.
pub fn listener(name: &str, body: &Any) -> Result<Arc<Listener>, ConfigError> {
    let own_name = |message: &PbListener| (message.name.clone(), "name");
    let at = At::resource("listener", name);
    translate(at, name, body, own_name, Listener::from_proto).map(Arc::new)
}

/// The routes of this name in `body`.
pub fn routes(name: &str, body: &Any) -> Result<Arc<RouteConfiguration>, ConfigError> {
    let own_name = |message: &PbRouteConfiguration| (message.name.clone(), "name");
    let at = At::resource("route configuration", name);
    translate(at, name, body, own_name, RouteConfiguration::from_proto).map(Arc::new)
}

/// The secret of this name in `body`, with the files that it was read from.
pub fn secret(name: &str, body: &Any) -> Result<(Secret, Files), ConfigError> {
    let own_name = |message: &PbSecret| (message.name.clone(), "name");
    let from_proto = |message: &PbSecret, at: &At<'_>, context: &Context| {
        let secret = Secret::from_proto(message, at, context)?;
        Ok((secret, context.take_files()))
    };
    translate(At::resource("secret", name), name, body, own_name, from_proto)
}

fn translate<M: Message + Name + Default, T>(
    at: At<'_>,
    name: &str,
    body: &Any,
    own_name: fn(&M) -> (String, &'static str),
    from_proto: fn(&M, &At<'_>, &Context) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    let message: M = any::open(body, &at)?;
    let (inner, field) = own_name(&message);
    if inner != name || name.is_empty() {
        let rule = format!("{inner:?} must be the resource's name, {name:?}, and not be empty");
        return Err(at.field(field).error(rule));
    }
    let context = Context::with_http_filters(&filters::Table);
    let translated = from_proto(&message, &at, &context)?;
    for warning in context.take_warnings() {
        tracing::warn!("{warning}");
    }
    Ok(translated)
}
