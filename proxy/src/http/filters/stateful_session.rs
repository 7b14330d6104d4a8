//! `envoy.filters.http.stateful_session`: a client stays with the host that has served it before.

use std::path::Path;
use std::sync::Arc;

use http::StatusCode;
use proto::envoy::extensions::filters::http::stateful_session::v3::stateful_session_per_route::Override;
use proto::envoy::extensions::filters::http::stateful_session::v3::{
    StatefulSession as Message, StatefulSessionPerRoute,
};
use proto::google::protobuf::Any;

use super::{Blueprint, Build, Decoded, HttpFilter, Registration, Request, Response};
use crate::config::http_filter::Opaque;
use crate::config::{At, ConfigError, Context, any};
use crate::http::stream::WantedHost;
use crate::io::Address;
use crate::stat_group;
use crate::telemetry::stats::Counter;

mod state;

use state::SessionState;

/// Its entry in the table.
pub(super) const FILTER: Registration = Registration {
    config: "envoy.extensions.filters.http.stateful_session.v3.StatefulSession",
    translate: |config, at, _| {
        let config = Session::from_proto(&any::open(config, at)?, at)?;
        Ok(Box::new(Config(Arc::new(config))) as Box<dyn Blueprint>)
    },
    route: Some((
        "envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute",
        route,
    )),
};

stat_group! {
    /// `http.<stat_prefix>.stateful_session.<stat_prefix>.`
    pub struct SessionStats {
        counter failed_closed,
        counter failed_open,
        counter no_session,
        counter routed,
    }
}

/// How sessions are kept.
#[derive(Debug)]
struct Session {
    /// None keeps no session.
    state: Option<SessionState>,
    /// `strict`: the status of the answer when the host cannot be used.
    strict: Option<StatusCode>,
    /// `stat_prefix`; statistics are kept only under one.
    stat_prefix: Box<str>,
}

impl Session {
    fn from_proto(message: &Message, at: &At<'_>) -> Result<Session, ConfigError> {
        let at_state = at.field("session_state");
        let state = message.session_state.as_ref();
        let state = state.map(|state| SessionState::from_proto(state, &at_state));
        let at_status = at.field("status_on_strict_destination_not_found");
        let status = match message.status_on_strict_destination_not_found {
            0 => StatusCode::SERVICE_UNAVAILABLE,
            code => u16::try_from(code)
                .ok()
                .filter(|code| (200..600).contains(code))
                .and_then(|code| StatusCode::from_u16(code).ok())
                .ok_or_else(|| at_status.error(format_args!("{code} is not within 200 and 599")))?,
        };
        Ok(Session {
            state: state.transpose()?,
            strict: message.strict.then_some(status),
            stat_prefix: message.stat_prefix.as_str().into(),
        })
    }
}

/// What a route says: another way to keep sessions, or none.
fn route(config: &Any, at: &At<'_>, _: &Context) -> Result<Opaque, ConfigError> {
    let message: StatefulSessionPerRoute = any::open(config, at)?;
    let session = match &message.r#override {
        Some(Override::Disabled(true)) => None,
        Some(Override::Disabled(false)) => {
            return Err(at.field("disabled").error("must be true"));
        }
        Some(Override::StatefulSession(session)) => {
            Some(Session::from_proto(session, &at.field("stateful_session"))?)
        }
        None => return Err(at.error("disabled or stateful_session is required")),
    };
    Ok(Opaque::new(session))
}

#[derive(Debug)]
struct Config(Arc<Session>);

impl Blueprint for Config {
    fn build(&self, build: &Build<'_>) -> Result<Arc<dyn HttpFilter>, ConfigError> {
        let stats = (!self.0.stat_prefix.is_empty()).then(|| {
            let prefix = format!("{}stateful_session.{}.", build.stat_prefix, self.0.stat_prefix);
            build.stats.get(build.store, prefix, SessionStats::new)
        });
        Ok(Arc::new(Filter { session: Arc::clone(&self.0), stats }))
    }
}

#[derive(Debug)]
struct Filter {
    session: Arc<Session>,
    stats: Option<Arc<SessionStats>>,
}

/// What is kept of a request: the address that it asked for, if any.
struct Asked(Option<Box<str>>);

impl Filter {
    fn count(&self, counter: impl Fn(&SessionStats) -> &Counter) {
        if let Some(stats) = &self.stats {
            counter(stats).inc();
        }
    }

    /// The way in which sessions of a request are kept, if they are.
    fn session<'a>(&'a self, route: Option<&'a Option<Session>>) -> Option<&'a Session> {
        match route {
            Some(session) => session.as_ref(),
            None => Some(&self.session),
        }
    }
}

impl HttpFilter for Filter {
    fn decode<'a>(&'a self, request: &'a mut Request<'_>) -> Decoded<'a> {
        let config = request.config.clone();
        let session = self.session(config.as_ref().and_then(Opaque::get));
        let Some(session) = session else { return Decoded::Continue };
        let state = session.state.as_ref().filter(|state| state.applies_to(request.parts));
        let Some(state) = state else {
            self.count(|stats| &stats.no_session);
            return Decoded::Continue;
        };
        let asked = state.address(&request.parts.headers);
        if let Some(asked) = &asked {
            // What is no address is that of no host.
            let pipe = |_| Address::Pipe(Arc::from(Path::new(&**asked)));
            let address = asked.parse().map_or_else(pipe, Address::Ip);
            request.stream.wanted = Some(Box::new(WantedHost { address, strict: session.strict }));
        }
        request.keep(Box::new(Asked(asked)));
        Decoded::Continue
    }

    fn encode(&self, response: &mut Response<'_>) {
        let config = response.config.clone();
        let session = self.session(config.as_ref().and_then(Opaque::get));
        let (Some(session), Some(Asked(asked))) = (session, response.kept()) else { return };
        let host = response.stream.shared.info.borrow().upstream.host.clone();
        let Some(host) = host.map(|host| host.to_string()) else {
            if asked.is_some() && session.strict.is_some() {
                self.count(|stats| &stats.failed_closed);
            }
            return;
        };
        if asked.as_deref() == Some(&*host) {
            return self.count(|stats| &stats.routed);
        }
        if session.strict.is_none() {
            self.count(|stats| &stats.failed_open);
        }
        if let Some(state) = &session.state {
            state.tell(&host, &mut response.head.headers);
        }
    }
}
