//! Translating matchers.

use proto::envoy::config::route::v3 as pb;
use proto::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use proto::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use proto::envoy::r#type::matcher::v3 as pb_matcher;
use proto::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use proto::xds::r#type::matcher::v3 as xds;

use super::{
    FullRegex, HeaderMatcher, HeaderRule, QueryMatcher, QueryRule, StringMatcher, StringPattern,
};
use crate::config::{At, ConfigError, Context};

impl StringMatcher {
    /// An `envoy.type.matcher.v3.StringMatcher`.
    pub fn from_proto(
        message: &pb_matcher::StringMatcher,
        at: &At<'_>,
        context: &Context,
    ) -> Result<StringMatcher, ConfigError> {
        let pb_matcher::StringMatcher { ignore_case, match_pattern } = message;
        let fold = |value: &str| match ignore_case {
            true => value.to_ascii_lowercase().into(),
            false => Box::from(value),
        };
        let part = |name: &str, value: &str| match value {
            "" => Err(at.field(name).error("is empty, so it would match everything")),
            value => Ok(fold(value)),
        };
        let pattern =
            match match_pattern {
                None => return Err(at.error("names no pattern")),
                Some(MatchPattern::Exact(value)) => StringPattern::Exact(fold(value)),
                Some(MatchPattern::Prefix(value)) => StringPattern::Prefix(part("prefix", value)?),
                Some(MatchPattern::Suffix(value)) => StringPattern::Suffix(part("suffix", value)?),
                Some(MatchPattern::Contains(value)) => {
                    StringPattern::Contains(part("contains", value)?)
                }
                Some(MatchPattern::SafeRegex(_)) if *ignore_case => {
                    let rule = "has no effect on safe_regex; write (?i) in the pattern";
                    return Err(at.field("ignore_case").error(rule));
                }
                Some(MatchPattern::SafeRegex(regex)) => StringPattern::Regex(
                    FullRegex::from_proto(regex, &at.field("safe_regex"), context)?,
                ),
                Some(MatchPattern::Custom(_)) => return Err(at.field("custom").unsupported()),
            };
        Ok(StringMatcher { pattern, ignore_case: *ignore_case })
    }
}

impl StringMatcher {
    /// An `xds.type.matcher.v3.StringMatcher`, which says the same in other words.
    pub fn from_xds(
        message: &xds::StringMatcher,
        at: &At<'_>,
        context: &Context,
    ) -> Result<StringMatcher, ConfigError> {
        use xds::string_matcher::MatchPattern as Xds;
        let pattern = match &message.match_pattern {
            None => None,
            Some(Xds::Exact(value)) => Some(MatchPattern::Exact(value.clone())),
            Some(Xds::Prefix(value)) => Some(MatchPattern::Prefix(value.clone())),
            Some(Xds::Suffix(value)) => Some(MatchPattern::Suffix(value.clone())),
            Some(Xds::Contains(value)) => Some(MatchPattern::Contains(value.clone())),
            Some(Xds::SafeRegex(regex)) => {
                let regex = regex.regex.clone();
                Some(MatchPattern::SafeRegex(pb_matcher::RegexMatcher { regex, engine_type: None }))
            }
            Some(Xds::Custom(_)) => return Err(at.field("custom").unsupported()),
        };
        let ignore_case = message.ignore_case;
        let message = pb_matcher::StringMatcher { ignore_case, match_pattern: pattern };
        StringMatcher::from_proto(&message, at, context)
    }
}

impl HeaderMatcher {
    /// An `envoy.config.route.v3.HeaderMatcher`.
    pub fn from_proto(
        message: &pb::HeaderMatcher,
        at: &At<'_>,
        context: &Context,
    ) -> Result<HeaderMatcher, ConfigError> {
        let pb::HeaderMatcher {
            name,
            invert_match,
            treat_missing_header_as_empty,
            header_match_specifier,
        } = message;
        let name = match name.to_ascii_lowercase() {
            name if name.is_empty() => return Err(at.field("name").error("is empty")),
            name if name == "host" => ":authority".into(),
            name => name,
        };
        Ok(HeaderMatcher {
            name: name.into(),
            rule: HeaderRule::from_proto(header_match_specifier.as_ref(), at, context)?,
            invert: *invert_match,
            missing_is_empty: *treat_missing_header_as_empty,
        })
    }
}

impl HeaderRule {
    fn from_proto(
        specifier: Option<&HeaderMatchSpecifier>,
        at: &At<'_>,
        context: &Context,
    ) -> Result<HeaderRule, ConfigError> {
        let plain = |pattern| Ok(HeaderRule::String(StringMatcher { pattern, ignore_case: false }));
        let part = |name: &str, value: &str| match value {
            "" => Err(at.field(name).error("is empty, so it would match everything")),
            value => Ok(Box::from(value)),
        };
        match specifier {
            None => Ok(HeaderRule::Present(true)),
            Some(HeaderMatchSpecifier::PresentMatch(wanted)) => Ok(HeaderRule::Present(*wanted)),
            Some(HeaderMatchSpecifier::RangeMatch(range)) => {
                Ok(HeaderRule::Range(range.start, range.end))
            }
            // Of the deprecated form only: an empty text matches any value of a present header.
            Some(HeaderMatchSpecifier::ExactMatch(value)) if value.is_empty() => {
                plain(StringPattern::Prefix(Box::default()))
            }
            Some(HeaderMatchSpecifier::ExactMatch(value)) => {
                plain(StringPattern::Exact(value.as_str().into()))
            }
            Some(HeaderMatchSpecifier::PrefixMatch(value)) => {
                plain(StringPattern::Prefix(part("prefix_match", value)?))
            }
            Some(HeaderMatchSpecifier::SuffixMatch(value)) => {
                plain(StringPattern::Suffix(part("suffix_match", value)?))
            }
            Some(HeaderMatchSpecifier::ContainsMatch(value)) => {
                plain(StringPattern::Contains(part("contains_match", value)?))
            }
            Some(HeaderMatchSpecifier::SafeRegexMatch(regex)) => {
                let at = at.field("safe_regex_match");
                plain(StringPattern::Regex(FullRegex::from_proto(regex, &at, context)?))
            }
            Some(HeaderMatchSpecifier::StringMatch(matcher)) => {
                let at = at.field("string_match");
                StringMatcher::from_proto(matcher, &at, context).map(HeaderRule::String)
            }
        }
    }
}

impl QueryMatcher {
    /// The longest parameter name that the API allows, in bytes.
    const MAX_NAME: usize = 1024;

    /// An `envoy.config.route.v3.QueryParameterMatcher`.
    pub fn from_proto(
        message: &pb::QueryParameterMatcher,
        at: &At<'_>,
        context: &Context,
    ) -> Result<QueryMatcher, ConfigError> {
        let pb::QueryParameterMatcher { name, query_parameter_match_specifier } = message;
        if name.is_empty() || name.len() > Self::MAX_NAME {
            let rule = format!("has {} bytes, 1 to {} are allowed", name.len(), Self::MAX_NAME);
            return Err(at.field("name").error(rule));
        }
        let rule = match query_parameter_match_specifier {
            None => QueryRule::Present(true),
            Some(QueryParameterMatchSpecifier::PresentMatch(wanted)) => QueryRule::Present(*wanted),
            Some(QueryParameterMatchSpecifier::StringMatch(matcher)) => {
                let at = at.field("string_match");
                QueryRule::String(StringMatcher::from_proto(matcher, &at, context)?)
            }
        };
        Ok(QueryMatcher { name: name.as_str().into(), rule })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::envoy::r#type::matcher::v3::RegexMatcher;
    use proto::envoy::r#type::v3::Int64Range;

    fn header(
        name: &str,
        specifier: Option<HeaderMatchSpecifier>,
    ) -> Result<HeaderMatcher, ConfigError> {
        let message = pb::HeaderMatcher {
            name: name.into(),
            header_match_specifier: specifier,
            ..Default::default()
        };
        HeaderMatcher::from_proto(&message, &At::resource("route", "r"), &Context::default())
    }

    #[test]
    fn every_kind_of_header_match_is_translated() {
        use HeaderMatchSpecifier::*;
        let regex = RegexMatcher { regex: "a+".into(), engine_type: None };
        let string = pb_matcher::StringMatcher {
            ignore_case: true,
            match_pattern: Some(MatchPattern::Contains("A".into())),
        };
        for (specifier, accepted, refused) in [
            (ExactMatch("a".into()), "a", "b"),
            (SafeRegexMatch(regex), "aa", "b"),
            (RangeMatch(Int64Range { start: 1, end: 3 }), "2", "3"),
            (PrefixMatch("a".into()), "ab", "b"),
            (SuffixMatch("a".into()), "ba", "b"),
            (ContainsMatch("a".into()), "bab", "b"),
            (StringMatch(string), "bAb", "b"),
        ] {
            let matcher = header("X-Name", Some(specifier)).unwrap();
            assert_eq!(&*matcher.name, "x-name");
            assert!(matcher.rule.accepts(accepted), "{matcher:?}");
            assert!(!matcher.rule.accepts(refused), "{matcher:?}");
        }
    }

    #[test]
    fn an_empty_deprecated_exact_match_takes_any_value() {
        let specifier = HeaderMatchSpecifier::ExactMatch(String::new());
        assert!(header("x", Some(specifier)).unwrap().rule.accepts("anything"));
        assert!(matches!(header("x", None).unwrap().rule, HeaderRule::Present(true)));
        assert_eq!(&*header("Host", None).unwrap().name, ":authority");
    }

    #[test]
    fn empty_names_and_parts_are_refused() {
        use HeaderMatchSpecifier::*;
        assert!(header("", None).is_err());
        for specifier in [
            PrefixMatch(String::new()),
            SuffixMatch(String::new()),
            ContainsMatch(String::new()),
            StringMatch(pb_matcher::StringMatcher::default()),
        ] {
            assert!(header("x", Some(specifier.clone())).is_err(), "{specifier:?}");
        }
    }

    #[test]
    fn case_cannot_be_ignored_in_a_regular_expression() {
        let regex = RegexMatcher { regex: "a".into(), engine_type: None };
        let message = pb_matcher::StringMatcher {
            ignore_case: true,
            match_pattern: Some(MatchPattern::SafeRegex(regex)),
        };
        let at = At::resource("route", "r");
        let error = StringMatcher::from_proto(&message, &at, &Context::default()).unwrap_err();
        assert!(error.path.ends_with("ignore_case"), "{error}");
    }
}
