//! Messages of Istio's own extensions, which no crate has.

/// The package of these messages.
pub(crate) const PACKAGE: &str = "istio.envoy.config.filter.http.alpn.v2alpha1";

/// `FilterConfig` of the HTTP filter `istio.alpn`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AlpnFilter {
    /// What to offer, by the protocol of the request to the host.
    #[prost(message, repeated, tag = "1")]
    pub alpn_override: Vec<AlpnOverride>,
}

/// `FilterConfig.AlpnOverride`
#[derive(Clone, PartialEq, prost::Message)]
pub struct AlpnOverride {
    /// 0 for HTTP/1.0, 1 for HTTP/1.1, 2 for HTTP/2 (`FilterConfig.Protocol`).
    #[prost(int32, tag = "1")]
    pub upstream_protocol: i32,
    /// The protocols, the best first.
    #[prost(string, repeated, tag = "2")]
    pub alpn_override: Vec<String>,
}

impl prost::Name for AlpnFilter {
    const NAME: &'static str = "FilterConfig";
    const PACKAGE: &'static str = PACKAGE;
}
