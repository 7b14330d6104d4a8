//! `local_reply_config`: how the proxy's own answers look.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use proto::envoy::config::core::v3::SubstitutionFormatString;
use proto::envoy::config::core::v3::substitution_format_string::Format;
use proto::envoy::extensions::filters::network::http_connection_manager::v3 as pb;

use crate::config::access_log::{LogFilter, LogFormat};
use crate::config::headers::{HeaderAdd, HeaderMutations};
use crate::config::value::{required, text};
use crate::config::{At, ConfigError, Context};

/// `LocalReplyConfig`
#[derive(Clone, Debug)]
pub struct LocalReplies {
    /// `mappers`, of which the first that takes an answer changes it.
    pub mappers: Vec<ReplyMapper>,
    /// `body_format`; without it the body stays as it is.
    pub format: Option<BodyFormat>,
}

/// `ResponseMapper`
#[derive(Clone, Debug)]
pub struct ReplyMapper {
    /// `filter`: which answers it takes.
    pub filter: LogFilter,
    /// `status_code`
    pub status: Option<StatusCode>,
    /// `body`
    pub body: Option<Arc<str>>,
    /// `body_format_override`
    pub format: Option<BodyFormat>,
    /// `headers_to_add`
    pub headers: HeaderMutations,
}

/// The `SubstitutionFormatString` of a body.
#[derive(Clone, Debug)]
pub struct BodyFormat {
    /// The format.
    pub format: Arc<LogFormat>,
    /// `content_type`; by default that of JSON or of plain text.
    pub content_type: HeaderValue,
}

impl LocalReplies {
    /// A `LocalReplyConfig`.
    pub(super) fn from_proto(
        message: &pb::LocalReplyConfig,
        at: &At<'_>,
        context: &Context,
    ) -> Result<LocalReplies, ConfigError> {
        let mappers = message.mappers.iter().enumerate();
        let mappers = mappers.map(|(index, mapper)| {
            ReplyMapper::from_proto(mapper, &at.index("mappers", index), context)
        });
        let format = message.body_format.as_ref();
        let format =
            format.map(|format| BodyFormat::from_proto(format, &at.field("body_format"), context));
        Ok(LocalReplies {
            mappers: mappers.collect::<Result<_, _>>()?,
            format: format.transpose()?,
        })
    }

    /// Whether a filter or a format reads the headers of the request or of the answer.
    pub fn needs_heads(&self) -> bool {
        let formats = self.mappers.iter().map(|mapper| &mapper.format).chain([&self.format]);
        formats.flatten().any(|format| format.format.needs_heads())
            || self
                .mappers
                .iter()
                .any(|mapper| mapper.filter.needs_heads() || mapper.headers.reads_heads())
    }
}

impl ReplyMapper {
    fn from_proto(
        message: &pb::ResponseMapper,
        at: &At<'_>,
        context: &Context,
    ) -> Result<ReplyMapper, ConfigError> {
        let at_filter = at.field("filter");
        let filter = required(&message.filter, &at_filter)?;
        let body = message.body.as_ref();
        let body = body.map(|source| text(source, &at.field("body"), context));
        let at_format = at.field("body_format_override");
        let format = message.body_format_override.as_ref();
        let format = format.map(|format| BodyFormat::from_proto(format, &at_format, context));
        let added = message.headers_to_add.iter().enumerate();
        let added = added.map(|(index, option)| {
            HeaderAdd::from_proto(option, &at.index("headers_to_add", index))
        });
        Ok(ReplyMapper {
            filter: LogFilter::from_proto(filter, &at_filter, context)?,
            status: message
                .status_code
                .map(|status| status_code(status.value, &at.field("status_code")))
                .transpose()?,
            body: body.transpose()?.map(Into::into),
            format: format.transpose()?,
            headers: HeaderMutations { remove: Vec::new(), add: added.collect::<Result<_, _>>()? },
        })
    }
}

/// A status from 200 to 599.
fn status_code(code: u32, at: &At<'_>) -> Result<StatusCode, ConfigError> {
    let status = u16::try_from(code).ok().filter(|code| (200..600).contains(code));
    let status = status.and_then(|code| StatusCode::from_u16(code).ok());
    status.ok_or_else(|| at.error(format_args!("{code} is not within 200 and 599")))
}

impl BodyFormat {
    fn from_proto(
        message: &SubstitutionFormatString,
        at: &At<'_>,
        context: &Context,
    ) -> Result<BodyFormat, ConfigError> {
        let content_type = match (message.content_type.as_str(), &message.format) {
            ("", Some(Format::JsonFormat(_))) => HeaderValue::from_static("application/json"),
            ("", _) => HeaderValue::from_static("text/plain"),
            (name, _) => HeaderValue::from_str(name).map_err(|error| {
                at.field("content_type").error(format_args!("{name:?}: {error}"))
            })?,
        };
        Ok(BodyFormat { format: LogFormat::from_proto(message, at, context)?, content_type })
    }
}
