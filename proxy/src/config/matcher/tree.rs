//! The matcher tree (`xds.type.matcher.v3.Matcher`): from what a connection or request shows to one of many actions.

mod input;
mod ranges;
mod rule;
mod translate;

use std::collections::HashMap;

use super::MatchInput;
use ranges::{Domains, Ranges};

pub use input::{Input, Scope};
pub use rule::Rule;

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
    /// `matcher_tree.custom_match` by `xds.type.matcher.v3.IPMatcher`
    Ranges(Input, Ranges<A>),
    /// `matcher_tree.custom_match` by `xds.type.matcher.v3.ServerNameMatcher`
    Domains(Input, Domains<A>),
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

/// An input that is asked for cannot be told, such as the names of a peer without TLS: then nothing can be said, not even
/// that something does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

impl<A> Tree<A> {
    /// What the tree leads to; none if nothing matches.
    ///
    /// # Errors
    /// It depends on an input that cannot be told.
    pub fn find(&self, input: &MatchInput<'_>) -> Result<Option<&A>, Unknown> {
        let found = match &self.branches {
            Branches::None => None,
            Branches::List(branches) => first(branches, input)?,
            Branches::Exact(key, map) => match key.text(input)?.and_then(|text| map.get(&*text)) {
                Some(branch) => branch.follow(input)?,
                None => None,
            },
            Branches::Prefix(key, prefixes) => match key.text(input)? {
                Some(text) => longest(&text, prefixes, input)?,
                None => None,
            },
            Branches::Ranges(key, ranges) => match key.text(input)? {
                Some(text) => ranges.find(&text, input)?,
                None => None,
            },
            Branches::Domains(key, domains) => match key.text(input)? {
                Some(text) => domains.find(&text, input)?,
                None => None,
            },
        };
        match (found, &self.otherwise) {
            (None, Some(branch)) => branch.follow(input),
            (found, _) => Ok(found),
        }
    }

    /// Calls `visit` with every action.
    pub fn visit<'t>(&'t self, visit: &mut dyn FnMut(&'t A)) {
        match &self.branches {
            Branches::None => {}
            Branches::List(branches) => branches.iter().for_each(|(_, b)| b.visit(visit)),
            Branches::Exact(_, map) => map.values().for_each(|branch| branch.visit(visit)),
            Branches::Prefix(_, prefixes) => prefixes.iter().for_each(|(_, b)| b.visit(visit)),
            Branches::Ranges(_, ranges) => ranges.branches().for_each(|b| b.visit(visit)),
            Branches::Domains(_, domains) => domains.branches().for_each(|b| b.visit(visit)),
        }
        self.otherwise.iter().for_each(|branch| branch.visit(visit));
    }
}

fn first<'t, A>(
    branches: &'t [(Predicate, Branch<A>)],
    input: &MatchInput<'_>,
) -> Result<Option<&'t A>, Unknown> {
    for (predicate, branch) in branches {
        if predicate.holds(input)?
            && let Some(found) = branch.follow(input)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn longest<'t, A>(
    text: &str,
    prefixes: &'t [(Box<str>, Branch<A>)],
    input: &MatchInput<'_>,
) -> Result<Option<&'t A>, Unknown> {
    for (_, branch) in prefixes.iter().filter(|(prefix, _)| text.starts_with(&**prefix)) {
        if let Some(found) = branch.follow(input)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

impl<A> Branch<A> {
    fn follow(&self, input: &MatchInput<'_>) -> Result<Option<&A>, Unknown> {
        let found = match &self.then {
            Then::Action(action) => Some(action),
            Then::Tree(tree) => tree.find(input)?,
        };
        Ok(found.filter(|_| !self.keep_matching))
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
    ///
    /// # Errors
    /// It depends on an input that cannot be told.
    pub fn holds(&self, input: &MatchInput<'_>) -> Result<bool, Unknown> {
        match self {
            Predicate::Value(value, rule) => rule.accepts(value, input),
            Predicate::Any(predicates) => {
                // One may hold although another cannot be told.
                let mut held = Ok(false);
                for predicate in predicates {
                    match predicate.holds(input) {
                        Ok(true) => return Ok(true),
                        Ok(false) => {}
                        Err(Unknown) => held = Err(Unknown),
                    }
                }
                held
            }
            Predicate::All(predicates) => {
                for predicate in predicates {
                    if !predicate.holds(input)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Predicate::Not(predicate) => Ok(!predicate.holds(input)?),
        }
    }
}

#[cfg(test)]
mod tests;
