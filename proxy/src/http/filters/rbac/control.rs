//! Access control around its engines: what is counted and noted of a decision. The HTTP and the network filter share it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::matcher::{MatchInput, RequestView};
use crate::config::rbac::{Decision, Engine, Engines, Verdict};
use crate::stat_group;
use crate::telemetry::stats::{SharedStats, Store};
use crate::telemetry::stream_info::{Metadata, StreamInfo};

stat_group! {
    /// `<prefix>rbac.<rules_stat_prefix>`, and the same for one policy.
    pub struct EnforcedStats {
        counter allowed,
        counter denied,
    }
}

stat_group! {
    /// `<prefix>rbac.<shadow_rules_stat_prefix>`, and the same for one policy.
    pub struct ShadowStats {
        counter shadow_allowed,
        counter shadow_denied,
    }
}

/// Statistics and names of one filter.
pub struct AccessControl {
    namespace: &'static str,
    notes_enforced: bool,
    /// The keys of policy and result in dynamic metadata.
    enforced_keys: [Box<str>; 2],
    shadow_keys: [Box<str>; 2],
    enforced: Arc<EnforcedStats>,
    shadow: Arc<ShadowStats>,
    /// `track_per_rule_stats`: by policy.
    enforced_policies: HashMap<Box<str>, Arc<EnforcedStats>>,
    shadow_policies: HashMap<Box<str>, Arc<ShadowStats>>,
}

/// How a filter calls its statistics and what it notes.
pub struct Names<'a> {
    /// The namespace of dynamic metadata.
    pub namespace: &'static str,
    /// Whether the verdict that counts is noted there too, and not only that of the shadow rules.
    pub notes_enforced: bool,
    /// What stands before `rbac.` in statistics, with its dot.
    pub stat_prefix: &'a str,
    /// `rules_stat_prefix`
    pub rules: &'a str,
    /// `shadow_rules_stat_prefix`
    pub shadow: &'a str,
}

impl AccessControl {
    /// Statistics under these names; with some for each policy of `tracked`.
    pub fn new(
        names: &Names<'_>,
        tracked: Option<&Engines>,
        shared: &SharedStats,
        store: &Store,
    ) -> Self {
        let base = format!("{}rbac.", names.stat_prefix);
        let (rules, shadow) = (joined(&base, names.rules), joined(&base, names.shadow));
        let policies = |engine: Option<&Engine>| -> Vec<Box<str>> {
            engine.map(Engine::policies).unwrap_or_default().into_iter().map(Box::from).collect()
        };
        let keys = |prefix: &str, kind: &str| {
            ["effective_policy_id", "engine_result"]
                .map(|key| format!("{prefix}{kind}_{key}").into_boxed_str())
        };
        let enforced_policies = policies(tracked.and_then(|engines| engines.enforced.as_ref()));
        let shadow_policies = policies(tracked.and_then(|engines| engines.shadow.as_ref()));
        let enforced_policies = enforced_policies.into_iter().map(|name| {
            let prefix = format!("{rules}policy.{name}.");
            (name, shared.get(store, prefix, EnforcedStats::new))
        });
        let shadow_policies = shadow_policies.into_iter().map(|name| {
            let prefix = format!("{shadow}policy.{name}.");
            (name, shared.get(store, prefix, ShadowStats::new))
        });
        AccessControl {
            namespace: names.namespace,
            notes_enforced: names.notes_enforced,
            enforced_keys: keys(names.rules, "enforced"),
            shadow_keys: keys(names.shadow, "shadow"),
            enforced_policies: enforced_policies.collect(),
            shadow_policies: shadow_policies.collect(),
            enforced: shared.get(store, rules, EnforcedStats::new),
            shadow: shared.get(store, shadow, ShadowStats::new),
        }
    }

    /// Decides, counts and notes. Without an enforced engine there is no verdict, and everything may pass.
    pub fn check<'e>(
        &self,
        engines: &'e Engines,
        info: &mut StreamInfo,
        request: Option<RequestView<'_>>,
        route_metadata: Option<&Metadata>,
    ) -> Option<Verdict<'e>> {
        if let Some(engine) = &engines.shadow {
            let verdict = engine.decide(&MatchInput::stream(info, request, route_metadata));
            let policy = verdict.policy.and_then(|policy| self.shadow_policies.get(policy));
            for stats in [Some(&self.shadow), policy].into_iter().flatten() {
                match verdict.decision {
                    Decision::Allowed => stats.shadow_allowed.inc(),
                    Decision::Denied => stats.shadow_denied.inc(),
                }
            }
            self.note(&self.shadow_keys, &verdict, info);
        }
        let engine = engines.enforced.as_ref()?;
        let verdict = engine.decide(&MatchInput::stream(info, request, route_metadata));
        let policy = verdict.policy.and_then(|policy| self.enforced_policies.get(policy));
        for stats in [Some(&self.enforced), policy].into_iter().flatten() {
            match verdict.decision {
                Decision::Allowed => stats.allowed.inc(),
                Decision::Denied => stats.denied.inc(),
            }
        }
        if let Some(log) = verdict.log {
            info.set_metadata("envoy.common", "access_log_hint", log.into());
        }
        if self.notes_enforced {
            self.note(&self.enforced_keys, &verdict, info);
        }
        Some(verdict)
    }

    fn note(&self, [policy, result]: &[Box<str>; 2], verdict: &Verdict<'_>, info: &mut StreamInfo) {
        if let Some(name) = verdict.policy {
            info.set_metadata(self.namespace, policy, name.into());
        }
        info.set_metadata(self.namespace, result, verdict.decision.as_str().into());
    }
}

/// A prefix of statistics with one more part, if there is one.
pub fn joined(prefix: &str, part: &str) -> String {
    match part {
        "" => prefix.to_owned(),
        part if part.ends_with('.') => format!("{prefix}{part}"),
        part => format!("{prefix}{part}."),
    }
}

/// The response code details of a denial: white space would break access logs.
pub fn denial_details(policy: Option<&str>) -> String {
    let policy = policy.unwrap_or("none").replace(|c: char| c.is_ascii_whitespace(), "_");
    format!("rbac_access_denied_matched_policy[{policy}]")
}
