//! The secrets of clusters.

use std::sync::Arc;

use super::Clusters;
use crate::config::cluster::Cluster as Config;
use crate::config::{At, ConfigError};
use crate::discovery::sources::Sources;
use crate::tls::ClientTls;

impl Clusters {
    /// The client side of a cluster's TLS, if it has one. Its secrets are asked for.
    pub(super) fn client_tls(
        &mut self,
        sources: &mut Sources,
        config: &Config,
        at: &At<'_>,
    ) -> Result<Option<Arc<ClientTls>>, ConfigError> {
        let Some(context) = &config.tls else { return Ok(None) };
        let factory = format!("cluster.{}.client_ssl_socket_factory.", config.stat_name);
        let mut secrets = self.tools.secrets.borrow_mut();
        secrets.tls(sources, context, factory, &at.field("transport_socket")).map(Some)
    }

    /// Secrets came, or their time is over: installs the clusters that waited for nothing else.
    pub fn on_secrets(&mut self) {
        let ready = self.warming.iter().filter(|(_, warming)| warming.is_ready());
        self.ready.extend(ready.map(|(name, _)| Arc::clone(name)));
        self.install();
    }
}
