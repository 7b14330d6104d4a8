//! Translating matcher trees.

use std::collections::HashMap;

use proto::matchers::{IpMatcher, ServerNameMatcher};
use proto::xds::core::v3::TypedExtensionConfig;
use proto::xds::r#type::matcher::v3 as pb;
use proto::xds::r#type::matcher::v3::matcher::matcher_list::predicate::single_predicate;
use proto::xds::r#type::matcher::v3::matcher::matcher_list::{self, predicate};
use proto::xds::r#type::matcher::v3::matcher::matcher_tree::{MatchMap, TreeType};
use proto::xds::r#type::matcher::v3::matcher::{
    self as pb_matcher, MatcherType, OnMatch, on_match,
};

use super::ranges::{Domains, Ranges};
use super::{Branch, Branches, Input, Predicate, Rule, Scope, Then, Tree};
use crate::config::matcher::StringMatcher;
use crate::config::value::required;
use crate::config::{At, ConfigError, Context, any};

/// How deep trees and predicates may be nested.
const MAX_DEPTH: usize = 64;

/// Translates the action of a tree.
pub type Action<'f, A> = &'f dyn Fn(&TypedExtensionConfig, &At<'_>) -> Result<A, ConfigError>;

/// What holds for the whole tree.
struct Translation<'t, A> {
    scope: Scope,
    action: Action<'t, A>,
    context: &'t Context,
}

impl<A> Tree<A> {
    /// A `Matcher` whose inputs are taken from `scope`.
    pub fn from_proto(
        message: &pb::Matcher,
        scope: Scope,
        action: Action<'_, A>,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Tree<A>, ConfigError> {
        Translation { scope, action, context }.tree(message, 0, at)
    }
}

impl<A> Translation<'_, A> {
    fn tree(
        &self,
        message: &pb::Matcher,
        depth: usize,
        at: &At<'_>,
    ) -> Result<Tree<A>, ConfigError> {
        if depth == MAX_DEPTH {
            return Err(at.error(format_args!("is nested deeper than {MAX_DEPTH} levels")));
        }
        let branches = match &message.matcher_type {
            None => Branches::None,
            Some(MatcherType::MatcherList(list)) => {
                let at = at.field("matcher_list");
                if list.matchers.is_empty() {
                    return Err(at.field("matchers").error("must not be empty"));
                }
                let matchers = list.matchers.iter().enumerate().map(|(index, matcher)| {
                    self.field_matcher(matcher, depth, &at.index("matchers", index))
                });
                Branches::List(matchers.collect::<Result<_, _>>()?)
            }
            Some(MatcherType::MatcherTree(tree)) => {
                self.map(tree, depth, &at.field("matcher_tree"))?
            }
        };
        let otherwise = message.on_no_match.as_ref();
        let otherwise =
            otherwise.map(|branch| self.branch(branch, depth, &at.field("on_no_match")));
        Ok(Tree { branches, otherwise: otherwise.transpose()? })
    }

    fn field_matcher(
        &self,
        message: &matcher_list::FieldMatcher,
        depth: usize,
        at: &At<'_>,
    ) -> Result<(Predicate, Branch<A>), ConfigError> {
        let (at_predicate, at_branch) = (at.field("predicate"), at.field("on_match"));
        let predicate = required(&message.predicate, &at_predicate)?;
        let branch = required(&message.on_match, &at_branch)?;
        let predicate =
            predicate_from_proto(predicate, self.scope, 0, &at_predicate, self.context)?;
        Ok((predicate, self.branch(branch, depth, &at_branch)?))
    }

    fn branch(
        &self,
        message: &OnMatch,
        depth: usize,
        at: &At<'_>,
    ) -> Result<Branch<A>, ConfigError> {
        let then = match required(&message.on_match, at)? {
            on_match::OnMatch::Matcher(tree) => {
                let tree = self.tree(tree, depth + 1, &at.field("matcher"))?;
                Then::Tree(Box::new(tree))
            }
            on_match::OnMatch::Action(action) => {
                Then::Action((self.action)(action, &at.field("action"))?)
            }
        };
        if message.keep_matching && self.scope == Scope::Route {
            return Err(at.field("keep_matching").error("a route that was found is final"));
        }
        Ok(Branch { then, keep_matching: message.keep_matching })
    }

    fn map(
        &self,
        message: &pb_matcher::MatcherTree,
        depth: usize,
        at: &At<'_>,
    ) -> Result<Branches<A>, ConfigError> {
        let at_input = at.field("input");
        let input = Input::from_proto(required(&message.input, &at_input)?, self.scope, &at_input)?;
        if !input.is_text() {
            return Err(at_input.error("gives no text that a map could look up"));
        }
        match required(&message.tree_type, at)? {
            TreeType::ExactMatchMap(map) => {
                let at = at.field("exact_match_map");
                Ok(Branches::Exact(input, self.entries(map, depth, &at)?.into_iter().collect()))
            }
            TreeType::PrefixMatchMap(map) => {
                let at = at.field("prefix_match_map");
                let mut prefixes: Vec<_> = self.entries(map, depth, &at)?.into_iter().collect();
                prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
                Ok(Branches::Prefix(input, prefixes.into()))
            }
            TreeType::CustomMatch(custom) => {
                self.custom(custom, input, depth, &at.field("custom_match"))
            }
        }
    }

    fn custom(
        &self,
        extension: &TypedExtensionConfig,
        input: Input,
        depth: usize,
        at: &At<'_>,
    ) -> Result<Branches<A>, ConfigError> {
        let config = extension.typed_config.as_ref();
        let at = at.field("typed_config");
        let branch =
            |branch: &Option<OnMatch>, at: &At<'_>| self.branch(required(branch, at)?, depth, at);
        if any::is::<IpMatcher>(config) {
            let ranges = Ranges::from_proto(&any::open(config, &at)?, &branch, &at)?;
            return Ok(Branches::Ranges(input, ranges));
        }
        if any::is::<ServerNameMatcher>(config) {
            let domains = Domains::from_proto(&any::open(config, &at)?, &branch, &at)?;
            return Ok(Branches::Domains(input, domains));
        }
        Err(any::unknown(&extension.name, config, &at))
    }

    fn entries(
        &self,
        map: &MatchMap,
        depth: usize,
        at: &At<'_>,
    ) -> Result<HashMap<Box<str>, Branch<A>>, ConfigError> {
        if map.map.is_empty() {
            return Err(at.field("map").error("must not be empty"));
        }
        let entries = map.map.iter().map(|(key, branch)| {
            let branch = self.branch(branch, depth, &at.key("map", key))?;
            Ok((key.as_str().into(), branch))
        });
        entries.collect()
    }
}

/// A `Predicate`.
fn predicate_from_proto(
    message: &matcher_list::Predicate,
    scope: Scope,
    depth: usize,
    at: &At<'_>,
    context: &Context,
) -> Result<Predicate, ConfigError> {
    if depth == MAX_DEPTH {
        return Err(at.error(format_args!("is nested deeper than {MAX_DEPTH} levels")));
    }
    let several = |list: &predicate::PredicateList, field: &str| {
        let at = at.field(field);
        if list.predicate.len() < 2 {
            return Err(at.field("predicate").error("at least two are required"));
        }
        let predicates = list.predicate.iter().enumerate().map(|(index, predicate)| {
            let at = at.index("predicate", index);
            predicate_from_proto(predicate, scope, depth + 1, &at, context)
        });
        predicates.collect::<Result<Box<[_]>, _>>()
    };
    Ok(match required(&message.match_type, at)? {
        predicate::MatchType::SinglePredicate(single) => {
            single_from_proto(single, scope, &at.field("single_predicate"), context)?
        }
        predicate::MatchType::OrMatcher(list) => Predicate::Any(several(list, "or_matcher")?),
        predicate::MatchType::AndMatcher(list) => Predicate::All(several(list, "and_matcher")?),
        predicate::MatchType::NotMatcher(inner) => {
            let at = at.field("not_matcher");
            let inner = predicate_from_proto(inner, scope, depth + 1, &at, context)?;
            Predicate::Not(Box::new(inner))
        }
    })
}

fn single_from_proto(
    message: &predicate::SinglePredicate,
    scope: Scope,
    at: &At<'_>,
    context: &Context,
) -> Result<Predicate, ConfigError> {
    let at_input = at.field("input");
    let input = Input::from_proto(required(&message.input, &at_input)?, scope, &at_input)?;
    let rule = match required(&message.matcher, at)? {
        single_predicate::Matcher::ValueMatch(matcher) => {
            let at = at.field("value_match");
            Rule::Text(StringMatcher::from_xds(matcher, &at, context)?)
        }
        single_predicate::Matcher::CustomMatch(extension) => {
            Rule::custom(extension, &at.field("custom_match"), context)?
        }
    };
    let fits = match (&rule, &input) {
        (Rule::Metadata { .. }, Input::DynamicMetadata(_)) => true,
        (Rule::Cel(_), Input::Attributes) => true,
        (Rule::Metadata { .. } | Rule::Cel(_), _) => false,
        (_, input) => input.is_text(),
    };
    if !fits {
        return Err(at.error(
            "metadata is matched by the Metadata matcher, attributes by the CelMatcher, and \
             nothing else is",
        ));
    }
    Ok(Predicate::Value(input, rule))
}
