//! Protobuf to model: `Bootstrap`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use prost::bytes::Bytes;
use proto::envoy::config::bootstrap::v3 as pb;
use proto::envoy::config::bootstrap::v3::bootstrap::{
    DynamicResources, StaticResources, StatsEviction, StatsFlush,
};
use proto::envoy::config::cluster::v3::Cluster as ClusterMessage;
use proto::google::protobuf::Any;

use super::{Admin, Bootstrap, management};
use crate::config::access_log::AccessLog;
use crate::config::cluster::Cluster;
use crate::config::error::{At, ConfigError, Context};
use crate::config::listener::Listener;
use crate::config::source::{ApiConfigSource, ConfigSource};
use crate::config::tls::{Secret, SecretFiles};
use crate::config::value;
use crate::{refuse_set, warn_set};

const DEFAULT_FLUSH_INTERVAL: Duration = Duration::from_secs(5);
/// Envoy's limits of `stats_flush_interval`.
const FLUSH_INTERVALS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(300));
const DUPLICATE: &str = "duplicate name in static_resources";
/// The prefix of Envoy's own headers, which is the only one.
const HEADER_PREFIX: &str = "x-envoy";

impl Bootstrap {
    /// Translates a `Bootstrap`. Agents write bootstraps for Envoy with much around the traffic; what does not change it
    /// is accepted with a warning.
    ///
    /// # Errors
    /// A field breaks a rule or is not supported; errors in static resources start with the resource's name.
    pub fn from_proto(
        message: &pb::Bootstrap,
        context: &Context,
    ) -> Result<Bootstrap, ConfigError> {
        let mut rest = message.clone();
        let resources = rest.static_resources.as_mut();
        let clusters = resources.map(|resources| std::mem::take(&mut resources.clusters));
        let clusters = clusters.unwrap_or_default();
        Self::from_parts(
            &rest,
            clusters.iter().map(|cluster| cluster.encode_to_vec().into()),
            context,
        )
    }

    /// [`from_proto`](Self::from_proto) with the static clusters apart, in binary form; those in the message do not count.
    ///
    /// # Errors
    /// Those of `from_proto`.
    pub fn from_parts(
        message: &pb::Bootstrap,
        clusters: impl IntoIterator<Item = Bytes>,
        context: &Context,
    ) -> Result<Bootstrap, ConfigError> {
        let at = At::resource("bootstrap", "");
        refuse_unsupported(message, &at)?;
        warn_without_effect(message, &at, context);
        let none = StaticResources::default();
        let resources = message.static_resources.as_ref().unwrap_or(&none);
        let at_dynamic = at.field("dynamic_resources");
        let dynamic = message.dynamic_resources.as_ref();
        let (ads, lds, cds) = match dynamic {
            Some(dynamic) => dynamic_resources(dynamic, &at_dynamic, context)?,
            None => (None, None, None),
        };
        let at_admin = at.field("admin");
        let admin = message.admin.as_ref();
        let runtime = message.layered_runtime.as_ref();
        let bootstrap = Bootstrap {
            node: message.node.clone().unwrap_or_default(),
            secrets: static_secrets(resources, context)?,
            clusters: static_clusters(clusters, context)?,
            listeners: static_listeners(resources, context)?,
            ads,
            lds,
            cds,
            admin: admin
                .map(|admin| Admin::from_proto(admin, &at_admin, context))
                .transpose()?
                .flatten(),
            stats_flush_interval: flush_interval(message, &at)?,
            load_stats: load_stats(message, &at.field("cluster_manager"), context)?,
            local_cluster_name: message
                .cluster_manager
                .as_ref()
                .filter(|manager| !manager.local_cluster_name.is_empty())
                .map(|manager| manager.local_cluster_name.as_str().into()),
            runtime: super::runtime::flatten(runtime, &at.field("layered_runtime"), context)?,
            rest: message.encode_to_vec().into(),
        };
        management::check(&bootstrap, &at)?;
        Ok(bootstrap)
    }
}

fn load_stats(
    message: &pb::Bootstrap,
    at: &At<'_>,
    context: &Context,
) -> Result<Option<ApiConfigSource>, ConfigError> {
    let manager = message.cluster_manager.as_ref();
    let config = manager.and_then(|manager| manager.load_stats_config.as_ref());
    let at = at.field("load_stats_config");
    config.map(|config| ApiConfigSource::over_grpc(config, &at, context)).transpose()
}

/// Refuses what traffic or the choice of resources depends on.
fn refuse_unsupported(message: &pb::Bootstrap, at: &At<'_>) -> Result<(), ConfigError> {
    refuse_set!(at, message, [config_sources, default_config_source, default_socket_interface]);
    if !message.header_prefix.is_empty() && message.header_prefix != HEADER_PREFIX {
        return Err(at.field("header_prefix").error("only \"x-envoy\" is supported"));
    }
    if let Some(manager) = &message.cluster_manager {
        refuse_set!(at.field("cluster_manager"), manager, [upstream_bind_config]);
    }
    Ok(())
}

fn warn_without_effect(message: &pb::Bootstrap, at: &At<'_>, context: &Context) {
    let reason = "statistics are kept and exported by Pillion's own rules";
    warn_set!(
        context,
        at,
        message,
        [stats_sinks, deferred_stat_options, stats_config, stats_server_version_override],
        reason
    );
    if let Some(StatsFlush::StatsFlushOnAdmin(_)) = &message.stats_flush {
        context.warn(&at.field("stats_flush_on_admin"), reason);
    }
    if let Some(StatsEviction::StatsEvictionInterval(_)) = &message.stats_eviction {
        context.warn(&at.field("stats_eviction_interval"), reason);
    }
    warn_of_process_settings(message, at, context);
    if let Some(manager) = &message.cluster_manager {
        let at = at.field("cluster_manager");
        warn_set!(context, at, manager, [outlier_detection], "no log of ejections is written");
        let reason = "what a cluster needs at run time is always made on first use";
        warn_set!(context, at, manager, [enable_deferred_cluster_creation], reason);
    }
}

/// Settings of Envoy's process that say nothing about traffic.
fn warn_of_process_settings(message: &pb::Bootstrap, at: &At<'_>, context: &Context) {
    let reason = "names are resolved by the settings of the system";
    warn_set!(
        context,
        at,
        message,
        [use_tcp_for_dns_lookups, dns_resolution_config, typed_dns_resolver_config],
        reason
    );
    let reason = "it looks after the process, not after traffic, and Pillion does not have it";
    warn_set!(
        context,
        at,
        message,
        [
            node_context_params,
            hds_config,
            flags_path,
            watchdog,
            watchdogs,
            tracing,
            overload_manager,
            enable_dispatcher_stats,
            bootstrap_extensions,
            fatal_actions,
            certificate_provider_instances,
            inline_headers,
            perf_tracing_file_path,
            default_regex_engine,
            xds_delegate_extension,
            xds_config_tracker_extension,
            listener_manager,
            application_log_config,
            grpc_async_client_manager_config,
            memory_allocator_manager,
            enable_worker_cpu_affinity
        ],
        reason
    );
}

fn static_secrets(
    resources: &StaticResources,
    context: &Context,
) -> Result<Vec<Arc<Secret>>, ConfigError> {
    refuse_doubles("secret", resources.secrets.iter().map(|secret| &*secret.name))?;
    let secrets = resources.secrets.iter().map(|secret| {
        let at = At::resource("secret", &secret.name);
        value::non_empty(&secret.name, &at.field("name"))?;
        context.take_files();
        let mut translated = Secret::from_proto(secret, &at, context)?;
        let message = || secret.r#type.clone();
        translated.files = SecretFiles::new(message, &at, context);
        Ok(Arc::new(translated))
    });
    secrets.collect()
}

/// One cluster after the other: in a large mesh their messages are many times the size of what is made of them.
fn static_clusters(
    clusters: impl IntoIterator<Item = Bytes>,
    context: &Context,
) -> Result<Vec<(Arc<Cluster>, Any)>, ConfigError> {
    let mut names = HashSet::new();
    let clusters = clusters.into_iter().map(|encoded| {
        let message = ClusterMessage::decode(encoded.as_ref()).map_err(|error| {
            At::resource("cluster", "").error(format_args!("it cannot be decoded: {error}"))
        })?;
        let at = At::resource("cluster", &message.name);
        if !names.insert(message.name.clone()) && !message.name.is_empty() {
            return Err(at.error(DUPLICATE));
        }
        let translated = Cluster::from_proto(&message, &at, context)?;
        let type_url = proto::type_url::CLUSTER.to_owned();
        Ok((Arc::new(translated), Any { type_url, value: encoded.into() }))
    });
    clusters.collect()
}

fn static_listeners(
    resources: &StaticResources,
    context: &Context,
) -> Result<Vec<(Arc<Listener>, Any)>, ConfigError> {
    refuse_doubles("listener", resources.listeners.iter().map(|listener| &*listener.name))?;
    let listeners = resources.listeners.iter().map(|listener| {
        let at = At::resource("listener", &listener.name);
        let translated = Listener::from_proto(listener, &at, context)?;
        Ok((Arc::new(translated), proto::any::pack(listener)))
    });
    listeners.collect()
}

/// Refuses two resources of one name.
fn refuse_doubles<'n>(kind: &str, names: impl Iterator<Item = &'n str>) -> Result<(), ConfigError> {
    let mut seen = HashSet::new();
    for name in names.filter(|name| !name.is_empty()) {
        if !seen.insert(name) {
            return Err(At::resource(kind, name).error(DUPLICATE));
        }
    }
    Ok(())
}

type Sources = (Option<ApiConfigSource>, Option<ConfigSource>, Option<ConfigSource>);

/// The sources of ADS, LDS and CDS.
fn dynamic_resources(
    message: &DynamicResources,
    at: &At<'_>,
    context: &Context,
) -> Result<Sources, ConfigError> {
    refuse_set!(at, message, [lds_resources_locator, cds_resources_locator]);
    let (at_ads, at_lds, at_cds) =
        (at.field("ads_config"), at.field("lds_config"), at.field("cds_config"));
    let ads = message.ads_config.as_ref();
    let ads = ads.map(|ads| ApiConfigSource::over_grpc(ads, &at_ads, context)).transpose()?;
    let source = |message: &Option<_>, at: &At<'_>| {
        message.as_ref().map(|message| ConfigSource::from_proto(message, at, context)).transpose()
    };
    let lds = source(&message.lds_config, &at_lds)?;
    let cds = source(&message.cds_config, &at_cds)?;
    Ok((ads.map(|ads| ApiConfigSource { aggregated: true, ..ads }), lds, cds))
}

fn flush_interval(message: &pb::Bootstrap, at: &At<'_>) -> Result<Duration, ConfigError> {
    let at = at.field("stats_flush_interval");
    let interval = value::duration(message.stats_flush_interval, &at)?;
    let interval = interval.unwrap_or(DEFAULT_FLUSH_INTERVAL);
    let (shortest, longest) = FLUSH_INTERVALS;
    if !(shortest..longest).contains(&interval) {
        return Err(at.error(format_args!("{interval:?} is not within 1ms and 300s")));
    }
    Ok(interval)
}

impl Admin {
    fn from_proto(
        message: &pb::Admin,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Option<Admin>, ConfigError> {
        // Without an address there is no admin interface, as in Envoy.
        let Some(address) = &message.address else {
            return Ok(None);
        };
        refuse_set!(at, message, [allow_paths]);
        warn_set!(context, at, message, [socket_options], "the admin socket has no options");
        warn_set!(context, at, message, [ignore_global_conn_limit], "no limit applies to it");
        let mut access_log = AccessLog::from_list(&message.access_log, "access_log", at, context)?;
        if !message.access_log_path.is_empty() {
            access_log.push(AccessLog::file(&message.access_log_path));
        }
        Ok(Some(Admin {
            address: value::address(address, &at.field("address"))?,
            access_log,
            profile_path: (!message.profile_path.is_empty())
                .then(|| message.profile_path.as_str().into()),
        }))
    }
}

#[cfg(test)]
mod tests;
