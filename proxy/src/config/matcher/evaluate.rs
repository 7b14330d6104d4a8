//! Evaluating matchers, by Envoy's rules for headers that are missing or repeated.

use http::HeaderMap;

use super::{HeaderMatcher, HeaderRule, QueryMatcher, QueryRule, StringMatcher, StringPattern};

/// The parts of a request that Envoy presents as headers with a colon.
#[derive(Clone, Copy, Debug)]
pub struct PseudoHeaders<'a> {
    /// `:method`
    pub method: &'a str,
    /// `:scheme`
    pub scheme: &'a str,
    /// `:authority`, and `host`
    pub authority: &'a str,
    /// `:path`, with its query
    pub path: &'a str,
}

impl<'a> PseudoHeaders<'a> {
    /// The value of the pseudo header `name`; none for an absent one and for other headers.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let value = match name {
            ":method" => self.method,
            ":scheme" => self.scheme,
            ":authority" => self.authority,
            ":path" => self.path,
            _ => "",
        };
        (!value.is_empty()).then_some(value)
    }
}

impl StringMatcher {
    /// Whether `value` matches.
    pub fn matches(&self, value: &str) -> bool {
        let same = |part: &str, pattern: &str| match self.ignore_case {
            true => part.eq_ignore_ascii_case(pattern),
            false => part == pattern,
        };
        match &self.pattern {
            StringPattern::Exact(exact) => same(value, exact),
            StringPattern::Prefix(prefix) => {
                value.get(..prefix.len()).is_some_and(|start| same(start, prefix))
            }
            StringPattern::Suffix(suffix) => {
                let start = value.len().checked_sub(suffix.len());
                start.and_then(|start| value.get(start..)).is_some_and(|end| same(end, suffix))
            }
            StringPattern::Contains(part) if self.ignore_case => {
                let mut windows = value.as_bytes().windows(part.len());
                part.is_empty() || windows.any(|w| w.eq_ignore_ascii_case(part.as_bytes()))
            }
            StringPattern::Contains(part) => value.contains(&**part),
            StringPattern::Regex(regex) => regex.matches(value),
        }
    }
}

impl HeaderMatcher {
    /// Whether the headers match. Every value of a repeated header is asked, and one is enough; with `invert` no value
    /// may match. A missing header matches only rules about presence, inverted or not, unless it counts as empty.
    pub fn matches(&self, pseudo: &PseudoHeaders<'_>, headers: &HeaderMap) -> bool {
        if self.name.starts_with(':') {
            return self.matches_values(pseudo.get(&self.name).into_iter());
        }
        let values = headers.get_all(&*self.name).iter();
        self.matches_values(values.map(|value| String::from_utf8_lossy(value.as_bytes())))
    }

    /// Whether ordinary headers alone match, where there is no request line (responses, trailers).
    pub fn matches_headers(&self, headers: &HeaderMap) -> bool {
        let none = PseudoHeaders { method: "", scheme: "", authority: "", path: "" };
        self.matches(&none, headers)
    }

    fn matches_values<V: AsRef<str>>(&self, values: impl Iterator<Item = V>) -> bool {
        let mut values = values.peekable();
        let missing = values.peek().is_none();
        if let HeaderRule::Present(wanted) = self.rule {
            // What is treated as empty is there.
            let present = !missing || self.missing_is_empty;
            return (present == wanted) != self.invert;
        }
        if missing {
            return self.missing_is_empty && self.rule.accepts("") != self.invert;
        }
        values.any(|value| self.rule.accepts(value.as_ref())) != self.invert
    }
}

impl HeaderRule {
    /// Whether one value of a present header is accepted.
    pub(super) fn accepts(&self, value: &str) -> bool {
        match self {
            HeaderRule::Present(wanted) => *wanted,
            HeaderRule::Range(start, end) => {
                let number = value.trim_ascii().parse::<i64>();
                number.is_ok_and(|number| *start <= number && number < *end)
            }
            HeaderRule::String(matcher) => matcher.matches(value),
        }
    }
}

impl QueryMatcher {
    /// Whether a path with its query matches. Only the first value of a parameter counts, as it stands (no decoding).
    pub fn matches(&self, path: &str) -> bool {
        let value = query_parameter(path, &self.name);
        match &self.rule {
            QueryRule::Present(wanted) => value.is_some() == *wanted,
            QueryRule::String(matcher) => value.is_some_and(|value| matcher.matches(value)),
        }
    }
}

/// The first value of a query parameter of a path, as it stands (no decoding).
pub fn query_parameter<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    let mut parameters = query.split('&').filter(|part| !part.is_empty());
    parameters.find_map(|parameter| {
        let (found, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (found == name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn text(pattern: StringPattern, ignore_case: bool) -> StringMatcher {
        StringMatcher { pattern, ignore_case }
    }

    fn exact(value: &str) -> HeaderRule {
        HeaderRule::String(text(StringPattern::Exact(value.into()), false))
    }

    #[test]
    fn string_patterns_compare_as_their_names_say() {
        use StringPattern::*;
        for (pattern, ignore_case, value, expected) in [
            (Exact("ab".into()), false, "ab", true),
            (Exact("ab".into()), false, "AB", false),
            (Exact("ab".into()), true, "Ab", true),
            (Prefix("ab".into()), false, "abc", true),
            (Prefix("ab".into()), false, "a", false),
            (Prefix("ab".into()), true, "ABC", true),
            (Prefix("ab".into()), true, "aä", false),
            (Suffix("bc".into()), false, "abc", true),
            (Suffix("bc".into()), false, "c", false),
            (Suffix("bc".into()), true, "aBC", true),
            (Suffix("bc".into()), true, "ä", false),
            (Contains("b".into()), false, "abc", true),
            (Contains("B".into()), false, "abc", false),
            (Contains("bc".into()), true, "aBCd", true),
            (Contains("bc".into()), true, "b", false),
        ] {
            let matcher = text(pattern, ignore_case);
            assert_eq!(matcher.matches(value), expected, "{matcher:?} on {value:?}");
        }
    }

    #[test]
    fn header_rules_follow_envoy_for_missing_and_repeated_headers() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-one", "a"), ("x-two", "a"), ("x-two", "b"), ("x-num", "-5")] {
            let name = HeaderName::from_static(name);
            headers.append(name, HeaderValue::from_static(value));
        }
        let pseudo =
            PseudoHeaders { method: "GET", scheme: "http", authority: "a.example", path: "/" };
        for (name, rule, invert, missing_is_empty, expected) in [
            ("x-one", exact("a"), false, false, true),
            ("x-one", exact("a"), true, false, false),
            ("x-one", exact("b"), true, false, true),
            ("x-two", exact("b"), false, false, true),
            ("x-two", exact("a,b"), false, false, false),
            ("x-two", exact("b"), true, false, false),
            ("x-two", exact("c"), true, false, true),
            ("x-none", exact("a"), false, false, false),
            ("x-none", exact("a"), true, false, false),
            ("x-none", exact(""), false, true, true),
            ("x-none", exact("a"), true, true, true),
            ("x-none", exact("a"), false, true, false),
            ("x-one", HeaderRule::Present(true), false, false, true),
            ("x-one", HeaderRule::Present(true), true, false, false),
            ("x-none", HeaderRule::Present(true), true, false, true),
            ("x-none", HeaderRule::Present(false), false, false, true),
            ("x-one", HeaderRule::Present(false), true, false, true),
            ("x-none", HeaderRule::Present(true), false, true, true),
            ("x-none", HeaderRule::Present(false), false, true, false),
            ("x-num", HeaderRule::Range(-5, 0), false, false, true),
            ("x-num", HeaderRule::Range(-10, -5), false, false, false),
            ("x-one", HeaderRule::Range(0, 10), true, false, true),
            (":authority", exact("a.example"), false, false, true),
            (":method", exact("POST"), true, false, true),
            (":protocol", HeaderRule::Present(true), false, false, false),
        ] {
            let matcher = HeaderMatcher { name: name.into(), rule, invert, missing_is_empty };
            assert_eq!(matcher.matches(&pseudo, &headers), expected, "{matcher:?}");
        }
    }

    #[test]
    fn query_rules_ask_the_first_value_undecoded() {
        let exact =
            |value: &str| QueryRule::String(text(StringPattern::Exact(value.into()), false));
        for (path, rule, expected) in [
            ("/?k=a", exact("a"), true),
            ("/?k=b&k=a", exact("a"), false),
            ("/?x=1&k=a%20b", exact("a%20b"), true),
            ("/?k", exact(""), true),
            ("/?kk=a", exact("a"), false),
            ("/", exact(""), false),
            ("/?k=a=b", exact("a=b"), true),
            ("/?k", QueryRule::Present(true), true),
            ("/?x", QueryRule::Present(true), false),
            ("/?x", QueryRule::Present(false), true),
            ("/?k", QueryRule::Present(false), false),
        ] {
            let matcher = QueryMatcher { name: "k".into(), rule };
            assert_eq!(matcher.matches(path), expected, "{path} {matcher:?}");
        }
    }
}
