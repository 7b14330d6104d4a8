//! `TlsSessionTicketKeys`.

use std::fmt;

use proto::envoy::extensions::transport_sockets::tls::v3 as pb;

use crate::config::error::{At, ConfigError, Context};
use crate::config::value;

/// Keys of session tickets: the first seals, all open. Prints without the keys.
#[derive(Clone)]
pub struct TicketKeys(Vec<[u8; TicketKeys::LENGTH]>);

impl TicketKeys {
    /// Bytes of a key: 16 of its name, 32 for authentication, 32 for encryption.
    pub const LENGTH: usize = 80;

    /// Keys in their order.
    ///
    /// # Errors
    /// The index of a key that is not [`Self::LENGTH`] bytes long, and its length.
    pub fn new(keys: impl Iterator<Item = Vec<u8>>) -> Result<TicketKeys, (usize, usize)> {
        let key =
            |(i, key): (usize, Vec<u8>)| key.try_into().map_err(|key: Vec<u8>| (i, key.len()));
        keys.enumerate().map(key).collect::<Result<_, _>>().map(TicketKeys)
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &[u8; TicketKeys::LENGTH]> {
        self.0.iter()
    }

    /// Translates the message and reads its files.
    ///
    /// # Errors
    /// There is no key, or one has another length.
    pub fn from_proto(
        message: &pb::TlsSessionTicketKeys,
        at: &At<'_>,
        context: &Context,
    ) -> Result<TicketKeys, ConfigError> {
        if message.keys.is_empty() {
            return Err(at.field("keys").error("must not be empty"));
        }
        let keys = message.keys.iter().enumerate();
        let keys = keys.map(|(i, key)| value::bytes(key, &at.index("keys", i), context));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        TicketKeys::new(keys.into_iter()).map_err(|(i, length)| {
            let rule = format_args!("has {length} bytes, and must have {}", TicketKeys::LENGTH);
            at.index("keys", i).error(rule)
        })
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TicketKeys").field(&self.0.len()).finish()
    }
}
