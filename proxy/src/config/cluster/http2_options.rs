//! Protobuf to model: the HTTP/2 settings of both sides.

use std::time::Duration;

use proto::envoy::config::core::v3 as core;

use super::Http2Options;
use crate::config::error::{At, ConfigError, Context};
use crate::config::value;
use crate::{refuse_set, warn_set};

/// HTTP/2 window sizes (RFC 9113, section 6.9.1; Envoy wants at least the protocol's default).
const WINDOW: (u32, u32) = (65_535, i32::MAX as u32);
const SHORTEST_KEEPALIVE: Duration = Duration::from_millis(1);

impl Http2Options {
    /// Translates `Http2ProtocolOptions`, of either side.
    ///
    /// # Errors
    /// A field breaks a rule or is not supported.
    pub fn from_proto(
        options: Option<&core::Http2ProtocolOptions>,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Http2Options, ConfigError> {
        let default = Http2Options::default();
        let Some(options) = options else {
            return Ok(default);
        };
        refuse_set!(at, options, [allow_metadata, custom_settings_parameters]);
        warn_of_codec_settings(options, at, context);
        let within =
            |field, value, default, range| value::within(value, default, range, &at.field(field));
        Ok(Http2Options {
            hpack_table_size: options
                .hpack_table_size
                .map_or(default.hpack_table_size, |size| size.value),
            max_concurrent_streams: within(
                "max_concurrent_streams",
                options.max_concurrent_streams,
                default.max_concurrent_streams,
                (1, i32::MAX as u32),
            )?,
            initial_stream_window_size: within(
                "initial_stream_window_size",
                options.initial_stream_window_size,
                default.initial_stream_window_size,
                WINDOW,
            )?,
            initial_connection_window_size: within(
                "initial_connection_window_size",
                options.initial_connection_window_size,
                default.initial_connection_window_size,
                WINDOW,
            )?,
            allow_connect: options.allow_connect,
            keepalive: keepalive(
                options.connection_keepalive.as_ref(),
                &at.field("connection_keepalive"),
                context,
            )?,
        })
    }
}

/// Settings of Envoy's codec for which Pillion's codec has fixed limits or habits.
fn warn_of_codec_settings(options: &core::Http2ProtocolOptions, at: &At<'_>, context: &Context) {
    let reason = "Pillion's own limits against floods apply";
    warn_set!(
        context,
        at,
        options,
        [
            max_outbound_frames,
            max_outbound_control_frames,
            max_consecutive_inbound_frames_with_empty_payload,
            max_inbound_priority_frames_per_stream,
            max_inbound_window_update_frames_per_data_frame_sent,
            max_metadata_size,
            max_header_field_size_kb,
            stream_reset_burst,
            stream_reset_rate
        ],
        reason
    );
    let reason = "Pillion has one HTTP/2 codec with its own rules";
    warn_set!(
        context,
        at,
        options,
        [
            stream_error_on_invalid_http_messaging,
            override_stream_error_on_invalid_http_message,
            use_oghttp2_codec,
            enable_huffman_encoding,
            disallow_obs_text
        ],
        reason
    );
}

/// Interval and timeout of pings, if there are any.
fn keepalive(
    settings: Option<&core::KeepaliveSettings>,
    at: &At<'_>,
    context: &Context,
) -> Result<Option<(Duration, Duration)>, ConfigError> {
    let Some(settings) = settings else {
        return Ok(None);
    };
    warn_set!(context, at, settings, [interval_jitter], "pings are sent without jitter");
    warn_set!(context, at, settings, [connection_idle_interval], "idle connections are not probed");
    let duration = |field, value| {
        let at = at.field(field);
        match value::duration(value, &at)? {
            Some(short) if short < SHORTEST_KEEPALIVE => {
                Err(at.error(format_args!("{short:?} is shorter than 1ms")))
            }
            value => Ok(value),
        }
    };
    let timeout = duration("timeout", settings.timeout)?
        .ok_or_else(|| at.field("timeout").error("is required"))?;
    Ok(duration("interval", settings.interval)?.map(|interval| (interval, timeout)))
}
