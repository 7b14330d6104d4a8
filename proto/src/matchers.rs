//! Messages of `xds.type.matcher.v3` that the crate of Envoy's types lacks.

use crate::xds::core::v3::CidrRange;
use crate::xds::r#type::matcher::v3::matcher::OnMatch;
use crate::xds::r#type::v3::CelExpression;

/// The package of these messages.
pub(crate) const PACKAGE: &str = "xds.type.matcher.v3";

/// `IPMatcher`: by the range that an address lies in.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IpMatcher {
    /// Each with what it leads to.
    #[prost(message, repeated, tag = "1")]
    pub range_matchers: Vec<IpRangeMatcher>,
}

/// `IPMatcher.IPRangeMatcher`
#[derive(Clone, PartialEq, prost::Message)]
pub struct IpRangeMatcher {
    /// At least one.
    #[prost(message, repeated, tag = "1")]
    pub ranges: Vec<CidrRange>,
    /// Where it leads.
    #[prost(message, optional, tag = "2")]
    pub on_match: Option<OnMatch>,
    /// Whether it is passed over where a longer range contains the address too.
    #[prost(bool, tag = "3")]
    pub exclusive: bool,
}

/// `ServerNameMatcher`: by the domain that a name belongs to.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ServerNameMatcher {
    /// Each with what it leads to.
    #[prost(message, repeated, tag = "1")]
    pub domain_matchers: Vec<DomainMatcher>,
}

/// `ServerNameMatcher.DomainMatcher`
#[derive(Clone, PartialEq, prost::Message)]
pub struct DomainMatcher {
    /// `www.example.com`, `*.example.com` or `*`; at least one.
    #[prost(string, repeated, tag = "1")]
    pub domains: Vec<String>,
    /// Where it leads.
    #[prost(message, optional, tag = "2")]
    pub on_match: Option<OnMatch>,
}

/// `CelMatcher`: by an expression over [`HttpAttributesCelMatchInput`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct CelMatcher {
    /// The expression.
    #[prost(message, optional, tag = "1")]
    pub expr_match: Option<CelExpression>,
    /// For humans.
    #[prost(string, tag = "2")]
    pub description: String,
}

/// `HttpAttributesCelMatchInput`: everything that a [`CelMatcher`] may ask for.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct HttpAttributesCelMatchInput {}

impl prost::Name for IpMatcher {
    const NAME: &'static str = "IPMatcher";
    const PACKAGE: &'static str = PACKAGE;
}

impl prost::Name for ServerNameMatcher {
    const NAME: &'static str = "ServerNameMatcher";
    const PACKAGE: &'static str = PACKAGE;
}

impl prost::Name for CelMatcher {
    const NAME: &'static str = "CelMatcher";
    const PACKAGE: &'static str = PACKAGE;
}

impl prost::Name for HttpAttributesCelMatchInput {
    const NAME: &'static str = "HttpAttributesCelMatchInput";
    const PACKAGE: &'static str = PACKAGE;
}
