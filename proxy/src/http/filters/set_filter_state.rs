//! `envoy.filters.http.set_filter_state`: leaves texts made of a request for other filters and for access logs.

use std::sync::Arc;

use proto::envoy::extensions::filters::http::set_filter_state::v3::Config as Message;
use proto::google::protobuf::Any;

use super::{Blueprint, Build, Decoded, HttpFilter, Registration, Request};
use crate::config::filter_state::StateValues;
use crate::config::http_filter::Opaque;
use crate::config::{At, ConfigError, Context, any};

/// Its entry in the table.
pub(super) const FILTER: Registration = Registration {
    config: "envoy.extensions.filters.http.set_filter_state.v3.Config",
    translate: |config, at, context| {
        Ok(Box::new(Config(Arc::new(Values::from_proto(config, at, context)?))))
    },
    route: Some(("envoy.extensions.filters.http.set_filter_state.v3.Config", route)),
};

#[derive(Debug)]
struct Config(Arc<Values>);

#[derive(Debug)]
struct Values {
    /// `on_request_headers`
    values: StateValues,
    /// Whether one of them reads headers.
    reads_heads: bool,
    /// `clear_route_cache`
    reroutes: bool,
}

impl Values {
    fn from_proto(config: &Any, at: &At<'_>, context: &Context) -> Result<Values, ConfigError> {
        let message: Message = any::open(config, at)?;
        let field = "on_request_headers";
        let values = StateValues::from_proto(&message.on_request_headers, field, at, context)?;
        let reads_heads = values.needs_heads();
        Ok(Values { values, reads_heads, reroutes: message.clear_route_cache })
    }

    fn apply(&self, request: &mut Request<'_>) {
        if self.reads_heads {
            request.stream.keep_request(request.parts);
        }
        let mut state = request.stream.shared.info.borrow().filter_state.clone();
        request.stream.with_format(|context| self.values.set(context, &mut state));
        request.stream.shared.info.borrow_mut().filter_state = state;
        if self.reroutes {
            request.clear_route_cache();
        }
    }
}

/// The values of a route, set after the filter's own.
fn route(config: &Any, at: &At<'_>, context: &Context) -> Result<Opaque, ConfigError> {
    Ok(Opaque::new(Values::from_proto(config, at, context)?))
}

impl Blueprint for Config {
    fn build(&self, _: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
        Ok(Arc::new(Filter(Arc::clone(&self.0))))
    }
}

struct Filter(Arc<Values>);

impl HttpFilter for Filter {
    fn decode<'a>(&'a self, request: &'a mut Request<'_>) -> Decoded<'a> {
        let of_route = request.config.clone();
        self.0.apply(request);
        if let Some(values) = of_route.as_ref().and_then(Opaque::get::<Values>) {
            values.apply(request);
        }
        Decoded::Continue
    }
}
