//! A context made ready for handshakes, and made anew when one of its secrets changes.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::{ArcSwapOption, Guard};
use rustls_pki_types::CertificateDer;

use super::client::ClientContext;
use super::identity::Identity;
use super::secret::{Loaded, Resolved, SecretCell, SecretUser, Trust};
use super::server::ServerContext;
use super::stats::FactoryStats;
use crate::config::tls::{
    CommonTls, DownstreamTls, NamedSecret, SecretRef, TicketKeys, UpstreamTls,
};
use crate::config::{At, ConfigError};

/// The server side of a filter chain.
pub type ServerTls = Slot<DownstreamTls>;
/// The client side of a cluster.
pub type ClientTls = Slot<UpstreamTls>;

/// Gives the cell of a secret by its name and source.
pub type FindSecret<'a> = &'a mut dyn FnMut(&NamedSecret) -> Result<Arc<SecretCell>, String>;

/// A `DownstreamTlsContext` or `UpstreamTlsContext`.
pub trait TlsContext: Send + Sync + 'static {
    /// What handshakes need.
    type Ready: Send + Sync + 'static;

    /// `common_tls_context`
    fn common(&self) -> &CommonTls;

    /// What session tickets are sealed with, where it is configured.
    fn ticket_keys(&self) -> Option<&SecretRef<TicketKeys>> {
        None
    }

    /// Makes it ready.
    ///
    /// # Errors
    /// A secret that cannot be used here.
    fn build(&self, secrets: &Resolved, at: &At<'_>) -> Result<Self::Ready, ConfigError>;
}

impl TlsContext for DownstreamTls {
    type Ready = ServerContext;

    fn common(&self) -> &CommonTls {
        &self.common
    }

    fn ticket_keys(&self) -> Option<&SecretRef<TicketKeys>> {
        self.ticket_keys.as_ref()
    }

    fn build(&self, secrets: &Resolved, at: &At<'_>) -> Result<Self::Ready, ConfigError> {
        ServerContext::new(self, secrets, at)
    }
}

impl TlsContext for UpstreamTls {
    type Ready = ClientContext;

    fn common(&self) -> &CommonTls {
        &self.common
    }

    fn build(&self, secrets: &Resolved, at: &At<'_>) -> Result<Self::Ready, ConfigError> {
        ClientContext::new(self, secrets, at)
    }
}

/// A context with its secrets. Every build has its own ticket keys and session storage: no session outlives the
/// certificates and the trust that it was made with.
pub struct Slot<C: TlsContext> {
    context: Arc<C>,
    /// Where the context stands, for errors that come later.
    place: Box<str>,
    certificates: Vec<Input<Identity>>,
    ticket_keys: Option<Input<Arc<TicketKeys>>>,
    validation: Option<ValidationInput>,
    ready: ArcSwapOption<C::Ready>,
    /// Counts what becomes of the context.
    pub stats: Arc<FactoryStats>,
}

/// A secret given in the context, or by name.
enum Input<T> {
    Inline(T),
    Cell(Arc<SecretCell>),
}

impl<T> Input<T> {
    fn cell(&self) -> Option<&Arc<SecretCell>> {
        match self {
            Input::Inline(_) => None,
            Input::Cell(cell) => Some(cell),
        }
    }
}

/// The context given, and the cell of the one that is merged over it.
struct ValidationInput {
    given: Trust,
    cell: Option<Arc<SecretCell>>,
}

impl<C: TlsContext> Slot<C> {
    /// A context whose secrets are found by `find`. It is ready at once if they are there.
    ///
    /// # Errors
    /// A secret that is not known, or cannot be used.
    pub fn new(
        context: Arc<C>,
        at: &At<'_>,
        stats: Arc<FactoryStats>,
        find: FindSecret<'_>,
    ) -> Result<Arc<Self>, ConfigError> {
        let at_common = at.field("common_tls_context");
        let mut certificates = Vec::new();
        for (index, certificate) in context.common().certificates.iter().enumerate() {
            certificates.push(match certificate {
                SecretRef::Inline(certificate) => {
                    let at = at_common.index("tls_certificates", index);
                    Input::Inline(Identity::new(certificate, &at)?)
                }
                SecretRef::Named(named) => {
                    let at = at_common.index("tls_certificate_sds_secret_configs", index);
                    let cell = find(named).map_err(|error| at.error(error))?;
                    Input::Cell(cell)
                }
            });
        }
        let ticket_keys = match context.ticket_keys() {
            None => None,
            Some(SecretRef::Inline(keys)) => Some(Input::Inline(Arc::clone(keys))),
            Some(SecretRef::Named(named)) => {
                let at = at.field("session_ticket_keys_sds_secret_config");
                Some(Input::Cell(find(named).map_err(|error| at.error(error))?))
            }
        };
        let validation = match &context.common().validation {
            None => None,
            Some(validation) => {
                let at = at_common.field("validation_context_sds_secret_config");
                let cell = validation.named.as_ref().map(find).transpose();
                let cell = cell.map_err(|error| at.error(error))?;
                Some(ValidationInput { given: Trust::new(&validation.context), cell })
            }
        };
        let place = at.to_string().into();
        let ready = ArcSwapOption::empty();
        let slot =
            Arc::new(Slot { context, place, certificates, ticket_keys, validation, ready, stats });
        slot.ready.store(slot.build(None)?);
        for cell in slot.cells() {
            let user: Arc<dyn SecretUser> = slot.clone();
            cell.tell(Arc::downgrade(&user));
        }
        Ok(slot)
    }

    /// The context.
    pub fn context(&self) -> &Arc<C> {
        &self.context
    }

    /// What handshakes need; none while a secret is missing. To be read once per handshake.
    pub fn ready(&self) -> Guard<Option<Arc<C::Ready>>> {
        self.ready.load()
    }

    /// Whether nothing is to be waited for: every secret is there, was refused, or its time is over.
    pub fn is_settled(&self) -> bool {
        self.cells().all(|cell| cell.is_settled())
    }

    /// The names of the secrets that are waited for, for people.
    pub fn waits_for(&self) -> String {
        let waiting = self.cells().filter(|cell| !cell.is_settled());
        waiting.map(|cell| format!("{:?}", cell.name())).collect::<Vec<_>>().join(", ")
    }

    /// The secrets that come by name.
    pub fn cells(&self) -> impl Iterator<Item = &Arc<SecretCell>> {
        let certificates = self.certificates.iter().filter_map(Input::cell);
        let ticket_keys = self.ticket_keys.as_ref().and_then(Input::cell);
        certificates
            .chain(ticket_keys)
            .chain(self.validation.as_ref().and_then(|validation| validation.cell.as_ref()))
    }

    /// The certificates of each chain that is presented, and the trust anchors in PEM; nothing while a secret is missing.
    pub fn in_use(&self) -> (Vec<CertificateDer<'static>>, Vec<u8>) {
        let Ok(Some(secrets)) = self.resolve(None) else { return Default::default() };
        let chains = secrets.certificates.iter().flat_map(|own| own.key.cert.iter().cloned());
        let validation = secrets.validation.as_ref();
        let anchors = validation.and_then(|validation| validation.trusted_ca_pem.clone());
        (chains.collect(), anchors.unwrap_or_default())
    }

    /// Builds with a new value for a cell; none while a secret is missing.
    fn build(
        &self,
        new: Option<(&SecretCell, &Loaded)>,
    ) -> Result<Option<Arc<C::Ready>>, ConfigError> {
        let Some(secrets) = self.resolve(new)? else { return Ok(None) };
        let at = At::resource(&self.place, "");
        self.context.build(&secrets, &at).map(|ready| Some(Arc::new(ready)))
    }

    fn resolve(
        &self,
        new: Option<(&SecretCell, &Loaded)>,
    ) -> Result<Option<Resolved>, ConfigError> {
        let value = |cell: &Arc<SecretCell>| match new {
            Some((changed, new)) if std::ptr::eq(changed, &**cell) => Some(Arc::new(new.clone())),
            _ => cell.value(),
        };
        let mut resolved = Resolved::default();
        for input in &self.certificates {
            resolved.certificates.push(match input {
                Input::Inline(identity) => identity.clone(),
                Input::Cell(cell) => {
                    let Some(secret) = value(cell) else { return Ok(None) };
                    secret.certificate(&At::resource("secret", cell.name()))?.clone()
                }
            });
        }
        resolved.ticket_keys = match &self.ticket_keys {
            None => None,
            Some(Input::Inline(keys)) => Some(Arc::clone(keys)),
            Some(Input::Cell(cell)) => {
                let Some(secret) = value(cell) else { return Ok(None) };
                let at = At::resource("secret", cell.name());
                Some(Arc::clone(secret.ticket_keys(&at)?))
            }
        };
        if let Some(ValidationInput { given, cell }) = &self.validation {
            resolved.validation = Some(match cell {
                None => Arc::clone(&given.context),
                Some(cell) => {
                    let Some(secret) = value(cell) else { return Ok(None) };
                    let at = At::resource("secret", cell.name());
                    let merged = given.context.merged(secret.validation(&at)?);
                    merged.check_complete(&at)?;
                    Arc::new(merged)
                }
            });
        }
        Ok(Some(resolved))
    }
}

/// Something that is over some day.
pub trait Expires: Send + Sync {
    /// When the first of its certificates and trust anchors expires; none if it has none.
    fn expires(&self) -> Option<SystemTime>;
}

impl<C: TlsContext> Expires for Slot<C> {
    fn expires(&self) -> Option<SystemTime> {
        let inline = self.certificates.iter().filter_map(|input| match input {
            Input::Inline(identity) => Some(identity.info.not_after),
            Input::Cell(_) => None,
        });
        let given = self.validation.as_ref().and_then(|validation| validation.given.expires);
        let cells = self.cells().filter_map(|cell| cell.value()?.expires());
        inline.chain(given).chain(cells).min()
    }
}

impl<C: TlsContext> SecretUser for Slot<C> {
    fn prepare(
        self: Arc<Self>,
        cell: &SecretCell,
        new: &Loaded,
    ) -> Result<Box<dyn FnOnce()>, ConfigError> {
        let ready = self.build(Some((cell, new)))?;
        Ok(Box::new(move || {
            self.ready.store(ready);
            self.stats.ssl_context_update_by_sds.inc();
        }))
    }
}

impl<C: TlsContext> std::fmt::Debug for Slot<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("place", &self.place).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
