//! The parameters of an admin request.

use regex::Regex;

use super::reply::Reply;
use crate::config::matcher;

/// The query's parameters with their percent escapes taken off. A `+` stays one, since filters are regular expressions.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: Option<&str>) -> Query {
        let parameters = text.unwrap_or_default().split('&').filter(|part| !part.is_empty());
        let decoded = parameters.map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (unescape(name), unescape(value))
        });
        Query(decoded.collect())
    }

    /// The value of a parameter, empty if it has none; the first one counts.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A parameter that is a regular expression, to be found anywhere.
    ///
    /// # Errors
    /// The answer to a pattern that is none.
    pub(super) fn regex(&self, name: &str) -> Result<Option<Regex>, Reply> {
        self.pattern(name, str::to_string)
    }

    /// A parameter that is a regular expression, which must match a whole value.
    ///
    /// # Errors
    /// The answer to a pattern that is none.
    pub(super) fn full_regex(&self, name: &str) -> Result<Option<Regex>, Reply> {
        self.pattern(name, |pattern| format!(r"\A(?:{pattern})\z"))
    }

    fn pattern(&self, name: &str, frame: fn(&str) -> String) -> Result<Option<Regex>, Reply> {
        let Some(pattern) = self.get(name).filter(|pattern| !pattern.is_empty()) else {
            return Ok(None);
        };
        matcher::search(&frame(pattern))
            .map(Some)
            .map_err(|error| Reply::bad_request(format!("Invalid regex in '{name}': {error}\n")))
    }
}

/// Takes percent escapes off; what is no escape stays, and bytes that are no UTF-8 are replaced.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escape = (*first == b'%').then(|| tail.get(..2)).flatten().and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            digits.bytes().all(|d| d.is_ascii_hexdigit()).then_some(())?;
            u8::from_str_radix(digits, 16).ok()
        });
        bytes.push(escape.unwrap_or(*first));
        rest = if escape.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_unescaped_and_keep_a_plus() {
        let query = Query::parse(Some("usedonly&filter=%5Ea.+%3d%zz&filter=b&=x"));
        assert!(query.has("usedonly") && !query.has("other"));
        assert_eq!(query.get("usedonly"), Some(""));
        assert_eq!(query.get("filter"), Some("^a.+=%zz"));
        assert!(Query::parse(None).get("").is_none());
        assert_eq!(unescape("%f"), "%f");
    }

    #[test]
    fn a_pattern_that_is_none_is_refused() {
        let error = Query::parse(Some("filter=%5B")).regex("filter").unwrap_err();
        assert_eq!(error.status, 400);
        assert!(error.body.starts_with("Invalid regex in 'filter'"), "{}", error.body);
        assert!(Query::parse(Some("filter=")).regex("filter").unwrap().is_none());
    }
}
