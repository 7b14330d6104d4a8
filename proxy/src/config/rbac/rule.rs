//! Translating permissions and principals.

use ipnet::IpNet;
use proto::envoy::config::core::v3::TypedExtensionConfig;
use proto::envoy::config::rbac::v3 as pb;
use proto::envoy::config::rbac::v3::MetadataSource;
use proto::envoy::config::rbac::v3::permission::Rule as PbRule;
use proto::envoy::config::rbac::v3::principal::Identifier;
use proto::envoy::extensions::rbac::principals::mtls_authenticated::v3::Config as MutualTls;
use proto::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use proto::envoy::r#type::matcher::v3 as pb_matcher;
use proto::envoy::r#type::v3::Int32Range;

use super::translate::not_empty;
use super::{Rule, SanKind, SanRule, StateRule};
use crate::config::matcher::tree::Scope;
use crate::config::matcher::uri_template::{self, Globs};
use crate::config::matcher::{HeaderMatcher, MetadataMatcher, StringMatcher};
use crate::config::value::{cidr, enumeration, non_empty, required, xds_cidr};
use crate::config::{At, ConfigError, Context, any};
use crate::refuse_set;

/// One more than the highest port.
const PORTS: i32 = 65536;

/// What a rule is translated for.
#[derive(Clone, Copy)]
pub(super) struct Side<'c> {
    /// What globs stand for: it turns around in a `not`.
    pub(super) globs: Globs,
    /// What can be asked for.
    pub(super) scope: Scope,
    pub(super) context: &'c Context,
}

impl Side<'_> {
    fn negated(self) -> Self {
        let globs = match self.globs {
            Globs::Strict => Globs::Wide,
            Globs::Wide => Globs::Strict,
        };
        Side { globs, ..self }
    }
}

/// A `Permission`.
pub(super) fn permission(
    message: &pb::Permission,
    side: Side<'_>,
    at: &At<'_>,
) -> Result<Rule, ConfigError> {
    let several = |set: &pb::permission::Set, field: &str| {
        let at = at.field(field);
        let rules = set.rules.iter().enumerate();
        let rules = rules.map(|(index, rule)| permission(rule, side, &at.index("rules", index)));
        not_empty(rules.collect::<Result<_, _>>()?, "rules", &at)
    };
    let context = side.context;
    Ok(match required(&message.rule, at)? {
        PbRule::AndRules(set) => Rule::All(several(set, "and_rules")?),
        PbRule::OrRules(set) => Rule::OneOf(several(set, "or_rules")?),
        PbRule::NotRule(rule) => {
            Rule::Not(Box::new(permission(rule, side.negated(), &at.field("not_rule"))?))
        }
        PbRule::Any(any) => always(*any, at)?,
        PbRule::Header(matcher) => header(matcher, side, at)?,
        PbRule::UrlPath(matcher) => path(matcher, at, context)?,
        PbRule::UriTemplate(template) => {
            let at = at.field("uri_template");
            Rule::UriTemplate(uri_template::from_proto(template, side.globs, &at)?)
        }
        PbRule::DestinationIp(range) => {
            Rule::Destination(cidr(range, &at.field("destination_ip"))?)
        }
        PbRule::DestinationPort(port) => match i32::try_from(*port) {
            Ok(number) if number < PORTS => Rule::DestinationPort(*port, *port + 1),
            _ => return Err(at.field("destination_port").error(format!("{port} is above 65535"))),
        },
        PbRule::DestinationPortRange(range) => {
            port_range(range, &at.field("destination_port_range"))?
        }
        PbRule::Metadata(matcher) => {
            let at = at.field("metadata");
            Rule::Metadata(MetadataMatcher::from_proto(matcher, &at, context)?)
        }
        PbRule::SourcedMetadata(sourced) => {
            sourced_metadata(sourced, &at.field("sourced_metadata"), context)?
        }
        PbRule::RequestedServerName(matcher) => {
            let at = at.field("requested_server_name");
            Rule::ServerName(StringMatcher::from_proto(matcher, &at, context)?)
        }
        PbRule::Matcher(extension) => {
            return Err(unknown(extension, &at.field("matcher")));
        }
    })
}

/// A `Principal`.
pub(super) fn principal(
    message: &pb::Principal,
    side: Side<'_>,
    at: &At<'_>,
) -> Result<Rule, ConfigError> {
    let several = |set: &pb::principal::Set, field: &str| {
        let at = at.field(field);
        let ids = set.ids.iter().enumerate();
        let ids = ids.map(|(index, id)| principal(id, side, &at.index("ids", index)));
        not_empty(ids.collect::<Result<_, _>>()?, "ids", &at)
    };
    let context = side.context;
    let range =
        |range, field: &str| -> Result<IpNet, ConfigError> { cidr(range, &at.field(field)) };
    Ok(match required(&message.identifier, at)? {
        Identifier::AndIds(set) => Rule::All(several(set, "and_ids")?),
        Identifier::OrIds(set) => Rule::OneOf(several(set, "or_ids")?),
        Identifier::NotId(id) => {
            Rule::Not(Box::new(principal(id, side.negated(), &at.field("not_id"))?))
        }
        Identifier::Any(any) => always(*any, at)?,
        Identifier::Authenticated(authenticated) => {
            let at = at.field("authenticated");
            let at = at.field("principal_name");
            let name = authenticated.principal_name.as_ref();
            let name = name.map(|matcher| StringMatcher::from_proto(matcher, &at, context));
            Rule::Authenticated(name.transpose()?)
        }
        Identifier::SourceIp(source) => Rule::Source(range(source, "source_ip")?),
        Identifier::DirectRemoteIp(remote) => {
            Rule::DirectRemote(range(remote, "direct_remote_ip")?)
        }
        Identifier::RemoteIp(remote) => Rule::Remote(range(remote, "remote_ip")?),
        Identifier::Header(matcher) => header(matcher, side, at)?,
        Identifier::UrlPath(matcher) => path(matcher, at, context)?,
        Identifier::Metadata(matcher) => {
            let at = at.field("metadata");
            Rule::Metadata(MetadataMatcher::from_proto(matcher, &at, context)?)
        }
        Identifier::SourcedMetadata(sourced) => {
            sourced_metadata(sourced, &at.field("sourced_metadata"), context)?
        }
        Identifier::FilterState(matcher) => {
            filter_state(matcher, &at.field("filter_state"), context)?
        }
        Identifier::Custom(extension) => custom(extension, &at.field("custom"), context)?,
    })
}

/// `any`, which the API allows to be true only.
fn always(any: bool, at: &At<'_>) -> Result<Rule, ConfigError> {
    match any {
        true => Ok(Rule::Any),
        false => Err(at.field("any").error("must be true")),
    }
}

fn header(
    message: &proto::envoy::config::route::v3::HeaderMatcher,
    side: Side<'_>,
    at: &At<'_>,
) -> Result<Rule, ConfigError> {
    let at = at.field("header");
    if side.scope != Scope::Request {
        return Err(at.error("a connection has no headers; the HTTP filter sees them"));
    }
    HeaderMatcher::from_proto(message, &at, side.context).map(Rule::Header)
}

fn path(
    message: &pb_matcher::PathMatcher,
    at: &At<'_>,
    context: &Context,
) -> Result<Rule, ConfigError> {
    let at = at.field("url_path");
    let at = at.field("path");
    let pb_matcher::path_matcher::Rule::Path(matcher) = required(&message.rule, &at)?;
    StringMatcher::from_proto(matcher, &at, context).map(Rule::Path)
}

fn port_range(range: &Int32Range, at: &At<'_>) -> Result<Rule, ConfigError> {
    let Int32Range { start, end } = *range;
    let port = |number: i32| u32::try_from(number).ok().filter(|_| number <= PORTS);
    match (port(start), port(end)) {
        (Some(first), Some(last)) if first < last => Ok(Rule::DestinationPort(first, last)),
        _ => Err(at.error(format_args!("[{start}, {end}) is no range of ports"))),
    }
}

fn sourced_metadata(
    message: &pb::SourcedMetadata,
    at: &At<'_>,
    context: &Context,
) -> Result<Rule, ConfigError> {
    let at_matcher = at.field("metadata_matcher");
    let matcher = required(&message.metadata_matcher, &at_matcher)?;
    let matcher = MetadataMatcher::from_proto(matcher, &at_matcher, context)?;
    Ok(match enumeration(message.metadata_source, &at.field("metadata_source"))? {
        MetadataSource::Dynamic => Rule::Metadata(matcher),
        MetadataSource::Route => Rule::RouteMetadata(matcher),
    })
}

fn filter_state(
    message: &pb_matcher::FilterStateMatcher,
    at: &At<'_>,
    context: &Context,
) -> Result<Rule, ConfigError> {
    use pb_matcher::filter_state_matcher::Matcher;
    let key = non_empty(&message.key, &at.field("key"))?.into();
    let rule = match required(&message.matcher, at)? {
        Matcher::StringMatch(matcher) => {
            let matcher = StringMatcher::from_proto(matcher, &at.field("string_match"), context)?;
            StateRule::Text(matcher)
        }
        Matcher::AddressMatch(matcher) => {
            let at = at.field("address_match");
            for (index, range) in matcher.ranges.iter().enumerate() {
                xds_cidr(range, &at.index("ranges", index))?;
            }
            StateRule::Address
        }
    };
    Ok(Rule::FilterState(key, rule))
}

fn custom(
    extension: &TypedExtensionConfig,
    at: &At<'_>,
    context: &Context,
) -> Result<Rule, ConfigError> {
    let at_config = at.field("typed_config");
    if !any::is::<MutualTls>(&extension.typed_config) {
        return Err(unknown(extension, at));
    }
    let config: MutualTls = any::open(&extension.typed_config, &at_config)?;
    let at_matcher = at_config.field("san_matcher");
    match (&config.san_matcher, config.any_validated_client_certificate) {
        (None, true) => Ok(Rule::MutualTls(None)),
        (Some(message), false) => {
            refuse_set!(at_matcher, message, [oid]);
            let kind = match enumeration(message.san_type, &at_matcher.field("san_type"))? {
                SanType::Email => SanKind::Email,
                SanType::Dns => SanKind::Dns,
                SanType::Uri => SanKind::Uri,
                SanType::IpAddress => SanKind::Ip,
                SanType::OtherName | SanType::Unspecified => {
                    return Err(at_matcher.field("san_type").unsupported());
                }
            };
            let at = at_matcher.field("matcher");
            let matcher =
                StringMatcher::from_proto(required(&message.matcher, &at)?, &at, context)?;
            Ok(Rule::MutualTls(Some(SanRule { kind, matcher })))
        }
        _ => Err(at_config
            .error("exactly one of san_matcher and any_validated_client_certificate must be set")),
    }
}

fn unknown(extension: &TypedExtensionConfig, at: &At<'_>) -> ConfigError {
    any::unknown(&extension.name, extension.typed_config.as_ref(), &at.field("typed_config"))
}
