//! Texts that the filters `set_filter_state` leave for others (`envoy.extensions.filters.common.set_filter_state.v3`).

use std::sync::Arc;

use proto::envoy::extensions::filters::common::set_filter_state::v3 as pb;
use proto::envoy::extensions::filters::common::set_filter_state::v3::filter_state_value::{
    Key, Value,
};

use crate::config::access_log::LogFormat;
use crate::config::value::{non_empty, required};
use crate::config::{At, ConfigError, Context};
use crate::telemetry::filter_state::FilterState;
use crate::telemetry::log_format::FormatContext;
use crate::warn_set;

/// The cluster that the TCP proxy goes to, in place of its own.
pub const TCP_CLUSTER: &str = "envoy.tcp_proxy.cluster";

/// The objects that exist here; each is a text.
const OBJECTS: &[&str] = &["envoy.string", TCP_CLUSTER];

/// Values to be set.
#[derive(Clone, Debug)]
pub struct StateValues(Box<[StateValue]>);

/// `FilterStateValue`
#[derive(Clone, Debug)]
struct StateValue {
    key: Box<str>,
    format: Arc<LogFormat>,
    skip_if_empty: bool,
}

impl StateValues {
    /// The values of the list `field` of the message that stands here.
    ///
    /// # Errors
    /// An object that does not exist, or a bad format.
    pub fn from_proto(
        values: &[pb::FilterStateValue],
        field: &str,
        at: &At<'_>,
        context: &Context,
    ) -> Result<StateValues, ConfigError> {
        let values = values.iter().enumerate();
        let values = values
            .map(|(i, value)| StateValue::from_proto(value, &at.index(field, i), context))
            .collect::<Result<_, _>>()?;
        Ok(StateValues(values))
    }

    /// Whether a format reads the headers of a request.
    pub fn needs_heads(&self) -> bool {
        self.0.iter().any(|value| value.format.needs_heads())
    }

    /// Makes the texts and gives them to `set`.
    pub fn set(&self, context: &FormatContext<'_>, state: &mut FilterState) {
        for value in &self.0 {
            let mut text = Vec::new();
            value.format.write(context, &mut text);
            if !text.is_empty() || !value.skip_if_empty {
                state.set(&value.key, String::from_utf8_lossy(&text));
            }
        }
    }
}

impl StateValue {
    fn from_proto(
        message: &pb::FilterStateValue,
        at: &At<'_>,
        context: &Context,
    ) -> Result<StateValue, ConfigError> {
        let reason = "connections to hosts are shared by the cluster alone";
        warn_set!(context, at, message, [shared_with_upstream], reason);
        let key = match required(&message.key, at)? {
            Key::ObjectKey(key) => {
                let at_key = at.field("object_key");
                let key = non_empty(key, &at_key)?;
                let factory = match message.factory_key.as_str() {
                    "" => key,
                    factory => factory,
                };
                if !OBJECTS.contains(&factory) {
                    let known = OBJECTS.join(", ");
                    return Err(at_key.error(format_args!("{factory:?} is none of {known}")));
                }
                key
            }
        };
        let at_format = at.field("format_string");
        let Value::FormatString(format) = required(&message.value, &at_format)?;
        Ok(StateValue {
            key: key.into(),
            format: LogFormat::from_proto(format, &at_format, context)?,
            skip_if_empty: message.skip_if_empty,
        })
    }
}
