//! `ListenerFilterChainMatchPredicate`: for which connections a listener filter is skipped.

use std::ops::Range;

use proto::envoy::config::listener::v3::ListenerFilterChainMatchPredicate as Message;
use proto::envoy::config::listener::v3::listener_filter_chain_match_predicate::{MatchSet, Rule};

use crate::config::value::required;
use crate::config::{At, ConfigError};

/// A condition on the destination port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Predicate {
    /// One of them holds.
    Any(Vec<Predicate>),
    /// All of them hold.
    All(Vec<Predicate>),
    /// It does not hold.
    Not(Box<Predicate>),
    /// It always holds.
    Always,
    /// The port is in this range.
    Port(Range<i32>),
}

impl Predicate {
    /// The predicate of a message.
    pub(super) fn from_proto(message: &Message, at: &At<'_>) -> Result<Predicate, ConfigError> {
        Ok(match required(&message.rule, &at.field("rule"))? {
            Rule::OrMatch(set) => Predicate::Any(rules(set, &at.field("or_match"))?),
            Rule::AndMatch(set) => Predicate::All(rules(set, &at.field("and_match"))?),
            Rule::NotMatch(rule) => {
                Predicate::Not(Box::new(Predicate::from_proto(rule, &at.field("not_match"))?))
            }
            Rule::AnyMatch(true) => Predicate::Always,
            Rule::AnyMatch(false) => return Err(at.field("any_match").error("must be true")),
            Rule::DestinationPortRange(range) => Predicate::Port(range.start..range.end),
        })
    }

    /// Whether it holds for a destination port; a unix socket has none.
    pub fn holds(&self, port: Option<u16>) -> bool {
        match self {
            Predicate::Any(rules) => rules.iter().any(|rule| rule.holds(port)),
            Predicate::All(rules) => rules.iter().all(|rule| rule.holds(port)),
            Predicate::Not(rule) => !rule.holds(port),
            Predicate::Always => true,
            Predicate::Port(range) => port.is_some_and(|port| range.contains(&port.into())),
        }
    }
}

/// The rules of a set; at least two.
fn rules(set: &MatchSet, at: &At<'_>) -> Result<Vec<Predicate>, ConfigError> {
    if set.rules.len() < 2 {
        return Err(at.field("rules").error("at least 2 rules are needed"));
    }
    let rules = set.rules.iter().enumerate();
    rules.map(|(index, rule)| Predicate::from_proto(rule, &at.index("rules", index))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predicates_combine() {
        let port = |port: i32| Predicate::Port(port..port + 1);
        let either = Predicate::Any(vec![port(80), port(443)]);
        assert!(either.holds(Some(80)) && either.holds(Some(443)));
        assert!(!either.holds(Some(81)) && !either.holds(None));
        let neither = Predicate::Not(Box::new(either.clone()));
        assert!(neither.holds(Some(81)) && neither.holds(None));
        assert!(!Predicate::All(vec![either, neither]).holds(Some(80)));
        assert!(Predicate::All(vec![Predicate::Always, port(80)]).holds(Some(80)));
    }
}
