//! `envoy.filters.http.header_mutation`: changes of headers on the way.

use std::sync::Arc;

use http::HeaderMap;
use proto::envoy::config::common::mutation_rules::v3::HeaderMutation;
use proto::envoy::config::common::mutation_rules::v3::header_mutation::Action;
use proto::envoy::extensions::filters::http::header_mutation::v3 as pb;
use proto::google::protobuf::Any;

use super::{Blueprint, Build, Decoded, HttpFilter, Registration, Request, Response};
use crate::config::headers::{HeaderAdd, HeaderMutations};
use crate::config::http_filter::Opaque;
use crate::config::matcher::StringMatcher;
use crate::config::{At, ConfigError, Context, any, value};
use crate::{refuse_set, warn_set};
use crate::route::header_mutation;
use crate::telemetry::log_format::FormatContext;

/// Its entry in the table.
pub(super) const FILTER: Registration = Registration {
    config: "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
    translate: |config, at, context| {
        let message: pb::HeaderMutation = any::open(config, at)?;
        let mutations = Mutations::from_proto(message.mutations.as_ref(), at, context)?;
        let reason = "of a route's levels only the most specific one counts, in any case";
        warn_set!(context, at, message, [most_specific_header_mutations_wins], reason);
        let filter = Filter { mutations: Arc::new(mutations) };
        Ok(Box::new(Config(Arc::new(filter))) as Box<dyn Blueprint>)
    },
    route: Some(("envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute", route)),
};

/// `Mutations`
#[derive(Debug, Default)]
struct Mutations {
    request: Box<[Mutation]>,
    response: Box<[Mutation]>,
}

/// `HeaderMutation`
#[derive(Debug)]
enum Mutation {
    /// `remove`, or `append`
    One(HeaderMutations),
    /// `remove_on_match.key_matcher`
    RemoveMatching(StringMatcher),
}

impl Mutations {
    fn from_proto(
        message: Option<&pb::Mutations>,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Mutations, ConfigError> {
        let Some(message) = message else { return Ok(Mutations::default()) };
        let at = at.field("mutations");
        refuse_set!(at, message, [query_parameter_mutations]);
        refuse_set!(at, message, [response_trailers_mutations, request_trailers_mutations]);
        let list = |field: &str, mutations: &[HeaderMutation]| {
            let mutations = mutations.iter().enumerate();
            let mutations = mutations.map(|(index, mutation)| {
                Mutation::from_proto(mutation, &at.index(field, index), context)
            });
            mutations.collect::<Result<_, _>>()
        };
        Ok(Mutations {
            request: list("request_mutations", &message.request_mutations)?,
            response: list("response_mutations", &message.response_mutations)?,
        })
    }
}

impl Mutations {
    /// Whether a value is made of the request's headers.
    fn read_heads(&self) -> bool {
        self.request.iter().chain(&self.response).any(|mutation| match mutation {
            Mutation::One(mutations) => mutations.reads_heads(),
            Mutation::RemoveMatching(_) => false,
        })
    }
}

impl Mutation {
    fn from_proto(
        message: &HeaderMutation,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Mutation, ConfigError> {
        match value::required(&message.action, at)? {
            Action::Remove(name) => {
                let name = value::header_name(name, &at.field("remove"))?;
                Ok(Mutation::One(HeaderMutations { remove: vec![name], add: Vec::new() }))
            }
            Action::Append(option) => {
                let add = HeaderAdd::from_proto(option, &at.field("append"))?;
                Ok(Mutation::One(HeaderMutations { remove: Vec::new(), add: vec![add] }))
            }
            Action::RemoveOnMatch(rule) => {
                let at = at.field("remove_on_match");
                let at = at.field("key_matcher");
                let matcher = value::required(&rule.key_matcher, &at)?;
                Ok(Mutation::RemoveMatching(StringMatcher::from_proto(matcher, &at, context)?))
            }
        }
    }

    fn apply(&self, headers: &mut HeaderMap, context: &FormatContext<'_>) {
        match self {
            Mutation::One(mutations) => header_mutation::apply(mutations, headers, context),
            Mutation::RemoveMatching(matcher) => {
                let names = headers.keys().filter(|name| matcher.matches(name.as_str()));
                let names: Vec<_> =
                    names.filter(|name| *name != http::header::HOST).cloned().collect();
                names.iter().for_each(|name| drop(headers.remove(name)));
            }
        }
    }
}

/// The changes of a route, beside the filter's.
fn route(config: &Any, at: &At<'_>, context: &Context) -> Result<Opaque, ConfigError> {
    let message: pb::HeaderMutationPerRoute = any::open(config, at)?;
    Ok(Opaque::new(Mutations::from_proto(message.mutations.as_ref(), at, context)?))
}

#[derive(Debug)]
struct Config(Arc<Filter>);

impl Blueprint for Config {
    fn build(&self, _: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
        let filter: Arc<dyn HttpFilter> = Arc::<Filter>::clone(&self.0);
        Ok(filter)
    }
}

#[derive(Debug)]
struct Filter {
    mutations: Arc<Mutations>,
}

impl Filter {
    /// The changes in their order: the route's come last, and win.
    fn levels<'a>(&'a self, route: Option<&'a Mutations>) -> impl Iterator<Item = &'a Mutations> {
        [Some(&*self.mutations), route].into_iter().flatten()
    }
}

impl HttpFilter for Filter {
    fn decode<'a>(&'a self, request: &'a mut Request<'_>) -> Decoded<'a> {
        let config = request.config.clone();
        let route = config.as_ref().and_then(Opaque::get);
        let Request { parts, stream, .. } = request;
        if self.levels(route).any(Mutations::read_heads) {
            stream.keep_request(parts);
        }
        stream.with_format(|context| {
            for mutation in self.levels(route).flat_map(|level| &level.request) {
                mutation.apply(&mut parts.headers, context);
            }
        });
        Decoded::Continue
    }

    fn encode(&self, response: &mut Response<'_>) {
        let config = response.config.clone();
        let route = config.as_ref().and_then(Opaque::get);
        let Response { head, stream, .. } = response;
        stream.with_format(|context| {
            for mutation in self.levels(route).flat_map(|level| &level.response) {
                mutation.apply(&mut head.headers, context);
            }
        });
    }
}
