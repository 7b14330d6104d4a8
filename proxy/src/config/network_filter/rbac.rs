//! Translating the network filter of access control.

use proto::envoy::extensions::filters::network::rbac::v3 as pb;
use proto::envoy::extensions::filters::network::rbac::v3::rbac::EnforcementType;

use super::NetworkRbac;
use crate::config::matcher::tree::Scope;
use crate::config::rbac::{Engine, Engines};
use crate::config::value::{duration, enumeration, non_empty};
use crate::config::{At, ConfigError, Context};

impl NetworkRbac {
    /// An `envoy.extensions.filters.network.rbac.v3.RBAC`.
    pub(super) fn from_proto(
        message: &pb::Rbac,
        at: &At<'_>,
        context: &Context,
    ) -> Result<NetworkRbac, ConfigError> {
        let at_type = at.field("enforcement_type");
        if enumeration::<EnforcementType>(message.enforcement_type, &at_type)?
            == EnforcementType::Continuous
        {
            const REASON: &str = "nothing that rules see of a connection changes, so that it is \
                                  decided and counted once";
            context.warn(&at_type, REASON);
        }
        let pb::Rbac { rules, matcher, shadow_rules, shadow_matcher, .. } = message;
        let engine =
            |rules, matcher| Engine::from_proto(rules, matcher, Scope::Connection, at, context);
        Ok(NetworkRbac {
            engines: Engines {
                enforced: engine(("rules", rules.as_ref()), ("matcher", matcher.as_ref()))?,
                shadow: engine(
                    ("shadow_rules", shadow_rules.as_ref()),
                    ("shadow_matcher", shadow_matcher.as_ref()),
                )?,
            },
            stat_prefix: non_empty(&message.stat_prefix, &at.field("stat_prefix"))?.into(),
            shadow_prefix: message.shadow_rules_stat_prefix.as_str().into(),
            delay_deny: duration(message.delay_deny, &at.field("delay_deny"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::message;

    fn translate(yaml: &str) -> Result<NetworkRbac, ConfigError> {
        let context = Context::default();
        NetworkRbac::from_proto(&message(yaml), &At::resource("listener", "l"), &context)
    }

    #[test]
    fn rules_and_trees_are_engines_and_inputs_of_requests_are_unknown() {
        let rbac = translate("{stat_prefix: s, rules: {}, delay_deny: 1.5s}").unwrap();
        assert!(rbac.engines.enforced.is_some() && rbac.engines.shadow.is_none());
        assert_eq!(rbac.delay_deny, Some(std::time::Duration::from_millis(1500)));
        let tree = |input: &str| {
            format!(
                "{{stat_prefix: s, matcher: {{matcher_tree: {{input: {{name: i, typed_config:
                  {{'@type': type.googleapis.com/{input}}}}}, exact_match_map: {{map: {{a:
                  {{action: {{name: a, typed_config: {{'@type':
                  type.googleapis.com/envoy.config.rbac.v3.Action, name: p}}}}}}}}}}}}}}}}"
            )
        };
        let common = "envoy.extensions.matching.common_inputs.network.v3.ServerNameInput";
        assert!(translate(&tree(common)).is_ok());
        let error =
            translate(&tree("envoy.type.matcher.v3.HttpRequestHeaderMatchInput, header_name: x"));
        let path = "listener \"l\": matcher.matcher_tree.input.typed_config";
        assert_eq!(error.unwrap_err().path, path);
    }

    #[test]
    fn mistakes_are_refused_by_their_path() {
        for (yaml, path) in [
            ("{}", "stat_prefix"),
            ("{stat_prefix: s, enforcement_type: 7}", "enforcement_type"),
            ("{stat_prefix: s, delay_deny: -1s}", "delay_deny"),
        ] {
            let error = translate(yaml).unwrap_err();
            assert_eq!(error.path, format!("listener \"l\": {path}"), "{error}");
        }
    }
}
