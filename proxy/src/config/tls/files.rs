//! Secrets that stand where they are used, with files that are read again when they move.

use std::fmt;
use std::sync::Arc;

use proto::envoy::extensions::transport_sockets::tls::v3 as pb;
use proto::envoy::extensions::transport_sockets::tls::v3::secret::Type;

use super::{NamedSecret, Secret, SecretKind, SecretSource};
use crate::config::error::{At, ConfigError, Context, Files};

/// Where the files of a secret are said, to read them again. Prints its place only.
#[derive(Clone)]
pub struct SecretFiles {
    place: Arc<str>,
    message: Arc<pb::Secret>,
}

impl SecretFiles {
    /// The files of a secret that stands at `at` and has just been translated in `context`; none if no folder is watched.
    pub(in crate::config) fn new(
        secret: impl FnOnce() -> Option<Type>,
        at: &At<'_>,
        context: &Context,
    ) -> Option<SecretFiles> {
        if context.take_files().watched.is_empty() {
            return None;
        }
        let place: Arc<str> = at.to_string().into();
        let message = pb::Secret { name: place.to_string(), r#type: secret() };
        Some(SecretFiles { place, message: message.into() })
    }

    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn read(&self) -> Result<(SecretKind, Files), ConfigError> {
        // What was warned of has been told when the configuration was translated.
        let context = Context::default();
        let secret = Secret::from_proto(&self.message, &At::resource(&self.place, ""), &context)?;
        Ok((secret.kind, context.take_files()))
    }

    /// The secret under the name of its place.
    pub(super) fn named(self) -> NamedSecret {
        NamedSecret { name: Arc::clone(&self.place), source: SecretSource::Files(self) }
    }
}

impl fmt::Debug for SecretFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SecretFiles").field(&self.place).finish()
    }
}
