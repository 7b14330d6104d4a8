//! Matchers of metadata values (`envoy.type.matcher.v3.MetadataMatcher`, `ValueMatcher`).

use proto::envoy::r#type::matcher::v3 as pb;
use proto::envoy::r#type::matcher::v3::double_matcher::MatchPattern as DoublePattern;
use proto::envoy::r#type::matcher::v3::metadata_matcher::path_segment::Segment;
use proto::envoy::r#type::matcher::v3::value_matcher::MatchPattern;
use serde_json::Value;

use super::StringMatcher;
use crate::config::value::{non_empty, required};
use crate::config::{At, ConfigError, Context};
use crate::telemetry::stream_info::Metadata;

/// `MetadataMatcher`: a value of one namespace.
#[derive(Clone, Debug)]
pub struct MetadataMatcher {
    /// Where the value stands.
    pub path: MetadataPath,
    /// `value`
    pub value: ValueMatcher,
    /// `invert`
    pub invert: bool,
}

/// A namespace of metadata (`filter`) and the keys that lead to a value in it.
#[derive(Clone, Debug)]
pub struct MetadataPath {
    /// `filter`
    pub namespace: Box<str>,
    /// `path`; at least one key.
    pub keys: Box<[Box<str>]>,
}

/// `ValueMatcher`.
#[derive(Clone, Debug)]
pub enum ValueMatcher {
    /// `null_match`
    Null,
    /// `double_match.exact`
    Number(f64),
    /// `double_match.range`: start inclusive, end exclusive.
    Range(f64, f64),
    /// `string_match`
    String(StringMatcher),
    /// `bool_match`
    Bool(bool),
    /// `present_match`; false never matches, as in Envoy.
    Present(bool),
    /// `list_match.one_of`: an element of a list.
    OneOf(Box<ValueMatcher>),
    /// `or_match`
    Any(Box<[ValueMatcher]>),
}

impl MetadataPath {
    /// The value that the keys lead to.
    pub fn find<'m>(&self, metadata: &'m Metadata) -> Option<&'m Value> {
        let root = metadata.get(&*self.namespace)?;
        self.keys.iter().try_fold(root, |value, key| value.get(&**key))
    }
}

impl MetadataMatcher {
    /// Whether the metadata matches. A value that is not there matches nothing.
    pub fn matches(&self, metadata: Option<&Metadata>) -> bool {
        let value = metadata.and_then(|metadata| self.path.find(metadata));
        value.is_some_and(|value| self.value.matches(value)) != self.invert
    }

    /// A `MetadataMatcher`.
    pub fn from_proto(
        message: &pb::MetadataMatcher,
        at: &At<'_>,
        context: &Context,
    ) -> Result<MetadataMatcher, ConfigError> {
        let keys = message.path.iter().map(|segment| match &segment.segment {
            Some(Segment::Key(key)) => key.as_str(),
            None => "",
        });
        let at_value = at.field("value");
        let value = required(&message.value, &at_value)?;
        Ok(MetadataMatcher {
            path: MetadataPath::new(&message.filter, keys, at)?,
            value: ValueMatcher::from_proto(value, &at_value, context)?,
            invert: message.invert,
        })
    }
}

impl MetadataPath {
    /// The path of a `filter` and the keys of a `path`.
    pub fn new<'k>(
        filter: &str,
        keys: impl Iterator<Item = &'k str>,
        at: &At<'_>,
    ) -> Result<MetadataPath, ConfigError> {
        let namespace = non_empty(filter, &at.field("filter"))?.into();
        let keys = keys.enumerate().map(|(index, key)| {
            let at = at.index("path", index);
            non_empty(key, &at.field("key")).map(Box::from)
        });
        let keys = keys.collect::<Result<Box<[_]>, _>>()?;
        if keys.is_empty() {
            return Err(at.field("path").error("must not be empty"));
        }
        Ok(MetadataPath { namespace, keys })
    }
}

impl ValueMatcher {
    /// Whether a value matches.
    pub fn matches(&self, value: &Value) -> bool {
        match self {
            ValueMatcher::Null => value.is_null(),
            ValueMatcher::Number(wanted) => value.as_f64() == Some(*wanted),
            ValueMatcher::Range(start, end) => {
                value.as_f64().is_some_and(|number| *start <= number && number < *end)
            }
            ValueMatcher::String(matcher) => {
                value.as_str().is_some_and(|text| matcher.matches(text))
            }
            ValueMatcher::Bool(wanted) => value.as_bool() == Some(*wanted),
            ValueMatcher::Present(wanted) => *wanted,
            ValueMatcher::OneOf(matcher) => {
                value.as_array().is_some_and(|list| list.iter().any(|item| matcher.matches(item)))
            }
            ValueMatcher::Any(matchers) => matchers.iter().any(|matcher| matcher.matches(value)),
        }
    }

    /// A `ValueMatcher`.
    pub fn from_proto(
        message: &pb::ValueMatcher,
        at: &At<'_>,
        context: &Context,
    ) -> Result<ValueMatcher, ConfigError> {
        Ok(match required(&message.match_pattern, at)? {
            MatchPattern::NullMatch(_) => ValueMatcher::Null,
            MatchPattern::DoubleMatch(double) => {
                match required(&double.match_pattern, &at.field("double_match"))? {
                    DoublePattern::Range(range) => ValueMatcher::Range(range.start, range.end),
                    DoublePattern::Exact(number) => ValueMatcher::Number(*number),
                }
            }
            MatchPattern::StringMatch(matcher) => {
                let at = at.field("string_match");
                ValueMatcher::String(StringMatcher::from_proto(matcher, &at, context)?)
            }
            MatchPattern::BoolMatch(wanted) => ValueMatcher::Bool(*wanted),
            MatchPattern::PresentMatch(wanted) => ValueMatcher::Present(*wanted),
            MatchPattern::ListMatch(list) => {
                let at = at.field("list_match");
                let at = at.field("one_of");
                let pb::list_matcher::MatchPattern::OneOf(inner) =
                    required(&list.match_pattern, &at)?;
                ValueMatcher::OneOf(Box::new(ValueMatcher::from_proto(inner, &at, context)?))
            }
            MatchPattern::OrMatch(or) => {
                let at = at.field("or_match");
                if or.value_matchers.len() < 2 {
                    return Err(at.field("value_matchers").error("at least two are required"));
                }
                let matchers = or.value_matchers.iter().enumerate().map(|(index, matcher)| {
                    ValueMatcher::from_proto(matcher, &at.index("value_matchers", index), context)
                });
                ValueMatcher::Any(matchers.collect::<Result<_, _>>()?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::message;

    #[test]
    fn values_are_matched_by_their_kind() {
        let root = At::resource("listener", "l");
        for (matcher, value, expected) in [
            ("{null_match: {}}", "null", true),
            ("{null_match: {}}", "0", false),
            ("{double_match: {exact: 2}}", "2", true),
            ("{double_match: {range: {start: 1, end: 2}}}", "1", true),
            ("{double_match: {range: {start: 1, end: 2}}}", "2", false),
            ("{string_match: {prefix: a}}", "\"ab\"", true),
            ("{string_match: {prefix: a}}", "[\"ab\"]", false),
            ("{bool_match: false}", "false", true),
            ("{bool_match: false}", "true", false),
            ("{present_match: true}", "null", true),
            ("{present_match: false}", "1", false),
            ("{list_match: {one_of: {string_match: {exact: b}}}}", "[\"a\", \"b\"]", true),
            ("{list_match: {one_of: {string_match: {exact: b}}}}", "\"b\"", false),
            (
                "{or_match: {value_matchers: [{bool_match: true}, {string_match: {exact: b}}]}}",
                "\"b\"",
                true,
            ),
        ] {
            let context = Context::default();
            let matcher = ValueMatcher::from_proto(&message(matcher), &root, &context).unwrap();
            let value: Value = serde_json::from_str(value).unwrap();
            assert_eq!(matcher.matches(&value), expected, "{matcher:?} {value}");
        }
    }

    #[test]
    fn a_path_leads_through_nested_values_and_may_be_inverted() {
        let root = At::resource("listener", "l");
        let nested = serde_json::json!({"a": {"b": "c"}});
        let metadata = Metadata::from_iter([("ns".to_owned(), nested)]);
        for (path, invert, expected) in [
            ("[{key: a}, {key: b}]", false, true),
            ("[{key: a}, {key: b}]", true, false),
            ("[{key: a}, {key: x}]", false, false),
            ("[{key: a}, {key: x}]", true, true),
            ("[{key: a}]", false, false),
        ] {
            let yaml = format!(
                "{{filter: ns, path: {path}, invert: {invert}, value: {{string_match: {{exact: c}}}}}}"
            );
            let context = Context::default();
            let matcher = MetadataMatcher::from_proto(&message(&yaml), &root, &context).unwrap();
            assert_eq!(matcher.matches(Some(&metadata)), expected, "{yaml}");
            assert_eq!(matcher.matches(None), invert);
        }
    }
}
