//! `ExtensionWithMatcher`: a filter that a matcher tree lets run, or skips; and `envoy.filters.http.composite`, where the tree
//! says which filter runs.

use std::sync::Arc;

use prost::Message;
use proto::envoy::extensions::common::matching::v3::{
    ExtensionWithMatcher, ExtensionWithMatcherPerRoute,
};
use proto::envoy::extensions::filters::common::matcher::action::v3::SkipFilter;
use proto::envoy::extensions::filters::http::composite::v3::{Composite, ExecuteFilterAction};
use proto::google::protobuf::Any;
use proto::xds::core::v3::TypedExtensionConfig;
use proto::xds::r#type::matcher::v3::Matcher;

use super::{Blueprint, Build, Decoded, HttpFilter, Registration, Request, Response, TABLE, view};
use crate::config::http_filter::Opaque;
use crate::config::matcher::tree::{Scope, Tree};
use crate::config::matcher::{MatchInput, PseudoHeaders, RequestView, ResponseView};
use crate::config::value::required;
use crate::config::{At, ConfigError, Context, any};
use crate::refuse_set;
use crate::telemetry::log_format::RequestHead;

/// Its entry in the table.
pub(super) const FILTER: Registration = Registration {
    config: "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
    translate: |config, at, context| {
        let message = any::open(config, at)?;
        Ok(Box::new(Config::from_proto(&message, at, context)?) as Box<dyn Blueprint>)
    },
    route: Some(("envoy.extensions.common.matching.v3.ExtensionWithMatcherPerRoute", route)),
};

/// What a tree leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// `SkipFilter`
    Skip,
    /// `ExecuteFilterAction`: one of the composite's filters.
    Run(usize),
}

#[derive(Debug)]
struct Config {
    /// None lets the filter be skipped always, as in Envoy.
    tree: Option<Arc<Tree<Choice>>>,
    inner: Inner<Box<dyn Blueprint>>,
}

/// What a tree decides about.
#[derive(Debug)]
enum Inner<F> {
    /// A filter, which runs unless it is skipped.
    Filter(F),
    /// The composite's filters, of which one runs that the tree names.
    Composite(Vec<F>),
}

impl Config {
    fn from_proto(
        message: &ExtensionWithMatcher,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Config, ConfigError> {
        let at_inner = at.field("extension_config");
        let extension = required(&message.extension_config, &at_inner)?;
        let (tree, at_tree) = match &message.xds_matcher {
            Some(matcher) => (Some(matcher.clone()), at.field("xds_matcher")),
            None => (older(message, at)?, at.field("matcher")),
        };
        let filters = std::cell::RefCell::new(Vec::new());
        let is_composite = any::is::<Composite>(&extension.typed_config);
        let run = |config: &TypedExtensionConfig, at: &At<'_>| {
            let mut filters = filters.borrow_mut();
            filters.push(executed(config, at, context)?);
            Ok(Choice::Run(filters.len() - 1))
        };
        let action = |config: &TypedExtensionConfig, at: &At<'_>| match is_composite {
            true if any::is::<ExecuteFilterAction>(&config.typed_config) => run(config, at),
            _ => skip(config, at),
        };
        let tree =
            tree.map(|tree| Tree::from_proto(&tree, Scope::Stream, &action, &at_tree, context));
        let tree = tree.transpose()?.map(Arc::new);
        let at_config = at_inner.field("typed_config");
        let inner = if is_composite {
            let message: Composite = any::open(&extension.typed_config, &at_config)?;
            refuse_set!(at_config, message, [named_filter_chains, matcher]);
            Inner::Composite(filters.into_inner())
        } else {
            let config = extension.typed_config.as_ref();
            Inner::Filter(blueprint(&extension.name, config, &at_config, context)?)
        };
        Ok(Config { tree, inner })
    }
}

/// `matcher`, the older form of the same message.
#[allow(deprecated, reason = "control planes still send it")]
fn older(message: &ExtensionWithMatcher, at: &At<'_>) -> Result<Option<Matcher>, ConfigError> {
    let Some(matcher) = &message.matcher else { return Ok(None) };
    // Both have the same fields under the same numbers.
    Matcher::decode(matcher.encode_to_vec().as_slice())
        .map(Some)
        .map_err(|error| at.field("matcher").error(error))
}

/// A filter of the table.
fn blueprint(
    name: &str,
    config: Option<&Any>,
    at: &At<'_>,
    context: &Context,
) -> Result<Box<dyn Blueprint>, ConfigError> {
    let found = TABLE.iter().find(|entry| entry.config == any::type_name(config));
    match (found, config) {
        (Some(entry), Some(config)) => (entry.translate)(config, at, context),
        _ => Err(any::unknown(name, config, at)),
    }
}

fn skip(extension: &TypedExtensionConfig, at: &At<'_>) -> Result<Choice, ConfigError> {
    let config = extension.typed_config.as_ref();
    if any::is::<SkipFilter>(config) {
        return Ok(Choice::Skip);
    }
    Err(any::unknown(&extension.name, config, &at.field("typed_config")))
}

/// The filter of an `ExecuteFilterAction`.
fn executed(
    extension: &TypedExtensionConfig,
    at: &At<'_>,
    context: &Context,
) -> Result<Box<dyn Blueprint>, ConfigError> {
    let at = at.field("typed_config");
    let message: ExecuteFilterAction = any::open(&extension.typed_config, &at)?;
    refuse_set!(at, message, [dynamic_config, filter_chain, filter_chain_name, sample_percent]);
    let at = at.field("typed_config");
    let inner = required(&message.typed_config, &at)?;
    blueprint(&inner.name, inner.typed_config.as_ref(), &at.field("typed_config"), context)
}

/// The tree of a route, in place of the filter's.
#[derive(Debug)]
struct RouteTree(Tree<Choice>);

fn route(config: &Any, at: &At<'_>, context: &Context) -> Result<Opaque, ConfigError> {
    let message: ExtensionWithMatcherPerRoute = any::open(config, at)?;
    let at = at.field("xds_matcher");
    let matcher = message.xds_matcher.unwrap_or_default();
    let tree = Tree::from_proto(&matcher, Scope::Stream, &skip, &at, context)?;
    Ok(Opaque::new(RouteTree(tree)))
}

impl Blueprint for Config {
    fn build(&self, build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
        let inner = match &self.inner {
            Inner::Filter(filter) => Inner::Filter(filter.build(build)?),
            Inner::Composite(filters) => Inner::Composite(
                filters.iter().map(|filter| filter.build(build)).collect::<Result<_, _>>()?,
            ),
        };
        Ok(Arc::new(Delegate { tree: self.tree.clone(), inner }))
    }
}

struct Delegate {
    tree: Option<Arc<Tree<Choice>>>,
    inner: Inner<Arc<dyn HttpFilter>>,
}

/// What the tree said of a stream, kept for its response.
enum Decision {
    Made(Option<Choice>),
    /// It depends on the response; the request as it was.
    Open(Box<RequestHead>),
}

impl Delegate {
    /// What the tree, or that of the route, says; none where nothing can be said yet.
    fn decide(&self, config: Option<&Opaque>, input: &MatchInput<'_>) -> Option<Option<Choice>> {
        let of_route = config.and_then(Opaque::get::<RouteTree>).map(|tree| &tree.0);
        match of_route.or(self.tree.as_deref()) {
            Some(tree) => tree.find(input).ok().map(|choice| choice.copied()),
            None => Some(Some(Choice::Skip)),
        }
    }

    /// The filter that runs.
    fn chosen(&self, choice: Option<Choice>) -> Option<&Arc<dyn HttpFilter>> {
        match (&self.inner, choice) {
            (_, Some(Choice::Skip)) => None,
            (Inner::Filter(filter), _) => Some(filter),
            (Inner::Composite(filters), Some(Choice::Run(index))) => filters.get(index),
            (Inner::Composite(_), None) => None,
        }
    }
}

impl HttpFilter for Delegate {
    fn decode<'a>(&'a self, request: &'a mut Request<'_>) -> Decoded<'a> {
        let decided = {
            let Request { parts, stream, route, config, .. } = &*request;
            let info = stream.shared.info.borrow();
            let head = view(parts, stream.scheme, info.protocol);
            let metadata = route.and_then(|route| route.config.metadata.as_deref());
            self.decide(config.as_ref(), &MatchInput::stream(&info, Some(head), metadata))
        };
        let decision = match decided {
            Some(choice) => Decision::Made(choice),
            None => Decision::Open(Box::new(request.stream.head_of(request.parts))),
        };
        request.keep(Box::new(decision));
        match self.chosen(decided.flatten()) {
            Some(filter) => filter.decode(request),
            None => Decoded::Continue,
        }
    }

    fn encode(&self, response: &mut Response<'_>) {
        let choice = match response.kept::<Decision>() {
            Some(Decision::Made(choice)) => *choice,
            Some(Decision::Open(head)) => self.decide_late(Some(head), response),
            None => self.decide_late(None, response),
        };
        if let Some(filter) = self.chosen(choice) {
            filter.encode(response);
        }
    }
}

impl Delegate {
    /// What the tree says once the response has come.
    fn decide_late(
        &self,
        request: Option<&RequestHead>,
        response: &Response<'_>,
    ) -> Option<Choice> {
        let info = response.stream.shared.info.borrow();
        let request = request.map(|head| RequestView {
            pseudo: PseudoHeaders {
                method: head.method.as_str(),
                scheme: &head.scheme,
                authority: &head.authority,
                path: &head.path,
            },
            headers: &head.headers,
            protocol: info.protocol.map_or("", |protocol| protocol.as_str()),
        });
        let head = &*response.head;
        let input = MatchInput {
            response: Some(ResponseView { status: head.status, headers: &head.headers }),
            ..MatchInput::stream(&info, request, None)
        };
        self.decide(response.config.as_ref(), &input).flatten()
    }
}
