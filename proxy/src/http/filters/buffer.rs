//! `envoy.filters.http.buffer`: a request goes on when its body is here as a whole.

use std::sync::Arc;

use proto::envoy::extensions::filters::http::buffer::v3 as pb;
use proto::envoy::extensions::filters::http::buffer::v3::buffer_per_route::Override;
use proto::google::protobuf::Any;

use super::{Blueprint, Build, Decoded, HttpFilter, Registration, Request, too_large};
use crate::config::http_filter::Opaque;
use crate::config::{At, ConfigError, Context, any, value};

/// Its entry in the table.
pub(super) const FILTER: Registration = Registration {
    config: "envoy.extensions.filters.http.buffer.v3.Buffer",
    translate: |config, at, _| {
        Ok(Box::new(Buffer::from_proto(&any::open(config, at)?, at)?) as Box<dyn Blueprint>)
    },
    route: Some(("envoy.extensions.filters.http.buffer.v3.BufferPerRoute", route)),
};

/// `Buffer`
#[derive(Clone, Copy, Debug)]
struct Buffer {
    /// `max_request_bytes`; none where a route has no buffer.
    most: Option<usize>,
}

impl Buffer {
    fn from_proto(message: &pb::Buffer, at: &At<'_>) -> Result<Buffer, ConfigError> {
        let at = at.field("max_request_bytes");
        match value::required(&message.max_request_bytes, &at)?.value {
            0 => Err(at.error("must be above 0")),
            most => Ok(Buffer { most: Some(most as usize) }),
        }
    }
}

fn route(config: &Any, at: &At<'_>, _: &Context) -> Result<Opaque, ConfigError> {
    let message: pb::BufferPerRoute = any::open(config, at)?;
    let buffer = match &message.r#override {
        Some(Override::Buffer(buffer)) => Buffer::from_proto(buffer, &at.field("buffer"))?,
        Some(Override::Disabled(true)) => Buffer { most: None },
        Some(Override::Disabled(false)) => return Err(at.field("disabled").error("must be true")),
        None => return Err(at.error("needs disabled or buffer")),
    };
    Ok(Opaque::new(buffer))
}

impl Blueprint for Buffer {
    fn build(&self, _: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
        Ok(Arc::new(*self))
    }
}

impl HttpFilter for Buffer {
    fn decode<'a>(&'a self, request: &'a mut Request<'_>) -> Decoded<'a> {
        let buffer = request.route_config::<Buffer>().unwrap_or(self);
        let Some(most) = buffer.most.filter(|_| request.has_body()) else {
            return Decoded::Continue;
        };
        Decoded::Later(Box::pin(async move {
            let (bytes, is_whole) = request.read_ahead(most).await;
            if !is_whole || bytes.len() > most {
                return Err(too_large(request));
            }
            request.tell_length();
            Ok(())
        }))
    }
}
