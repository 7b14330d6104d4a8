//! Addresses that listeners have taken, from the moment when they are added until they are gone.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::listener::Listener as Config;
use crate::config::{At, ConfigError};
use crate::downstream::socket::Socket;
use crate::io::Address;

/// The addresses that are taken, by whom. Several versions of one listener may have an address.
#[derive(Clone, Default)]
pub struct Addresses(Rc<RefCell<HashMap<Address, Owner>>>);

struct Owner {
    listener: Arc<str>,
    claims: usize,
}

/// The right to some addresses, given up when it is dropped.
pub struct Claim {
    all: Addresses,
    own: Vec<Address>,
}

/// What a listener needs to be installed. Dropping it frees its addresses.
pub struct Reservation {
    /// Its addresses; none for an update in place, which keeps those of the listener.
    pub claim: Option<Claim>,
    /// Bound sockets for each address that do not listen yet; none to go on with those of the listener's last version.
    pub sockets: Option<Vec<(Address, Vec<Socket>)>>,
    /// The version of the listener that they are for.
    pub config: Arc<Config>,
}

impl Addresses {
    /// Takes the addresses of a listener. A binding listener has no claim to port 0, which is a port of its own each time.
    ///
    /// # Errors
    /// Another listener has one of them.
    pub fn claim(&self, config: &Config) -> Result<Claim, ConfigError> {
        let is_any = |address: &&Address| config.bind_to_port && address.port() == Some(0);
        let own: Vec<_> = config.addresses.iter().filter(|a| !is_any(a)).cloned().collect();
        let mut all = self.0.borrow_mut();
        for address in &own {
            let Some(owner) = all.get(address).filter(|owner| owner.listener != config.name) else {
                continue;
            };
            let at = At::resource("listener", &config.name);
            return Err(at.field("address").error(format!(
                "duplicate address '{address}': listener '{}' has it already",
                owner.listener
            )));
        }
        for address in &own {
            let new = || Owner { listener: Arc::clone(&config.name), claims: 0 };
            all.entry(address.clone()).or_insert_with(new).claims += 1;
        }
        drop(all);
        Ok(Claim { all: self.clone(), own })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut all = self.all.0.borrow_mut();
        for address in &self.own {
            let Some(owner) = all.get_mut(address) else { continue };
            owner.claims -= 1;
            if owner.claims == 0 {
                all.remove(address);
            }
        }
    }
}

/// Whether two versions of a listener can use the same sockets.
pub fn same_sockets(one: &Config, other: &Config) -> bool {
    one.addresses == other.addresses
        && one.bind_to_port == other.bind_to_port
        && one.transparent == other.transparent
        && one.freebind == other.freebind
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Context, testing};

    fn listener(name: &str, port: u16, bind: bool) -> Config {
        let message = testing::message(&format!(
            "{{name: {name}, bind_to_port: {bind}, filter_chains: [{{}}], address: {{socket_address: \
             {{address: 127.0.0.1, port_value: {port}}}}}}}"
        ));
        let at = At::resource("listener", name);
        Config::from_proto(&message, &at, &Context::default()).unwrap()
    }

    #[test]
    fn an_address_is_free_when_its_last_claim_is_dropped() {
        let addresses = Addresses::default();
        let first = addresses.claim(&listener("a", 80, true)).unwrap();
        let second = addresses.claim(&listener("a", 80, true)).unwrap();
        drop(first);
        let refused = addresses.claim(&listener("b", 80, true)).err().unwrap().to_string();
        assert!(refused.contains("duplicate address '127.0.0.1:80': listener 'a'"), "{refused}");
        drop(second);
        assert!(addresses.claim(&listener("b", 80, true)).is_ok());
        assert!(addresses.0.borrow().is_empty());
    }

    #[test]
    fn port_zero_is_shared_by_those_who_bind() {
        let addresses = Addresses::default();
        let _first = addresses.claim(&listener("a", 0, true)).unwrap();
        let _second = addresses.claim(&listener("b", 0, true)).unwrap();
        let _third = addresses.claim(&listener("c", 0, false)).unwrap();
        assert!(addresses.claim(&listener("d", 0, false)).is_err());
    }
}
