//! Translating engines and policies.

use std::collections::BTreeMap;

use proto::envoy::config::rbac::v3 as pb;
use proto::envoy::config::rbac::v3::rbac::Action as PbAction;
use proto::xds::core::v3::TypedExtensionConfig;
use proto::xds::r#type::matcher::v3::Matcher;

use super::rule::{Side, permission, principal};
use super::{Action, Engine, Outcome, Policy, Rule, Rules};
use crate::config::cel::Condition;
use crate::config::matcher::tree::{Scope, Tree};
use crate::config::matcher::uri_template::Globs;
use crate::config::value::{enumeration, non_empty};
use crate::config::{At, ConfigError, Context, any};
use crate::{refuse_set, warn_set};

/// Why some fields have no effect.
const UNUSED: &str = "Envoy does not read it either";

impl Engine {
    /// The engine of a filter with these `rules` or this `matcher`; none if it has neither. With both, the matcher
    /// counts, as in Envoy. The names are those of the fields; `scope` says what the tree's inputs are taken from.
    pub fn from_proto(
        rules: (&str, Option<&pb::Rbac>),
        matcher: (&str, Option<&Matcher>),
        scope: Scope,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Option<Engine>, ConfigError> {
        if let (field, Some(matcher)) = matcher {
            let tree = outcomes(matcher, scope, &at.field(field), context)?;
            let mut logs = false;
            tree.visit(&mut |outcome| logs |= outcome.action == Action::Log);
            return Ok(Some(Engine::Tree { tree, logs }));
        }
        let rules =
            rules.1.map(|message| Rules::from_proto(message, scope, &at.field(rules.0), context));
        Ok(rules.transpose()?.map(Engine::Rules))
    }
}

/// A matcher tree whose actions are `envoy.config.rbac.v3.Action`.
fn outcomes(
    message: &Matcher,
    scope: Scope,
    at: &At<'_>,
    context: &Context,
) -> Result<Tree<Outcome>, ConfigError> {
    let action = |extension: &TypedExtensionConfig, at: &At<'_>| {
        let config = extension.typed_config.as_ref();
        let at = at.field("typed_config");
        if !any::is::<pb::Action>(config) {
            return Err(any::unknown(&extension.name, config, &at));
        }
        let message: pb::Action = any::open(config, &at)?;
        let action = Action::from_proto(message.action, &at.field("action"))?;
        let name = non_empty(&message.name, &at.field("name"))?.into();
        Ok(Outcome { name, action })
    };
    Tree::from_proto(message, scope, &action, at, context)
}

impl Rules {
    fn from_proto(
        message: &pb::Rbac,
        scope: Scope,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Rules, ConfigError> {
        warn_set!(context, at, message, [audit_logging_options], UNUSED);
        let action = Action::from_proto(message.action, &at.field("action"))?;
        let policies: BTreeMap<_, _> = message.policies.iter().collect();
        let globs = if action == Action::Deny { Globs::Wide } else { Globs::Strict };
        let side = Side { globs, scope, context };
        let policies = policies.into_iter().map(|(name, policy)| {
            Policy::from_proto(name, policy, side, &at.key("policies", name))
        });
        Ok(Rules { action, policies: policies.collect::<Result<_, _>>()? })
    }
}

impl Action {
    /// `RBAC.Action`.
    pub(super) fn from_proto(number: i32, at: &At<'_>) -> Result<Action, ConfigError> {
        Ok(match enumeration(number, at)? {
            PbAction::Allow => Action::Allow,
            PbAction::Deny => Action::Deny,
            PbAction::Log => Action::Log,
        })
    }
}

impl Policy {
    fn from_proto(
        name: &str,
        message: &pb::Policy,
        side: Side<'_>,
        at: &At<'_>,
    ) -> Result<Policy, ConfigError> {
        refuse_set!(at, message, [cel_config]);
        let condition = message.condition.as_ref();
        let condition =
            condition.map(|message| Condition::from_proto(message, &at.field("condition")));
        warn_set!(side.context, at, message, [checked_condition], UNUSED);
        let permissions = message.permissions.iter().enumerate();
        let principals = message.principals.iter().enumerate();
        let permissions = permissions
            .map(|(index, message)| permission(message, side, &at.index("permissions", index)));
        let principals = principals
            .map(|(index, message)| principal(message, side, &at.index("principals", index)));
        Ok(Policy {
            name: name.into(),
            permissions: not_empty(permissions.collect::<Result<_, _>>()?, "permissions", at)?,
            principals: not_empty(principals.collect::<Result<_, _>>()?, "principals", at)?,
            condition: condition.transpose()?,
        })
    }
}

/// A list of rules, of which there must be one.
pub(super) fn not_empty(
    rules: Box<[Rule]>,
    field: &str,
    at: &At<'_>,
) -> Result<Box<[Rule]>, ConfigError> {
    if rules.is_empty() {
        return Err(at.field(field).error("must not be empty"));
    }
    Ok(rules)
}
