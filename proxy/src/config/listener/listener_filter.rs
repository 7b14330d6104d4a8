//! Translating listener filters.

use std::sync::Arc;

use proto::envoy::config::core::v3::proxy_protocol_config::Version;
use proto::envoy::config::listener::v3 as pb;
use proto::envoy::config::listener::v3::listener_filter::ConfigType;
use proto::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use proto::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use proto::envoy::extensions::filters::listener::original_src::v3::OriginalSrc;
use proto::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol;
use proto::envoy::extensions::filters::listener::set_filter_state::v3::Config as FilterState;
use proto::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;

use super::{ListenerFilter, ListenerFilterKind, Predicate};
use crate::config::filter_state::StateValues;
use crate::config::value::{enumeration, non_empty, required};
use crate::config::{At, ConfigError, Context, any};
use crate::{refuse_set, warn_set};

impl ListenerFilter {
    /// An `envoy.config.listener.v3.ListenerFilter`, told by the type of its configuration, whatever its name.
    pub(super) fn from_proto(
        message: &pb::ListenerFilter,
        at: &At<'_>,
        context: &Context,
    ) -> Result<ListenerFilter, ConfigError> {
        let at_disabled = at.field("filter_disabled");
        let disabled = message.filter_disabled.as_ref();
        let disabled = disabled.map(|rule| Predicate::from_proto(rule, &at_disabled));
        let kind = ListenerFilterKind::from_proto(message, at, context)?;
        Ok(ListenerFilter { kind, disabled: disabled.transpose()? })
    }
}

impl ListenerFilterKind {
    fn from_proto(
        message: &pb::ListenerFilter,
        at: &At<'_>,
        context: &Context,
    ) -> Result<ListenerFilterKind, ConfigError> {
        let name = non_empty(&message.name, &at.field("name"))?;
        let at_config = at.field("typed_config");
        let config = match required(&message.config_type, &at_config)? {
            ConfigType::TypedConfig(config) => config,
            ConfigType::ConfigDiscovery(_) => {
                return Err(at.field("config_discovery").unsupported());
            }
        };
        if any::is::<TlsInspector>(config) {
            return tls_inspector(&any::open(config, &at_config)?, &at_config, context);
        }
        if any::is::<HttpInspector>(config) {
            any::open::<HttpInspector>(config, &at_config)?;
            return Ok(ListenerFilterKind::HttpInspector);
        }
        if any::is::<OriginalDst>(config) {
            any::open::<OriginalDst>(config, &at_config)?;
            return Ok(ListenerFilterKind::OriginalDst);
        }
        if any::is::<OriginalSrc>(config) {
            let message = any::open::<OriginalSrc>(config, &at_config)?;
            refuse_set!(at_config, message, [bind_port]);
            return Ok(ListenerFilterKind::OriginalSrc { mark: message.mark });
        }
        if any::is::<ProxyProtocol>(config) {
            return proxy_protocol(&any::open(config, &at_config)?, &at_config, context);
        }
        if any::is::<FilterState>(config) {
            let message = any::open::<FilterState>(config, &at_config)?;
            let values =
                StateValues::from_proto(&message.on_accept, "on_accept", &at_config, context)?;
            return Ok(ListenerFilterKind::FilterState(Arc::new(values)));
        }
        Err(any::unknown(name, Some(config), &at_config))
    }
}

fn tls_inspector(
    message: &TlsInspector,
    at: &At<'_>,
    context: &Context,
) -> Result<ListenerFilterKind, ConfigError> {
    refuse_set!(at, message, [close_connection_on_client_hello_parsing_errors]);
    warn_set!(
        context,
        at,
        message,
        [enable_ja3_fingerprinting, enable_ja4_fingerprinting],
        "no operator prints these fingerprints"
    );
    warn_set!(
        context,
        at,
        message,
        [initial_read_buffer_size, max_client_hello_size],
        "the buffer always holds a ClientHello of 16 KiB"
    );
    Ok(ListenerFilterKind::TlsInspector)
}

fn proxy_protocol(
    message: &ProxyProtocol,
    at: &At<'_>,
    context: &Context,
) -> Result<ListenerFilterKind, ConfigError> {
    refuse_set!(at, message, [rules]);
    warn_set!(context, at, message, [pass_through_tlvs], "no cluster is sent a PROXY header");
    warn_set!(context, at, message, [tlv_location], "no rule stores a TLV");
    let mut disallowed = [false; 2];
    for (index, version) in message.disallowed_versions.iter().enumerate() {
        match enumeration(*version, &at.index("disallowed_versions", index))? {
            Version::V1 => disallowed[0] = true,
            Version::V2 => disallowed[1] = true,
        }
    }
    if disallowed == [true; 2] {
        return Err(at.field("disallowed_versions").error("leaves no version"));
    }
    Ok(ListenerFilterKind::ProxyProtocol {
        optional: message.allow_requests_without_proxy_protocol,
        disallowed,
        stat_prefix: message.stat_prefix.as_str().into(),
    })
}
