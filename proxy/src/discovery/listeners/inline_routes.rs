//! The route tables that stand in listeners, for dumps.

use std::sync::Arc;

use proto::envoy::config::listener::v3::filter::ConfigType;
use proto::envoy::config::listener::v3::{Filter, Listener};
use proto::envoy::config::route::v3::RouteConfiguration;
use proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use proto::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;

use crate::config::{At, any};
use crate::discovery::resources::Version;

/// The route tables in a packed listener, with their names.
pub(super) fn of(listener: &Version) -> Vec<(Arc<str>, Version)> {
    // It was translated before, so that it can be opened.
    let Ok(message) = proto::any::unpack::<Listener>(&listener.body) else { return Vec::new() };
    let chains = message.filter_chains.iter().chain(&message.default_filter_chain);
    let tables = chains.flat_map(|chain| &chain.filters).filter_map(route_config);
    let version = |table: RouteConfiguration| Version {
        version: Arc::clone(&listener.version),
        body: Arc::new(proto::any::pack(&table)),
        last_updated: listener.last_updated,
    };
    tables.map(|table| (table.name.as_str().into(), version(table))).collect()
}

fn route_config(filter: &Filter) -> Option<RouteConfiguration> {
    let Some(ConfigType::TypedConfig(config)) = &filter.config_type else { return None };
    let manager: HttpConnectionManager = any::open(config, &At::resource("listener", "")).ok()?;
    match manager.route_specifier? {
        RouteSpecifier::RouteConfig(table) => Some(table),
        _ => None,
    }
}
