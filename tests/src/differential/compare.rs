//! Differences between two observations, as a person would want to read them.

use serde_json::Value;

use super::bootstrap::merge;
use super::case::{Accepted, Case, Step};

/// One place where two observations do not agree.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    /// JSON pointer to the value: `/steps/2/headers/server`.
    pub at: String,
    /// What the first shows.
    pub one: Option<Value>,
    /// What the second shows.
    pub other: Option<Value>,
}

/// All differences, in order.
pub fn differences(one: &Value, other: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    walk("", Some(one), Some(other), &mut found);
    found
}

/// What Pillion is expected to show: Envoy's observation with the accepted differences written into it.
pub fn expected(envoy: &Value, accepted: &[Accepted]) -> Result<Value, String> {
    let mut expected = envoy.clone();
    for difference in accepted {
        let done = match &difference.patch {
            Some(patch) => expected.pointer_mut(&difference.at).map(|target| merge(target, patch)),
            None => set(&mut expected, &difference.at, &difference.pillion),
        };
        done.ok_or_else(|| {
            format!("accepted difference at {}: there is no such place", difference.at)
        })?;
    }
    Ok(expected)
}

/// Sets the value at a JSON pointer; a null takes the last key, or the end of a list, away. `None` if its parent is not there.
pub fn set(value: &mut Value, at: &str, to: &Value) -> Option<()> {
    let (parent, key) = at.rsplit_once('/')?;
    match value.pointer_mut(parent)? {
        Value::Object(map) if to.is_null() => {
            map.remove(key);
        }
        Value::Object(map) => {
            map.insert(key.to_owned(), to.clone());
        }
        Value::Array(items) => {
            *items.get_mut(key.parse::<usize>().ok()?)? = to.clone();
            if to.is_null() {
                // What is absent at the end makes the list shorter.
                let length =
                    items.iter().rposition(|item| !item.is_null()).map_or(0, |last| last + 1);
                items.truncate(length);
            }
        }
        _ => return None,
    }
    Some(())
}

/// The step that a path belongs to, in a few words.
pub fn step_of(case: &Case, at: &str) -> Option<String> {
    let number: usize = at.strip_prefix("/steps/")?.split('/').next()?.parse().ok()?;
    Some(match case.steps.get(number)? {
        Step::Get(path) => format!("GET {path}"),
        Step::Request(request) => {
            format!("{} {} for {}", request.method, request.path, request.host)
        }
        Step::Raw(raw) => format!("{:?}", raw.send.chars().take(60).collect::<String>()),
        step => format!("{step:?}"),
    })
}

fn walk(at: &str, one: Option<&Value>, other: Option<&Value>, found: &mut Vec<Difference>) {
    match (one, other) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let more = b.keys().filter(|key| !a.contains_key(*key));
            for key in a.keys().chain(more) {
                walk(&format!("{at}/{key}"), a.get(key), b.get(key), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for index in 0..a.len().max(b.len()) {
                walk(&format!("{at}/{index}"), a.get(index), b.get(index), found);
            }
        }
        // A statistic that does not exist reads as null.
        (None | Some(Value::Null), None | Some(Value::Null)) => {}
        _ if one == other => {}
        _ => found.push(Difference { at: at.to_owned(), one: one.cloned(), other: other.cloned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_difference_names_the_place() {
        let found = differences(
            &json!({"steps": [{"status": 200}]}),
            &json!({"steps": [{"status": 404}, {}]}),
        );
        let places: Vec<&str> = found.iter().map(|difference| difference.at.as_str()).collect();
        assert_eq!(places, ["/steps/0/status", "/steps/1"]);
    }

    #[test]
    fn an_accepted_difference_replaces_what_envoy_shows() {
        let accepted = Accepted {
            at: "/steps/0/status".into(),
            pillion: json!(400),
            patch: None,
            reason: "stricter".into(),
        };
        let patch = Accepted {
            at: "/steps/0".into(),
            pillion: Value::Null,
            patch: Some(json!({"body": "no", "length": null})),
            reason: "stricter".into(),
        };
        let envoy = json!({"steps": [{"status": 200, "length": 3}]});
        let expected = expected(&envoy, &[accepted, patch]).unwrap();
        assert_eq!(expected, json!({"steps": [{"status": 400, "body": "no"}]}));
    }

    #[test]
    fn an_accepted_difference_without_a_place_is_an_error() {
        let accepted = Accepted {
            at: "/steps/7/status".into(),
            pillion: json!(1),
            patch: None,
            reason: String::new(),
        };
        assert!(expected(&json!({"steps": []}), &[accepted]).is_err());
    }
}
