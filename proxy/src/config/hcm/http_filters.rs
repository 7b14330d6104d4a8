//! Translating the HTTP filter chain, which must end in the router.

use proto::envoy::extensions::filters::http::router::v3::Router;
use proto::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use proto::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use proto::google::protobuf::Any;

use super::{HttpFilter, RouterOptions};
use crate::config::value::{non_empty, required};
use crate::config::{At, ConfigError, Context, any, istio};
use crate::{refuse_set, warn_set};

/// The filters before the router, and the router. Filters are told by the type of their configuration, whatever their name.
pub(super) fn http_filters(
    messages: &[pb::HttpFilter],
    at: &At<'_>,
    context: &Context,
) -> Result<(Vec<HttpFilter>, RouterOptions), ConfigError> {
    const NO_ROUTER: &str = "must end in envoy.filters.http.router, which is terminal";
    let (last, others) =
        messages.split_last().ok_or_else(|| at.field("http_filters").error(NO_ROUTER))?;
    let mut filters = Vec::new();
    for (index, message) in others.iter().enumerate() {
        let at = at.index("http_filters", index);
        if any::is::<Router>(typed_config(message, &at)?) {
            return Err(at.error("the router is terminal, so it must be the last HTTP filter"));
        }
        filters.extend(HttpFilter::from_proto(message, &at, context)?);
    }
    let at = at.index("http_filters", others.len());
    let config = typed_config(last, &at)?;
    if !any::is::<Router>(config) {
        HttpFilter::from_proto(last, &at, context)?;
        return Err(at.error(NO_ROUTER));
    }
    if last.disabled {
        return Err(at.field("disabled").error("a terminal filter cannot be disabled"));
    }
    let at = at.field("typed_config");
    let router = RouterOptions::from_proto(&any::open(config, &at)?, &at, context)?;
    Ok((filters, router))
}

fn typed_config<'a>(message: &'a pb::HttpFilter, at: &At<'_>) -> Result<&'a Any, ConfigError> {
    non_empty(&message.name, &at.field("name"))?;
    match required(&message.config_type, &at.field("typed_config"))? {
        ConfigType::TypedConfig(config) => Ok(config),
        ConfigType::ConfigDiscovery(_) => Err(at.field("config_discovery").unsupported()),
    }
}

impl HttpFilter {
    /// A filter before the router; none for an optional one that does not exist here.
    fn from_proto(
        message: &pb::HttpFilter,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Option<HttpFilter>, ConfigError> {
        let config = typed_config(message, at)?;
        let at_config = at.field("typed_config");
        let filters = context.http_filters();
        if let Some(config) = filters.and_then(|f| f.filter(config, &at_config, context)) {
            let (name, disabled) = (message.name.as_str().into(), message.disabled);
            return Ok(Some(HttpFilter { name, disabled, config: config? }));
        }
        if istio::is_telemetry(config) {
            context.warn(at, istio::LEFT_OUT);
            return Ok(None);
        }
        let unknown = any::unknown(&message.name, Some(config), &at_config);
        if !message.is_optional {
            return Err(unknown);
        }
        context.warn(at, format_args!("skipped, as it is optional: {}", unknown.message));
        Ok(None)
    }
}

impl RouterOptions {
    fn from_proto(
        message: &Router,
        at: &At<'_>,
        context: &Context,
    ) -> Result<RouterOptions, ConfigError> {
        refuse_set!(at, message, [strict_check_headers, upstream_http_filters]);
        warn_set!(context, at, message, [dynamic_stats], "the same statistics are always kept");
        warn_set!(context, at, message, [start_child_span], "Pillion writes no spans");
        warn_set!(
            context,
            at,
            message,
            [upstream_log, upstream_log_options],
            "only streams are logged, not upstream requests"
        );
        warn_set!(
            context,
            at,
            message,
            [suppress_grpc_request_failure_code_stats],
            "these statistics are not kept"
        );
        let early = "early data is never accepted";
        warn_set!(context, at, message, [reject_connect_request_early_data], early);
        Ok(RouterOptions {
            suppress_envoy_headers: message.suppress_envoy_headers,
            respect_expected_rq_timeout: message.respect_expected_rq_timeout,
        })
    }
}
