//! Hash policies (`RouteAction.hash_policy`): what of a request makes the hash that consistent hashing picks by.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use proto::envoy::config::route::v3::route_action::HashPolicy as PbHashPolicy;
use proto::envoy::config::route::v3::route_action::hash_policy::{Cookie, Header, PolicySpecifier};

use crate::config::error::{At, ConfigError, Context};
use crate::config::matcher::re2;
use crate::config::value;

/// Hash policies in their order, at least one.
#[derive(Clone, Debug)]
pub struct HashPolicies(Vec<HashPolicy>);

/// `HashPolicy`.
#[derive(Clone, Debug)]
pub struct HashPolicy {
    /// Where the hash comes from.
    pub source: HashSource,
    /// `terminal`: if there is a hash after this policy, later ones do not count.
    pub terminal: bool,
}

/// Where a hash comes from.
#[derive(Clone, Debug)]
pub enum HashSource {
    /// `header`: all of its values.
    Header {
        /// `header_name`
        name: HashHeader,
        /// `regex_rewrite`: pattern, and substitution in the `regex` crate's syntax.
        rewrite: Option<(regex::Regex, Box<str>)>,
    },
    /// `cookie`: its value.
    Cookie {
        /// `name`
        name: Box<str>,
        /// `ttl` and more: a client without the cookie gets one.
        generated: Option<GeneratedCookie>,
    },
    /// `connection_properties.source_ip`: the client's address.
    SourceIp,
    /// `query_parameter.name`: its first value.
    Query(Box<str>),
}

/// A header, or one of the parts of a request that Envoy calls so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashHeader {
    /// A header by its name.
    Named(HeaderName),
    /// `:authority`, `:path` and the like; `host` is `:authority`.
    Pseudo(Box<str>),
}

/// The cookie that a client without one gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedCookie {
    /// `ttl` in whole seconds; 0 makes a session cookie.
    pub ttl: Duration,
    /// `path`; empty for none.
    pub path: Box<str>,
    /// `attributes`: name and value, which may be empty.
    pub attributes: Vec<(Box<str>, Box<str>)>,
}

impl PartialEq for HashPolicies {
    /// Regular expressions are equal if they are written in the same way.
    fn eq(&self, other: &Self) -> bool {
        format!("{:?}", self.0) == format!("{:?}", other.0)
    }
}

impl HashPolicies {
    /// The policies in their order.
    pub fn iter(&self) -> impl Iterator<Item = &HashPolicy> {
        self.0.iter()
    }

    /// The policies of the field `hash_policy` of the message that stands at `at`; none if there are none.
    ///
    /// # Errors
    /// A field breaks a rule or is not supported.
    pub fn from_proto(
        messages: &[PbHashPolicy],
        at: &At<'_>,
        context: &Context,
    ) -> Result<Option<Arc<HashPolicies>>, ConfigError> {
        let policies = messages.iter().enumerate().map(|(index, message)| {
            let at = at.index("hash_policy", index);
            let source = match value::required(&message.policy_specifier, &at)? {
                PolicySpecifier::Header(header) => {
                    header_source(header, &at.field("header"), context)?
                }
                PolicySpecifier::Cookie(cookie) => cookie_source(cookie, &at.field("cookie"))?,
                PolicySpecifier::ConnectionProperties(properties) if properties.source_ip => {
                    HashSource::SourceIp
                }
                // Without source_ip there is nothing to hash.
                PolicySpecifier::ConnectionProperties(_) => return Ok(None),
                PolicySpecifier::QueryParameter(parameter) => {
                    let at = at.field("query_parameter");
                    HashSource::Query(value::non_empty(&parameter.name, &at.field("name"))?.into())
                }
                PolicySpecifier::FilterState(state) => {
                    let at = at.field("filter_state");
                    value::non_empty(&state.key, &at.field("key"))?;
                    context.warn(&at, "no filter sets such state, so that it gives no hash");
                    return Ok(None);
                }
            };
            Ok(Some(HashPolicy { source, terminal: message.terminal }))
        });
        let policies: Vec<_> = policies.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        Ok((!policies.is_empty()).then(|| Arc::new(HashPolicies(policies))))
    }
}

fn header_source(
    message: &Header,
    at: &At<'_>,
    context: &Context,
) -> Result<HashSource, ConfigError> {
    let at_name = at.field("header_name");
    let name = value::non_empty(&message.header_name, &at_name)?.to_ascii_lowercase();
    let name = match name.as_str() {
        "host" => HashHeader::Pseudo(":authority".into()),
        pseudo if pseudo.starts_with(':') => HashHeader::Pseudo(name.into()),
        name => HashHeader::Named(value::header_name(name, &at_name)?),
    };
    let at_rewrite = at.field("regex_rewrite");
    let rewrite = message.regex_rewrite.as_ref();
    let rewrite = rewrite
        .map(|rewrite| re2::substitution_from_proto(rewrite, &at_rewrite, context))
        .transpose()?;
    Ok(HashSource::Header { name, rewrite })
}

fn cookie_source(message: &Cookie, at: &At<'_>) -> Result<HashSource, ConfigError> {
    let name = value::non_empty(&message.name, &at.field("name"))?.into();
    let ttl = value::duration(message.ttl, &at.field("ttl"))?;
    let attributes = message.attributes.iter().enumerate().map(|(index, attribute)| {
        let at = at.index("attributes", index);
        let text = |text: &str, field: &str| match http::HeaderValue::from_str(text) {
            Ok(_) => Ok(Box::from(text)),
            Err(error) => Err(at.field(field).error(format_args!("{text:?}: {error}"))),
        };
        value::non_empty(&attribute.name, &at.field("name"))?;
        Ok((text(&attribute.name, "name")?, text(&attribute.value, "value")?))
    });
    let attributes = attributes.collect::<Result<Vec<_>, ConfigError>>()?;
    let generated = ttl.map(|ttl| GeneratedCookie {
        ttl: Duration::from_secs(ttl.as_secs()),
        path: message.path.as_str().into(),
        attributes,
    });
    Ok(HashSource::Cookie { name, generated })
}
