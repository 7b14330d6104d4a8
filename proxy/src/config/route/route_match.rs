//! Translating `RouteMatch`.

use proto::envoy::config::route::v3 as pb;
use proto::envoy::config::route::v3::route_match::PathSpecifier;

use super::{PathMatch, RouteMatch};
use crate::config::matcher::{FullRegex, HeaderMatcher, QueryMatcher};
use crate::config::value::runtime_fraction;
use crate::config::{At, ConfigError, Context};
use crate::refuse_set;

impl RouteMatch {
    /// An `envoy.config.route.v3.RouteMatch`.
    pub fn from_proto(
        message: &pb::RouteMatch,
        at: &At<'_>,
        context: &Context,
    ) -> Result<RouteMatch, ConfigError> {
        refuse_set!(at, message, [dynamic_metadata, filter_state, cookies]);
        let case_sensitive = message.case_sensitive.is_none_or(|value| value.value);
        let fraction = message.runtime_fraction.as_ref();
        let fraction =
            fraction.map(|value| runtime_fraction(value, &at.field("runtime_fraction"), context));
        let headers = message.headers.iter().enumerate().map(|(index, header)| {
            HeaderMatcher::from_proto(header, &at.index("headers", index), context)
        });
        let query = message.query_parameters.iter().enumerate().map(|(index, parameter)| {
            QueryMatcher::from_proto(parameter, &at.index("query_parameters", index), context)
        });
        let tls = message.tls_context.unwrap_or_default();
        Ok(RouteMatch {
            certificate_presented: tls.presented.map(|presented| presented.value),
            certificate_validated: tls.validated.map(|validated| validated.value),
            path: PathMatch::from_proto(
                message.path_specifier.as_ref(),
                case_sensitive,
                at,
                context,
            )?,
            case_sensitive,
            headers: headers.collect::<Result<_, _>>()?,
            query: query.collect::<Result<_, _>>()?,
            grpc: message.grpc.is_some(),
            fraction: fraction.transpose()?,
        })
    }
}

impl PathMatch {
    fn from_proto(
        specifier: Option<&PathSpecifier>,
        case_sensitive: bool,
        at: &At<'_>,
        context: &Context,
    ) -> Result<PathMatch, ConfigError> {
        let fold = |text: &str| match case_sensitive {
            true => Box::from(text),
            false => text.to_ascii_lowercase().into(),
        };
        match specifier {
            None => Err(at.error("has no path specifier; prefix: \"/\" matches every path")),
            Some(PathSpecifier::Prefix(prefix)) => Ok(PathMatch::Prefix(fold(prefix))),
            Some(PathSpecifier::Path(path)) => Ok(PathMatch::Exact(fold(path))),
            Some(PathSpecifier::PathSeparatedPrefix(prefix)) => {
                // The API's pattern: ^[^?#]+[^?#/]$
                if prefix.chars().count() < 2
                    || prefix.contains(['?', '#'])
                    || prefix.ends_with('/')
                {
                    return Err(at.field("path_separated_prefix").error(format_args!(
                        "{prefix:?} must have at least two characters, no ? or #, and no / at its end"
                    )));
                }
                Ok(PathMatch::SeparatedPrefix(fold(prefix)))
            }
            Some(PathSpecifier::SafeRegex(regex)) => {
                let at = at.field("safe_regex");
                FullRegex::from_proto(regex, &at, context).map(PathMatch::Regex)
            }
            Some(PathSpecifier::ConnectMatcher(_)) => Ok(PathMatch::Connect),
            Some(PathSpecifier::PathMatchPolicy(_)) => {
                Err(at.field("path_match_policy").unsupported())
            }
        }
    }
}
