//! `envoy.filters.network.ext_authz`: a server of somebody else's says who may use a connection.

use std::sync::Arc;

use proto::envoy::service::auth::v3::CheckResponse;

use super::Denied;
use crate::config::network_filter::NetworkAuthz;
use crate::config::{At, ConfigError};
use crate::http::call::grpc::Service;
use crate::http::filters::ext_authz::attributes::{self, Told};
use crate::http::filters::ext_authz::{CHECK, TIMEOUT};
use crate::http::worker::Worker;
use crate::stat_group;
use crate::telemetry::response_flags::ResponseFlags;
use crate::telemetry::stats::{SharedStats, Store};
use crate::telemetry::stream_info::StreamInfo;

stat_group! {
    /// `ext_authz.<stat_prefix>.`
    pub struct AuthzStats {
        counter total,
        counter ok,
        counter denied,
        counter error,
        counter failure_mode_allowed,
        counter disabled,
        counter cx_closed,
        gauge active,
    }
}

/// The filter of a filter chain.
pub(super) struct ExtAuthz {
    config: Arc<NetworkAuthz>,
    service: Service,
    stats: Arc<AuthzStats>,
}

impl ExtAuthz {
    pub(super) fn new(
        config: Arc<NetworkAuthz>,
        stats: &SharedStats,
        store: &Store,
        at: &At<'_>,
    ) -> Result<Self, ConfigError> {
        let prefix = format!("ext_authz.{}.", config.stat_prefix);
        let stats = stats.get(store, prefix, AuthzStats::new);
        let service = Service::new(&config.service, TIMEOUT, &at.field("grpc_service"))?;
        Ok(ExtAuthz { config, service, stats })
    }

    /// Asks about a connection.
    ///
    /// # Errors
    /// It is denied.
    pub(super) async fn admit(&self, info: &mut StreamInfo, worker: &Worker) -> Result<(), Denied> {
        let enabled_by = self.config.enabled_by.as_ref();
        if !enabled_by.is_none_or(|matcher| matcher.matches(info.dynamic_metadata.as_deref())) {
            self.stats.disabled.inc();
            return Ok(());
        }
        self.stats.total.inc();
        self.stats.active.inc();
        let answer = self.ask(info, worker).await;
        self.stats.active.dec();
        let details = match answer.map(|answer| answer.status.map_or(0, |status| status.code)) {
            Some(0) => {
                self.stats.ok.inc();
                return Ok(());
            }
            Some(_) => {
                self.stats.denied.inc();
                "ext_authz_denied"
            }
            None => {
                self.stats.error.inc();
                if self.config.allows_on_failure {
                    self.stats.failure_mode_allowed.inc();
                    return Ok(());
                }
                "ext_authz_error"
            }
        };
        self.stats.cx_closed.inc();
        info.flags.insert(ResponseFlags::UNAUTHORIZED_EXTERNAL_SERVICE);
        info.details = Some(details.into());
        Err(Denied)
    }

    async fn ask(&self, info: &StreamInfo, worker: &Worker) -> Option<CheckResponse> {
        let told =
            Told { certificate: self.config.tells_certificate, session: self.config.tells_session };
        let mut question = attributes::of_connection(&info.connection, info.remote(), told);
        if let Some(attributes) = &mut question.attributes {
            let dynamic = info.dynamic_metadata.as_deref();
            let metadata = attributes::metadata(dynamic, &self.config.metadata);
            attributes.metadata_context = Some(metadata);
        }
        self.service.call(CHECK, &question, worker, &info.connection).await
    }
}
