//! Secrets that change, and how a change reaches those who use them.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls::crypto::aws_lc_rs::default_provider;

use super::identity::Identity;
use super::verify::Verifier;
use crate::config::tls::{Certificate, SecretKind, ValidationContext};
use crate::config::{At, ConfigError};

/// The secrets of a context, wherever they came from.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// `tls_certificates`, or what SDS brought for them.
    pub certificates: Vec<Arc<Certificate>>,
    /// How peers are verified; a `combined_validation_context` is merged already.
    pub validation: Option<Arc<ValidationContext>>,
}

/// A secret by name, shared by every context that names it. Lives on the control thread.
pub struct SecretCell {
    name: Arc<str>,
    value: ArcSwapOption<SecretKind>,
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
        new: &SecretKind,
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
    pub fn with(name: &Arc<str>, secret: SecretKind) -> Arc<Self> {
        let cell = Self::new(name);
        cell.value.store(Some(Arc::new(secret)));
        cell.settle();
        cell
    }

    /// The secret's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The secret, once it is there.
    pub fn value(&self) -> Option<Arc<SecretKind>> {
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
    pub fn set(&self, secret: SecretKind) -> Result<(), ConfigError> {
        self.settle();
        check(&secret, &At::resource("secret", &self.name))?;
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

/// Refuses what nobody can use, also while nobody can be asked: a user may still wait for another secret.
fn check(secret: &SecretKind, at: &At<'_>) -> Result<(), ConfigError> {
    match secret {
        SecretKind::Certificate(certificate) => {
            let at = at.field("tls_certificate");
            Identity::new(certificate, &default_provider(), &at).map(drop)
        }
        SecretKind::Validation(validation) => {
            let has_anchors = validation.trusted_ca_pem.is_some() || validation.spiffe.is_some();
            // Without trust anchors it is for a default context that has them.
            let at = at.field("validation_context");
            has_anchors.then(|| Verifier::new(validation, &at)).transpose().map(drop)
        }
    }
}

/// A certificate, as a context needs one.
pub(super) fn certificate(
    secret: &SecretKind,
    at: &At<'_>,
) -> Result<Arc<Certificate>, ConfigError> {
    match secret {
        SecretKind::Certificate(certificate) => Ok(Arc::clone(certificate)),
        SecretKind::Validation(_) => {
            Err(at.error("is a validation_context, where a tls_certificate is needed"))
        }
    }
}

/// A validation context, as a context needs one.
pub(super) fn validation(
    secret: &SecretKind,
    at: &At<'_>,
) -> Result<Arc<ValidationContext>, ConfigError> {
    match secret {
        SecretKind::Validation(validation) => Ok(Arc::clone(validation)),
        SecretKind::Certificate(_) => {
            Err(at.error("is a tls_certificate, where a validation_context is needed"))
        }
    }
}
