//! Certificates over SDS.

mod client;

use client::{LONG, NODE, open_delta};
use control_plane_mock::{ControlPlane, Resource};
use proto::envoy::config::core::v3::data_source::Specifier;
use proto::envoy::extensions::transport_sockets::tls::v3::{Secret, secret::Type};
use proto::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use proto::type_url::SECRET;

fn pem(response: &DeltaDiscoveryResponse, name: &str) -> String {
    let mut resources = response.resources.iter();
    let found = resources.find(|resource| resource.name == name).expect("it was sent");
    let any = found.resource.as_ref().expect("it holds a secret");
    let secret: Secret = proto::any::unpack(any).expect("a secret");
    let source = match secret.r#type.expect("a type") {
        Type::TlsCertificate(certificate) => certificate.certificate_chain,
        Type::ValidationContext(context) => context.trusted_ca,
        other => panic!("{other:?}"),
    };
    match source.and_then(|source| source.specifier) {
        Some(Specifier::InlineString(pem)) => pem,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn secrets_are_issued_when_asked_for_and_rotated() {
    let control_plane = ControlPlane::start_default().await.expect("it starts");
    let mut stream = open_delta(control_plane.addr()).await;
    stream.change(SECRET, &["default", "ROOTCA", "spiffe://cluster.local/x", "other"], &[]);
    let first = stream.receive().await;
    assert_eq!(first.removed_resources, ["other"]);
    assert_eq!(pem(&first, "ROOTCA"), control_plane.trust_bundle());
    assert!(pem(&first, "spiffe://cluster.local/x").starts_with("-----BEGIN CERTIFICATE-----"));
    stream.answer(&first, None);

    control_plane.rotate_certificates();
    let second = stream.receive().await;
    assert_eq!(second.resources.len(), 2, "the bundle did not change");
    assert_ne!(pem(&first, "default"), pem(&second, "default"));
    stream.answer(&second, None);

    let version = control_plane.rotate_authority().expect("made");
    let third = stream.receive().await;
    let bundle = pem(&third, "ROOTCA");
    assert!(bundle.contains(&pem(&first, "ROOTCA")), "the old authority stays trusted");
    assert_eq!(bundle.matches("BEGIN").count(), 2);
    stream.answer(&third, None);
    control_plane.wait_ack(SECRET, version, Some(NODE), LONG).await.expect("it came");
}

#[tokio::test]
async fn a_secret_that_was_put_is_served_and_not_issued() {
    let control_plane = ControlPlane::start_default().await.expect("it starts");
    let secret = Secret { name: "default".into(), ..Default::default() };
    let resource = Resource::pack(&secret).expect("named");
    control_plane.put([resource.clone()]);
    let mut stream = open_delta(control_plane.addr()).await;
    stream.change(SECRET, &["default"], &[]);
    let response = stream.receive().await;
    assert_eq!(response.resources[0].resource.as_ref(), Some(resource.any()));
}
