//! The control plane of the demo: the mock as a process of its own, and the director's hand on its HTTP API.

use std::net::{Ipv4Addr, SocketAddr};

use control_plane_mock::{ControlPlane, Options};
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::http_client::{HttpClient, HttpError};

/// Serves xDS and the HTTP API on free ports, which it prints, until SIGTERM.
///
/// # Errors
/// It cannot listen.
pub async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let api_listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let control_plane = ControlPlane::start(Options { api_listen, ..Options::default() }).await?;
    let api = control_plane.api_addr().ok_or("the API does not listen")?;
    println!("{} {api}", control_plane.addr());
    signal(SignalKind::terminate())?.recv().await;
    control_plane.stop().await;
    Ok(())
}

/// Why the control plane did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// It cannot be reached.
    #[error("control plane: {0}")]
    Http(#[from] HttpError),
    /// It refused; a sidecar's refusal (NACK) is status 409.
    #[error("control plane: {method} {target}: {status}: {body}")]
    Refused {
        /// The request's method.
        method: Method,
        /// The request's target.
        target: String,
        /// The answer's status.
        status: StatusCode,
        /// The answer's body.
        body: String,
    },
    /// It answered something unheard of.
    #[error("control plane: no version in {0:?}")]
    NoVersion(String),
}

/// The control plane's HTTP API.
pub struct Api {
    http: HttpClient,
    /// Where it is.
    pub address: SocketAddr,
}

impl Api {
    /// The API at this address.
    pub fn new(address: SocketAddr) -> Self {
        Api { http: HttpClient::new(address), address }
    }

    /// Adds or replaces what a node sees: YAML documents, pushed as one batch. Returns its version.
    ///
    /// # Errors
    /// The resources are refused.
    pub async fn put(&mut self, node: &str, resources: &[String]) -> Result<u64, ApiError> {
        let body = resources.join("---\n");
        let answer = self.call(Method::PUT, format!("/resources?node={node}"), body).await?;
        version(answer)
    }

    /// Takes a resource away from a node. Returns the change's version.
    ///
    /// # Errors
    /// The control plane refuses.
    pub async fn delete(&mut self, node: &str, kind: &str, name: &str) -> Result<u64, ApiError> {
        let target = format!("/resources?node={node}&type={kind}&name={name}");
        version(self.call(Method::DELETE, target, String::new()).await?)
    }

    /// Issues the certificates of all nodes anew. Returns the change's version.
    ///
    /// # Errors
    /// The control plane refuses.
    pub async fn rotate(&mut self) -> Result<u64, ApiError> {
        version(self.call(Method::POST, "/identity/rotate".to_owned(), String::new()).await?)
    }

    /// Waits until the node has acknowledged a version of a type (`lds`, `rds`, `cds`, `eds`, `sds`).
    ///
    /// # Errors
    /// The node refused it (NACK), or said nothing for 10 s.
    pub async fn wait_ack(&mut self, node: &str, kind: &str, at: u64) -> Result<(), ApiError> {
        let target = format!("/wait?node={node}&type={kind}&version={at}");
        self.call(Method::GET, target, String::new()).await.map(drop)
    }

    async fn call(
        &mut self,
        method: Method,
        target: String,
        body: String,
    ) -> Result<String, ApiError> {
        let response = self.http.send(method.clone(), &target, body).await?;
        let status = response.status();
        let body = self.http.read(response.into_body()).await?;
        match status.is_success() {
            true => Ok(body),
            false => Err(ApiError::Refused { method, target, status, body }),
        }
    }
}

fn version(answer: String) -> Result<u64, ApiError> {
    let value: Value = serde_json::from_str(&answer).unwrap_or_default();
    value["version"].as_u64().ok_or(ApiError::NoVersion(answer))
}
