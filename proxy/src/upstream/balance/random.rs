//! `RANDOM`: each host as likely as any other; weights do not count, as in Envoy.

use std::sync::Arc;

use super::{HostList, PickContext, Picker, random_index};
use crate::upstream::cluster::host::Host;

#[derive(Debug)]
pub(super) struct Random {
    hosts: HostList,
}

impl Random {
    pub(super) fn new(hosts: HostList) -> Self {
        Random { hosts }
    }
}

impl Picker for Random {
    fn pick(&self, _context: &PickContext<'_>) -> Option<&Arc<Host>> {
        match self.hosts.len() {
            0 => None,
            len => Some(&self.hosts[random_index(len)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{counts, hosts};
    use super::*;

    #[test]
    fn picks_are_even() {
        fastrand::seed(1);
        let picker = Random::new(hosts(&[1, 1, 9]));
        for count in counts(&picker, 3, 9000) {
            assert!((2800..3200).contains(&count), "{count}");
        }
    }
}
