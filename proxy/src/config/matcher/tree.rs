//! The matcher tree (`xds.type.matcher.v3.Matcher`): from what a connection or request shows to one of many actions.

mod input;
mod translate;

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{MatchInput, StringMatcher, ValueMatcher};

pub use input::{Input, Scope};

/// A matcher: `A` is what it leads to.
#[derive(Clone, Debug)]
pub struct Tree<A> {
    branches: Branches<A>,
    /// `on_no_match`
    otherwise: Option<Branch<A>>,
}

/// The ways on from a matcher.
#[derive(Clone, Debug)]
enum Branches<A> {
    /// There is none.
    None,
    /// `matcher_list`: the first whose predicate holds.
    List(Box<[(Predicate, Branch<A>)]>),
    /// `matcher_tree.exact_match_map`
    Exact(Input, HashMap<Box<str>, Branch<A>>),
    /// `matcher_tree.prefix_match_map`, longest prefix first.
    Prefix(Input, Box<[(Box<str>, Branch<A>)]>),
}

/// `OnMatch`.
#[derive(Clone, Debug)]
struct Branch<A> {
    then: Then<A>,
    /// `keep_matching`: what it leads to is passed over.
    keep_matching: bool,
}

#[derive(Clone, Debug)]
enum Then<A> {
    Action(A),
    Tree(Box<Tree<A>>),
}

/// `Matcher.MatcherList.Predicate`.
#[derive(Clone, Debug)]
pub enum Predicate {
    /// `single_predicate`
    Value(Input, Rule),
    /// `or_matcher`
    Any(Box<[Predicate]>),
    /// `and_matcher`
    All(Box<[Predicate]>),
    /// `not_matcher`
    Not(Box<Predicate>),
}

/// What is asked of an input.
#[derive(Clone, Debug)]
pub enum Rule {
    /// `value_match`
    Text(StringMatcher),
    /// `custom_match` by `envoy.extensions.matching.input_matchers.ip.v3.Ip`
    Ip(Box<[IpNet]>),
    /// `custom_match` by `envoy.extensions.matching.input_matchers.metadata.v3.Metadata`
    Metadata {
        /// `value`
        value: ValueMatcher,
        /// `invert`
        invert: bool,
    },
}

impl<A> Tree<A> {
    /// What the tree leads to; none if nothing matches.
    pub fn find(&self, input: &MatchInput<'_>) -> Option<&A> {
        let found = match &self.branches {
            Branches::None => None,
            Branches::List(branches) => branches.iter().find_map(|(predicate, branch)| {
                predicate.holds(input).then(|| branch.follow(input)).flatten()
            }),
            Branches::Exact(key, map) => {
                key.text(input).and_then(|text| map.get(&*text)?.follow(input))
            }
            Branches::Prefix(key, prefixes) => key.text(input).and_then(|text| {
                let fitting = prefixes.iter().filter(|(prefix, _)| text.starts_with(&**prefix));
                fitting.into_iter().find_map(|(_, branch)| branch.follow(input))
            }),
        };
        found.or_else(|| self.otherwise.as_ref()?.follow(input))
    }

    /// Calls `visit` with every action.
    pub fn visit<'t>(&'t self, visit: &mut dyn FnMut(&'t A)) {
        match &self.branches {
            Branches::None => {}
            Branches::List(branches) => branches.iter().for_each(|(_, b)| b.visit(visit)),
            Branches::Exact(_, map) => map.values().for_each(|branch| branch.visit(visit)),
            Branches::Prefix(_, prefixes) => prefixes.iter().for_each(|(_, b)| b.visit(visit)),
        }
        self.otherwise.iter().for_each(|branch| branch.visit(visit));
    }
}

impl<A> Branch<A> {
    fn follow(&self, input: &MatchInput<'_>) -> Option<&A> {
        let found = match &self.then {
            Then::Action(action) => Some(action),
            Then::Tree(tree) => tree.find(input),
        };
        found.filter(|_| !self.keep_matching)
    }

    fn visit<'t>(&'t self, visit: &mut dyn FnMut(&'t A)) {
        match &self.then {
            Then::Action(action) => visit(action),
            Then::Tree(tree) => tree.visit(visit),
        }
    }
}

impl Predicate {
    /// Whether the predicate holds. An input without a value matches nothing.
    pub fn holds(&self, input: &MatchInput<'_>) -> bool {
        match self {
            Predicate::Value(value, rule) => rule.accepts(value, input),
            Predicate::Any(predicates) => predicates.iter().any(|p| p.holds(input)),
            Predicate::All(predicates) => predicates.iter().all(|p| p.holds(input)),
            Predicate::Not(predicate) => !predicate.holds(input),
        }
    }
}

impl Rule {
    fn accepts(&self, value: &Input, input: &MatchInput<'_>) -> bool {
        match self {
            Rule::Text(matcher) => value.text(input).is_some_and(|text| matcher.matches(&text)),
            Rule::Ip(ranges) => {
                let address = value.text(input).and_then(|text| text.parse::<IpAddr>().ok());
                address.is_some_and(|address| ranges.iter().any(|range| range.contains(&address)))
            }
            Rule::Metadata { value: matcher, invert } => {
                let found = value.metadata(input);
                found.is_some_and(|found| matcher.matches(found)) != *invert
            }
        }
    }
}

#[cfg(test)]
mod tests;
