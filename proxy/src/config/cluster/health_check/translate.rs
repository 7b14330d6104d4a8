//! Protobuf to model: `HealthCheck`.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use proto::envoy::config::core::v3 as core;
use proto::envoy::config::core::v3::health_check as pb;
use proto::envoy::config::core::v3::health_check::HealthChecker;
use proto::envoy::config::core::v3::health_check::payload::Payload;
use proto::envoy::extensions::health_check::event_sinks::file::v3::HealthCheckEventFileSink;
use proto::envoy::r#type::v3::{CodecClientType, Int64Range};

use super::{GrpcProbe, HealthCheck, HttpProbe, Pauses, Probe, ProbeHeaders, TcpProbe};
use crate::config::any;
use crate::config::error::{At, ConfigError, Context};
use crate::config::headers::{HeaderAdd, HeaderText};
use crate::config::matcher::StringMatcher;
use crate::config::value;
use crate::{refuse_set, warn_set};

const DEFAULT_NO_TRAFFIC_INTERVAL: Duration = Duration::from_secs(60);
const DEFAULT_RESPONSE_BUFFER: u64 = 1024;

impl HealthCheck {
    /// Translates a cluster's `health_checks`; as in Envoy there is one at most.
    ///
    /// # Errors
    /// A field breaks a rule or is not supported.
    pub fn from_cluster(
        messages: &[core::HealthCheck],
        at: &At<'_>,
        context: &Context,
    ) -> Result<Option<Arc<HealthCheck>>, ConfigError> {
        match messages {
            [] => Ok(None),
            [message] => {
                let at = at.index("health_checks", 0);
                HealthCheck::from_proto(message, &at, context).map(Arc::new).map(Some)
            }
            _ => Err(at.index("health_checks", 1).error("a cluster can have one health check")),
        }
    }

    fn from_proto(
        message: &core::HealthCheck,
        at: &At<'_>,
        context: &Context,
    ) -> Result<HealthCheck, ConfigError> {
        refuse_set!(at, message, [transport_socket_match_criteria, tls_options, event_service]);
        let reason = "no version of Envoy implements it; endpoints have a health_check_config";
        warn_set!(context, at, message, [alt_port], reason);
        let threshold = |value: &Option<_>, field| {
            value::required(value, &at.field(field))
                .map(|value: &proto::google::protobuf::UInt32Value| value.value)
        };
        let at_timeout = at.field("timeout");
        let timeout = value::positive_duration(message.timeout, &at_timeout)?;
        Ok(HealthCheck {
            timeout: *value::required(&timeout, &at_timeout)?,
            pauses: Pauses::from_proto(message, at)?,
            unhealthy_threshold: threshold(&message.unhealthy_threshold, "unhealthy_threshold")?,
            healthy_threshold: threshold(&message.healthy_threshold, "healthy_threshold")?,
            reuse_connection: message.reuse_connection.is_none_or(|reuse| reuse.value),
            event_log: event_log(message, at)?,
            logs_failures: message.always_log_health_check_failures,
            logs_successes: message.always_log_health_check_success,
            probe: match value::required(&message.health_checker, at)? {
                HealthChecker::HttpHealthCheck(http) => {
                    let at = at.field("http_health_check");
                    Probe::Http(HttpProbe::from_proto(http, &at, context)?)
                }
                HealthChecker::TcpHealthCheck(tcp) => {
                    Probe::Tcp(TcpProbe::from_proto(tcp, &at.field("tcp_health_check"))?)
                }
                HealthChecker::GrpcHealthCheck(grpc) => {
                    Probe::Grpc(GrpcProbe::from_proto(grpc, &at.field("grpc_health_check"))?)
                }
                HealthChecker::CustomHealthCheck(_) => {
                    return Err(at.field("custom_health_check").unsupported());
                }
            },
        })
    }
}

/// Where changes of health are logged.
#[allow(deprecated)] // Control planes still send `event_log_path`.
fn event_log(message: &core::HealthCheck, at: &At<'_>) -> Result<Option<Arc<str>>, ConfigError> {
    if !message.event_log_path.is_empty() {
        return Ok(Some(message.event_log_path.as_str().into()));
    }
    let mut path = None;
    for (i, logger) in message.event_logger.iter().enumerate() {
        let at = at.index("event_logger", i);
        let at = at.field("typed_config");
        let sink: HealthCheckEventFileSink =
            any::open(value::required(&logger.typed_config, &at)?, &at)?;
        if path.replace(Arc::from(sink.event_log_path)).is_some() {
            return Err(at.error("there can be one event log"));
        }
    }
    Ok(path)
}

impl Pauses {
    fn from_proto(message: &core::HealthCheck, at: &At<'_>) -> Result<Pauses, ConfigError> {
        let at_interval = at.field("interval");
        let interval = value::positive_duration(message.interval, &at_interval)?;
        let interval = *value::required(&interval, &at_interval)?;
        let or = |value, field, default| {
            value::positive_duration(value, &at.field(field)).map(|value| value.unwrap_or(default))
        };
        let jitter =
            |value, field| value::duration(value, &at.field(field)).map(Option::unwrap_or_default);
        let unhealthy = or(message.unhealthy_interval, "unhealthy_interval", interval)?;
        let no_traffic =
            or(message.no_traffic_interval, "no_traffic_interval", DEFAULT_NO_TRAFFIC_INTERVAL)?;
        Ok(Pauses {
            healthy: interval,
            unhealthy,
            healthy_edge: or(message.healthy_edge_interval, "healthy_edge_interval", interval)?,
            unhealthy_edge: or(
                message.unhealthy_edge_interval,
                "unhealthy_edge_interval",
                unhealthy,
            )?,
            no_traffic,
            no_traffic_healthy: or(
                message.no_traffic_healthy_interval,
                "no_traffic_healthy_interval",
                no_traffic,
            )?,
            initial_jitter: jitter(message.initial_jitter, "initial_jitter")?,
            jitter: jitter(message.interval_jitter, "interval_jitter")?,
            jitter_percent: message.interval_jitter_percent,
        })
    }
}

impl HttpProbe {
    fn from_proto(
        message: &pb::HttpHealthCheck,
        at: &At<'_>,
        context: &Context,
    ) -> Result<HttpProbe, ConfigError> {
        let at_method = at.field("method");
        let method: core::RequestMethod = value::enumeration(message.method, &at_method)?;
        let method = match method {
            core::RequestMethod::MethodUnspecified => Method::GET,
            core::RequestMethod::Connect => return Err(at_method.error("CONNECT is no check")),
            other => Method::from_bytes(other.as_str_name().as_bytes())
                .expect("the enum's names are methods"),
        };
        let at_path = at.field("path");
        let path = value::non_empty(&message.path, &at_path)?;
        let at_codec = at.field("codec_client_type");
        let codec: CodecClientType = value::enumeration(message.codec_client_type, &at_codec)?;
        let service = message.service_name_matcher.as_ref();
        let at_service = at.field("service_name_matcher");
        let expected = ranges("expected_statuses", &message.expected_statuses, at)?;
        Ok(HttpProbe {
            host: message.host.as_str().into(),
            path: path.parse().map_err(|error| at_path.error(format_args!("{path:?}: {error}")))?,
            method,
            send: match &message.send {
                Some(send) => payload(send, &at.field("send"))?,
                None => Vec::new(),
            },
            receive: payloads(&message.receive, at)?,
            response_buffer: message
                .response_buffer_size
                .map_or(DEFAULT_RESPONSE_BUFFER, |size| size.value)
                .try_into()
                .unwrap_or(usize::MAX),
            headers: ProbeHeaders::from_proto(
                ("request_headers_to_add", &message.request_headers_to_add),
                &message.request_headers_to_remove,
                at,
            )?,
            expected: if expected.is_empty() { vec![(200, 201)] } else { expected },
            retriable: ranges("retriable_statuses", &message.retriable_statuses, at)?,
            http2: match codec {
                CodecClientType::Http1 => false,
                CodecClientType::Http2 => true,
                CodecClientType::Http3 => return Err(at_codec.unsupported()),
            },
            service: service
                .map(|matcher| StringMatcher::from_proto(matcher, &at_service, context))
                .transpose()?,
        })
    }
}

fn ranges(field: &str, ranges: &[Int64Range], at: &At<'_>) -> Result<Vec<(i64, i64)>, ConfigError> {
    let check = |(i, range): (usize, &Int64Range)| match (range.start, range.end) {
        (start, end) if start >= end || start < 100 || end > 600 => {
            let rule = "a range of statuses goes from 100 to 600, its end after its start";
            Err(at.index(field, i).error(format_args!("{start}-{end}: {rule}")))
        }
        valid => Ok(valid),
    };
    ranges.iter().enumerate().map(check).collect()
}

impl ProbeHeaders {
    fn from_proto(
        (field, add): (&str, &[core::HeaderValueOption]),
        remove: &[String],
        at: &At<'_>,
    ) -> Result<ProbeHeaders, ConfigError> {
        let added = add.iter().enumerate().map(|(i, option)| {
            let at = at.index(field, i);
            let HeaderAdd { name, value, action, .. } = HeaderAdd::from_proto(option, &at)?;
            match value {
                HeaderText::Literal(value) => Ok((name, value, action)),
                HeaderText::Format(_) => {
                    let rule = "a health check has no request that command operators could tell of";
                    Err(at.field("header").field("value").error(rule))
                }
            }
        });
        let removed = remove
            .iter()
            .enumerate()
            .map(|(i, name)| value::header_name(name, &at.index("request_headers_to_remove", i)));
        Ok(ProbeHeaders {
            add: added.collect::<Result<_, _>>()?,
            remove: removed.collect::<Result<_, _>>()?,
        })
    }
}

impl TcpProbe {
    fn from_proto(message: &pb::TcpHealthCheck, at: &At<'_>) -> Result<TcpProbe, ConfigError> {
        refuse_set!(at, message, [proxy_protocol_config]);
        Ok(TcpProbe {
            send: match &message.send {
                Some(send) => payload(send, &at.field("send"))?,
                None => Vec::new(),
            },
            receive: payloads(&message.receive, at)?,
        })
    }
}

impl GrpcProbe {
    fn from_proto(message: &pb::GrpcHealthCheck, at: &At<'_>) -> Result<GrpcProbe, ConfigError> {
        Ok(GrpcProbe {
            service: message.service_name.clone(),
            authority: message.authority.as_str().into(),
            headers: ProbeHeaders::from_proto(
                ("initial_metadata", &message.initial_metadata),
                &[],
                at,
            )?,
        })
    }
}

fn payloads(messages: &[pb::Payload], at: &At<'_>) -> Result<Vec<Vec<u8>>, ConfigError> {
    let of = |(i, message)| payload(message, &at.index("receive", i));
    messages.iter().enumerate().map(of).collect()
}

/// A payload's bytes; its text is written in hexadecimal.
fn payload(message: &pb::Payload, at: &At<'_>) -> Result<Vec<u8>, ConfigError> {
    match value::required(&message.payload, at)? {
        Payload::Binary(bytes) => Ok(bytes.clone()),
        Payload::Text(text) => {
            let digits: Option<Vec<u8>> = text
                .as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
                .collect();
            match digits {
                Some(bytes) if text.len().is_multiple_of(2) && !bytes.is_empty() => Ok(bytes),
                _ => Err(at.field("text").error(format_args!("{text:?} is not hexadecimal"))),
            }
        }
    }
}
