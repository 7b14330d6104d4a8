//! Secrets that change, and how a change reaches those who use them.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

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
    /// A user cannot use it; everything stays as it was.
    pub fn set(&self, secret: SecretKind) -> Result<(), ConfigError> {
        self.settle();
        let users: Vec<_> = self.users.lock().iter().filter_map(Weak::upgrade).collect();
        let installs = users.into_iter().map(|user| user.prepare(self, &secret));
        let installs = installs.collect::<Result<Vec<_>, _>>()?;
        self.value.store(Some(Arc::new(secret)));
        installs.into_iter().for_each(|install| install());
        Ok(())
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
