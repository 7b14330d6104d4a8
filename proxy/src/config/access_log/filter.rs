//! Protobuf to model: which streams an access log records.

use std::sync::Arc;

use proto::envoy::config::accesslog::v3 as pb;
use proto::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use proto::envoy::config::accesslog::v3::comparison_filter::Op;
use proto::envoy::config::accesslog::v3::grpc_status_filter;

use super::{Comparison, HeadTest, LogFilter};
use crate::config::error::{At, ConfigError, Context};
use crate::config::matcher::{HeaderMatcher, PseudoHeaders};
use crate::config::value;
use crate::telemetry::log_format::FormatContext;
use crate::telemetry::response_flags::ResponseFlags;

impl LogFilter {
    /// Translates an `AccessLogFilter`.
    ///
    /// # Errors
    /// A field breaks a rule, or the filter is not supported.
    pub fn from_proto(
        message: &pb::AccessLogFilter,
        at: &At<'_>,
        context: &Context,
    ) -> Result<LogFilter, ConfigError> {
        Ok(match value::required(&message.filter_specifier, at)? {
            FilterSpecifier::StatusCodeFilter(filter) => {
                let at = at.field("status_code_filter");
                let (comparison, value) = comparison(&filter.comparison, &at)?;
                LogFilter::StatusCode(comparison, value)
            }
            FilterSpecifier::DurationFilter(filter) => {
                let at = at.field("duration_filter");
                let (comparison, value) = comparison(&filter.comparison, &at)?;
                LogFilter::Duration(comparison, value)
            }
            FilterSpecifier::NotHealthCheckFilter(_) => LogFilter::NotHealthCheck,
            FilterSpecifier::TraceableFilter(_) => LogFilter::Traceable,
            FilterSpecifier::RuntimeFilter(filter) => {
                LogFilter::Share(share(filter, &at.field("runtime_filter"), context)?)
            }
            FilterSpecifier::AndFilter(filter) => {
                LogFilter::And(several(&filter.filters, &at.field("and_filter"), context)?)
            }
            FilterSpecifier::OrFilter(filter) => {
                LogFilter::Or(several(&filter.filters, &at.field("or_filter"), context)?)
            }
            FilterSpecifier::HeaderFilter(filter) => {
                let at = at.field("header_filter");
                let at = at.field("header");
                let matcher = value::required(&filter.header, &at)?;
                LogFilter::Header(head_test(HeaderMatcher::from_proto(matcher, &at, context)?))
            }
            FilterSpecifier::ResponseFlagFilter(filter) => {
                LogFilter::ResponseFlags(flags(&filter.flags, &at.field("response_flag_filter"))?)
            }
            FilterSpecifier::GrpcStatusFilter(filter) => {
                let statuses = grpc_statuses(&filter.statuses, &at.field("grpc_status_filter"))?;
                LogFilter::GrpcStatus(statuses, filter.exclude)
            }
            FilterSpecifier::ExtensionFilter(_) => {
                return Err(at.field("extension_filter").unsupported());
            }
            FilterSpecifier::MetadataFilter(_) => {
                return Err(at.field("metadata_filter").unsupported());
            }
            FilterSpecifier::LogTypeFilter(_) => {
                return Err(at.field("log_type_filter").unsupported());
            }
        })
    }
}

fn comparison(
    message: &Option<pb::ComparisonFilter>,
    at: &At<'_>,
) -> Result<(Comparison, u64), ConfigError> {
    let at = at.field("comparison");
    let message = value::required(message, &at)?;
    let comparison = match value::enumeration(message.op, &at.field("op"))? {
        Op::Eq => Comparison::Equal,
        Op::Ge => Comparison::AtLeast,
        Op::Le => Comparison::AtMost,
        Op::Ne => Comparison::NotEqual,
    };
    let value = value::required(&message.value, &at.field("value"))?;
    Ok((comparison, value.default_value.into()))
}

/// Envoy samples nothing unless the runtime key or `percent_sampled` says so.
fn share(message: &pb::RuntimeFilter, at: &At<'_>, context: &Context) -> Result<f64, ConfigError> {
    value::non_empty(&message.runtime_key, &at.field("runtime_key"))?;
    let reason = "every stream is sampled by a random number of its own";
    if !message.use_independent_randomness {
        context.warn(&at.field("use_independent_randomness"), reason);
    }
    let at = at.field("percent_sampled");
    message.percent_sampled.as_ref().map_or(Ok(0.0), |percent| {
        let (numerator, denominator) = value::fraction(percent, &at)?;
        Ok((f64::from(numerator) / f64::from(denominator)).min(1.0))
    })
}

fn several(
    messages: &[pb::AccessLogFilter],
    at: &At<'_>,
    context: &Context,
) -> Result<Vec<LogFilter>, ConfigError> {
    if messages.len() < 2 {
        return Err(at.field("filters").error("at least two are required"));
    }
    let messages = messages.iter().enumerate();
    messages
        .map(|(i, message)| LogFilter::from_proto(message, &at.index("filters", i), context))
        .collect()
}

/// Header filters look at the request's headers.
fn head_test(matcher: HeaderMatcher) -> HeadTest {
    HeadTest(Arc::new(move |context: &FormatContext<'_>| {
        context.request.is_some_and(|request| {
            let pseudo = PseudoHeaders {
                method: request.method.as_str(),
                scheme: &request.scheme,
                authority: &request.authority,
                path: &request.path,
            };
            matcher.matches(&pseudo, &request.headers)
        })
    }))
}

fn flags(names: &[String], at: &At<'_>) -> Result<ResponseFlags, ConfigError> {
    let mut flags = ResponseFlags::NONE;
    for (i, name) in names.iter().enumerate() {
        let flag = ResponseFlags::from_short(name).ok_or_else(|| {
            at.index("flags", i).error(format_args!("{name:?} is not a response flag"))
        })?;
        flags.insert(flag);
    }
    Ok(flags)
}

fn grpc_statuses(numbers: &[i32], at: &At<'_>) -> Result<Vec<u32>, ConfigError> {
    let numbers = numbers.iter().enumerate();
    numbers
        .map(|(i, number)| {
            let at = at.index("statuses", i);
            let status: grpc_status_filter::Status = value::enumeration(*number, &at)?;
            Ok(status as u32)
        })
        .collect()
}
