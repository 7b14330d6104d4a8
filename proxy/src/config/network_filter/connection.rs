//! Translating the network filters that look at a connection when it comes, before it has said anything.

use std::time::Duration;

use proto::envoy::config::core::v3::RuntimeFeatureFlag;
use proto::envoy::extensions::filters::network::connection_limit::v3::ConnectionLimit as PbLimit;
use proto::envoy::extensions::filters::network::local_ratelimit::v3::LocalRateLimit as PbRate;
use proto::envoy::extensions::filters::network::set_filter_state::v3::Config as PbState;

use crate::config::filter_state::StateValues;
use crate::config::token_bucket::TokenBucket;
use crate::config::value::{duration, non_empty, required};
use crate::config::{At, ConfigError, Context};
use crate::{refuse_set, warn_set};

/// `envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit`
#[derive(Clone, Debug)]
pub struct ConnectionLimit {
    /// `stat_prefix`
    pub stat_prefix: Box<str>,
    /// `max_connections`; none where `runtime_enabled` is off.
    pub most: Option<u64>,
    /// `delay`: how long a connection beyond the limit stays open all the same.
    pub delay: Option<Duration>,
}

/// `envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit`
#[derive(Debug)]
pub struct ConnectionRateLimit {
    /// `stat_prefix`
    pub stat_prefix: Box<str>,
    /// `token_bucket`, of which each connection takes one; none where `runtime_enabled` is off.
    pub bucket: Option<TokenBucket>,
}

impl ConnectionLimit {
    pub(super) fn from_proto(
        message: &PbLimit,
        at: &At<'_>,
        context: &Context,
    ) -> Result<ConnectionLimit, ConfigError> {
        let at_most = at.field("max_connections");
        let most = required(&message.max_connections, &at_most)?.value;
        if most == 0 {
            return Err(at_most.error("must be at least 1"));
        }
        let enabled = is_enabled(message.runtime_enabled.as_ref(), at, context);
        Ok(ConnectionLimit {
            stat_prefix: non_empty(&message.stat_prefix, &at.field("stat_prefix"))?.into(),
            most: enabled.then_some(most),
            delay: duration(message.delay, &at.field("delay"))?.filter(|delay| !delay.is_zero()),
        })
    }
}

impl ConnectionRateLimit {
    pub(super) fn from_proto(
        message: &PbRate,
        at: &At<'_>,
        context: &Context,
    ) -> Result<ConnectionRateLimit, ConfigError> {
        refuse_set!(at, message, [share_key]);
        let at_bucket = at.field("token_bucket");
        let bucket = required(&message.token_bucket, &at_bucket)?;
        let bucket = TokenBucket::from_proto(bucket, &at_bucket)?;
        let enabled = is_enabled(message.runtime_enabled.as_ref(), at, context);
        Ok(ConnectionRateLimit {
            stat_prefix: non_empty(&message.stat_prefix, &at.field("stat_prefix"))?.into(),
            bucket: enabled.then_some(bucket),
        })
    }
}

/// `runtime_enabled`; default true.
fn is_enabled(flag: Option<&RuntimeFeatureFlag>, at: &At<'_>, context: &Context) -> bool {
    let Some(flag) = flag else { return true };
    let at = at.field("runtime_enabled");
    warn_set!(context, at, flag, [runtime_key], "the default value is always used");
    flag.default_value.is_none_or(|value| value.value)
}

/// `envoy.extensions.filters.network.set_filter_state.v3.Config`
pub(super) fn filter_state(
    message: &PbState,
    at: &At<'_>,
    context: &Context,
) -> Result<StateValues, ConfigError> {
    refuse_set!(at, message, [on_downstream_tls_handshake, on_downstream_data]);
    StateValues::from_proto(&message.on_new_connection, "on_new_connection", at, context)
}
