//! The gRPC status of a stream, as number and as name.

use http::header::CONTENT_TYPE;

use super::FormatContext;
use super::value::Value;

/// How `%GRPC_STATUS%` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GrpcStatusStyle {
    /// `CAMEL_STRING`, the default: `NotFound`
    Camel,
    /// `SNAKE_STRING`: `NOT_FOUND`
    Snake,
    /// `NUMBER`: `5`
    Number,
}

impl GrpcStatusStyle {
    /// Parses the argument.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "CAMEL_STRING" => Ok(GrpcStatusStyle::Camel),
            "SNAKE_STRING" => Ok(GrpcStatusStyle::Snake),
            "NUMBER" => Ok(GrpcStatusStyle::Number),
            _ => Err(format!("\"{text}\" is not CAMEL_STRING, SNAKE_STRING or NUMBER")),
        }
    }

    /// The status of a gRPC request in this style; one that gRPC does not define is its number.
    pub(super) fn value<'a>(self, context: FormatContext<'a>) -> Value<'a> {
        let status = is_grpc(&context).then(|| grpc_status(&context)).flatten();
        let Some(status) = status else { return Value::Missing };
        match (self, GRPC_NAMES.get(status as usize)) {
            (GrpcStatusStyle::Camel, Some((camel, _))) => Value::Text(camel),
            (GrpcStatusStyle::Snake, Some((_, snake))) => Value::Text(snake),
            _ => Value::Number(status.into()),
        }
    }
}

/// The names of the gRPC statuses 0 to 16.
const GRPC_NAMES: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

/// Whether the request is a gRPC request: by its content type, as in Envoy.
fn is_grpc(context: &FormatContext<'_>) -> bool {
    let content_type = context.request.and_then(|request| request.headers.get(CONTENT_TYPE));
    let subtype = content_type.and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    subtype.is_some_and(|subtype| matches!(subtype.first(), None | Some(b'+')))
}

/// See [`FormatContext::grpc_status`].
pub(super) fn grpc_status(context: &FormatContext<'_>) -> Option<u32> {
    let maps = [context.trailers, context.response];
    match maps.into_iter().flatten().find_map(|map| map.get("grpc-status")) {
        // A status that is no number is Unknown to gRPC clients.
        Some(status) => Some(status.to_str().ok().and_then(|s| s.parse().ok()).unwrap_or(2)),
        None => match context.info.response_code {
            0 => None,
            400 => Some(13),
            401 => Some(16),
            403 => Some(7),
            404 => Some(12),
            429 | 502 | 503 | 504 => Some(14),
            _ => Some(2),
        },
    }
}
