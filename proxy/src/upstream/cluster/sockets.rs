//! The TLS sides of a cluster's hosts.

use std::sync::Arc;

use super::host::Host;
use crate::config::cluster::Cluster as Config;
use crate::config::tls::UpstreamTls;
use crate::tls::ClientTls;

/// The transport sockets of a cluster, with their secrets: the cluster's own and those of `transport_socket_matches`. None
/// means plaintext.
#[derive(Debug, Default)]
pub struct Sockets {
    own: Option<Arc<ClientTls>>,
    matches: Vec<Option<Arc<ClientTls>>>,
}

impl Sockets {
    /// Makes every socket; `make` is told the match's index, none for the cluster's own.
    ///
    /// # Errors
    /// What `make` fails with.
    pub fn new<E>(
        config: &Config,
        mut make: impl FnMut(&Arc<UpstreamTls>, Option<usize>) -> Result<Arc<ClientTls>, E>,
    ) -> Result<Sockets, E> {
        let own = config.tls.as_ref().map(|context| make(context, None)).transpose()?;
        let matches = config.socket_matches.iter().enumerate();
        let matches = matches
            .map(|(i, entry)| entry.tls.as_ref().map(|context| make(context, Some(i))).transpose());
        Ok(Sockets { own, matches: matches.collect::<Result<_, E>>()? })
    }

    /// The socket of a host of the cluster.
    pub fn of(&self, config: &Config, host: &Host) -> Option<&Arc<ClientTls>> {
        if self.matches.is_empty() {
            return self.own.as_ref();
        }
        match config.socket_match(host.metadata().as_deref()) {
            Some(index) => self.matches.get(index)?.as_ref(),
            None => self.own.as_ref(),
        }
    }

    /// Every socket with TLS.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ClientTls>> {
        self.own.iter().chain(self.matches.iter().flatten())
    }

    /// Whether no secret is waited for.
    pub fn is_settled(&self) -> bool {
        self.iter().all(|tls| tls.is_settled())
    }
}
