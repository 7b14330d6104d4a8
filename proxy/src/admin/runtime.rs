//! `/runtime`: the values of `layered_runtime`.

use serde_json::{Map, Value, json};

use super::Context;
use super::query::Query;
use super::reply::{Answer, Reply};
use crate::config::bootstrap::Runtime;

/// The layers are merged when the bootstrap is read; they show as this one.
const LAYER: &str = "bootstrap";

pub(super) fn runtime(context: &Context, _query: &Query) -> Answer {
    Reply::json(&as_json(&context.bootstrap.runtime)).into()
}

fn as_json(runtime: &Runtime) -> Value {
    let entries: Map<String, Value> = runtime
        .iter()
        .map(|(key, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            (key.clone(), json!({"layer_values": [text], "final_value": text}))
        })
        .collect();
    let layers = if entries.is_empty() { Vec::new() } else { vec![LAYER] };
    json!({"layers": layers, "entries": entries})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_as_text() {
        let runtime = Runtime::from([("a".into(), 1.into()), ("b".into(), "x".into())]);
        let value = as_json(&runtime);
        assert_eq!(value["layers"], json!(["bootstrap"]));
        assert_eq!(value["entries"]["a"], json!({"layer_values": ["1"], "final_value": "1"}));
        assert_eq!(value["entries"]["b"]["final_value"], "x");
        assert_eq!(as_json(&Runtime::new()), json!({"layers": [], "entries": {}}));
    }
}
