//! Path normalisation, in Envoy's order: fragments, escaped slashes, dot segments, repeated slashes.

use crate::config::hcm::{EscapedSlashes, HttpConnectionManager};

/// What becomes of a request's path.
#[derive(Debug, PartialEq, Eq)]
pub enum Normalized {
    /// It stays as it is.
    Unchanged,
    /// It is forwarded in this form.
    Changed(String),
    /// The client is sent to this form.
    Redirect(String),
    /// The request is refused.
    Rejected,
}

/// Normalises `path` (with its query) as the connection manager asks.
pub fn normalize(path: &str, config: &HttpConnectionManager) -> Normalized {
    if path.contains('#') {
        return Normalized::Rejected;
    }
    let keeps = config.escaped_slashes == EscapedSlashes::Keep;
    if keeps && !config.normalize_path && !config.merge_slashes {
        return Normalized::Unchanged;
    }
    let (only_path, query) = split_query(path);
    let mut now = only_path.to_owned();
    let mut redirect = false;
    if !keeps {
        let unescaped = unescape_slashes(&now);
        if unescaped != now {
            match config.escaped_slashes {
                EscapedSlashes::Reject => return Normalized::Rejected,
                EscapedSlashes::Redirect => redirect = true,
                EscapedSlashes::Forward | EscapedSlashes::Keep => {}
            }
            now = unescaped;
        }
    }
    if config.normalize_path {
        match remove_dot_segments(&now) {
            Some(clean) => now = clean,
            None => return Normalized::Rejected,
        }
    }
    if config.merge_slashes {
        now = merge_slashes(&now);
    }
    if now == only_path {
        return Normalized::Unchanged;
    }
    now.push_str(query);
    if redirect { Normalized::Redirect(now) } else { Normalized::Changed(now) }
}

/// The path and the rest from `?` on.
pub fn split_query(path: &str) -> (&str, &str) {
    path.split_at(path.find('?').unwrap_or(path.len()))
}

/// `%2F` and `%5C` (in any case) become `/` and `\`.
fn unescape_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let slash = match tail.get(1..3) {
            Some("2F" | "2f") => Some('/'),
            Some("5C" | "5c") => Some('\\'),
            _ => None,
        };
        out.push(slash.unwrap_or('%'));
        rest = &tail[if slash.is_some() { 3 } else { 1 }..];
    }
    out.push_str(rest);
    out
}

/// RFC 3986 §5.2.4 with `\` read as `/` and unreserved characters unescaped. `None` if an escape is malformed or if
/// the path climbs above its root.
fn remove_dot_segments(path: &str) -> Option<String> {
    let decoded = unescape_unreserved(path)?;
    let mut out: Vec<&str> = Vec::new();
    let mut segments = decoded.strip_prefix('/')?.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                out.pop()?;
            }
            _ => {
                out.push(segment);
                continue;
            }
        }
        if last {
            out.push("");
        }
    }
    Some(format!("/{}", out.join("/")))
}

fn unescape_unreserved(path: &str) -> Option<String> {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'%' => {
                let hex = path.get(i + 1..i + 3)?;
                let value = u8::from_str_radix(hex, 16).ok()?;
                if value == 0 {
                    return None;
                }
                if value.is_ascii_alphanumeric() || b"-._~".contains(&value) {
                    out.push(value);
                } else {
                    out.extend_from_slice(&bytes[i..i + 3]);
                }
                i += 3;
            }
            b'\\' => {
                out.push(b'/');
                i += 1;
            }
            byte => {
                out.push(byte);
                i += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

fn merge_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !out.ends_with('/') {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_go_and_unreserved_escapes_open() {
        for (path, clean) in [
            ("/a/./b/../c", Some("/a/c")),
            ("/a/b/..", Some("/a/")),
            ("/%61%2e/x", Some("/a./x")),
            ("/a\\b", Some("/a/b")),
            ("/%2e%2e/x", None),
            ("/..", None),
            ("/a%2Fb", Some("/a%2Fb")),
            ("/a%zz", None),
            ("/a%00", None),
            ("/a//b", Some("/a//b")),
        ] {
            assert_eq!(remove_dot_segments(path).as_deref(), clean, "{path}");
        }
    }

    #[test]
    fn slashes_are_unescaped_and_merged() {
        assert_eq!(unescape_slashes("/a%2fb%5Cc%41%"), "/a/b\\c%41%");
        assert_eq!(merge_slashes("//a///b/"), "/a/b/");
    }
}
