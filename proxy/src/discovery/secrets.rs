//! Secrets by source and name: those of the bootstrap.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::source::ConfigSource;
use crate::config::tls::Secret;
use crate::tls::SecretCell;

/// Every secret that a TLS context has asked for. Clusters and listeners share it.
pub struct Secrets {
    fixed: HashMap<Arc<str>, Arc<SecretCell>>,
}

/// The secrets, as clusters and listeners hold them.
pub type SharedSecrets = Rc<RefCell<Secrets>>;

impl Secrets {
    /// The bootstrap's secrets, and no other yet.
    pub fn new(fixed: &[Arc<Secret>]) -> SharedSecrets {
        let fixed = fixed.iter().map(|secret| {
            let cell = SecretCell::with(&secret.name, secret.kind.clone());
            (Arc::clone(&secret.name), cell)
        });
        Rc::new(RefCell::new(Secrets { fixed: fixed.collect() }))
    }

    /// The cell of a secret.
    ///
    /// # Errors
    /// There is no secret of this name in the bootstrap.
    pub fn find(
        &mut self,
        name: &Arc<str>,
        source: Option<&ConfigSource>,
    ) -> Result<Arc<SecretCell>, String> {
        if source.is_some() {
            return Err("sds_config: is not supported by this version of Pillion".to_owned());
        }
        let cell = self.fixed.get(name).map(Arc::clone);
        cell.ok_or_else(|| {
            format!("unknown static secret {name:?}; define it in static_resources.secrets, or set sds_config")
        })
    }
}
