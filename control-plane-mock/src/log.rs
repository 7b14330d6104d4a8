//! Events as lines: for people, or as JSON.

use std::fmt::Write;
use std::time::UNIX_EPOCH;

use proto::type_url;

use crate::event::{Event, EventKind};

/// How many names a line for people shows.
const SHOWN_NAMES: usize = 5;

/// The event as one JSON object: `time` in seconds since 1970, `stream`, `node`, `type` (short name) and the fields of its kind.
pub fn to_json(event: &Event) -> serde_json::Value {
    let time = event.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut object = serde_json::Map::new();
    object.insert("time".into(), time.as_secs_f64().into());
    if event.stream != 0 {
        object.insert("stream".into(), event.stream.into());
        object.insert("node".into(), event.node.clone().into());
        object.insert("type".into(), type_url::short_name(&event.type_url).into());
    }
    let kind = serde_json::to_value(&event.kind).expect("its fields are texts, numbers and lists");
    if let serde_json::Value::Object(fields) = kind {
        object.extend(fields);
    }
    object.into()
}

/// The event as a line for people, without the time: `#3 node-1 cds: ACK of version 7 after 1.2ms`.
pub fn to_text(event: &Event) -> String {
    let mut line = String::new();
    if event.stream != 0 {
        let node = if event.node.is_empty() { "?" } else { &event.node };
        let _ = write!(line, "#{} {node}", event.stream);
        if !event.type_url.is_empty() {
            let _ = write!(line, " {}", type_url::short_name(&event.type_url));
        }
        line.push_str(": ");
    }
    line.push_str(&describe(&event.kind));
    // What a client or a parser says may have several lines.
    line.trim_end().replace('\n', "\\n")
}

fn describe(kind: &EventKind) -> String {
    match kind {
        EventKind::StreamOpened { method, .. } => format!("opened {method}"),
        EventKind::Subscribed { added, removed } => {
            let parts = [("subscribes to", added), ("unsubscribes from", removed)];
            let parts = parts.iter().filter(|(_, names)| !names.is_empty());
            let parts: Vec<_> =
                parts.map(|(verb, names)| format!("{verb} {}", shorten(names))).collect();
            parts.join(", ")
        }
        EventKind::Pushed { .. } => describe_push(kind),
        EventKind::Acked { version, after, .. } => {
            format!("ACK of version {version} after {after:.1?}")
        }
        EventKind::Nacked { version, after, error, .. } => {
            format!("NACK of version {version} after {after:.1?}: {error}")
        }
        EventKind::StaleNonce { nonce } => format!("ignored an answer to the old nonce {nonce}"),
        EventKind::StreamClosed { reason } => format!("closed: {reason}"),
        EventKind::FolderRead { files, version } => {
            format!("folder: {files} files are served as version {version}")
        }
        EventKind::FileBroken { path, error } => format!("{path}: {error}"),
        EventKind::FolderFailed { error } => format!("folder: {error}"),
    }
}

fn describe_push(kind: &EventKind) -> String {
    let EventKind::Pushed { version, resources, removed, bytes, faults, .. } = kind else {
        return String::new();
    };
    let mut line = format!("push of version {version}, {bytes} bytes: {}", shorten(resources));
    if !removed.is_empty() {
        let _ = write!(line, ", removed {}", shorten(removed));
    }
    if !faults.is_empty() {
        let _ = write!(line, " (faults: {})", faults.join(", "));
    }
    line
}

fn shorten(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        all if all.len() <= SHOWN_NAMES => all.join(", "),
        many => {
            let shown = many[..SHOWN_NAMES].join(", ");
            format!("{shown} and {} more", many.len() - SHOWN_NAMES)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn event(kind: EventKind) -> Event {
        Event {
            at: Instant::now(),
            time: UNIX_EPOCH + Duration::from_millis(1500),
            stream: 3,
            node: "n".into(),
            type_url: type_url::CLUSTER.into(),
            kind,
        }
    }

    #[test]
    fn an_event_is_a_line_for_people() {
        let pushed = EventKind::Pushed {
            version: 7,
            nonce: "1".into(),
            resources: (1..=7).map(|i| format!("c{i}")).collect(),
            removed: vec!["x".into()],
            bytes: 10,
            faults: vec!["delay"],
        };
        assert_eq!(
            to_text(&event(pushed)),
            "#3 n cds: push of version 7, 10 bytes: c1, c2, c3, c4, c5 and 2 more, removed x (faults: delay)"
        );
    }

    #[test]
    fn an_event_is_a_json_object() {
        let stale = EventKind::StaleNonce { nonce: "4".into() };
        let expected = serde_json::json!({
            "time": 1.5, "stream": 3, "node": "n", "type": "cds", "event": "stale_nonce", "nonce": "4"
        });
        assert_eq!(to_json(&event(stale)), expected);
    }
}
