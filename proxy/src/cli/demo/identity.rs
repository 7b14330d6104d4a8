//! Who the sidecars are to each other, as their admin interfaces tell it.

use std::net::SocketAddr;

use http::Method;
use serde_json::Value;

use super::http_client::{HttpClient, HttpError};

/// The certificate that a sidecar shows to others.
pub struct Shown {
    /// Its SPIFFE ID.
    pub id: String,
    /// Its serial number.
    pub serial: String,
}

/// Why nothing is known of a certificate.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The admin interface does not answer.
    #[error("admin interface: {0}")]
    Http(#[from] HttpError),
    /// It tells of no certificate with a SPIFFE ID.
    #[error("no certificate with a SPIFFE ID in {0}")]
    None(String),
}

/// Asks `/certs` of a sidecar's admin interface.
///
/// # Errors
/// It does not answer, or tells of no certificate.
pub async fn shown(admin: SocketAddr) -> Result<Shown, IdentityError> {
    let mut http = HttpClient::new(admin);
    let response = http.send(Method::GET, "/certs", "").await?;
    let body = http.read(response.into_body()).await?;
    let certs: Value = serde_json::from_str(&body).unwrap_or_default();
    let own = &certs["certificates"][0]["cert_chain"][0];
    let (id, serial) = (&own["subject_alt_names"][0]["uri"], &own["serial_number"]);
    match (id.as_str(), serial.as_str()) {
        (Some(id), Some(serial)) => Ok(Shown { id: id.to_owned(), serial: serial.to_owned() }),
        _ => Err(IdentityError::None(body)),
    }
}
