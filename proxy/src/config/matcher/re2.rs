//! Regular expressions in RE2's syntax, which Envoy's configuration speaks, on the `regex` crate.
//!
//! Both are automata without backtracking, so a pattern costs time linear in the value. Where the syntaxes differ, the
//! pattern is rewritten: RE2's Perl classes are ASCII, set operations inside brackets and a brace that counts nothing
//! are plain text.

use std::iter::Peekable;
use std::str::Chars;

use proto::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher};
use regex::{Regex, RegexBuilder};

use super::FullRegex;
use crate::config::{At, ConfigError, Context};
use crate::warn_set;

/// The largest compiled program, in bytes; a larger pattern is refused.
const SIZE_LIMIT: usize = 1 << 20;

/// A pattern in RE2's syntax that may match anywhere, as filters of the admin interface do.
///
/// # Errors
/// It is no pattern, or too large.
pub fn search(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(&translate(pattern)).size_limit(SIZE_LIMIT).build()
}

impl FullRegex {
    /// The pattern of a `RegexMatcher`, which must match a whole value.
    pub fn from_proto(
        message: &RegexMatcher,
        at: &At<'_>,
        context: &Context,
    ) -> Result<FullRegex, ConfigError> {
        check(message, at, context)?;
        compile(&format!(r"\A(?:{})\z", translate(&message.regex)), at).map(FullRegex)
    }

    /// Whether the whole of `value` matches.
    pub fn matches(&self, value: &str) -> bool {
        self.0.is_match(value)
    }
}

/// A `RegexMatchAndSubstitute`: the pattern, which matches anywhere, and the substitution in the `regex` crate's syntax.
pub fn substitution_from_proto(
    message: &RegexMatchAndSubstitute,
    at: &At<'_>,
    context: &Context,
) -> Result<(Regex, Box<str>), ConfigError> {
    let at_pattern = at.field("pattern");
    let matcher = message.pattern.as_ref().ok_or_else(|| at_pattern.error("is required"))?;
    check(matcher, &at_pattern, context)?;
    let pattern = compile(&translate(&matcher.regex), &at_pattern)?;
    let substitution = translate_substitution(&message.substitution, pattern.captures_len())
        .map_err(|rule| at.field("substitution").error(rule))?;
    Ok((pattern, substitution.into()))
}

fn check(message: &RegexMatcher, at: &At<'_>, context: &Context) -> Result<(), ConfigError> {
    const REASON: &str = "RE2 is the only engine, and the size limit is Pillion's own";
    let RegexMatcher { regex, engine_type: _ } = message;
    warn_set!(context, at, message, [engine_type], REASON);
    if regex.is_empty() {
        return Err(at.field("regex").error("is empty"));
    }
    Ok(())
}

fn compile(pattern: &str, at: &At<'_>) -> Result<Regex, ConfigError> {
    let built = RegexBuilder::new(pattern).size_limit(SIZE_LIMIT).build();
    built.map_err(|error| at.field("regex").error(error))
}

/// RE2's substitution (`\1`, `\\`) in the `regex` crate's syntax (`${1}`, `$$`).
fn translate_substitution(text: &str, groups: usize) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '$' => out.push_str("$$"),
            '\\' => match chars.next() {
                Some('\\') => out.push('\\'),
                Some(digit @ '0'..='9') if (digit as usize - '0' as usize) < groups => {
                    out.extend(["${", digit.encode_utf8(&mut [0; 4]), "}"]);
                }
                Some(digit @ '0'..='9') => {
                    return Err(format!("{text:?} names group {digit}, which the pattern lacks"));
                }
                _ => return Err(format!("{text:?} has a backslash without a digit or backslash")),
            },
            c => out.push(c),
        }
    }
    Ok(out)
}

/// RE2's syntax as the `regex` crate's.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => translate_escape(&mut chars, false, &mut out),
            '[' => translate_class(&mut chars, &mut out),
            '{' if !is_repetition(chars.clone()) => out.push_str(r"\{"),
            c => out.push(c),
        }
    }
    out
}

/// What follows an opening bracket, up to the closing one.
fn translate_class(chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('[');
    out.extend(chars.next_if_eq(&'^'));
    let mut first = true;
    while let Some(c) = chars.next() {
        match c {
            ']' if !first => return out.push(']'),
            '[' if chars.peek() == Some(&':') => {
                // A POSIX class such as `[:alpha:]`, which both know.
                out.push('[');
                out.extend(chars.by_ref().take_while(|c| *c != ']'));
                out.push(']');
            }
            ']' | '[' | '&' | '~' => out.extend(['\\', c]),
            '-' if first => out.push_str(r"\-"),
            '-' if chars.next_if_eq(&'-').is_some() => out.push_str(r"-\-"),
            '\\' => translate_escape(chars, true, out),
            c => out.push(c),
        }
        first = false;
    }
}

/// What follows a backslash.
fn translate_escape(chars: &mut Peekable<Chars<'_>>, in_class: bool, out: &mut String) {
    const DIGIT: &str = "0-9";
    const WORD: &str = "0-9A-Za-z_";
    const SPACE: &str = r"\t\n\x0C\r ";
    let mut perl = |open: &str, class: &str| out.extend([open, class, "]"]);
    match chars.next() {
        Some('d') => perl("[", DIGIT),
        Some('D') => perl("[^", DIGIT),
        Some('w') => perl("[", WORD),
        Some('W') => perl("[^", WORD),
        Some('s') => perl("[", SPACE),
        Some('S') => perl("[^", SPACE),
        Some('b') if !in_class => out.push_str(r"(?-u:\b)"),
        Some('Q') => translate_literal(chars, out),
        Some(c) if c.is_ascii_alphanumeric() => out.extend(['\\', c]),
        Some(c) => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        None => out.push('\\'),
    }
}

/// What follows `\Q`, up to `\E` or the end.
fn translate_literal(chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    while let Some(c) = chars.next() {
        if c == '\\' && chars.next_if_eq(&'E').is_some() {
            return;
        }
        out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
    }
}

/// Whether what follows an opening brace makes it a repetition: `3}`, `3,}` or `3,5}`.
fn is_repetition(chars: Peekable<Chars<'_>>) -> bool {
    let inside: String =
        chars.take_while(|c| c.is_ascii_digit() || matches!(c, ',' | '}')).collect();
    let Some((counts, _)) = inside.split_once('}') else {
        return false;
    };
    let (low, high) = counts.split_once(',').unwrap_or((counts, ""));
    !low.is_empty() && !high.contains(',')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(regex: &str) -> RegexMatcher {
        RegexMatcher { regex: regex.into(), engine_type: None }
    }

    fn full(regex: &str) -> Result<FullRegex, ConfigError> {
        FullRegex::from_proto(&matcher(regex), &At::resource("route", "r"), &Context::default())
    }

    fn substitute(regex: &str, by: &str, text: &str) -> Result<String, ConfigError> {
        let message =
            RegexMatchAndSubstitute { pattern: Some(matcher(regex)), substitution: by.into() };
        let at = At::resource("route", "r");
        let (pattern, by) = substitution_from_proto(&message, &at, &Context::default())?;
        Ok(pattern.replace_all(text, &*by).into_owned())
    }

    #[test]
    fn patterns_mean_what_they_mean_in_re2() {
        for (pattern, value, expected) in [
            ("a|ab", "ab", true),
            ("a|b", "ab", false),
            ("/v1/.*", "/v1/x", true),
            ("/v1/.*", "x/v1/x", false),
            (r"\d+", "12", true),
            (r"\d+", "١", false),
            (r"[\d.]+", "1.2", true),
            (r"[^\D]+", "12", true),
            (r"\w+", "ä", false),
            (r"\W", "ä", true),
            (r"\s", " ", true),
            (r"\S+", "a b", false),
            (r"foo\b.*", "foo bar", true),
            (r"\/a\-b\<", "/a-b<", true),
            (r"\Qa.b\E.", "a.bc", true),
            (r"\Qa.b\E.", "axbc", false),
            ("/users/{id}", "/users/{id}", true),
            ("a{2,}", "aaa", true),
            ("a{2,3}", "aaaa", false),
            ("[a&&b]+", "a&b", true),
            ("[[a]+", "[a", true),
            ("[]a]+", "]a", true),
            ("[^]a]+", "b", true),
            ("[--a]", "A", true),
            ("[+--]", ",", true),
            ("[[:alpha:]-]+", "ab-c", true),
            ("(?i)abc", "ABC", true),
            (".", "\n", false),
        ] {
            assert_eq!(full(pattern).unwrap().matches(value), expected, "{pattern} on {value:?}");
        }
    }

    #[test]
    fn bad_and_huge_patterns_are_refused_with_their_path() {
        for pattern in ["", "(", "a{1000}{1000}{1000}", r"\1", "(?=a)", r"a\"] {
            let error = full(pattern).unwrap_err();
            assert!(error.to_string().starts_with("route \"r\": regex: "), "{error}");
        }
    }

    #[test]
    fn substitutions_name_groups_with_a_backslash() {
        assert_eq!(substitute("^/(a)/(b)", r"/\2$1\\/\1", "/a/b?").unwrap(), r"/b$1\/a?");
        assert_eq!(substitute("one", "two", "one/one").unwrap(), "two/two");
        for by in [r"\1", r"\x", r"\"] {
            assert!(substitute("a", by, "a").is_err(), "{by}");
        }
    }
}
