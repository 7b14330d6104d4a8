//! A way to a management server made from plain addresses.

use std::str::FromStr;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use super::{BoxError, Service, StartError};

/// `Cluster.connect_timeout` when it is not set.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a connection is probed, and how long it may take to answer: a server that vanished
/// without a word is noticed.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a management server listens, without TLS. Parsed from `host:port` or `unix:path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Host name or address, and port.
    Tcp(String),
    /// Path of a unix domain socket.
    Unix(String),
}

impl FromStr for Target {
    type Err = StartError;

    fn from_str(text: &str) -> Result<Self, StartError> {
        let reason = match text.strip_prefix("unix:") {
            Some("") => "the path of the socket is missing",
            Some(path) => return Ok(Self::Unix(path.to_owned())),
            None if text
                .parse::<http::uri::Authority>()
                .is_ok_and(|authority| authority.port_u16().is_some()) =>
            {
                return Ok(Self::Tcp(text.to_owned()));
            }
            None => "expected host:port or unix:path",
        };
        Err(StartError::Target { target: text.to_owned(), reason: reason.to_owned() })
    }
}

impl Target {
    fn endpoint(&self) -> Result<Endpoint, StartError> {
        let uri = match self {
            Self::Tcp(authority) => format!("http://{authority}"),
            Self::Unix(path) => format!("unix:{path}"),
        };
        let endpoint = Endpoint::from_shared(uri.clone())
            .map_err(|error| StartError::Target { target: uri, reason: error.to_string() })?;
        Ok(endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT))
    }
}

/// A lazily connected way to one server that listens at any of `targets`; streams are balanced
/// over those that can be reached.
///
/// # Errors
/// If there is no target, or one is no address.
pub fn channel(targets: &[Target]) -> Result<Service, StartError> {
    let mut endpoints = targets.iter().map(Target::endpoint).collect::<Result<Vec<_>, _>>()?;
    let channel = match endpoints.len() {
        0 => return Err(StartError::NoServer),
        1 => endpoints.remove(0).connect_lazy(),
        _ => Channel::balance_list(endpoints.into_iter()),
    };
    Ok(BoxCloneSyncService::new(channel.map_err(BoxError::from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_parsed() {
        assert_eq!("localhost:80".parse(), Ok(Target::Tcp("localhost:80".into())));
        assert_eq!("[::1]:80".parse(), Ok(Target::Tcp("[::1]:80".into())));
        assert_eq!("unix:/run/xds.sock".parse(), Ok(Target::Unix("/run/xds.sock".into())));
        for wrong in ["", "localhost", "unix:", "http://a:1", "a b:1"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong:?}");
        }
    }
}
