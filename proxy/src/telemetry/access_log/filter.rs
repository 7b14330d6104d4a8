//! Which streams are logged.

use super::{Comparison, LogFilter};
use crate::telemetry::log_format::FormatContext;

impl LogFilter {
    /// Whether the stream is to be logged.
    pub fn passes(&self, context: &FormatContext<'_>) -> bool {
        let info = context.info;
        match self {
            LogFilter::StatusCode(comparison, code) => {
                comparison.holds(info.response_code.into(), *code)
            }
            LogFilter::Duration(comparison, millis) => {
                let duration = info.duration.unwrap_or_else(|| info.elapsed()).as_millis();
                comparison.holds(u64::try_from(duration).unwrap_or(u64::MAX), *millis)
            }
            LogFilter::NotHealthCheck => !info.health_check,
            LogFilter::Traceable => info.traced,
            LogFilter::Share(share) => fastrand::f64() < *share,
            LogFilter::And(filters) => filters.iter().all(|filter| filter.passes(context)),
            LogFilter::Or(filters) => filters.iter().any(|filter| filter.passes(context)),
            LogFilter::Header(test) => (test.0)(context),
            LogFilter::ResponseFlags(flags) if flags.is_empty() => !info.flags.is_empty(),
            LogFilter::ResponseFlags(flags) => info.flags.intersects(*flags),
            LogFilter::GrpcStatus(statuses, exclude) => {
                // A stream without a gRPC status counts as Unknown, as in Envoy.
                statuses.contains(&context.grpc_status().unwrap_or(2)) != *exclude
            }
        }
    }

    /// Whether the filter reads headers or trailers.
    pub fn needs_heads(&self) -> bool {
        match self {
            LogFilter::Header(_) | LogFilter::GrpcStatus(..) => true,
            LogFilter::And(filters) | LogFilter::Or(filters) => {
                filters.iter().any(LogFilter::needs_heads)
            }
            _ => false,
        }
    }
}

impl Comparison {
    fn holds(self, value: u64, bound: u64) -> bool {
        match self {
            Comparison::Equal => value == bound,
            Comparison::AtLeast => value >= bound,
            Comparison::AtMost => value <= bound,
            Comparison::NotEqual => value != bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::HeadTest;
    use super::*;
    use crate::telemetry::log_format::samples;
    use crate::telemetry::response_flags::ResponseFlags;

    #[test]
    fn each_filter_asks_its_question() {
        let mut sample = samples::http();
        sample.info.response_code = 503;
        sample.info.duration = Some(Duration::from_millis(20));
        sample.info.flags = ResponseFlags::UPSTREAM_OVERFLOW;
        sample.info.health_check = true;
        let header = |found: bool| LogFilter::Header(HeadTest(Arc::new(move |_| found)));
        let cases = [
            (LogFilter::StatusCode(Comparison::AtLeast, 500), true),
            (LogFilter::StatusCode(Comparison::Equal, 500), false),
            (LogFilter::StatusCode(Comparison::NotEqual, 500), true),
            (LogFilter::Duration(Comparison::AtMost, 20), true),
            (LogFilter::Duration(Comparison::AtMost, 19), false),
            (LogFilter::NotHealthCheck, false),
            (LogFilter::Traceable, false),
            (LogFilter::Share(1.0), true),
            (LogFilter::Share(0.0), false),
            (LogFilter::And(vec![header(true), header(false)]), false),
            (LogFilter::Or(vec![header(true), header(false)]), true),
            (LogFilter::ResponseFlags(ResponseFlags::NONE), true),
            (LogFilter::ResponseFlags(ResponseFlags::UPSTREAM_OVERFLOW), true),
            (LogFilter::ResponseFlags(ResponseFlags::NO_ROUTE_FOUND), false),
            (LogFilter::GrpcStatus(vec![14], false), true),
            (LogFilter::GrpcStatus(vec![14], true), false),
        ];
        for (filter, expected) in cases {
            assert_eq!(filter.passes(&sample.context()), expected, "{filter:?}");
        }
    }

    #[test]
    fn tells_whether_headers_are_read() {
        let header = || LogFilter::Header(HeadTest(Arc::new(|_| true)));
        assert!(LogFilter::And(vec![LogFilter::Traceable, header()]).needs_heads());
        assert!(!LogFilter::Or(vec![LogFilter::Traceable]).needs_heads());
    }
}
