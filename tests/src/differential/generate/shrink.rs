//! Makes a case that shows a difference as small as it goes.

use serde_json::Value;

use super::Pair;

/// How many smaller cases are tried; each starts both programs.
const MAX_TRIES: usize = 150;

/// The smallest case found that still differs at a step, or in whether it is taken.
pub(super) async fn shrink(pair: &Pair, mut case: Value, found: &str) -> Result<Value, String> {
    let step = found.strip_prefix("/steps/").and_then(|rest| rest.split(['/', ':']).next());
    if let Some(step) = step.and_then(|step| step.parse::<usize>().ok()) {
        let mut alone = case.clone();
        alone["steps"] = Value::Array(vec![case["steps"][step].clone()]);
        if pair.difference(&alone).await?.is_some() {
            case = alone;
        }
    }
    let mut tries = 0;
    loop {
        let mut smaller = false;
        for place in places(&case["config"], String::new()) {
            if tries == MAX_TRIES {
                return Ok(case);
            }
            let mut less = case.clone();
            if !remove(&mut less["config"], &place) {
                continue;
            }
            tries += 1;
            // What neither of them takes, or what breaks the case, is not the same difference.
            let differs = pair.difference(&less).await?;
            if differs.is_some_and(|now| kind(&now) == kind(found)) {
                case = less;
                smaller = true;
            }
        }
        if !smaller {
            return Ok(case);
        }
    }
}

/// Whether a difference is about an answer, or about what is taken at all.
fn kind(found: &str) -> bool {
    found.starts_with("/steps/")
}

/// Every place that could be left out, the last and the outer ones first.
fn places(value: &Value, at: String) -> Vec<String> {
    let mut found = Vec::new();
    let mut inner = Vec::new();
    let mut visit = |key: String, child: &Value| {
        let place = format!("{at}/{key}");
        inner.extend(places(child, place.clone()));
        found.push(place);
    };
    match value {
        Value::Array(items) => {
            items.iter().enumerate().rev().for_each(|(index, item)| visit(index.to_string(), item));
        }
        Value::Object(map) => map.iter().for_each(|(key, item)| visit(key.clone(), item)),
        _ => {}
    }
    found.extend(inner);
    found
}

/// Takes a value out; false if it is no longer there.
fn remove(config: &mut Value, place: &str) -> bool {
    let Some((parent, key)) = place.rsplit_once('/') else { return false };
    match config.pointer_mut(parent) {
        Some(Value::Array(items)) => match key.parse::<usize>() {
            Ok(index) if index < items.len() => {
                items.remove(index);
                true
            }
            _ => false,
        },
        Some(Value::Object(map)) => map.remove(key).is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_place_can_be_left_out() {
        let config = json!({"a": [1, {"b": 2}]});
        assert_eq!(places(&config, String::new()), ["/a", "/a/1", "/a/0", "/a/1/b"]);
        let mut less = config.clone();
        assert!(remove(&mut less, "/a/1/b") && !remove(&mut less, "/a/7"));
        assert_eq!(less, json!({"a": [1, {}]}));
    }
}
