//! One value against the rules of its field. What is returned is the first broken rule in PGV's words, or `None`.

use std::collections::{HashMap, HashSet};
use std::fmt;

use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage, Value};
use regex::Regex;

use crate::google::protobuf;
use crate::mapping::is_wrapper;
use crate::validate::{
    AnyRules, BytesRules, DurationRules, EnumRules, KnownRegex, MapRules, RepeatedRules,
    StringRules, field_rules::Type, string_rules::WellKnown,
};

/// The rules for strings that are checked here; a test compares them with those that the API uses.
#[cfg(test)]
pub(super) const STRING_RULES: &[&str] = &[
    "const",
    "len",
    "min_len",
    "max_len",
    "min_bytes",
    "max_bytes",
    "pattern",
    "prefix",
    "suffix",
    "contains",
    "not_contains",
    "in",
    "not_in",
    "ignore_empty",
    "strict",
    "well_known_regex",
];

/// Checks values and keeps the compiled patterns.
#[derive(Default)]
pub(super) struct Checker {
    patterns: HashMap<String, Option<Regex>>,
}

/// The rule messages of all number types have the same fields.
macro_rules! number {
    ($rules:expr, $value:expr) => {
        NumberRules {
            constant: $rules.r#const,
            lt: $rules.lt,
            lte: $rules.lte,
            gt: $rules.gt,
            gte: $rules.gte,
            one_of: &$rules.r#in,
            none_of: &$rules.not_in,
            ignore_empty: $rules.ignore_empty(),
        }
        .broken_by(*$value)
    };
}

impl Checker {
    /// The first of `rules` that `value` breaks; rules for another type than the value's say nothing.
    pub(super) fn broken(&mut self, rules: &Type, kind: &Kind, value: &Value) -> Option<String> {
        match (rules, value) {
            (_, Value::Message(wrapper)) if is_wrapper(wrapper.descriptor().full_name()) => {
                self.broken(rules, kind, wrapper.get_field_by_number(1)?.as_ref())
            }
            (Type::Duration(rules), Value::Message(duration)) => {
                broken_by_duration(rules, duration)
            }
            (Type::Any(rules), Value::Message(any)) => broken_by_any(rules, any),
            (Type::String(rules), Value::String(text)) => self.broken_by_string(rules, text),
            (Type::Bytes(rules), Value::Bytes(bytes)) => broken_by_bytes(rules, bytes.len()),
            (Type::Enum(rules), Value::EnumNumber(number)) => broken_by_enum(rules, kind, *number),
            (Type::Bool(rules), Value::Bool(flag)) => {
                let constant = rules.r#const?;
                (constant != *flag).then(|| format!("value must equal {constant}"))
            }
            (Type::Float(rules), Value::F32(value)) => number!(rules, value),
            (Type::Double(rules), Value::F64(value)) => number!(rules, value),
            (Type::Int32(rules), Value::I32(value)) => number!(rules, value),
            (Type::Sint32(rules), Value::I32(value)) => number!(rules, value),
            (Type::Sfixed32(rules), Value::I32(value)) => number!(rules, value),
            (Type::Int64(rules), Value::I64(value)) => number!(rules, value),
            (Type::Sint64(rules), Value::I64(value)) => number!(rules, value),
            (Type::Sfixed64(rules), Value::I64(value)) => number!(rules, value),
            (Type::Uint32(rules), Value::U32(value)) => number!(rules, value),
            (Type::Fixed32(rules), Value::U32(value)) => number!(rules, value),
            (Type::Uint64(rules), Value::U64(value)) => number!(rules, value),
            (Type::Fixed64(rules), Value::U64(value)) => number!(rules, value),
            _ => None,
        }
    }

    fn broken_by_string(&mut self, rules: &StringRules, text: &str) -> Option<String> {
        if rules.ignore_empty() && text.is_empty() {
            return None;
        }
        broken_by_length(rules, text)
            .or_else(|| broken_by_content(rules, text))
            .or_else(|| self.broken_by_pattern(rules, text))
    }

    fn broken_by_pattern(&mut self, rules: &StringRules, text: &str) -> Option<String> {
        if let Some(pattern) = &rules.pattern {
            let compiled =
                self.patterns.entry(pattern.clone()).or_insert_with(|| Regex::new(pattern).ok());
            if compiled.as_ref().is_some_and(|compiled| !compiled.is_match(text)) {
                return Some(format!("value {text:?} does not match regex pattern {pattern:?}"));
            }
        }
        let strict = rules.strict.unwrap_or(true);
        let (valid, what) = match rules.well_known {
            Some(WellKnown::WellKnownRegex(known))
                if known == i32::from(KnownRegex::HttpHeaderName) =>
            {
                (is_header_name(text, strict), "header name")
            }
            Some(WellKnown::WellKnownRegex(known))
                if known == i32::from(KnownRegex::HttpHeaderValue) =>
            {
                (is_header_value(text, strict), "header value")
            }
            _ => return None,
        };
        (!valid).then(|| format!("value {text:?} is not a valid HTTP {what}"))
    }
}

/// RFC 7230's token with an optional colon before it; when not strict, anything without NUL, CR and LF.
fn is_header_name(text: &str, strict: bool) -> bool {
    if !strict {
        return is_header_value(text, false);
    }
    let token = text.strip_prefix(':').unwrap_or(text);
    // The comma is in PGV's expression, where `+-.` is a range.
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+,-.^_|~`".contains(&byte);
    !token.is_empty() && token.bytes().all(allowed)
}

/// No control characters but the tab; when not strict, no NUL, CR and LF.
fn is_header_value(text: &str, strict: bool) -> bool {
    let forbidden = |byte: u8| match strict {
        true => byte.is_ascii_control() && byte != b'\t',
        false => matches!(byte, 0 | b'\r' | b'\n'),
    };
    !text.bytes().any(forbidden)
}

fn broken_by_length(rules: &StringRules, text: &str) -> Option<String> {
    let (characters, bytes) = (text.chars().count() as u64, text.len() as u64);
    let length = |rule: String, unit| Some(format!("value length must be {rule} {unit}"));
    match rules {
        StringRules { len: Some(len), .. } if characters != *len => {
            length(format!("{len}"), "characters")
        }
        StringRules { min_len: Some(min), .. } if characters < *min => {
            length(format!("at least {min}"), "characters")
        }
        StringRules { max_len: Some(max), .. } if characters > *max => {
            length(format!("at most {max}"), "characters")
        }
        StringRules { min_bytes: Some(min), .. } if bytes < *min => {
            length(format!("at least {min}"), "bytes")
        }
        StringRules { max_bytes: Some(max), .. } if bytes > *max => {
            length(format!("at most {max}"), "bytes")
        }
        _ => None,
    }
}

fn broken_by_content(rules: &StringRules, text: &str) -> Option<String> {
    let rule = match rules {
        StringRules { r#const: Some(constant), .. } if text != constant => {
            format!("must equal {constant:?}")
        }
        StringRules { prefix: Some(prefix), .. } if !text.starts_with(prefix) => {
            format!("does not have prefix {prefix:?}")
        }
        StringRules { suffix: Some(suffix), .. } if !text.ends_with(suffix) => {
            format!("does not have suffix {suffix:?}")
        }
        StringRules { contains: Some(part), .. } if !text.contains(part) => {
            format!("does not contain substring {part:?}")
        }
        StringRules { not_contains: Some(part), .. } if text.contains(part) => {
            format!("contains substring {part:?}")
        }
        StringRules { r#in: list, .. } if !list.is_empty() && !contains(list, text) => {
            format!("must be in list {list:?}")
        }
        StringRules { not_in: list, .. } if contains(list, text) => {
            format!("must not be in list {list:?}")
        }
        _ => return None,
    };
    Some(format!("value {text:?} {rule}"))
}

fn contains(list: &[String], text: &str) -> bool {
    list.iter().any(|item| item == text)
}

fn broken_by_bytes(rules: &BytesRules, length: usize) -> Option<String> {
    let length = length as u64;
    if rules.ignore_empty() && length == 0 {
        return None;
    }
    match (rules.min_len, rules.max_len) {
        (Some(min), _) if length < min => {
            Some(format!("value length must be at least {min} bytes"))
        }
        (_, Some(max)) if length > max => Some(format!("value length must be at most {max} bytes")),
        _ => None,
    }
}

fn broken_by_enum(rules: &EnumRules, kind: &Kind, number: i32) -> Option<String> {
    let defined =
        || kind.as_enum().is_some_and(|descriptor| descriptor.get_value(number).is_some());
    let rule = match rules {
        EnumRules { r#const: Some(constant), .. } if number != *constant => {
            format!("equal {constant}")
        }
        EnumRules { defined_only: Some(true), .. } if !defined() => {
            "be one of the defined enum values".into()
        }
        EnumRules { r#in: list, .. } if !list.is_empty() && !list.contains(&number) => {
            format!("be in list {list:?}")
        }
        EnumRules { not_in: list, .. } if list.contains(&number) => {
            format!("not be in list {list:?}")
        }
        _ => return None,
    };
    Some(format!("value must {rule}, is {number}"))
}

/// The rule that a list breaks as a whole.
pub(super) fn broken_by_list(rules: &RepeatedRules, items: &[Value]) -> Option<String> {
    if rules.ignore_empty() && items.is_empty() {
        return None;
    }
    let broken = broken_by_count(rules.min_items, rules.max_items, items.len(), "item(s)");
    broken.or_else(|| {
        let mut seen = HashSet::new();
        let repeats = rules.unique() && !items.iter().all(|item| seen.insert(item.to_string()));
        repeats.then(|| "repeated value must contain unique items".into())
    })
}

/// The rule that a map breaks as a whole.
pub(super) fn broken_by_map(rules: &MapRules, entries: &HashMap<MapKey, Value>) -> Option<String> {
    if rules.ignore_empty() && entries.is_empty() {
        return None;
    }
    broken_by_count(rules.min_pairs, rules.max_pairs, entries.len(), "pair(s)")
}

fn broken_by_count(min: Option<u64>, max: Option<u64>, count: usize, unit: &str) -> Option<String> {
    let count = count as u64;
    match (min, max) {
        (Some(min), _) if count < min => {
            Some(format!("value must contain at least {min} {unit}, has {count}"))
        }
        (_, Some(max)) if count > max => {
            Some(format!("value must contain no more than {max} {unit}, has {count}"))
        }
        _ => None,
    }
}

fn broken_by_any(rules: &AnyRules, any: &DynamicMessage) -> Option<String> {
    let url = any.get_field_by_number(1)?;
    let url = url.as_str()?;
    if !rules.r#in.is_empty() && !contains(&rules.r#in, url) {
        return Some(format!("type URL {url:?} must be in list {:?}", rules.r#in));
    }
    contains(&rules.not_in, url)
        .then(|| format!("type URL {url:?} must not be in list {:?}", rules.not_in))
}

fn broken_by_duration(rules: &DurationRules, duration: &DynamicMessage) -> Option<String> {
    let value = Span::from(&duration.transcode_to::<protobuf::Duration>().ok()?);
    let span = |duration: &Option<protobuf::Duration>| duration.as_ref().map(Span::from);
    let spans =
        |durations: &[protobuf::Duration]| durations.iter().map(Span::from).collect::<Vec<_>>();
    NumberRules {
        constant: span(&rules.r#const),
        lt: span(&rules.lt),
        lte: span(&rules.lte),
        gt: span(&rules.gt),
        gte: span(&rules.gte),
        one_of: &spans(&rules.r#in),
        none_of: &spans(&rules.not_in),
        ignore_empty: false,
    }
    .broken_by(value)
}

/// A duration that can be compared; fields in the order of their weight.
#[derive(Clone, Copy, Default, PartialEq, PartialOrd)]
struct Span {
    seconds: i64,
    nanos: i32,
}

impl From<&protobuf::Duration> for Span {
    fn from(duration: &protobuf::Duration) -> Self {
        Span { seconds: duration.seconds, nanos: duration.nanos }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.seconds as f64 + f64::from(self.nanos) / 1e9)
    }
}

/// The rules for a number, of whatever type.
struct NumberRules<'a, T> {
    constant: Option<T>,
    lt: Option<T>,
    lte: Option<T>,
    gt: Option<T>,
    gte: Option<T>,
    one_of: &'a [T],
    none_of: &'a [T],
    ignore_empty: bool,
}

impl<T: Copy + Default + PartialOrd + fmt::Display> NumberRules<'_, T> {
    #[allow(
        clippy::neg_cmp_op_on_partial_ord,
        reason = "NaN, which compares with nothing, breaks every bound"
    )]
    fn broken_by(&self, value: T) -> Option<String> {
        if self.ignore_empty && value == T::default() {
            return None;
        }
        let list = |items: &[T]| items.iter().map(T::to_string).collect::<Vec<_>>().join(", ");
        let rule = match self {
            Self { constant: Some(constant), .. } if value != *constant => {
                format!("equal {constant}")
            }
            Self { lt: Some(limit), .. } if !(value < *limit) => format!("be less than {limit}"),
            Self { lte: Some(limit), .. } if !(value <= *limit) => {
                format!("be less than or equal to {limit}")
            }
            Self { gt: Some(limit), .. } if !(value > *limit) => format!("be greater than {limit}"),
            Self { gte: Some(limit), .. } if !(value >= *limit) => {
                format!("be greater than or equal to {limit}")
            }
            Self { one_of, .. } if !one_of.is_empty() && !one_of.contains(&value) => {
                format!("be in list [{}]", list(one_of))
            }
            Self { none_of, .. } if none_of.contains(&value) => {
                format!("not be in list [{}]", list(none_of))
            }
            _ => return None,
        };
        Some(format!("value must {rule}, is {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_and_values_follow_the_api() {
        for (name, strict, valid) in [
            (":path", true, true),
            ("x-a", true, true),
            ("", true, false),
            (":", true, false),
            ("a b", true, false),
            ("a b", false, true),
            ("a\nb", false, false),
        ] {
            assert_eq!(is_header_name(name, strict), valid, "{name:?}");
        }
        for (value, strict, valid) in [
            ("a\tb", true, true),
            ("a\u{1}", true, false),
            ("a\u{1}", false, true),
            ("a\r", false, false),
        ] {
            assert_eq!(is_header_value(value, strict), valid, "{value:?}");
        }
    }

    #[test]
    fn not_a_number_breaks_every_bound() {
        let rules = NumberRules {
            constant: None,
            lt: None,
            lte: Some(100.0),
            gt: None,
            gte: Some(0.0),
            one_of: &[],
            none_of: &[],
            ignore_empty: false,
        };
        assert_eq!(rules.broken_by(50.0), None);
        assert!(rules.broken_by(f64::NAN).is_some());
        assert_eq!(
            rules.broken_by(101.0).as_deref(),
            Some("value must be less than or equal to 100, is 101")
        );
    }
}
