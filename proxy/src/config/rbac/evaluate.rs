//! Deciding on a request or connection.

use ipnet::IpNet;

use super::{Action, Engine, Outcome, Policy, Rule, Rules, SanKind, SanRule, StateRule};
use crate::config::matcher::tree::{Tree, Unknown};
use crate::config::matcher::{MatchInput, StringMatcher};
use crate::io::Address;

/// What an engine says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict<'e> {
    /// Allowed or denied.
    pub decision: Decision,
    /// The policy that decided, if one matched.
    pub policy: Option<&'e str>,
    /// Whether to log, where the rules say so (`LOG`).
    pub log: Option<bool>,
}

/// Allowed or denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may pass.
    Allowed,
    /// It may not.
    Denied,
}

impl Decision {
    fn allow_if(allowed: bool) -> Self {
        if allowed { Decision::Allowed } else { Decision::Denied }
    }

    /// `allowed` or `denied`, as Envoy writes it into metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Allowed => "allowed",
            Decision::Denied => "denied",
        }
    }
}

impl Engine {
    /// The verdict on what `input` shows.
    pub fn decide(&self, input: &MatchInput<'_>) -> Verdict<'_> {
        match self {
            Engine::Rules(rules) => rules.decide(input),
            Engine::Tree { tree, logs } => decide_by_tree(tree, *logs, input),
        }
    }

    /// The names of all policies.
    pub fn policies(&self) -> Vec<&str> {
        match self {
            Engine::Rules(rules) => rules.policies.iter().map(|policy| &*policy.name).collect(),
            Engine::Tree { tree, .. } => {
                let mut names = Vec::new();
                tree.visit(&mut |outcome| names.push(&*outcome.name));
                names
            }
        }
    }
}

/// What the tree leads to; where it leads nowhere, or that cannot be told, the answer is no.
fn decide_by_tree<'e>(tree: &'e Tree<Outcome>, logs: bool, input: &MatchInput<'_>) -> Verdict<'e> {
    match tree.find(input) {
        Ok(Some(outcome)) => Verdict {
            decision: Decision::allow_if(outcome.action != Action::Deny),
            policy: Some(&outcome.name),
            log: logs.then_some(outcome.action == Action::Log),
        },
        Ok(None) | Err(Unknown) => Verdict { decision: Decision::Denied, policy: None, log: None },
    }
}

impl Rules {
    fn decide(&self, input: &MatchInput<'_>) -> Verdict<'_> {
        let policy = self.policies.iter().find(|policy| policy.matches(input));
        let matched = policy.is_some();
        Verdict {
            decision: Decision::allow_if(match self.action {
                Action::Allow => matched,
                Action::Deny => !matched,
                Action::Log => true,
            }),
            policy: policy.map(|policy| &*policy.name),
            log: (self.action == Action::Log).then_some(matched),
        }
    }
}

impl Policy {
    fn matches(&self, input: &MatchInput<'_>) -> bool {
        self.permissions.iter().any(|rule| rule.matches(input))
            && self.principals.iter().any(|rule| rule.matches(input))
            && self.condition.as_ref().is_none_or(|condition| condition.holds(input))
    }
}

impl Rule {
    /// Whether the rule holds. What a connection without a request lacks matches nothing.
    pub fn matches(&self, input: &MatchInput<'_>) -> bool {
        let connection = &input.connection;
        match self {
            Rule::All(rules) => rules.iter().all(|rule| rule.matches(input)),
            Rule::OneOf(rules) => rules.iter().any(|rule| rule.matches(input)),
            Rule::Not(rule) => !rule.matches(input),
            Rule::Any => true,
            Rule::Header(matcher) => match &input.request {
                Some(request) => matcher.matches(&request.pseudo, request.headers),
                None => matcher.matches_headers(&http::HeaderMap::new()),
            },
            Rule::Path(matcher) => input.path().is_some_and(|path| matcher.matches(path)),
            Rule::UriTemplate(template) => input.path().is_some_and(|path| template.matches(path)),
            Rule::Destination(range) => within(connection.local, range),
            Rule::DestinationPort(start, end) => {
                let port = connection.local.port().map(u32::from);
                port.is_some_and(|port| (*start..*end).contains(&port))
            }
            Rule::ServerName(matcher) => matcher.matches(connection.server_name),
            Rule::Source(range) => within(connection.remote, range),
            Rule::DirectRemote(range) => within(connection.direct_remote, range),
            Rule::Remote(range) => within(input.remote, range),
            Rule::Authenticated(matcher) => authenticated(matcher.as_ref(), input),
            Rule::MutualTls(rule) => mutual_tls(rule.as_ref(), input),
            Rule::Metadata(matcher) => matcher.matches(input.metadata),
            Rule::RouteMetadata(matcher) => {
                // Without a route there is nothing that even an inverted matcher could match.
                input.route_metadata.is_some() && matcher.matches(input.route_metadata)
            }
            Rule::FilterState(key, rule) => {
                input.filter_state(key).is_some_and(|text| rule.accepts(text))
            }
        }
    }
}

impl StateRule {
    fn accepts(&self, text: &str) -> bool {
        match self {
            StateRule::Text(matcher) => matcher.matches(text),
            StateRule::Address => false,
        }
    }
}

fn within(address: &Address, range: &IpNet) -> bool {
    address.ip().is_some_and(|address| range.contains(&address.ip()))
}

/// Over TLS, and any URI name, any DNS name or the subject matches.
fn authenticated(matcher: Option<&StringMatcher>, input: &MatchInput<'_>) -> bool {
    let Some(tls) = &input.connection.tls else { return false };
    let Some(matcher) = matcher else { return true };
    let Some(peer) = tls.peer else { return matcher.matches("") };
    let mut names = peer.uri_sans.iter().chain(&peer.dns_sans);
    names.any(|name| matcher.matches(name)) || matcher.matches(&peer.subject)
}

fn mutual_tls(rule: Option<&SanRule>, input: &MatchInput<'_>) -> bool {
    let Some(peer) = input.connection.tls.as_ref().and_then(|tls| tls.peer) else { return false };
    let Some(SanRule { kind, matcher }) = rule else { return true };
    let names = match kind {
        SanKind::Uri => &peer.uri_sans,
        SanKind::Dns => &peer.dns_sans,
        SanKind::Email => &peer.email_sans,
        SanKind::Ip => &peer.ip_sans,
    };
    names.iter().any(|name| matcher.matches(name))
}
