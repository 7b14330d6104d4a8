//! `envoy.filters.network.rbac`: who may use a connection.

use std::sync::Arc;

use super::Denied;
use crate::config::network_filter::NetworkRbac;
use crate::config::rbac::Decision;
use crate::http::filters::rbac::control::{AccessControl, Names, denial_details, joined};
use crate::telemetry::stats::{SharedStats, Store};
use crate::telemetry::stream_info::StreamInfo;

/// Access control of a filter chain.
pub(super) struct Rbac {
    config: Arc<NetworkRbac>,
    control: AccessControl,
}

impl Rbac {
    pub(super) fn new(config: Arc<NetworkRbac>, stats: &SharedStats, store: &Store) -> Self {
        let names = Names {
            namespace: "envoy.filters.network.rbac",
            notes_enforced: false,
            stat_prefix: &joined("", &config.stat_prefix),
            rules: "",
            shadow: &config.shadow_prefix,
        };
        let control = AccessControl::new(&names, None, stats, store);
        Rbac { config, control }
    }

    /// Decides on a connection.
    ///
    /// # Errors
    /// It is denied.
    pub(super) async fn admit(&self, info: &mut StreamInfo) -> Result<(), Denied> {
        let verdict = self.control.check(&self.config.engines, info, None, None);
        match verdict {
            Some(verdict) if verdict.decision == Decision::Denied => {
                info.termination_details = Some(denial_details(verdict.policy).into());
                if let Some(delay) = self.config.delay_deny {
                    tokio::time::sleep(delay).await;
                }
                Err(Denied)
            }
            _ => Ok(()),
        }
    }
}
