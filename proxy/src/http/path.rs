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
    /// The request is refused; so far the path had become this.
    Rejected(String),
}

/// Normalises `path` (with its query) as the connection manager asks.
pub fn normalize(path: &str, config: &HttpConnectionManager) -> Normalized {
    if path.contains('#') {
        return Normalized::Rejected(path.to_owned());
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
                EscapedSlashes::Reject => return Normalized::Rejected(unescaped + query),
                EscapedSlashes::Redirect => redirect = true,
                EscapedSlashes::Forward | EscapedSlashes::Keep => {}
            }
            now = unescaped;
        }
    }
    if config.normalize_path {
        match remove_dot_segments(&now) {
            Some(clean) => now = clean,
            None => return Normalized::Rejected(now + query),
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

/// RFC 3986 §5.2.4 with `\` read as `/` and only what needs it escaped. A path that climbs above its root stays there, and
/// parameters do not hide a dot segment (`..;x`). `None` if the path has an escaped NUL.
fn remove_dot_segments(path: &str) -> Option<String> {
    let clean = settle_escapes(path)?;
    let mut out: Vec<&str> = Vec::new();
    let mut segments = clean.strip_prefix('/')?.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment.split(';').next() {
            Some(".") => {}
            Some("..") => {
                out.pop();
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

/// Opens the escapes of unreserved characters, and escapes what may not stand in a path. What only looks like an escape
/// stays.
fn settle_escapes(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        match c {
            '%' => match rest.get(1..3).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                Some(0) => return None,
                Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                    out.push(byte.into());
                    length = 3;
                }
                _ => out.push('%'),
            },
            '\\' => out.push('/'),
            '"' | '<' | '>' | '`' | '{' | '|' | '}' => {
                out.push_str(&format!("%{:02X}", u32::from(c)))
            }
            c => out.push(c),
        }
        rest = &rest[length..];
    }
    Some(out)
}

/// Slashes at both ends stay, those in between become one.
fn merge_slashes(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let end = |there: bool| if there { "/" } else { "" };
    [end(path.starts_with('/')), &segments.join("/"), end(path.ends_with('/'))].concat()
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
            ("/%2e%2e/x", Some("/x")),
            ("/..", Some("/")),
            ("/a/..;x/b", Some("/b")),
            ("/a|b", Some("/a%7Cb")),
            ("/a%2Fb", Some("/a%2Fb")),
            ("/a%zz", Some("/a%zz")),
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
        assert_eq!(merge_slashes("//"), "//");
    }
}
