//! Protobuf to model: `AccessLog`, its sinks and its formats.

use std::sync::{Arc, LazyLock};

use proto::envoy::config::accesslog::v3 as pb;
use proto::envoy::config::accesslog::v3::access_log::ConfigType;
use proto::envoy::config::core::v3::SubstitutionFormatString;
use proto::envoy::config::core::v3::substitution_format_string;
use proto::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use proto::envoy::extensions::access_loggers::file::v3::file_access_log;
use proto::envoy::extensions::access_loggers::stream::v3::{
    StderrAccessLog, StdoutAccessLog, stderr_access_log, stdout_access_log,
};
use proto::google::protobuf::{Any, Struct};

use super::{AccessLog, LogFilter, LogFormat, LogSink};
use crate::config::any;
use crate::config::error::{At, ConfigError, Context};
use crate::config::value;
use crate::telemetry::log_format::{Format, JsonFormat};
use crate::{refuse_set, warn_set};

/// The default format, which all logs without one of their own share.
static DEFAULT: LazyLock<Arc<LogFormat>> =
    LazyLock::new(|| Arc::new(LogFormat::Text(Format::default_text())));

impl AccessLog {
    /// Translates the access logs of the field `name` of the message at `at`.
    ///
    /// # Errors
    /// A field breaks a rule, or a logger or a field is not supported.
    pub fn from_list(
        messages: &[pb::AccessLog],
        name: &str,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Vec<AccessLog>, ConfigError> {
        let messages = messages.iter().enumerate();
        messages
            .map(|(i, message)| AccessLog::from_proto(message, &at.index(name, i), context))
            .collect()
    }

    /// Translates an `AccessLog`.
    ///
    /// # Errors
    /// A field breaks a rule, or the logger or a field is not supported.
    pub fn from_proto(
        message: &pb::AccessLog,
        at: &At<'_>,
        context: &Context,
    ) -> Result<AccessLog, ConfigError> {
        let filter = message.filter.as_ref();
        let at_filter = at.field("filter");
        let filter =
            filter.map(|filter| LogFilter::from_proto(filter, &at_filter, context)).transpose()?;
        let config: Option<&Any> =
            message.config_type.as_ref().map(|ConfigType::TypedConfig(config)| config);
        let at = at.field("typed_config");
        let (sink, format) = match any::type_name(config) {
            "envoy.extensions.access_loggers.file.v3.FileAccessLog" => {
                file(&any::open(config, &at)?, &at, context)?
            }
            "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog" => {
                let log: StdoutAccessLog = any::open(config, &at)?;
                let format = log
                    .access_log_format
                    .map(|stdout_access_log::AccessLogFormat::LogFormat(format)| format);
                (LogSink::Stdout, substitution_format(format.as_ref(), &at, context)?)
            }
            "envoy.extensions.access_loggers.stream.v3.StderrAccessLog" => {
                let log: StderrAccessLog = any::open(config, &at)?;
                let format = log
                    .access_log_format
                    .map(|stderr_access_log::AccessLogFormat::LogFormat(format)| format);
                (LogSink::Stderr, substitution_format(format.as_ref(), &at, context)?)
            }
            _ => return Err(any::unknown(&message.name, config, &at)),
        };
        Ok(AccessLog { filter, sink, format })
    }

    /// A log of everything to a file in the default format (the admin interface's `access_log_path`).
    pub fn file(path: &str) -> AccessLog {
        AccessLog { filter: None, sink: LogSink::File(path.into()), format: DEFAULT.clone() }
    }
}

fn file(
    message: &FileAccessLog,
    at: &At<'_>,
    context: &Context,
) -> Result<(LogSink, Arc<LogFormat>), ConfigError> {
    use file_access_log::AccessLogFormat;
    let path = value::non_empty(&message.path, &at.field("path"))?;
    let format = match &message.access_log_format {
        None => DEFAULT.clone(),
        Some(AccessLogFormat::LogFormat(format)) => substitution_format(Some(format), at, context)?,
        Some(AccessLogFormat::Format(format)) => text(format, false, &at.field("format"))?,
        Some(AccessLogFormat::JsonFormat(format)) => json(format, false, &at.field("json_format"))?,
        Some(AccessLogFormat::TypedJsonFormat(format)) => {
            json(format, false, &at.field("typed_json_format"))?
        }
    };
    Ok((LogSink::File(path.into()), format))
}

/// `log_format` of the logger at `at`.
fn substitution_format(
    message: Option<&SubstitutionFormatString>,
    at: &At<'_>,
    context: &Context,
) -> Result<Arc<LogFormat>, ConfigError> {
    let Some(message) = message else {
        return Ok(DEFAULT.clone());
    };
    let at = at.field("log_format");
    warn_set!(context, at, message, [content_type], "a log's lines have no content type");
    LogFormat::from_proto(message, &at, context)
}

impl LogFormat {
    /// A `SubstitutionFormatString`, apart from its content type.
    ///
    /// # Errors
    /// An unknown operator, or an extension that formats.
    pub fn from_proto(
        message: &SubstitutionFormatString,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Arc<LogFormat>, ConfigError> {
        use substitution_format_string::Format as Specifier;
        refuse_set!(at, message, [formatters]);
        warn_set!(context, at, message, [json_format_options], "properties are always sorted");
        let omit_empty = message.omit_empty_values;
        match value::required(&message.format, at)? {
            Specifier::TextFormat(format) => text(format, omit_empty, &at.field("text_format")),
            Specifier::TextFormatSource(source) => {
                let at = at.field("text_format_source");
                text(&value::text(source, &at, context)?, omit_empty, &at)
            }
            Specifier::JsonFormat(format) => json(format, omit_empty, &at.field("json_format")),
        }
    }
}

/// An empty text is the default, as in Envoy.
fn text(format: &str, omit_empty: bool, at: &At<'_>) -> Result<Arc<LogFormat>, ConfigError> {
    if format.is_empty() {
        return Ok(DEFAULT.clone());
    }
    let format = Format::parse(format).map_err(|error| at.error(error))?;
    let format = if omit_empty { format.omit_empty_values() } else { format };
    Ok(Arc::new(LogFormat::Text(format)))
}

fn json(format: &Struct, omit_empty: bool, at: &At<'_>) -> Result<Arc<LogFormat>, ConfigError> {
    let format = proto::convert::struct_to_json(format).into();
    let format = JsonFormat::from_value(&format).map_err(|error| at.error(error))?;
    let format = if omit_empty { format.omit_empty_values() } else { format };
    Ok(Arc::new(LogFormat::Json(format)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::access_log::Comparison;
    use crate::telemetry::response_flags::ResponseFlags;
    use proto::Registry;

    const LOGGERS: &str = "type.googleapis.com/envoy.extensions.access_loggers";

    fn translate(yaml: &str) -> Result<AccessLog, String> {
        let message: pb::AccessLog =
            Registry::load().from_yaml(yaml).expect("the test's YAML is a message");
        let root = At::resource("listener", "a");
        AccessLog::from_list(&[message], "access_log", &root, &Context::default())
            .map(|mut logs| logs.remove(0))
            .map_err(|error| error.to_string())
    }

    fn filter(filter: &str) -> Result<LogFilter, String> {
        let yaml = format!(
            "{{name: a, filter: {{{filter}}}, typed_config: {{\"@type\": {LOGGERS}.stream.v3.StdoutAccessLog}}}}"
        );
        translate(&yaml).map(|log| log.filter.expect("it has a filter"))
    }

    #[test]
    fn files_and_streams_are_sinks_and_share_the_default_format() {
        let file = translate(&format!(
            "{{name: a, typed_config: {{\"@type\": {LOGGERS}.file.v3.FileAccessLog, path: /dev/null}}}}"
        ))
        .expect("it is valid");
        assert_eq!(file.sink, LogSink::File("/dev/null".into()));
        assert!(file.filter.is_none());
        let stderr = translate(&format!(
            "{{name: a, typed_config: {{\"@type\": {LOGGERS}.stream.v3.StderrAccessLog}}}}"
        ))
        .expect("it is valid");
        assert_eq!(stderr.sink, LogSink::Stderr);
        assert!(Arc::ptr_eq(&file.format, &stderr.format));
    }

    #[test]
    fn formats_are_text_or_json_and_bad_ones_are_refused() {
        let format = |format: &str| {
            translate(&format!(
                "{{name: a, typed_config: {{\"@type\": {LOGGERS}.stream.v3.StdoutAccessLog, \
                 log_format: {{{format}}}}}}}"
            ))
            .map(|log| log.format)
        };
        let text =
            format("text_format_source: {inline_string: '%PROTOCOL%'}").expect("it is valid");
        assert!(matches!(*text, LogFormat::Text(_)));
        let json = "json_format: {code: '%RESPONSE_CODE%'}, omit_empty_values: true";
        assert!(matches!(*format(json).expect("it is valid"), LogFormat::Json(_)));
        let error =
            format("text_format_source: {inline_string: '%NO_SUCH%'}").expect_err("unknown");
        assert!(
            error.starts_with(
                "listener \"a\": access_log[0].typed_config.log_format.text_format_source: "
            ),
            "{error}"
        );
    }

    #[test]
    fn loggers_that_break_a_rule_are_refused() {
        assert_eq!(
            translate(&format!(
                "{{name: a, typed_config: {{\"@type\": {LOGGERS}.file.v3.FileAccessLog}}}}"
            ))
            .expect_err("no path"),
            "listener \"a\": access_log[0].typed_config.path: must not be empty"
        );
        let als = "{name: als, typed_config: {\"@type\": \
                   type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig}}";
        assert!(translate(als).expect_err("no such logger").starts_with(
            "listener \"a\": access_log[0].typed_config: didn't find a registered \
                 implementation for \"als\""
        ));
    }

    #[test]
    fn filters_are_nested_as_they_come() {
        let both = filter(
            "and_filter: {filters: [{status_code_filter: {comparison: {op: GE, value: \
             {default_value: 500, runtime_key: k}}}}, {response_flag_filter: {flags: [UH, NR]}}]}",
        )
        .expect("it is valid");
        let LogFilter::And(filters) = both else { panic!("not an and_filter") };
        assert!(matches!(filters[0], LogFilter::StatusCode(Comparison::AtLeast, 500)));
        let LogFilter::ResponseFlags(flags) = filters[1] else { panic!("not flags") };
        assert!(flags.intersects(ResponseFlags::NO_ROUTE_FOUND));
    }

    #[test]
    fn filters_that_break_a_rule_are_refused() {
        let refused = |yaml: &str| filter(yaml).expect_err("it breaks a rule");
        assert_eq!(
            refused("or_filter: {filters: [{not_health_check_filter: {}}]}"),
            "listener \"a\": access_log[0].filter.or_filter.filters: at least two are required"
        );
        assert_eq!(
            refused("response_flag_filter: {flags: [UH, XX]}"),
            "listener \"a\": access_log[0].filter.response_flag_filter.flags[1]: \
             \"XX\" is not a response flag"
        );
        assert_eq!(
            refused("duration_filter: {comparison: {op: EQ}}"),
            "listener \"a\": access_log[0].filter.duration_filter.comparison.value: is required"
        );
    }
}
