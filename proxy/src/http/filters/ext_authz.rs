//! `envoy.filters.http.ext_authz`: a server of somebody else's says who may send which requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;
use proto::envoy::service::auth::v3::CheckResponse;

use super::{
    Blueprint, Build, Decoded, HttpFilter, Registration, Request, Response, falls_within, too_large,
};
use crate::config::{ConfigError, any};
use crate::http::call::grpc::Service;
use crate::http::local_reply::LocalReply;
use crate::stat_group;
use crate::telemetry::response_flags::ResponseFlags;
use crate::telemetry::stats::{SharedStats, Store};
use crate::upstream::cluster::Cluster;

pub mod attributes;
pub mod config;
mod http_server;
mod verdict;

use attributes::{Told, ToldBody};
use config::{BodySettings, RouteSettings, Server, Settings};
use verdict::{Allowed, Change, Denied, Verdict};

/// How long a server is waited for unless the configuration says.
pub const TIMEOUT: Duration = Duration::from_millis(200);
/// The method of `envoy.service.auth.v3.Authorization`.
pub const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// Says whether the body that the server is told of is only a part.
const PARTIAL_BODY: &str = "x-envoy-auth-partial-body";
/// Tells a host that the server could not be asked.
const FAILURE_ALLOWED: HeaderName = HeaderName::from_static("x-envoy-auth-failure-mode-allowed");
/// The namespace of what the server says.
const NAMESPACE: &str = "envoy.filters.http.ext_authz";

/// Its entry in the table.
pub(super) const FILTER: Registration = Registration {
    config: "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
    translate: |config, at, context| {
        let settings = Settings::from_proto(&any::open(config, at)?, at, context)?;
        Ok(Box::new(Config(Arc::new(settings))) as Box<dyn Blueprint>)
    },
    route: Some(("envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute", config::route)),
};

stat_group! {
    /// `http.<stat_prefix>.ext_authz.`, and the same for the cluster that the request would go to.
    pub struct AuthzStats {
        counter ok,
        counter denied,
        counter error,
        counter disabled,
        counter failure_mode_allowed,
        counter invalid,
    }
}

#[derive(Debug)]
struct Config(Arc<Settings>);

impl Blueprint for Config {
    fn build(&self, build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
        let settings = Arc::clone(&self.0);
        let dot = if settings.stat_prefix.is_empty() { "" } else { "." };
        let suffix = format!("ext_authz.{}{dot}", settings.stat_prefix);
        let prefix = format!("{}{suffix}", build.stat_prefix);
        let stats = build.stats.get(build.store, prefix, AuthzStats::new);
        let (store, shared) = (Arc::clone(build.store), Arc::clone(build.stats));
        let by_cluster = Mutex::default();
        Ok(Arc::new(Filter { settings, stats, suffix, store, shared, by_cluster }))
    }
}

struct Filter {
    settings: Arc<Settings>,
    stats: Arc<AuthzStats>,
    /// What follows a cluster's name in its statistics.
    suffix: String,
    store: Arc<Store>,
    shared: Arc<SharedStats>,
    by_cluster: Mutex<HashMap<Arc<str>, Arc<AuthzStats>>>,
}

impl HttpFilter for Filter {
    fn decode<'a>(&'a self, request: &'a mut Request<'_>) -> Decoded<'a> {
        if request.route_config().is_some_and(|route: &RouteSettings| route.disabled) {
            return Decoded::Continue;
        }
        if !self.is_enabled(request) {
            self.stats.disabled.inc();
            return match self.settings.denies_when_disabled {
                true => Decoded::Reply(self.error_reply(self.settings.status_on_error)),
                false => Decoded::Continue,
            };
        }
        Decoded::Later(Box::pin(self.check(request)))
    }

    fn encode(&self, response: &mut Response<'_>) {
        let changes: Vec<Change> = response.kept().cloned().unwrap_or_default();
        changes.iter().for_each(|change| change.apply(&mut response.head.headers));
    }
}

impl Filter {
    fn is_enabled(&self, request: &Request<'_>) -> bool {
        let by_metadata = self.settings.enabled_by.as_ref().is_none_or(|matcher| {
            matcher.matches(request.stream.shared.info.borrow().dynamic_metadata.as_deref())
        });
        by_metadata && falls_within(self.settings.enabled)
    }

    /// Asks, and does what the server says.
    async fn check(&self, request: &mut Request<'_>) -> Result<(), LocalReply> {
        let body = match self.body_settings(request) {
            Some(settings) if request.has_body() => Some(self.read_body(request, settings).await?),
            _ => None,
        };
        let verdict = match &self.settings.server {
            Server::Grpc(service) => self.ask(service, request, body).await,
            Server::Http(service) => {
                let partial = |body: ToldBody| {
                    let partial = if body.is_partial { "true" } else { "false" };
                    (body.bytes, HeaderValue::from_static(partial))
                };
                let choice = &self.settings.headers;
                service.ask(request.parts, body.map(partial), choice, request.stream).await
            }
        };
        match verdict {
            Some(Verdict::Allowed(allowed)) => {
                self.count(request, |stats| stats.ok.inc());
                self.admit(request, allowed);
                Ok(())
            }
            Some(Verdict::Denied(denied)) => Err(self.deny(request, denied)),
            Some(Verdict::Invalid) => {
                self.count(request, |stats| stats.invalid.inc());
                let reply =
                    LocalReply::new(StatusCode::INTERNAL_SERVER_ERROR, "ext_authz_invalid", "");
                Err(reply.flag(ResponseFlags::UNAUTHORIZED_EXTERNAL_SERVICE))
            }
            None => self.failed(request),
        }
    }

    fn body_settings(&self, request: &Request<'_>) -> Option<BodySettings> {
        match request.route_config::<RouteSettings>() {
            Some(route) if route.without_body => None,
            Some(RouteSettings { body: Some(body), .. }) => {
                let as_bytes = self.settings.body.is_some_and(|body| body.as_bytes);
                Some(BodySettings { as_bytes, ..*body })
            }
            _ => self.settings.body,
        }
    }

    /// Reads as much of the body as the server is told of.
    async fn read_body(
        &self,
        request: &mut Request<'_>,
        settings: BodySettings,
    ) -> Result<ToldBody, LocalReply> {
        let (bytes, is_whole) = request.read_ahead(settings.most).await;
        let is_partial = !is_whole || bytes.len() > settings.most;
        if is_partial && !settings.partial {
            return Err(too_large(request));
        }
        let length = bytes.len();
        let bytes = bytes.slice(..length.min(settings.most));
        Ok(ToldBody { bytes, length, is_partial, settings })
    }

    /// Asks over gRPC.
    async fn ask(
        &self,
        service: &Service,
        request: &Request<'_>,
        body: Option<ToldBody>,
    ) -> Option<Verdict> {
        let question = {
            let Request { parts, stream, route, .. } = request;
            let info = stream.shared.info.borrow();
            let told = Told {
                certificate: self.settings.tells_certificate,
                session: self.settings.tells_session,
            };
            let mut question = attributes::of_connection(&info.connection, info.remote(), told);
            if let Some(attributes) = &mut question.attributes {
                let Settings { headers, raw_headers, .. } = &*self.settings;
                attributes.request = Some(attributes::of_request(
                    parts,
                    stream.scheme,
                    &info,
                    headers,
                    *raw_headers,
                    body.as_ref(),
                ));
                if let Some(source) = &mut attributes.source {
                    source.service = attributes::service(&parts.headers);
                }
                let dynamic = info.dynamic_metadata.as_deref();
                let metadata = attributes::metadata(dynamic, &self.settings.metadata);
                attributes.metadata_context = Some(metadata);
                let of_route = route.and_then(|route| route.config.metadata.as_deref());
                let metadata = attributes::metadata(of_route, &self.settings.route_metadata);
                attributes.route_metadata_context = Some(metadata);
                if let Some(route) = request.route_config::<RouteSettings>() {
                    attributes.context_extensions = route.extensions.clone();
                }
            }
            question
        };
        let connection = &request.stream.connection;
        let answer: CheckResponse =
            service.call(CHECK, &question, &connection.worker, &connection.info).await?;
        Some(Verdict::from_proto(answer, self.settings.validates))
    }

    /// Lets the request go on, changed as the server says.
    fn admit(&self, request: &mut Request<'_>, allowed: Allowed) {
        allowed.apply(request.parts);
        if self.settings.takes_metadata && !allowed.metadata.is_empty() {
            let mut info = request.stream.shared.info.borrow_mut();
            for (key, value) in &allowed.metadata {
                info.set_metadata(NAMESPACE, key, value.clone());
            }
        }
        if self.settings.clear_route_cache && allowed.changes_request() {
            request.clear_route_cache();
        }
        if !allowed.response.is_empty() {
            request.keep(Box::new(allowed.response));
        }
    }

    /// The server's answer.
    fn deny(&self, request: &Request<'_>, denied: Denied) -> LocalReply {
        let cluster = self.count(request, |stats| stats.denied.inc());
        if let Some(cluster) = cluster.filter(|_| self.settings.charges_cluster) {
            cluster.traffic().charge(denied.status.as_u16(), true);
        }
        let most = match self.settings.longest_denial {
            0 => usize::MAX,
            most => most,
        };
        let body = denied.body.slice(..denied.body.len().min(most));
        let reply = LocalReply::new(denied.status, "ext_authz_denied", body);
        let mut reply = reply.flag(ResponseFlags::UNAUTHORIZED_EXTERNAL_SERVICE);
        reply.headers = denied.headers;
        reply
    }

    /// The server could not be asked, or failed itself.
    fn failed(&self, request: &mut Request<'_>) -> Result<(), LocalReply> {
        self.count(request, |stats| stats.error.inc());
        if !self.settings.allows_on_failure {
            return Err(self.error_reply(self.settings.status_on_error));
        }
        self.count(request, |stats| stats.failure_mode_allowed.inc());
        if self.settings.tells_of_failure {
            request.parts.headers.insert(FAILURE_ALLOWED, HeaderValue::from_static("true"));
        }
        Ok(())
    }

    fn error_reply(&self, status: StatusCode) -> LocalReply {
        let reply = LocalReply::new(status, "ext_authz_error", Bytes::new());
        reply.flag(ResponseFlags::UNAUTHORIZED_EXTERNAL_SERVICE)
    }

    /// Counts for the filter, and for the cluster that the request would go to, which is returned.
    fn count(&self, request: &Request<'_>, count: impl Fn(&AuthzStats)) -> Option<Arc<Cluster>> {
        count(&self.stats);
        let cluster = request.cluster()?;
        let mut held = self.by_cluster.lock();
        let stats = held.entry(Arc::clone(cluster.name())).or_insert_with(|| {
            let prefix = format!("cluster.{}.{}", cluster.config().stat_name, self.suffix);
            self.shared.get(&self.store, prefix, AuthzStats::new)
        });
        count(stats);
        drop(held);
        Some(cluster)
    }
}
