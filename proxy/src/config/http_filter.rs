//! HTTP filters as translation sees them.
//!
//! A filter is one file upstairs, in `http/filters`, with the translation of its own configuration, so that adding one
//! changes nothing else. Here stands what the connection manager and routes keep of it without knowing it.

use std::any::Any as Anything;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use proto::envoy::config::route::v3::FilterConfig;
use proto::google::protobuf::Any;

use crate::config::{At, ConfigError, Context, any};

/// The HTTP filters that exist. The table of them comes in with the [`Context`].
pub trait HttpFilters: Sync {
    /// The filter that `config` (`HttpFilter.typed_config`) configures; none if there is no such filter.
    ///
    /// # Errors
    /// What the filter refuses.
    fn filter(
        &self,
        config: &Any,
        at: &At<'_>,
        context: &Context,
    ) -> Option<Result<Opaque, ConfigError>>;

    /// A filter's configuration for a route (an entry of `typed_per_filter_config`); none if no filter takes it.
    ///
    /// # Errors
    /// What the filter refuses.
    fn route(
        &self,
        config: &Any,
        at: &At<'_>,
        context: &Context,
    ) -> Option<Result<Opaque, ConfigError>>;
}

/// A configuration that only its filter understands.
#[derive(Clone)]
pub struct Opaque(Arc<dyn FilterConfiguration>);

/// What an [`Opaque`] holds; it can be printed, so that whoever compares two configurations sees into it.
trait FilterConfiguration: Anything + fmt::Debug + Send + Sync {}

impl<T: Anything + fmt::Debug + Send + Sync> FilterConfiguration for T {}

impl Opaque {
    /// Wraps a filter's configuration.
    pub fn new<T: Anything + fmt::Debug + Send + Sync>(config: T) -> Self {
        Opaque(Arc::new(config))
    }

    /// The configuration, if it is a `T`.
    pub fn get<T: Anything>(&self) -> Option<&T> {
        let config: &dyn Anything = &*self.0;
        config.downcast_ref()
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `typed_per_filter_config` of one level: by the filter's name in the connection manager. Usually empty.
#[derive(Clone, Debug, Default)]
pub struct RouteFilters(Box<[(Arc<str>, RouteFilter)]>);

/// What a route says to a filter.
#[derive(Clone, Debug)]
pub enum RouteFilter {
    /// `FilterConfig.disabled`: the filter is skipped.
    Disabled,
    /// A configuration of its own, which also enables a filter that is disabled by default.
    Config(Opaque),
}

impl RouteFilters {
    /// Translates `typed_per_filter_config`. What a `FilterConfig` calls optional and no filter takes is left out.
    pub fn from_proto(
        configs: &HashMap<String, Any>,
        at: &At<'_>,
        context: &Context,
    ) -> Result<RouteFilters, ConfigError> {
        let mut filters = Vec::with_capacity(configs.len());
        for (name, config) in configs {
            let at = at.key("typed_per_filter_config", name);
            let filter = RouteFilter::from_proto(name, config, &at, context)?;
            filters.extend(filter.map(|filter| (name.as_str().into(), filter)));
        }
        Ok(RouteFilters(filters.into()))
    }

    /// Whether this level says nothing to any filter.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What this level says to the filter of this name.
    pub fn get(&self, name: &str) -> Option<&RouteFilter> {
        self.0.iter().find(|(key, _)| **key == *name).map(|(_, filter)| filter)
    }
}

impl RouteFilter {
    fn from_proto(
        name: &str,
        config: &Any,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Option<RouteFilter>, ConfigError> {
        if !any::is::<FilterConfig>(config) {
            return match context.http_filters().and_then(|f| f.route(config, at, context)) {
                Some(config) => config.map(|config| Some(RouteFilter::Config(config))),
                None => Err(any::unknown(name, Some(config), at)),
            };
        }
        let wrapper: FilterConfig = any::open(config, at)?;
        if wrapper.disabled {
            return Ok(Some(RouteFilter::Disabled));
        }
        let at = at.field("config");
        let inner = wrapper.config.as_ref().ok_or_else(|| at.error("is required"))?;
        match context.http_filters().and_then(|f| f.route(inner, &at, context)) {
            Some(config) => config.map(|config| Some(RouteFilter::Config(config))),
            None if wrapper.is_optional => {
                let unknown = any::unknown(name, Some(inner), &at);
                context.warn(&at, format_args!("skipped, as it is optional: {}", unknown.message));
                Ok(None)
            }
            None => Err(any::unknown(name, Some(inner), &at)),
        }
    }
}
