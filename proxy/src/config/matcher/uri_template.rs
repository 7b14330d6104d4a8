//! URI templates (`envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig`).

use std::collections::HashSet;

use proto::envoy::config::core::v3::TypedExtensionConfig;
use proto::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use regex::Regex;

use super::FullRegex;
use crate::config::value::required;
use crate::config::{At, ConfigError, any};

/// The most variables of a template, and the longest name of one in bytes.
const MAX_VARIABLES: usize = 5;
const MAX_NAME: usize = 16;
/// What Envoy's globs stand for, as the inside of a character class.
const LITERAL: &str = r"a-zA-Z0-9._~%!$&'()*+,;:@=\-";

/// What globs stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Globs {
    /// Only the characters of RFC 3986, as in Envoy: for rules that allow.
    Strict,
    /// Every character that a client can send: a rule that denies must not be evaded by an odd one.
    Wide,
}

/// The template that a `TypedExtensionConfig` holds, as an expression for paths without query.
pub fn from_proto(
    message: &TypedExtensionConfig,
    globs: Globs,
    at: &At<'_>,
) -> Result<FullRegex, ConfigError> {
    let at = at.field("typed_config");
    let config = required(&message.typed_config, &at)?;
    if !any::is::<UriTemplateMatchConfig>(config) {
        return Err(any::unknown(&message.name, Some(config), &at));
    }
    let config: UriTemplateMatchConfig = any::open(config, &at)?;
    let at = at.field("path_template");
    expression(&config.path_template, globs)
        .map_err(|rule| at.error(format_args!("{:?}: {rule}", config.path_template)))
}

/// The expression that a template stands for.
fn expression(template: &str, globs: Globs) -> Result<FullRegex, &'static str> {
    let path = template.strip_prefix('/').ok_or("must begin with a slash")?;
    let mut translation = Translation { globs, names: HashSet::new(), open_ended: false };
    let mut pattern = String::from(r"\A");
    for segment in split_segments(path) {
        pattern.push('/');
        translation.segment(segment, &mut pattern)?;
    }
    pattern.push_str(r"\z");
    Regex::new(&pattern).map(FullRegex).map_err(|_| "is no template")
}

/// The segments of a path, where slashes inside braces separate nothing.
fn split_segments(path: &str) -> Vec<&str> {
    let mut depth = 0usize;
    let separates = |c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == '/' && depth == 0
    };
    path.split(separates).collect()
}

struct Translation<'t> {
    globs: Globs,
    names: HashSet<&'t str>,
    /// `**` stood already: after it, only literals may follow.
    open_ended: bool,
}

impl<'t> Translation<'t> {
    /// A segment: `*`, `**`, `{name}`, `{name=pattern}` or a literal, the last two with literals around them.
    fn segment(&mut self, segment: &'t str, out: &mut String) -> Result<(), &'static str> {
        let mut rest = segment;
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('{') {
                let (variable, after) = after.split_once('}').ok_or("a brace is not closed")?;
                self.variable(variable, out)?;
                rest = after;
            } else if rest.starts_with('*') {
                rest = self.glob(rest, out)?;
            } else {
                let end = rest.find(['*', '{']).unwrap_or(rest.len());
                literal(&rest[..end], out)?;
                rest = &rest[end..];
            }
        }
        Ok(())
    }

    fn variable(&mut self, variable: &'t str, out: &mut String) -> Result<(), &'static str> {
        let (name, pattern) = variable.split_once('=').unwrap_or((variable, "*"));
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
        if name.len() > MAX_NAME || !starts || !name.chars().all(legal) {
            return Err("a variable's name has 1 to 16 letters, digits and underscores");
        }
        if !self.names.insert(name) || self.names.len() > MAX_VARIABLES {
            return Err("has more than 5 variables, or one twice");
        }
        for (index, part) in pattern.split('/').enumerate() {
            if part.contains('{') || part.is_empty() {
                return Err("a variable's pattern is no template");
            }
            if index > 0 {
                out.push('/');
            }
            self.segment(part, out)?;
        }
        Ok(())
    }

    fn glob(&mut self, rest: &'t str, out: &mut String) -> Result<&'t str, &'static str> {
        if self.open_ended {
            return Err("** must be the last of the operators");
        }
        let (class, more, rest) = match rest.strip_prefix("**") {
            Some(after) => {
                self.open_ended = true;
                ("/", '*', after)
            }
            None => ("", '+', &rest[1..]),
        };
        if rest.starts_with('*') {
            return Err("*** is no operator");
        }
        match self.globs {
            Globs::Strict => out.extend(["[", LITERAL, class, "]"]),
            Globs::Wide if class.is_empty() => out.push_str("[^/]"),
            Globs::Wide => out.push_str("(?s:.)"),
        }
        out.push(more);
        Ok(rest)
    }
}

fn literal(text: &str, out: &mut String) -> Result<(), &'static str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._~%!$&'()+,;:@=".contains(c);
    if !text.chars().all(legal) {
        return Err("holds a character that is not allowed in a path");
    }
    out.push_str(&regex::escape(text));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_segments_and_tails() {
        for (template, path, expected) in [
            ("/a/*/b", "/a/x/b", true),
            ("/a/*/b", "/a/x*y/b", true),
            ("/a/*/b", "/a/x/y/b", false),
            ("/a/*/b", "/a//b", false),
            ("/a/**", "/a/", true),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/a", false),
            ("/{v}/x", "/1/x", true),
            ("/{v=a/*}/x", "/a/1/x", true),
            ("/{v=a/*}/x", "/b/1/x", false),
            ("/{v=**}.ts", "/a/b.ts", true),
            ("/a.b", "/axb", false),
            ("/a/*/b", "/a/{x}/b", false),
        ] {
            let found = expression(template, Globs::Strict).unwrap().matches(path);
            assert_eq!(found, expected, "{template} {path}");
        }
    }

    #[test]
    fn a_rule_that_denies_is_not_evaded_by_odd_characters() {
        for path in ["/a/{x}/b", "/a/x\"y/b", "/a/[x/b"] {
            assert!(!expression("/a/*/b", Globs::Strict).unwrap().matches(path));
            assert!(expression("/a/*/b", Globs::Wide).unwrap().matches(path));
            assert!(expression("/a/**", Globs::Wide).unwrap().matches(path));
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for template in [
            "a",
            "",
            "/{",
            "/{1a}",
            "/{a}/{a}",
            "/**/*",
            "/***",
            "/a b",
            "/{a=}",
            "/{a={b}}",
            "/{a}/{b}/{c}/{d}/{e}/{f}",
            "/{abcdefghijklmnopq}",
        ] {
            assert!(expression(template, Globs::Strict).is_err(), "{template}");
        }
    }
}
