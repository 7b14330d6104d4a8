//! TLS as a case writes it. Certificates are named by their files in `tests/pki`.

use serde::Deserialize;

/// How a client speaks TLS.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsClient {
    /// The certificate that it presents if it is asked for one.
    pub certificate: Option<String>,
    /// The name that it sends.
    pub sni: Option<String>,
    /// Application protocols that it offers.
    pub alpn: Vec<String>,
    /// `1.2` or `1.3`; both unless given.
    pub version: Option<String>,
    /// It knows no signatures but RSA's.
    pub rsa: bool,
    /// Connections of the same name here resume each other's sessions.
    pub session: Option<String>,
}

/// How an upstream speaks TLS. It asks clients for a certificate and takes any.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsServer {
    /// Its certificate.
    pub certificate: String,
    /// Application protocols, in order of preference.
    #[serde(default)]
    pub alpn: Vec<String>,
    /// `1.2` or `1.3`; both unless given.
    pub version: Option<String>,
}
