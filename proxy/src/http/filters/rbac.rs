//! `envoy.filters.http.rbac`: who may send which requests.

use std::sync::Arc;

use http::StatusCode;
use proto::envoy::extensions::filters::http::rbac::v3::{Rbac, RbacPerRoute};
use proto::google::protobuf::Any;

use super::{Blueprint, Build, Decoded, HttpFilter, Registration, Request, view};
use crate::config::http_filter::Opaque;
use crate::config::matcher::tree::Scope;
use crate::config::rbac::{Decision, Engine, Engines};
use crate::config::{At, ConfigError, Context, any};
use crate::http::local_reply::LocalReply;
use crate::telemetry::stream_info::Metadata;
use crate::warn_set;

pub mod control;

use control::{AccessControl, Names, denial_details};

/// The metadata of a route that has none.
static NOTHING: Metadata = Metadata::new();

/// Its entry in the table.
pub(super) const FILTER: Registration = Registration {
    config: "envoy.extensions.filters.http.rbac.v3.RBAC",
    translate: |config, at, context| {
        let config = Config::from_proto(&any::open(config, at)?, at, context)?;
        Ok(Box::new(config) as Box<dyn Blueprint>)
    },
    route: Some(("envoy.extensions.filters.http.rbac.v3.RBACPerRoute", route)),
};

#[derive(Debug)]
struct Config {
    engines: Engines,
    /// `rules_stat_prefix`
    rules_prefix: Box<str>,
    /// `shadow_rules_stat_prefix`
    shadow_prefix: Box<str>,
    /// `track_per_rule_stats`
    track_policies: bool,
}

impl Config {
    fn from_proto(message: &Rbac, at: &At<'_>, context: &Context) -> Result<Config, ConfigError> {
        Ok(Config {
            engines: engines(message, at, context)?,
            rules_prefix: message.rules_stat_prefix.as_str().into(),
            shadow_prefix: message.shadow_rules_stat_prefix.as_str().into(),
            track_policies: message.track_per_rule_stats,
        })
    }
}

fn engines(message: &Rbac, at: &At<'_>, context: &Context) -> Result<Engines, ConfigError> {
    let Rbac { rules, matcher, shadow_rules, shadow_matcher, .. } = message;
    let rules = ("rules", rules.as_ref());
    let shadow_rules = ("shadow_rules", shadow_rules.as_ref());
    let matcher = ("matcher", matcher.as_ref());
    let shadow_matcher = ("shadow_matcher", shadow_matcher.as_ref());
    Ok(Engines {
        enforced: Engine::from_proto(rules, matcher, Scope::Request, at, context)?,
        shadow: Engine::from_proto(shadow_rules, shadow_matcher, Scope::Request, at, context)?,
    })
}

/// `RBACPerRoute`: engines in place of the filter's; without `rbac` there are none, and everything is allowed.
fn route(config: &Any, at: &At<'_>, context: &Context) -> Result<Opaque, ConfigError> {
    let message: RbacPerRoute = any::open(config, at)?;
    let rbac = message.rbac.as_ref();
    let at = at.field("rbac");
    if let Some(rbac) = rbac {
        let reason = "the filter's own statistics count";
        warn_set!(context, at, rbac, [rules_stat_prefix, shadow_rules_stat_prefix], reason);
        warn_set!(context, at, rbac, [track_per_rule_stats], reason);
    }
    let engines = rbac.map(|rbac| engines(rbac, &at, context)).transpose()?;
    Ok(Opaque::new(engines.unwrap_or_default()))
}

impl Blueprint for Config {
    fn build(&self, build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
        let names = Names {
            namespace: "envoy.filters.http.rbac",
            notes_enforced: true,
            stat_prefix: build.stat_prefix,
            rules: &self.rules_prefix,
            shadow: &self.shadow_prefix,
        };
        let tracked = self.track_policies.then_some(&self.engines);
        let control = AccessControl::new(&names, tracked, build.stats, build.store);
        Ok(Arc::new(Filter { engines: self.engines.clone(), control }))
    }
}

struct Filter {
    engines: Engines,
    control: AccessControl,
}

impl HttpFilter for Filter {
    fn decode<'a>(&'a self, request: &'a mut Request<'_>) -> Decoded<'a> {
        let Request { parts, stream, route, config, .. } = request;
        let engines = config.as_ref().and_then(Opaque::get).unwrap_or(&self.engines);
        let mut info = stream.shared.info.borrow_mut();
        let request = Some(view(parts, stream.scheme, info.protocol));
        let metadata = route.map(|route| route.config.metadata.as_deref().unwrap_or(&NOTHING));
        let verdict = self.control.check(engines, &mut info, request, metadata);
        match verdict {
            Some(verdict) if verdict.decision == Decision::Denied => {
                let details = denial_details(verdict.policy);
                let body = "RBAC: access denied";
                Decoded::Reply(LocalReply::new(StatusCode::FORBIDDEN, details, body))
            }
            _ => Decoded::Continue,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::http_filter::HttpFilters;
    use crate::http::filters::Table;

    #[test]
    fn a_mistake_is_refused_by_its_path() {
        let root = At::resource("listener", "l");
        let context = Context::default();
        let policy = proto::envoy::config::rbac::v3::Policy::default();
        let rules = proto::envoy::config::rbac::v3::Rbac {
            policies: [("p".to_owned(), policy)].into(),
            ..Default::default()
        };
        let message = Rbac { shadow_rules: Some(rules), ..Rbac::default() };
        let config = proto::any::pack(&message);
        let refused = Table.filter(&config, &root, &context).expect("it is in the table");
        let path = "listener \"l\": shadow_rules.policies[\"p\"].permissions";
        assert_eq!(refused.unwrap_err().path, path);
        let message = RbacPerRoute { rbac: Some(message) };
        let config = proto::any::pack(&message);
        let refused = Table.route(&config, &root, &context).expect("it is in the table");
        let path = "listener \"l\": rbac.shadow_rules.policies[\"p\"].permissions";
        assert_eq!(refused.unwrap_err().path, path);
    }
}
