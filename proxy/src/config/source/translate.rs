//! Protobuf to model: `ConfigSource`, `ApiConfigSource`, `GrpcService`.

use std::sync::Arc;
use std::time::Duration;

use proto::envoy::config::core::v3 as pb;
use proto::envoy::config::core::v3::api_config_source::ApiType;
use proto::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use proto::envoy::config::core::v3::grpc_service::{EnvoyGrpc, GoogleGrpc, TargetSpecifier};

use super::{
    ApiConfigSource, ConfigSource, GrpcService, GrpcTarget, Polling, RateLimit, SourceKind,
};
use crate::config::error::{At, ConfigError, Context};
use crate::config::value;
use crate::{refuse_set, warn_set};

const DEFAULT_FETCH_TIMEOUT: Duration = Duration::from_secs(15);
/// `ApiConfigSource.request_timeout` when it is not set.
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

impl ConfigSource {
    /// Translates a `ConfigSource`.
    ///
    /// # Errors
    /// A field breaks a rule or is not supported.
    pub fn from_proto(
        message: &pb::ConfigSource,
        at: &At<'_>,
        context: &Context,
    ) -> Result<ConfigSource, ConfigError> {
        refuse_set!(at, message, [authorities]);
        refuse_v2(message.resource_api_version, &at.field("resource_api_version"))?;
        let specifier = message.config_source_specifier.as_ref();
        let specifier = specifier.ok_or_else(|| {
            at.error("one of ads, self, path_config_source or api_config_source is required")
        })?;
        Ok(ConfigSource {
            kind: SourceKind::from_proto(specifier, at, context)?,
            initial_fetch_timeout: value::timeout(
                message.initial_fetch_timeout,
                Some(DEFAULT_FETCH_TIMEOUT),
                &at.field("initial_fetch_timeout"),
            )?,
        })
    }
}

impl SourceKind {
    fn from_proto(
        specifier: &ConfigSourceSpecifier,
        at: &At<'_>,
        context: &Context,
    ) -> Result<SourceKind, ConfigError> {
        match specifier {
            ConfigSourceSpecifier::Ads(_) => Ok(SourceKind::Ads),
            ConfigSourceSpecifier::Self_(source) => {
                let at = at.field("self");
                refuse_v2(source.transport_api_version, &at.field("transport_api_version"))?;
                Ok(SourceKind::Ads)
            }
            ConfigSourceSpecifier::Path(path) => {
                let path = value::non_empty(path, &at.field("path"))?;
                Ok(SourceKind::Path { path: path.into(), watched_directory: None })
            }
            ConfigSourceSpecifier::PathConfigSource(source) => {
                path_source(source, &at.field("path_config_source"), context)
            }
            ConfigSourceSpecifier::ApiConfigSource(source) => {
                let at = at.field("api_config_source");
                Ok(SourceKind::Api(Arc::new(ApiConfigSource::from_proto(source, &at, context)?)))
            }
        }
    }
}

fn path_source(
    message: &pb::PathConfigSource,
    at: &At<'_>,
    context: &Context,
) -> Result<SourceKind, ConfigError> {
    warn_set!(context, at, message, [poll_interval], "changes are noticed without polling");
    let path = value::non_empty(&message.path, &at.field("path"))?;
    let directory = message.watched_directory.as_ref().map(|directory| {
        let at = at.field("watched_directory");
        warn_set!(context, &at, directory, [watch_modify], "every change is noticed");
        value::non_empty(&directory.path, &at.field("path"))
    });
    Ok(SourceKind::Path {
        path: path.into(),
        watched_directory: directory.transpose()?.map(Into::into),
    })
}

impl ApiConfigSource {
    /// Translates an `ApiConfigSource`.
    ///
    /// # Errors
    /// A field breaks a rule or is not supported.
    pub fn from_proto(
        message: &pb::ApiConfigSource,
        at: &At<'_>,
        context: &Context,
    ) -> Result<ApiConfigSource, ConfigError> {
        refuse_set!(at, message, [config_validators]);
        let api_type = value::enumeration::<ApiType>(message.api_type, &at.field("api_type"))?;
        let version = at.field("transport_api_version");
        if message.transport_api_version != pb::ApiVersion::V3 as i32 {
            return Err(version.error("V2 (and AUTO, which means V2) is gone; set it to V3"));
        }
        let streamed = |delta, aggregated| streamed(message, (delta, aggregated), at, context);
        match api_type {
            ApiType::Grpc => streamed(false, false),
            ApiType::DeltaGrpc => streamed(true, false),
            ApiType::AggregatedGrpc => streamed(false, true),
            ApiType::AggregatedDeltaGrpc => streamed(true, true),
            ApiType::Rest => polled(message, at, context),
            ApiType::DeprecatedAndUnavailableDoNotUse => {
                Err(at.field("api_type").error("is required: GRPC, DELTA_GRPC or REST"))
            }
        }
    }

    /// Translates an `ApiConfigSource` of what only gRPC carries, such as `ads_config`.
    ///
    /// # Errors
    /// See [`ApiConfigSource::from_proto`]; or it is for REST.
    pub fn over_grpc(
        message: &pb::ApiConfigSource,
        at: &At<'_>,
        context: &Context,
    ) -> Result<ApiConfigSource, ConfigError> {
        let source = Self::from_proto(message, at, context)?;
        if source.polling.is_some() {
            return Err(at
                .field("api_type")
                .error("REST has no such service; use GRPC or DELTA_GRPC"));
        }
        Ok(source)
    }
}

/// A source over gRPC, be it incremental, be it aggregated.
fn streamed(
    message: &pb::ApiConfigSource,
    (delta, aggregated): (bool, bool),
    at: &At<'_>,
    context: &Context,
) -> Result<ApiConfigSource, ConfigError> {
    let reason = "it is for REST, and this source goes over gRPC";
    warn_set!(context, at, message, [refresh_delay, request_timeout], reason);
    if !message.cluster_names.is_empty() {
        return Err(at
            .field("cluster_names")
            .error("gRPC sources must not have cluster names; set grpc_services.envoy_grpc"));
    }
    if message.grpc_services.is_empty() {
        return Err(at.field("grpc_services").error("at least one is required"));
    }
    let services = message.grpc_services.iter().enumerate();
    let limit = message.rate_limit_settings.as_ref();
    Ok(ApiConfigSource {
        delta,
        aggregated,
        polling: None,
        services: services
            .map(|(i, service)| {
                GrpcService::from_proto(service, &at.index("grpc_services", i), context)
            })
            .collect::<Result<_, _>>()?,
        set_node_on_first_message_only: message.set_node_on_first_message_only,
        rate_limit: limit
            .map(|limit| RateLimit::from_proto(limit, &at.field("rate_limit_settings")))
            .transpose()?,
    })
}

/// A source that is polled over REST.
fn polled(
    message: &pb::ApiConfigSource,
    at: &At<'_>,
    context: &Context,
) -> Result<ApiConfigSource, ConfigError> {
    let reason = "it is for gRPC, and this source is polled over REST";
    warn_set!(context, at, message, [rate_limit_settings, set_node_on_first_message_only], reason);
    if !message.grpc_services.is_empty() {
        return Err(at.field("grpc_services").error("REST must not have any; set cluster_names"));
    }
    let [cluster] = message.cluster_names.as_slice() else {
        return Err(at.field("cluster_names").error("REST needs exactly one"));
    };
    let delay = value::duration(message.refresh_delay, &at.field("refresh_delay"))?;
    let delay = delay.filter(|delay| !delay.is_zero());
    let timeout = value::duration(message.request_timeout, &at.field("request_timeout"))?;
    let target = GrpcTarget::Cluster { name: cluster.clone(), authority: None };
    Ok(ApiConfigSource {
        delta: false,
        aggregated: false,
        polling: Some(Polling {
            refresh_delay: delay
                .ok_or_else(|| at.field("refresh_delay").error("REST needs one above 0"))?,
            request_timeout: timeout.unwrap_or(DEFAULT_REQUEST_TIMEOUT),
        }),
        services: vec![GrpcService { target, timeout: None, initial_metadata: Vec::new() }],
        set_node_on_first_message_only: false,
        rate_limit: None,
    })
}

fn refuse_v2(version: i32, at: &At<'_>) -> Result<(), ConfigError> {
    match value::enumeration::<pb::ApiVersion>(version, at)? {
        pb::ApiVersion::V2 => Err(at.error("V2 is gone; set it to V3")),
        pb::ApiVersion::Auto | pb::ApiVersion::V3 => Ok(()),
    }
}

impl RateLimit {
    fn from_proto(message: &pb::RateLimitSettings, at: &At<'_>) -> Result<RateLimit, ConfigError> {
        let default = RateLimit::default();
        let rate = message.fill_rate.map(|rate| rate.value);
        if rate.is_some_and(|rate| rate <= 0.0 || rate.is_nan()) {
            return Err(at.field("fill_rate").error("must be above 0"));
        }
        let interval = rate.and_then(|rate| Duration::try_from_secs_f64(1.0 / rate).ok());
        Ok(RateLimit {
            max_tokens: message.max_tokens.map_or(default.max_tokens, |tokens| tokens.value),
            fill_interval: interval.unwrap_or(default.fill_interval),
        })
    }
}

impl GrpcService {
    /// Translates a `GrpcService`.
    ///
    /// # Errors
    /// A field breaks a rule or is not supported.
    pub fn from_proto(
        message: &pb::GrpcService,
        at: &At<'_>,
        context: &Context,
    ) -> Result<GrpcService, ConfigError> {
        warn_set!(context, at, message, [retry_policy], "calls are retried by their own rules");
        let target = match value::required(&message.target_specifier, at)? {
            TargetSpecifier::EnvoyGrpc(grpc) => envoy_grpc(grpc, &at.field("envoy_grpc"), context)?,
            TargetSpecifier::GoogleGrpc(grpc) => {
                google_grpc(grpc, &at.field("google_grpc"), context)?
            }
        };
        let metadata = message.initial_metadata.iter().enumerate();
        Ok(GrpcService {
            target,
            timeout: value::timeout(message.timeout, None, &at.field("timeout"))?,
            initial_metadata: metadata
                .map(|(i, header)| initial_metadata(header, &at.index("initial_metadata", i)))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn envoy_grpc(
    message: &EnvoyGrpc,
    at: &At<'_>,
    context: &Context,
) -> Result<GrpcTarget, ConfigError> {
    warn_set!(context, at, message, [retry_policy], "calls are retried by their own rules");
    warn_set!(context, at, message, [skip_envoy_headers], "these headers are never sent");
    warn_set!(context, at, message, [max_receive_message_length], "Pillion's own limit applies");
    let name = value::non_empty(&message.cluster_name, &at.field("cluster_name"))?;
    Ok(GrpcTarget::Cluster {
        name: name.to_owned(),
        authority: (!message.authority.is_empty()).then(|| message.authority.clone()),
    })
}

fn google_grpc(
    message: &GoogleGrpc,
    at: &At<'_>,
    context: &Context,
) -> Result<GrpcTarget, ConfigError> {
    refuse_set!(
        at,
        message,
        [
            channel_credentials,
            channel_credentials_plugin,
            call_credentials,
            call_credentials_plugin,
            credentials_factory_name,
            config
        ]
    );
    let reason = "it tunes a library that Pillion does not use";
    warn_set!(context, at, message, [per_stream_buffer_limit_bytes, channel_args], reason);
    value::non_empty(&message.stat_prefix, &at.field("stat_prefix"))?;
    let uri = value::non_empty(&message.target_uri, &at.field("target_uri"))?;
    Ok(GrpcTarget::Uri(uri.to_owned()))
}

fn initial_metadata(
    header: &pb::HeaderValue,
    at: &At<'_>,
) -> Result<(String, String), ConfigError> {
    refuse_set!(at, header, [raw_value]);
    let name = value::header_name(&header.key, &at.field("key"))?;
    if http::HeaderValue::from_str(&header.value).is_err() {
        return Err(at.field("value").error("is not a valid header value"));
    }
    Ok((name.as_str().to_owned(), header.value.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::google::protobuf;

    fn grpc() -> pb::ApiConfigSource {
        let target = EnvoyGrpc { cluster_name: "xds".into(), ..Default::default() };
        pb::ApiConfigSource {
            api_type: ApiType::DeltaGrpc as i32,
            transport_api_version: pb::ApiVersion::V3 as i32,
            grpc_services: vec![pb::GrpcService {
                target_specifier: Some(TargetSpecifier::EnvoyGrpc(target)),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn refused(change: impl FnOnce(&mut pb::ApiConfigSource)) -> String {
        let mut message = grpc();
        change(&mut message);
        let root = At::resource("bootstrap", "");
        ApiConfigSource::from_proto(&message, &root.field("ads_config"), &Context::default())
            .expect_err("it breaks a rule")
            .to_string()
    }

    fn source(specifier: ConfigSourceSpecifier) -> pb::ConfigSource {
        pb::ConfigSource { config_source_specifier: Some(specifier), ..Default::default() }
    }

    fn translate(message: &pb::ConfigSource) -> Result<ConfigSource, ConfigError> {
        ConfigSource::from_proto(message, &At::resource("cluster", "a"), &Context::default())
    }

    #[test]
    fn ads_waits_fifteen_seconds_unless_told_otherwise() {
        let mut message = source(ConfigSourceSpecifier::Ads(Default::default()));
        let translated = translate(&message).expect("it is valid");
        assert_eq!(translated.kind, SourceKind::Ads);
        assert_eq!(translated.initial_fetch_timeout, Some(DEFAULT_FETCH_TIMEOUT));
        message.initial_fetch_timeout = Some(protobuf::Duration::default());
        assert_eq!(translate(&message).expect("it is valid").initial_fetch_timeout, None);
    }

    #[test]
    fn paths_and_grpc_services_are_sources() {
        let path = pb::PathConfigSource {
            path: "/etc/cds.yaml".into(),
            watched_directory: Some(pb::WatchedDirectory {
                path: "/etc".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let message = source(ConfigSourceSpecifier::PathConfigSource(path));
        assert_eq!(
            translate(&message).expect("it is valid").kind,
            SourceKind::Path {
                path: "/etc/cds.yaml".into(),
                watched_directory: Some("/etc".into())
            }
        );
        let message = source(ConfigSourceSpecifier::ApiConfigSource(grpc()));
        let SourceKind::Api(api) = translate(&message).expect("it is valid").kind else {
            panic!("not an API");
        };
        assert!(api.delta && !api.aggregated);
        assert_eq!(
            api.services[0].target,
            GrpcTarget::Cluster { name: "xds".into(), authority: None }
        );
    }

    #[test]
    fn sources_that_break_a_rule_are_refused() {
        assert_eq!(
            translate(&pb::ConfigSource::default()).expect_err("no specifier").to_string(),
            "cluster \"a\": one of ads, self, path_config_source or api_config_source is required"
        );
        assert_eq!(
            translate(&source(ConfigSourceSpecifier::Path(String::new())))
                .expect_err("no path")
                .to_string(),
            "cluster \"a\": path: must not be empty"
        );
        assert_eq!(
            refused(|source| source.transport_api_version = 0),
            "bootstrap: ads_config.transport_api_version: V2 (and AUTO, which means V2) is gone; \
             set it to V3"
        );
        assert_eq!(
            refused(|source| source.grpc_services.clear()),
            "bootstrap: ads_config.grpc_services: at least one is required"
        );
        assert!(
            refused(|source| source.cluster_names.push("xds".into()))
                .starts_with("bootstrap: ads_config.cluster_names: gRPC sources must not")
        );
        assert_eq!(
            refused(|source| source.grpc_services[0].target_specifier = None),
            "bootstrap: ads_config.grpc_services[0]: is required"
        );
    }

    #[test]
    fn rest_names_one_cluster_and_how_often_to_ask() {
        let mut message = pb::ApiConfigSource {
            api_type: ApiType::Rest as i32,
            cluster_names: vec!["rest".into()],
            refresh_delay: Some(protobuf::Duration { seconds: 5, ..Default::default() }),
            grpc_services: Vec::new(),
            ..grpc()
        };
        let translate = |message: &pb::ApiConfigSource| {
            let at = At::resource("cluster", "a");
            ApiConfigSource::from_proto(message, &at, &Context::default())
        };
        let source = translate(&message).expect("it is valid");
        let polling = source.polling.expect("it is polled");
        assert_eq!(polling.refresh_delay, Duration::from_secs(5));
        assert_eq!(polling.request_timeout, Duration::from_secs(1));
        let at = At::resource("bootstrap", "");
        let error = ApiConfigSource::over_grpc(&message, &at, &Context::default());
        assert!(error.expect_err("no ADS").to_string().starts_with("bootstrap: api_type: REST"));
        message.refresh_delay = None;
        let error = translate(&message).expect_err("no delay").to_string();
        assert_eq!(error, "cluster \"a\": refresh_delay: REST needs one above 0");
        message.cluster_names.clear();
        let error = translate(&message).expect_err("no cluster").to_string();
        assert_eq!(error, "cluster \"a\": cluster_names: REST needs exactly one");
        message.grpc_services = grpc().grpc_services;
        let error = translate(&message).expect_err("a gRPC service").to_string();
        assert!(error.starts_with("cluster \"a\": grpc_services: REST must not"), "{error}");
    }

    #[test]
    fn a_rate_becomes_the_time_between_two_tokens() {
        let rate = |rate| pb::RateLimitSettings {
            fill_rate: Some(protobuf::DoubleValue { value: rate }),
            ..Default::default()
        };
        let at = At::resource("bootstrap", "");
        let limit = RateLimit::from_proto(&rate(4.0), &at).expect("it is valid");
        assert_eq!(limit.fill_interval, Duration::from_millis(250));
        assert_eq!(limit.max_tokens, 100);
        let error = RateLimit::from_proto(&rate(f64::NAN), &at).expect_err("no rate").to_string();
        assert_eq!(error, "bootstrap: fill_rate: must be above 0");
    }
}
