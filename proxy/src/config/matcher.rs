//! Matchers of strings, headers, query parameters, metadata and paths, with their evaluation.

mod evaluate;
mod input;
mod metadata;
pub mod re2;
mod translate;
pub mod tree;
pub mod uri_template;

use regex::Regex;

pub use evaluate::{PseudoHeaders, query_parameter};
pub use input::{ConnectionView, MatchInput, RequestView, ResponseView, TlsView};
pub use metadata::{MetadataMatcher, MetadataPath, ValueMatcher};
pub use re2::search;

/// `envoy.type.matcher.v3.StringMatcher`.
#[derive(Clone, Debug)]
pub struct StringMatcher {
    /// What is compared.
    pub pattern: StringPattern,
    /// `ignore_case` (not for regular expressions).
    pub ignore_case: bool,
}

/// The pattern of a [`StringMatcher`]; in lower case when `ignore_case` is set.
#[derive(Clone, Debug)]
pub enum StringPattern {
    /// `exact`
    Exact(Box<str>),
    /// `prefix`
    Prefix(Box<str>),
    /// `suffix`
    Suffix(Box<str>),
    /// `contains`
    Contains(Box<str>),
    /// `safe_regex`: the whole value must match.
    Regex(FullRegex),
}

/// A regular expression that must match the whole value, as Envoy's RE2 use does.
#[derive(Clone, Debug)]
pub struct FullRegex(pub Regex);

/// `envoy.config.route.v3.HeaderMatcher`.
#[derive(Clone, Debug)]
pub struct HeaderMatcher {
    /// `name` in lower case; pseudo headers keep their colon, and `host` is `:authority`.
    pub name: Box<str>,
    /// What is asked of the value.
    pub rule: HeaderRule,
    /// `invert_match`
    pub invert: bool,
    /// `treat_missing_header_as_empty`
    pub missing_is_empty: bool,
}

/// What a [`HeaderMatcher`] asks of the value.
#[derive(Clone, Debug)]
pub enum HeaderRule {
    /// `present_match`
    Present(bool),
    /// `range_match`: start inclusive, end exclusive.
    Range(i64, i64),
    /// `string_match` and its deprecated forms.
    String(StringMatcher),
}

/// `QueryParameterMatcher`.
#[derive(Clone, Debug)]
pub struct QueryMatcher {
    /// `name`
    pub name: Box<str>,
    /// What is asked of the first value.
    pub rule: QueryRule,
}

/// `envoy.config.route.v3.QueryParameterMatcher`: what is asked of the parameter.
#[derive(Clone, Debug)]
pub enum QueryRule {
    /// `present_match`
    Present(bool),
    /// `string_match`
    String(StringMatcher),
}
