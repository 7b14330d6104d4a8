//! Role-based access control (`envoy.config.rbac.v3.RBAC`): the engine of the HTTP and the network filter.

mod evaluate;
mod rule;
mod translate;

use ipnet::IpNet;

use crate::config::cel::Condition;
use crate::config::matcher::tree::Tree;
use crate::config::matcher::{FullRegex, HeaderMatcher, MetadataMatcher, StringMatcher};

pub use evaluate::{Decision, Verdict};

/// The engines of a filter, or those of a route.
#[derive(Clone, Debug, Default)]
pub struct Engines {
    /// `rules` or `matcher`; without them everything is allowed.
    pub enforced: Option<Engine>,
    /// `shadow_rules` or `shadow_matcher`: only noted.
    pub shadow: Option<Engine>,
}

/// What decides on a request or connection: rules, or a matcher tree of them.
#[derive(Clone, Debug)]
pub enum Engine {
    /// `rules`
    Rules(Rules),
    /// `matcher`
    Tree {
        /// The tree.
        tree: Tree<Outcome>,
        /// Whether any of its actions is `LOG`, so that every outcome says whether to log.
        logs: bool,
    },
}

/// Where a matcher tree leads: `envoy.config.rbac.v3.Action`.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// `name`
    pub name: Box<str>,
    /// `action`
    pub action: Action,
}

/// `envoy.config.rbac.v3.RBAC`.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `action`
    pub action: Action,
    /// `policies`, in the order of their names.
    pub policies: Box<[Policy]>,
}

/// `RBAC.Action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `ALLOW`
    Allow,
    /// `DENY`
    Deny,
    /// `LOG`: allows, and says whether to log.
    Log,
}

/// `Policy`: it matches if a permission and a principal match, and the condition holds if there is one.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its name in `RBAC.policies`.
    pub name: Box<str>,
    /// `permissions`
    pub permissions: Box<[Rule]>,
    /// `principals`
    pub principals: Box<[Rule]>,
    /// `condition`
    pub condition: Option<Condition>,
}

/// A `Permission` or a `Principal`.
#[derive(Clone, Debug)]
pub enum Rule {
    /// `and_rules`, `and_ids`
    All(Box<[Rule]>),
    /// `or_rules`, `or_ids`
    OneOf(Box<[Rule]>),
    /// `not_rule`, `not_id`
    Not(Box<Rule>),
    /// `any`
    Any,
    /// `header`
    Header(HeaderMatcher),
    /// `url_path`: the path without query.
    Path(StringMatcher),
    /// `uri_template`
    UriTemplate(FullRegex),
    /// `destination_ip`
    Destination(IpNet),
    /// `destination_port`, or a range of them: start inclusive, end exclusive.
    DestinationPort(u32, u32),
    /// `requested_server_name`
    ServerName(StringMatcher),
    /// `source_ip`: the connection's peer, whatever `x-forwarded-for` says.
    Source(IpNet),
    /// `direct_remote_ip`: the socket's peer.
    DirectRemote(IpNet),
    /// `remote_ip`: the client, as `x-forwarded-for` may tell it.
    Remote(IpNet),
    /// `authenticated`: the peer came over TLS, and one of its names matches if a matcher is given.
    Authenticated(Option<StringMatcher>),
    /// The custom principal `mtls_authenticated`: the peer presented a certificate that was verified, with a matching
    /// name if a matcher is given.
    MutualTls(Option<SanRule>),
    /// `metadata` and dynamic `sourced_metadata`
    Metadata(MetadataMatcher),
    /// `sourced_metadata` of the route
    RouteMetadata(MetadataMatcher),
    /// `filter_state`: what a filter left under this key.
    FilterState(Box<str>, StateRule),
}

/// What a `FilterStateMatcher` asks of a text.
#[derive(Clone, Debug)]
pub enum StateRule {
    /// `string_match`
    Text(StringMatcher),
    /// `address_match`: it asks for an object that is an address, and there are only texts.
    Address,
}

/// `SubjectAltNameMatcher` of the principal `mtls_authenticated`.
#[derive(Clone, Debug)]
pub struct SanRule {
    /// `san_type`
    pub kind: SanKind,
    /// `matcher`
    pub matcher: StringMatcher,
}

/// `SanType`, as far as certificates are told of here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SanKind {
    /// `EMAIL`
    Email,
    /// `DNS`
    Dns,
    /// `URI`
    Uri,
    /// `IP_ADDRESS`
    Ip,
}

#[cfg(test)]
mod tests;
