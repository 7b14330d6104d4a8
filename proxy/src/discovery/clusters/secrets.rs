//! The secrets of clusters.

use std::sync::Arc;

use super::Clusters;
use crate::config::cluster::Cluster as Config;
use crate::config::{At, ConfigError};
use crate::discovery::sources::Sources;
use crate::upstream::cluster::Sockets;

impl Clusters {
    /// The transport sockets of a cluster. Their secrets are asked for.
    pub(super) fn sockets(
        &mut self,
        sources: &mut Sources,
        config: &Config,
        at: &At<'_>,
    ) -> Result<Sockets, ConfigError> {
        let factory = format!("cluster.{}.client_ssl_socket_factory.", config.stat_name);
        let mut secrets = self.tools.secrets.borrow_mut();
        Sockets::new(config, |context, matched| {
            let entry = matched.map(|index| at.index("transport_socket_matches", index));
            let at = entry.as_ref().unwrap_or(at).field("transport_socket");
            secrets.tls(sources, context, factory.clone(), &at)
        })
    }

    /// Secrets came, or their time is over: installs the clusters that waited for nothing else.
    pub fn on_secrets(&mut self) {
        let ready = self.warming.iter().filter(|(_, warming)| warming.is_ready());
        self.ready.extend(ready.map(|(name, _)| Arc::clone(name)));
        self.install();
    }
}
