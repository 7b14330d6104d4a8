use std::sync::{LazyLock, Weak};

use proto::Registry;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::config::Context;
use crate::config::tls::{Certificate, NamedSecret, SecretKind, ValidationContext};
use crate::io::Stream;
use crate::tls::{HandshakeError, ServerNames, TlsStats};

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::load);

/// An authority that issues certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    fn certificate(&self) -> SecretKind {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let chain = params.signed_by(&key, &self.issuer).unwrap();
        SecretKind::Certificate(Arc::new(Certificate {
            chain_pem: chain.pem().into_bytes(),
            key_pem: key.serialize_pem().into_bytes(),
            ocsp_staple: None,
        }))
    }

    fn trust(&self) -> SecretKind {
        let trusted_ca_pem = Some(self.pem.clone().into_bytes());
        let context = ValidationContext { trusted_ca_pem, ..ValidationContext::default() };
        SecretKind::Validation(Arc::new(context))
    }
}

/// The cells `own` and `trust` that contexts name.
struct Cells {
    own: Arc<SecretCell>,
    trust: Arc<SecretCell>,
}

impl Cells {
    fn new() -> Self {
        Cells { own: SecretCell::new(&"own".into()), trust: SecretCell::new(&"trust".into()) }
    }

    fn slot<C: TlsContext>(&self, context: C) -> Arc<Slot<C>> {
        let stats = Arc::new(FactoryStats::new("test."));
        let at = At::resource("listener", "in");
        let mut find = |secret: &NamedSecret| match &*secret.name {
            "own" => Ok(Arc::clone(&self.own)),
            "trust" => Ok(Arc::clone(&self.trust)),
            name => Err(format!("no secret {name}")),
        };
        Slot::new(Arc::new(context), &at.field("tls"), stats, &mut find).unwrap()
    }

    fn server(&self) -> Arc<ServerTls> {
        let message = REGISTRY.from_yaml(
            "{require_client_certificate: true, common_tls_context: {tls_certificate_sds_secret_configs: \
             [{name: own}], validation_context_sds_secret_config: {name: trust}}}",
        );
        let at = At::resource("test", "");
        self.slot(DownstreamTls::from_proto(&message.unwrap(), &at, &Context::default()).unwrap())
    }

    fn client(&self) -> Arc<ClientTls> {
        let message = REGISTRY.from_yaml(
            "{sni: a.test, common_tls_context: {tls_certificate_sds_secret_configs: [{name: own}], \
             combined_validation_context: {default_validation_context: {}, \
             validation_context_sds_secret_config: {name: trust}}, \
             tls_params: {tls_maximum_protocol_version: TLSv1_3}}}",
        );
        let at = At::resource("test", "");
        self.slot(UpstreamTls::from_proto(&message.unwrap(), &at, &Context::default()).unwrap())
    }
}

/// Connects, and tells whether the server has resumed a session. The server's first byte brings the client its ticket.
async fn handshake(client: &ClientContext, server: &ServerContext) -> Result<bool, String> {
    let (one, other) = UnixStream::pair().unwrap();
    let stats = [TlsStats::new("client."), TlsStats::new("server.")];
    let accepting = async {
        let (mut stream, _) = server.accept(Stream::Unix(other), &stats[1]).await?;
        // The client may have left.
        let _ = stream.write_all(b"x").await;
        Ok::<_, HandshakeError>(stream)
    };
    let connecting = async {
        let names = ServerNames::default();
        let (mut stream, _) = client.connect(Stream::Unix(one), names, &stats[0]).await?;
        let _ = stream.read_exact(&mut [0]).await;
        Ok::<_, HandshakeError>(stream)
    };
    let (accepted, connected) = tokio::join!(accepting, connecting);
    let failed = |error: HandshakeError| format!("{:?}", error.reason);
    accepted.map_err(failed)?;
    connected.map_err(failed)?;
    Ok(stats[1].session_reused.get() == 1)
}

#[test]
fn a_slot_is_empty_until_every_secret_is_there() {
    let (cells, authority) = (Cells::new(), Authority::new());
    let slot = cells.server();
    assert!(slot.ready().is_none() && !slot.is_settled());
    assert_eq!(slot.waits_for(), "\"own\", \"trust\"");
    cells.own.set(&authority.certificate()).unwrap();
    assert!(slot.ready().is_none() && !slot.is_settled());
    cells.trust.set(&authority.trust()).unwrap();
    assert!(slot.ready().is_some() && slot.is_settled());
    assert_eq!(slot.stats.ssl_context_update_by_sds.get(), 2);
    let late = cells.server();
    assert!(late.ready().is_some(), "the secrets were there before");
}

#[test]
fn a_secret_that_cannot_be_used_changes_nothing() {
    let (cells, authority) = (Cells::new(), Authority::new());
    let (server, client) = (cells.server(), cells.client());
    cells.own.set(&authority.certificate()).unwrap();
    cells.trust.set(&authority.trust()).unwrap();
    let before = (server.ready().clone().unwrap(), client.ready().clone().unwrap());

    let (SecretKind::Certificate(one), SecretKind::Certificate(other)) =
        (authority.certificate(), authority.certificate())
    else {
        unreachable!("they are certificates")
    };
    let mixed = Certificate { key_pem: other.key_pem.clone(), ..(*one).clone() };
    let error = cells.own.set(&SecretKind::Certificate(mixed.into())).unwrap_err().to_string();
    assert!(error.starts_with("secret \"own\": tls_certificate: cannot be used: "), "{error}");
    assert!(!error.contains("PRIVATE KEY"), "{error}");

    let error = cells.own.set(&authority.trust()).unwrap_err().to_string();
    assert_eq!(error, "secret \"own\": is a validation_context, where a tls_certificate is needed");
    let junk = ValidationContext { trusted_ca_pem: Some(b"junk".into()), ..Default::default() };
    let error = cells.trust.set(&SecretKind::Validation(junk.into())).unwrap_err().to_string();
    assert!(error.starts_with("secret \"trust\": validation_context.trusted_ca: "), "{error}");

    assert!(Arc::ptr_eq(&before.0, &server.ready().clone().unwrap()));
    assert!(Arc::ptr_eq(&before.1, &client.ready().clone().unwrap()));
}

#[tokio::test]
async fn sessions_resume_until_a_secret_changes() {
    let (cells, authority) = (Cells::new(), Authority::new());
    let (server, client) = (cells.server(), cells.client());
    cells.own.set(&authority.certificate()).unwrap();
    cells.trust.set(&authority.trust()).unwrap();
    let old = client.ready().clone().unwrap();
    let before = server.ready().clone().unwrap();
    assert_eq!(handshake(&old, &before).await, Ok(false));
    assert_eq!(handshake(&old, &before).await, Ok(true));

    // The same trust again: whatever was agreed before counts no more.
    cells.trust.set(&authority.trust()).unwrap();
    assert_eq!(handshake(&old, &server.ready().clone().unwrap()).await, Ok(false));

    // Another authority is trusted from now on: neither a session nor the old certificate gets in.
    let other = Authority::new();
    cells.trust.set(&other.trust()).unwrap();
    assert!(handshake(&old, &server.ready().clone().unwrap()).await.is_err());
    cells.own.set(&other.certificate()).unwrap();
    let (client, server) = (client.ready().clone().unwrap(), server.ready().clone().unwrap());
    assert!(handshake(&old, &server).await.is_err());
    assert_eq!(handshake(&client, &server).await, Ok(false));
}

#[test]
fn ten_thousand_rotations_leave_nothing_behind() {
    let (cells, authority) = (Cells::new(), Authority::new());
    let (server, client) = (cells.server(), cells.client());
    let certificates = [authority.certificate(), authority.certificate()];
    cells.trust.set(&authority.trust()).unwrap();
    let mut made: Vec<Weak<ServerContext>> = Vec::new();
    for round in 0..10_000 {
        cells.own.set(&certificates[round % 2]).unwrap();
        made.push(Arc::downgrade(&server.ready().clone().unwrap()));
    }
    assert_eq!(made.iter().filter(|made| made.strong_count() > 0).count(), 1);
    let ready = client.ready().clone().unwrap();
    assert_eq!(Arc::strong_count(&ready), 2, "only the slot and this test hold it");
}

#[test]
fn slots_that_are_gone_are_forgotten() {
    let cells = Cells::new();
    for _ in 0..1000 {
        drop(cells.server());
    }
    assert!(cells.own.users() <= 4, "{} users", cells.own.users());
    assert_eq!(Arc::strong_count(&cells.own), 1);
}
