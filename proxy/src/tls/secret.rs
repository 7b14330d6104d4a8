//! Secrets that change, and how a change reaches those who use them.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::certificate::Parsed;
use super::identity::Identity;
use super::verify::Verifier;
use crate::config::tls::{SecretKind, TicketKeys, ValidationContext};
use crate::config::{At, ConfigError};

/// The secrets of a context, wherever they came from.
#[derive(Default)]
pub struct Resolved {
    /// `tls_certificates`, or what SDS brought for them.
    pub certificates: Vec<Identity>,
    /// How peers are verified; a `combined_validation_context` is merged already.
    pub validation: Option<Arc<ValidationContext>>,
    /// What session tickets are sealed with, where it is configured.
    pub ticket_keys: Option<Arc<TicketKeys>>,
}

/// A secret that can be used. It is read once, however many contexts use it.
#[derive(Clone)]
pub(super) enum Loaded {
    Certificate(Identity),
    Validation(Trust),
    TicketKeys(Arc<TicketKeys>),
}

/// A validation context, and when the first of its trust anchors expires.
#[derive(Clone)]
pub(super) struct Trust {
    pub context: Arc<ValidationContext>,
    pub expires: Option<SystemTime>,
}

impl Trust {
    pub(super) fn new(context: &Arc<ValidationContext>) -> Self {
        let anchors = context.trusted_ca_pem.as_deref().unwrap_or_default();
        let anchors = CertificateDer::pem_slice_iter(anchors).filter_map(Result::ok);
        let ends = anchors.filter_map(|der| Some(Parsed::new(&der)?.info().not_after));
        Trust { expires: ends.min(), context: Arc::clone(context) }
    }
}

/// A secret by name, shared by every context that names it. Lives on the control thread.
pub struct SecretCell {
    name: Arc<str>,
    value: ArcSwapOption<Loaded>,
    /// Whether somebody should still wait for the first value.
    is_settled: AtomicBool,
    users: Mutex<Vec<Weak<dyn SecretUser>>>,
}

/// Who is built from secrets.
pub(super) trait SecretUser: Send + Sync {
    /// Builds anew with `new` in the place of what `cell` holds. Nothing changes before the returned function is called.
    ///
    /// # Errors
    /// The secret cannot be used here.
    fn prepare(
        self: Arc<Self>,
        cell: &SecretCell,
        new: &Loaded,
    ) -> Result<Box<dyn FnOnce()>, ConfigError>;
}

impl SecretCell {
    /// A secret that is not there yet.
    pub fn new(name: &Arc<str>) -> Arc<Self> {
        Arc::new(SecretCell {
            name: Arc::clone(name),
            value: ArcSwapOption::empty(),
            is_settled: AtomicBool::new(false),
            users: Mutex::default(),
        })
    }

    /// A secret that is there.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn with(name: &Arc<str>, secret: &SecretKind) -> Result<Arc<Self>, ConfigError> {
        let cell = Self::new(name);
        cell.set(secret)?;
        Ok(cell)
    }

    /// The secret's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The secret, once it is there.
    pub(super) fn value(&self) -> Option<Arc<Loaded>> {
        self.value.load_full()
    }

    /// Whether nobody need wait: the secret is there, or was refused, or its time is over.
    pub fn is_settled(&self) -> bool {
        self.is_settled.load(SeqCst)
    }

    /// Nobody is to wait for it any longer.
    pub fn settle(&self) {
        self.is_settled.store(true, SeqCst);
    }

    /// Sets a new value: every user is built with it, and only if all can be built, all change to it.
    ///
    /// # Errors
    /// It cannot be used at all, or not by one of the users; everything stays as it was.
    pub fn set(&self, secret: &SecretKind) -> Result<(), ConfigError> {
        self.settle();
        let secret = load(secret, &At::resource("secret", &self.name))?;
        let users: Vec<_> = self.users.lock().iter().filter_map(Weak::upgrade).collect();
        let installs = users.into_iter().map(|user| user.prepare(self, &secret));
        let installs = installs.collect::<Result<Vec<_>, _>>()?;
        self.value.store(Some(Arc::new(secret)));
        installs.into_iter().for_each(|install| install());
        Ok(())
    }

    /// How many users are kept, those that are gone but not swept yet among them.
    #[cfg(test)]
    pub(super) fn users(&self) -> usize {
        self.users.lock().len()
    }

    /// Builds `user` anew at every change, for as long as it lives.
    pub(super) fn tell(&self, user: Weak<dyn SecretUser>) {
        let mut users = self.users.lock();
        // Dead users are swept when the list would have to grow.
        if users.len() == users.capacity() {
            users.retain(|user| user.strong_count() > 0);
        }
        users.push(user);
    }
}

impl std::fmt::Debug for SecretCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretCell").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Reads a secret. What nobody can use is refused also while nobody can be asked: a user may still wait for another secret.
fn load(secret: &SecretKind, at: &At<'_>) -> Result<Loaded, ConfigError> {
    match secret {
        SecretKind::Certificate(certificate) => {
            let at = at.field("tls_certificate");
            Identity::new(certificate, &at).map(Loaded::Certificate)
        }
        SecretKind::Validation(validation) => {
            let has_anchors = validation.trusted_ca_pem.is_some() || validation.spiffe.is_some();
            // Without trust anchors it is for a default context that has them.
            if has_anchors {
                Verifier::new(validation, &at.field("validation_context"))?;
            }
            Ok(Loaded::Validation(Trust::new(validation)))
        }
        SecretKind::TicketKeys(keys) => Ok(Loaded::TicketKeys(Arc::clone(keys))),
    }
}

impl Loaded {
    /// When it is over.
    pub(super) fn expires(&self) -> Option<SystemTime> {
        match self {
            Loaded::Certificate(identity) => Some(identity.info.not_after),
            Loaded::Validation(trust) => trust.expires,
            Loaded::TicketKeys(_) => None,
        }
    }

    /// A certificate, as a context needs one.
    pub(super) fn certificate(&self, at: &At<'_>) -> Result<&Identity, ConfigError> {
        match self {
            Loaded::Certificate(identity) => Ok(identity),
            other => Err(other.is_not("tls_certificate", at)),
        }
    }

    /// A validation context, as a context needs one.
    pub(super) fn validation(&self, at: &At<'_>) -> Result<&ValidationContext, ConfigError> {
        match self {
            Loaded::Validation(trust) => Ok(&trust.context),
            other => Err(other.is_not("validation_context", at)),
        }
    }

    /// Keys of session tickets, as a context needs them.
    pub(super) fn ticket_keys(&self, at: &At<'_>) -> Result<&Arc<TicketKeys>, ConfigError> {
        match self {
            Loaded::TicketKeys(keys) => Ok(keys),
            other => Err(other.is_not("session_ticket_keys", at)),
        }
    }

    fn is_not(&self, needed: &str, at: &At<'_>) -> ConfigError {
        let is = match self {
            Loaded::Certificate(_) => "tls_certificate",
            Loaded::Validation(_) => "validation_context",
            Loaded::TicketKeys(_) => "session_ticket_keys",
        };
        at.error(format_args!("is a {is}, where a {needed} is needed"))
    }
}
