//! `istio.alpn`: requests to other sidecars say in ALPN that they are HTTP of the mesh, so that the other side chooses a filter
//! chain without looking into them.

use std::sync::Arc;

use proto::google::protobuf::Any;
use proto::istio::AlpnFilter;

use super::{Blueprint, Build, Decoded, HttpFilter, Registration, Request};
use crate::config::{At, ConfigError, Context, any};
use crate::upstream::pool::AlpnOverrides;

/// Its entry in the table.
pub(super) const FILTER: Registration = Registration {
    config: "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
    translate: |config, at, context| {
        Ok(Box::new(Config(from_proto(config, at, context)?)) as Box<dyn Blueprint>)
    },
    route: None,
};

fn from_proto(config: &Any, at: &At<'_>, _context: &Context) -> Result<AlpnOverrides, ConfigError> {
    let message: AlpnFilter = any::open(config, at)?;
    let mut overrides = AlpnOverrides::default();
    for (index, given) in message.alpn_override.iter().enumerate() {
        let at = at.index("alpn_override", index);
        if given.alpn_override.iter().any(|name| !(1..=255).contains(&name.len())) {
            let at = at.field("alpn_override");
            return Err(at.error("a protocol's name has 1 to 255 bytes"));
        }
        let names = given.alpn_override.iter().map(|name| name.as_bytes().to_vec()).collect();
        let known = overrides.set(given.upstream_protocol, names);
        known.ok_or_else(|| {
            let number = given.upstream_protocol;
            at.field("upstream_protocol").error(format_args!("{number} is no protocol"))
        })?;
    }
    Ok(overrides)
}

#[derive(Debug)]
struct Config(AlpnOverrides);

impl Blueprint for Config {
    fn build(&self, _build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
        Ok(Arc::new(Filter(Arc::new(self.0.clone()))))
    }
}

struct Filter(Arc<AlpnOverrides>);

impl HttpFilter for Filter {
    fn decode<'a>(&'a self, request: &'a mut Request<'_>) -> Decoded<'a> {
        request.stream.alpn = Some(Arc::clone(&self.0));
        Decoded::Continue
    }
}
