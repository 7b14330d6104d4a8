//! Session tickets under keys that are configured, so that replicas resume each other's sessions.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use rustls::server::ProducesTickets;

use crate::config::tls::TicketKeys;

/// How long a ticket is good, in seconds: BoringSSL's default.
const LIFETIME: u32 = 7200;

/// Seals tickets with the first key, and opens those of any.
pub(super) struct SharedTickets(Vec<Key>);

/// A key by its name, which stands in front of its tickets.
struct Key {
    name: [u8; 16],
    seal: RandomizedNonceKey,
}

impl SharedTickets {
    /// Tickets under these keys.
    ///
    /// # Errors
    /// The cryptography does not take a key.
    pub fn new(keys: &TicketKeys) -> Result<SharedTickets, Unspecified> {
        let key = |bytes: &[u8; TicketKeys::LENGTH]| {
            let (name, secret) = bytes.split_at(16);
            let (mac, cipher) = secret.split_at(32);
            // Both secrets count: authenticated encryption needs one only.
            let derived = hmac::sign(&hmac::Key::new(HMAC_SHA256, mac), cipher);
            let seal = RandomizedNonceKey::new(&AES_256_GCM, derived.as_ref())?;
            Ok(Key { name: name.try_into().map_err(|_| Unspecified)?, seal })
        };
        keys.keys().map(key).collect::<Result<_, _>>().map(SharedTickets)
    }
}

impl ProducesTickets for SharedTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let key = self.0.first()?;
        let mut sealed = plain.to_vec();
        let nonce = key.seal.seal_in_place_append_tag(Aad::from(key.name), &mut sealed).ok()?;
        Some([&key.name[..], nonce.as_ref(), &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(16)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let key = self.0.iter().find(|key| key.name == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let plain = key.seal.open_in_place(nonce, Aad::from(key.name), &mut sealed).ok()?;
        Some(plain.to_vec())
    }
}

impl fmt::Debug for SharedTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedTickets").field(&self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(keys: &[u8]) -> SharedTickets {
        let keys = keys.iter().map(|key| vec![*key; TicketKeys::LENGTH]);
        SharedTickets::new(&TicketKeys::new(keys).unwrap()).unwrap()
    }

    #[test]
    fn the_first_key_seals_and_every_key_opens() {
        let sealed = tickets(&[1]).encrypt(b"session").unwrap();
        assert_eq!(tickets(&[2, 1]).decrypt(&sealed).as_deref(), Some(&b"session"[..]));
        assert_eq!(tickets(&[2]).decrypt(&sealed), None);
        assert_ne!(tickets(&[1]).encrypt(b"session").unwrap(), sealed);
    }

    #[test]
    fn a_ticket_that_was_changed_or_cut_does_not_open() {
        let own = tickets(&[1]);
        let sealed = own.encrypt(b"session").unwrap();
        for length in 0..sealed.len() {
            assert_eq!(own.decrypt(&sealed[..length]), None);
            let mut changed = sealed.clone();
            changed[length] ^= 1;
            assert_eq!(own.decrypt(&changed), None);
        }
    }
}
