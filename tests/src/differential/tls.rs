//! TLS of the client and the upstreams of a case. Both let everybody in, for it is the proxy whose judgement is compared.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use pillion::io::{Stream, Tls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, HandshakeKind,
    ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use serde_json::{Value, json};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::case::{TlsClient, TlsServer};

/// Every file of the certificates' folder by placeholder: `pem.NAME`, `key.NAME`, `hash.NAME`, `spki.NAME` and `crl.NAME`.
pub static FILES: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pki");
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let (Some(name), Some(kind)) = (path.file_stem(), path.extension()) else { continue };
        if let Ok(text) = std::fs::read_to_string(&path) {
            files.insert(format!("{}.{}", kind.to_string_lossy(), name.to_string_lossy()), text);
        }
    }
    files
});

/// What a client keeps for further connections: sessions to resume, by the case's name for them.
#[derive(Default)]
pub struct Sessions(Mutex<BTreeMap<String, Arc<ClientConfig>>>);

/// Does the client's handshake. An error is the proxy's refusal.
pub async fn connect(
    stream: Stream,
    client: &TlsClient,
    sessions: &Sessions,
) -> Result<Stream, String> {
    let config = match &client.session {
        None => client_config(client)?,
        Some(name) => {
            let mut kept = sessions.0.lock().map_err(|error| error.to_string())?;
            match kept.get(name) {
                Some(config) => Arc::clone(config),
                None => Arc::clone(kept.entry(name.clone()).or_insert(client_config(client)?)),
            }
        }
    };
    let name = client.sni.clone().unwrap_or_else(|| "unnamed.invalid".to_owned());
    let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
    let connected = TlsConnector::from(config).connect(name, stream).await;
    let stream = connected.map_err(|error| error.to_string())?;
    Ok(Stream::Tls(Box::new(Tls::new(stream, Arc::default()))))
}

/// Does an upstream's handshake; the proxy may refuse.
pub async fn accept(stream: Stream, server: &TlsServer) -> io::Result<Stream> {
    let config = server_config(server).map_err(io::Error::other)?;
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    Ok(Stream::Tls(Box::new(Tls::new(stream, Arc::default()))))
}

/// What was agreed on, and the subject of the peer; none without TLS.
pub fn describe(stream: &Stream) -> Option<Value> {
    let Stream::Tls(tls) = stream else { return None };
    let (session, sni): (&CommonState, Option<&str>) = match tls.session() {
        TlsStream::Client(tls) => (tls.get_ref().1, None),
        TlsStream::Server(tls) => (tls.get_ref().1, tls.get_ref().1.server_name()),
    };
    let alpn = session.alpn_protocol().map(|alpn| String::from_utf8_lossy(alpn).into_owned());
    let version = session.protocol_version().and_then(|version| version.as_str());
    let peer = session.peer_certificates().and_then(<[_]>::first).map(name_of);
    let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    Some(json!({"version": version, "alpn": alpn, "sni": sni, "peer": peer, "resumed": resumed}))
}

/// The file that a certificate was read from.
fn name_of(certificate: &CertificateDer<'_>) -> String {
    let is_it = |pem: &str| {
        CertificateDer::from_pem_slice(pem.as_bytes()).is_ok_and(|known| known == *certificate)
    };
    let pems = FILES.iter().filter_map(|(name, text)| Some((name.strip_prefix("pem.")?, text)));
    let found = pems.into_iter().find(|(_, text)| is_it(text));
    found.map_or("unknown", |(name, _)| name).to_owned()
}

fn identity(name: &str) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let file = |kind: &str| {
        let name = format!("{kind}.{name}");
        FILES.get(&name).ok_or(format!("there is no certificate {name}"))
    };
    let chain = CertificateDer::pem_slice_iter(file("pem")?.as_bytes()).collect::<Result<_, _>>();
    let key = PrivateKeyDer::from_pem_slice(file("key")?.as_bytes());
    Ok((chain.map_err(|error| error.to_string())?, key.map_err(|error| error.to_string())?))
}

fn versions(version: Option<&str>) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    match version {
        None => Ok(vec![&rustls::version::TLS13, &rustls::version::TLS12]),
        Some("1.2") => Ok(vec![&rustls::version::TLS12]),
        Some("1.3") => Ok(vec![&rustls::version::TLS13]),
        Some(other) => Err(format!("there is no TLS {other} here")),
    }
}

fn client_config(client: &TlsClient) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&versions(client.version.as_deref())?)
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody::new(client.rsa)));
    let mut config = match &client.certificate {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let (chain, key) = identity(name)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string())?
        }
    };
    config.enable_sni = client.sni.is_some();
    config.alpn_protocols = client.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

fn server_config(server: &TlsServer) -> Result<Arc<ServerConfig>, String> {
    let (chain, key) = identity(&server.certificate)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&versions(server.version.as_deref())?)
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(Arc::new(Anybody::new(false)))
        .with_single_cert(chain, key)
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = server.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

/// Takes every certificate of whoever has its key.
#[derive(Debug)]
struct Anybody {
    algorithms: WebPkiSupportedAlgorithms,
    rsa_only: bool,
}

impl Anybody {
    fn new(rsa_only: bool) -> Self {
        Self { algorithms: default_provider().signature_verification_algorithms, rsa_only }
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.algorithms.supported_schemes();
        if self.rsa_only {
            schemes.retain(|scheme| scheme.as_str().is_some_and(|name| name.starts_with("RSA")));
        }
        schemes
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Anybody {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}
