//! The control plane's own certificate authority: SPIFFE certificates and trust bundles over SDS.
//!
//! A client that subscribes to a secret that nobody put is issued one, by its name:
//!
//! | name | secret |
//! |---|---|
//! | `default` | certificate and key of the asking node, see [`spiffe_id`] |
//! | `spiffe://<trust domain>/<path>` | certificate and key of that identity |
//! | `ROOTCA`, `spiffe://<trust domain>` | validation context with the trust bundle |
//!
//! Every node is issued whatever it asks for: this is a mock, the authority authenticates nobody.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use proto::envoy::config::core::v3::{DataSource, Node, data_source::Specifier};
use proto::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret,
};
use proto::google::protobuf::value::Kind;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use crate::resource::Resource;
use crate::snapshot::{Change, Scope};

/// How many secrets are issued at most: their names come from the clients.
const MAX_ISSUED: usize = 16 * 1024;

/// How long a certificate authority is valid.
const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How far before now certificates begin to be valid, for clients whose clock is late.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// How the authority is made.
#[derive(Debug, Clone)]
pub struct IdentityOptions {
    /// The trust domain of all identities: `cluster.local` unless set.
    pub trust_domain: String,
    /// Lifetime of a certificate: 24 hours unless set. Certificates are issued anew when half of it is over.
    pub lifetime: Duration,
    /// Where `ca.pem` and `ca.key` are kept. A new authority is made at every start when unset.
    pub ca_dir: Option<PathBuf>,
}

impl Default for IdentityOptions {
    fn default() -> Self {
        Self {
            trust_domain: "cluster.local".to_owned(),
            lifetime: Duration::from_secs(24 * 3600),
            ca_dir: None,
        }
    }
}

/// Why there is no authority, or no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A certificate or key could not be made.
    #[error("making a certificate failed: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The directory of the authority cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// A certificate with its key (a SPIFFE X.509-SVID), PEM encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Svid {
    /// The leaf certificate; the trust bundle holds its issuer.
    pub certificate_chain: String,
    /// The PKCS #8 key.
    pub private_key: String,
}

/// A certificate authority and what it has issued.
pub(crate) struct Identity {
    options: IdentityOptions,
    issuer: Issuer<'static, KeyPair>,
    /// Certificates of the authority, the latest first: those before it stay trusted after a rotation.
    bundle: Vec<String>,
    /// The nodes by id and secret name.
    issued: BTreeMap<(String, String), Node>,
}

impl Identity {
    pub(crate) fn new(options: IdentityOptions) -> Result<Self, IdentityError> {
        let (certificate, key) = match &options.ca_dir {
            None => make_ca(&options.trust_domain)?,
            Some(dir) => load_or_make_ca(dir, &options.trust_domain)?,
        };
        let params = ca_params(&options.trust_domain);
        Ok(Self {
            options,
            issuer: Issuer::new(params, key),
            bundle: vec![certificate],
            issued: BTreeMap::new(),
        })
    }

    /// The trust bundle, PEM encoded.
    pub(crate) fn bundle(&self) -> String {
        self.bundle.concat()
    }

    /// How often certificates are issued anew.
    pub(crate) fn rotation_period(&self) -> Duration {
        self.options.lifetime / 2
    }

    /// The secret of this name for this node; `None` when the authority has none of that name.
    pub(crate) fn issue(&mut self, node: &Node, name: &str) -> Option<Resource> {
        let key = (node.id.clone(), name.to_owned());
        if self.issued.len() == MAX_ISSUED && !self.issued.contains_key(&key) {
            tracing::warn!(node = node.id, name, "no secret: too many are issued already");
            return None;
        }
        let secret = self.secret(node, name)?;
        self.issued.insert(key, node.clone());
        Some(secret)
    }

    fn secret(&self, node: &Node, name: &str) -> Option<Resource> {
        let domain = format!("spiffe://{}", self.options.trust_domain);
        let content = if name == "ROOTCA" || name == domain {
            secret::Type::ValidationContext(CertificateValidationContext {
                trusted_ca: Some(inline(self.bundle())),
                ..Default::default()
            })
        } else {
            let id = match name.strip_prefix(&domain) {
                Some(path) if path.starts_with('/') => name.to_owned(),
                _ if name == "default" => spiffe_id(node, &self.options.trust_domain),
                _ => return None,
            };
            match self.svid(&id) {
                Ok(svid) => secret::Type::TlsCertificate(TlsCertificate {
                    certificate_chain: Some(inline(svid.certificate_chain)),
                    private_key: Some(inline(svid.private_key)),
                    ..Default::default()
                }),
                Err(error) => {
                    tracing::warn!(%error, id, "no certificate was issued");
                    return None;
                }
            }
        };
        let secret = Secret { name: name.to_owned(), r#type: Some(content) };
        Resource::pack(&secret).ok()
    }

    /// Issues a certificate for a SPIFFE ID, valid from now for the configured lifetime.
    pub(crate) fn svid(&self, spiffe_id: &str) -> Result<Svid, IdentityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name("control-plane-mock workload");
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(spiffe_id)?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let now = SystemTime::now();
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + self.options.lifetime).into();
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Svid { certificate_chain: certificate.pem(), private_key: key.serialize_pem() })
    }

    /// Issues everything anew.
    pub(crate) fn rotate(&mut self) -> Vec<Change> {
        let issued = self.issued.iter();
        let secrets = issued.filter_map(|((id, name), node)| {
            let secret = self.secret(node, name)?;
            Some(Change::Put(Scope::Issued(id.clone()), secret))
        });
        secrets.collect()
    }

    /// Makes a new authority, which signs from now on. The old one stays in the trust bundle.
    pub(crate) fn rotate_ca(&mut self) -> Result<(), IdentityError> {
        let (certificate, key) = make_ca(&self.options.trust_domain)?;
        if let Some(dir) = &self.options.ca_dir {
            store_ca(dir, &certificate, &key)?;
        }
        self.issuer = Issuer::new(ca_params(&self.options.trust_domain), key);
        self.bundle.insert(0, certificate);
        self.bundle.truncate(2);
        Ok(())
    }
}

/// The identity of a node, from its metadata: `SPIFFE_ID`, or `NAMESPACE` and `SERVICE_ACCOUNT` as
/// `spiffe://<trust domain>/ns/<namespace>/sa/<account>` (Istio's form). Without these it is
/// `spiffe://<trust domain>/<node.cluster>`, or `.../<node.id>` for a node without a cluster.
pub fn spiffe_id(node: &Node, trust_domain: &str) -> String {
    let metadata = |key: &str| {
        let value = node.metadata.as_ref()?.fields.get(key)?;
        match value.kind.as_ref()? {
            Kind::StringValue(text) => Some(text.as_str()),
            _ => None,
        }
    };
    if let Some(id) = metadata("SPIFFE_ID") {
        return id.to_owned();
    }
    if let (Some(namespace), Some(account)) = (metadata("NAMESPACE"), metadata("SERVICE_ACCOUNT")) {
        return format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}");
    }
    let name = if node.cluster.is_empty() { &node.id } else { &node.cluster };
    format!("spiffe://{trust_domain}/{name}")
}

fn inline(text: String) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineString(text)), ..Default::default() }
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// The same for every authority of a trust domain, so that one that was stored can be used again knowing its key only.
fn ca_params(trust_domain: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name("control-plane-mock authority");
    let id = format!("spiffe://{trust_domain}");
    params.subject_alt_names = Ia5String::try_from(id).map(SanType::URI).into_iter().collect();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn make_ca(trust_domain: &str) -> Result<(String, KeyPair), IdentityError> {
    let key = KeyPair::generate()?;
    let mut params = ca_params(trust_domain);
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + CA_LIFETIME).into();
    Ok((params.self_signed(&key)?.pem(), key))
}

fn load_or_make_ca(dir: &Path, trust_domain: &str) -> Result<(String, KeyPair), IdentityError> {
    let read = |name: &str| {
        let path = dir.join(name);
        std::fs::read_to_string(&path).map_err(|source| IdentityError::File { path, source })
    };
    if dir.join("ca.key").exists() {
        return Ok((read("ca.pem")?, KeyPair::from_pem(&read("ca.key")?)?));
    }
    let (certificate, key) = make_ca(trust_domain)?;
    store_ca(dir, &certificate, &key)?;
    Ok((certificate, key))
}

fn store_ca(dir: &Path, certificate: &str, key: &KeyPair) -> Result<(), IdentityError> {
    let file_error = |path: PathBuf| move |source| IdentityError::File { path, source };
    std::fs::create_dir_all(dir).map_err(file_error(dir.to_owned()))?;
    let contents = [("ca.pem", certificate.to_owned()), ("ca.key", key.serialize_pem())];
    for (name, content) in contents {
        let path = dir.join(name);
        std::fs::write(&path, content).map_err(file_error(path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::google::protobuf::{Struct, Value};

    fn node(metadata: &[(&str, &str)]) -> Node {
        let fields = metadata.iter().map(|(key, value)| {
            let kind = Some(Kind::StringValue((*value).to_owned()));
            ((*key).to_owned(), Value { kind })
        });
        Node {
            id: "id".into(),
            cluster: "shop".into(),
            metadata: Some(Struct { fields: fields.collect() }),
            ..Default::default()
        }
    }

    #[test]
    fn the_identity_of_a_node_comes_from_its_metadata() {
        assert_eq!(spiffe_id(&node(&[]), "td"), "spiffe://td/shop");
        let istio = node(&[("NAMESPACE", "n"), ("SERVICE_ACCOUNT", "a")]);
        assert_eq!(spiffe_id(&istio, "td"), "spiffe://td/ns/n/sa/a");
        let explicit = node(&[("SPIFFE_ID", "spiffe://other/x")]);
        assert_eq!(spiffe_id(&explicit, "td"), "spiffe://other/x");
    }

    #[test]
    fn a_stored_authority_is_used_again() {
        let dir =
            std::env::temp_dir().join(format!("control-plane-mock-ca-{}", std::process::id()));
        let options = IdentityOptions { ca_dir: Some(dir.clone()), ..Default::default() };
        let first = Identity::new(options.clone()).expect("made").bundle();
        let second = Identity::new(options).expect("loaded").bundle();
        std::fs::remove_dir_all(dir).expect("it was made above");
        assert_eq!(first, second);
    }

    #[test]
    fn names_of_other_trust_domains_are_not_issued() {
        let mut identity = Identity::new(IdentityOptions::default()).expect("made");
        let mut issue = |name| identity.issue(&node(&[]), name).is_some();
        assert!(issue("default"));
        assert!(issue("ROOTCA"));
        assert!(issue("spiffe://cluster.local"));
        assert!(issue("spiffe://cluster.local/ns/a"));
        assert!(!issue("spiffe://cluster.localhost/ns/a"));
        assert!(!issue("spiffe://other/ns/a"));
        assert!(!issue("something"));
    }
}
