//! `envoy.filters.listener.http_inspector`: tells HTTP/1.0, HTTP/1.1 and HTTP/2 by the first bytes.

use super::{InspectError, Step};
use crate::downstream::stats::HttpInspectorStats;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A request line longer than this is refused.
const LONGEST: usize = 64 * 1024;

/// `http/1.0`, `http/1.1` or `h2c`; none if it is not HTTP.
pub fn look(bytes: &[u8]) -> Step<Option<&'static str>> {
    let compared = bytes.len().min(PREFACE.len());
    if bytes[..compared] == PREFACE[..compared] {
        return if compared == PREFACE.len() { Step::Done(Some("h2c")) } else { Step::More };
    }
    let end = bytes.iter().take(LONGEST).position(|byte| *byte == b'\n');
    let line = &bytes[..end.unwrap_or(bytes.len().min(LONGEST))];
    // Also where the end of the line is there already: the answer must not depend on how bytes arrive.
    if !line.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\r')) {
        return Step::Done(None);
    }
    if end.is_none() {
        return match bytes.len() < LONGEST {
            true => Step::More,
            false => Step::Refuse("http_inspector: request line too long"),
        };
    }
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Step::Done(match line.rsplit(|byte| *byte == b' ').next() {
        Some(b"HTTP/1.1") => Some("http/1.1"),
        Some(b"HTTP/1.0") => Some("http/1.0"),
        _ => None,
    })
}

/// Counts what came of looking at a connection.
pub(super) fn count(
    stats: &HttpInspectorStats,
    outcome: &Result<Option<&'static str>, InspectError>,
) {
    match outcome {
        Ok(Some("http/1.0")) => stats.http10_found.inc(),
        Ok(Some("http/1.1")) => stats.http11_found.inc(),
        Ok(Some(_)) => stats.http2_found.inc(),
        Ok(None) => stats.http_not_found.inc(),
        Err(InspectError::Refused(_)) => stats.read_error.inc(),
        Err(InspectError::Closed) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_versions_at_any_split() {
        for (text, found) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some("http/1.1")),
            (b"GET / HTTP/1.0\n", Some("http/1.0")),
            (PREFACE, Some("h2c")),
            (b"hello\n", None),
            (b"\x16\x03\x01", None),
        ] {
            assert!(matches!(look(text), Step::Done(seen) if seen == found), "{text:?}");
            for split in 1..text.len() {
                match look(&text[..split]) {
                    Step::More => {}
                    Step::Done(seen) => assert_eq!(seen, found, "{text:?} at {split}"),
                    Step::Refuse(reason) => panic!("{reason}"),
                }
            }
        }
    }
}
