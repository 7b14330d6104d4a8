//! A client that speaks mutual TLS: Pillion's own client side with a certificate of the control plane's authority.

use std::net::SocketAddr;
use std::sync::Arc;

use control_plane_mock::{ControlPlane, Svid};
use pillion::config::tls::UpstreamTls;
use pillion::config::{At, Context};
use pillion::io::Stream;
use pillion::telemetry::stream_info::{CertificateInfo, TlsInfo};
use pillion::tls::{ClientTls, FactoryStats, ServerNames, TlsStats};
use proto::Registry;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A client with an identity. It resumes the sessions that it has had.
pub struct Client(Arc<ClientTls>);

/// An open connection.
pub struct Connection {
    stream: Stream,
    info: TlsInfo,
}

impl Client {
    /// A client with a new certificate for a SPIFFE ID, which trusts the authority as it is now.
    pub fn new(authority: &ControlPlane, id: &str) -> Client {
        let svid = authority.issue_svid(id).expect("it is issued");
        Client::with(&svid, &authority.trust_bundle())
    }

    /// A client with a certificate, which trusts this bundle.
    pub fn with(svid: &Svid, bundle: &str) -> Client {
        let inline = |text: &str| json!({"inline_string": text});
        let message = json!({"max_session_keys": 4, "common_tls_context": {
            "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [{
                "certificate_chain": inline(&svid.certificate_chain),
                "private_key": inline(&svid.private_key),
            }],
            "validation_context": {"trusted_ca": inline(bundle)},
        }});
        let message = Registry::load().from_json(&message.to_string()).expect("it is a message");
        let at = At::resource("test", "");
        let context = UpstreamTls::from_proto(&message, &at, &Context::default()).expect("valid");
        let stats = Arc::new(FactoryStats::new("test."));
        let slot = ClientTls::new(Arc::new(context), &at, stats, &mut |secret| {
            Err(format!("no secret {} is named", secret.name))
        });
        Client(slot.expect("its secrets can be used"))
    }

    /// Connects, and waits until the server has let the client in: it says so only with its first bytes.
    pub async fn connect(&self, address: SocketAddr) -> Result<Connection, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let ready = self.0.ready().clone().expect("its secrets are there");
        let stats = TlsStats::new("test.ssl.");
        let connected = ready.connect(Stream::Tcp(stream), ServerNames::default(), &stats).await;
        let (stream, info) = connected.map_err(|error| format!("{:?}", error.reason))?;
        let mut connection = Connection { stream, info };
        connection.request("/").await?;
        Ok(connection)
    }
}

impl Connection {
    /// The body that a GET is answered with.
    pub async fn get(&mut self, path: &str) -> String {
        self.request(path).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn request(&mut self, path: &str) -> Result<String, String> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
        let text = |error: std::io::Error| error.to_string();
        self.stream.write_all(request.as_bytes()).await.map_err(text)?;
        self.stream.flush().await.map_err(text)?;
        let mut answer = Vec::new();
        loop {
            if self.stream.read_buf(&mut answer).await.map_err(text)? == 0 {
                return Err("the server closed the connection".to_owned());
            }
            let answer = String::from_utf8_lossy(&answer);
            let Some((head, body)) = answer.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.and_then(|length| length.parse().ok()).expect("a length");
            if body.len() >= length {
                return Ok(body.to_owned());
            }
        }
    }

    fn server(&self) -> &CertificateInfo {
        self.info.peer.as_ref().expect("a server shows a certificate")
    }

    /// The serial number of the server's certificate.
    pub fn serial(&self) -> String {
        self.server().serial.to_string()
    }

    /// The server's URI names.
    pub fn identities(&self) -> Vec<&str> {
        self.server().uri_sans.iter().map(|name| &**name).collect()
    }
}
