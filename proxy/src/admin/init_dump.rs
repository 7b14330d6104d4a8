//! `/init_dump`: what the process or a resource still waits for.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Context;
use super::query::Query;
use super::reply::{Answer, Reply};
use crate::discovery::Pending;

pub(super) fn init_dump(context: &Context, _query: &Query) -> Answer {
    Reply::json(&as_json(&context.discovery.pending())).into()
}

/// `envoy.admin.v3.UnreadyTargetsDumps`.
fn as_json(pending: &[Pending]) -> Value {
    let mut targets: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in pending {
        targets.entry(&one.who).or_default().push(&one.waits_for);
    }
    let dumps: Vec<Value> = targets
        .into_iter()
        .map(|(name, targets)| json!({"name": name, "target_names": targets}))
        .collect();
    match dumps.is_empty() {
        true => json!({}),
        false => json!({ "unready_targets_dumps": dumps }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_one_waits_for_stands_together() {
        let pending = |who: &str, waits_for: &str| Pending {
            who: who.into(),
            waits_for: waits_for.into(),
            age: Duration::ZERO,
        };
        let all = [pending("b", "x"), pending("a", "y"), pending("b", "z")];
        let dump = as_json(&all);
        let message = proto::Registry::load()
            .from_json::<proto::envoy::admin::v3::UnreadyTargetsDumps>(&dump.to_string());
        let dumps = message.unwrap().unready_targets_dumps;
        assert_eq!((dumps[0].name.as_str(), dumps[1].name.as_str()), ("a", "b"));
        assert_eq!(dumps[1].target_names, ["x", "z"]);
        assert_eq!(as_json(&[]), json!({}));
    }
}
