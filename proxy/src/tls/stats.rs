//! Statistics of TLS contexts.

use crate::stat_group;

stat_group! {
    /// `listener.<address>.server_ssl_socket_factory.`, `cluster.<name>.client_ssl_socket_factory.`
    pub struct FactoryStats {
        counter ssl_context_update_by_sds,
        counter downstream_context_secrets_not_ready,
        counter upstream_context_secrets_not_ready,
    }
}
