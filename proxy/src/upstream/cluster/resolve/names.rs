//! The names of a DNS cluster, with their last good answers and when to ask again.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Answer, ResolveError, Resolver};
use crate::config::cluster::DnsOptions;
use crate::config::endpoint::{Assignment, Endpoint, Target};
use crate::io::Address;

/// No name is asked for more often than this, whatever the TTL and the jitter say.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// How many of a name's addresses become hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `STRICT_DNS`: each address.
    Strict,
    /// `LOGICAL_DNS`: the first one. It stays for as long as it is among the answers, since name servers shuffle
    /// them and a change of host drains connections.
    Logical,
}

pub(super) struct Names {
    kind: Kind,
    dns: DnsOptions,
    assignment: Assignment,
    names: Vec<Name>,
}

struct Name {
    name: Arc<str>,
    addresses: Vec<IpAddr>,
    due: Instant,
    failures: u32,
}

impl Names {
    /// All names of the assignment, to be asked for now.
    pub(super) fn new(kind: Kind, assignment: Assignment, dns: DnsOptions) -> Self {
        let endpoints = assignment.localities.iter().flat_map(|locality| &locality.endpoints);
        let mut names: Vec<Arc<str>> = endpoints
            .filter_map(|endpoint| match &endpoint.target {
                Target::Name { name, .. } => Some(Arc::clone(name)),
                Target::Address(_) => None,
            })
            .collect();
        names.sort();
        names.dedup();
        let due = Instant::now();
        let state = |name| Name { name, addresses: Vec::new(), due, failures: 0 };
        let names = names.into_iter().map(state).collect();
        Names { kind, dns, assignment, names }
    }

    /// Asks for every name that is due. True if an answer differs from the one before.
    pub(super) async fn resolve_due(&mut self, resolver: &dyn Resolver) -> bool {
        let now = Instant::now();
        let (kind, dns) = (self.kind, &self.dns);
        let due = self.names.iter_mut().filter(|name| name.due <= now);
        let asked = due.map(|name| async move {
            let answer = resolver.resolve(Arc::clone(&name.name), dns.family).await;
            name.take(answer, kind, dns)
        });
        join_all(asked).await.contains(&true)
    }

    /// How long until a name is due.
    pub(super) fn until_due(&self) -> Duration {
        let due = self.names.iter().map(|name| name.due).min();
        let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
        wait.unwrap_or(self.dns.refresh_rate).max(SHORTEST_WAIT)
    }

    /// The assignment with addresses in place of names.
    pub(super) fn assignment(&self) -> Assignment {
        let mut assignment = self.assignment.clone();
        for locality in &mut assignment.localities {
            let endpoints = std::mem::take(&mut locality.endpoints);
            locality.endpoints = endpoints.into_iter().flat_map(|e| self.resolved(e)).collect();
        }
        assignment
    }

    fn resolved(&self, endpoint: Endpoint) -> Vec<Endpoint> {
        let Target::Name { name, port } = &endpoint.target else { return vec![endpoint] };
        let state = self.names.iter().find(|state| state.name == *name);
        let addresses = state.map_or(&[][..], |state| &state.addresses);
        let hostname = endpoint.hostname.clone().unwrap_or_else(|| Arc::clone(name));
        let at = |address: &IpAddr| Endpoint {
            target: Target::Address(Address::Ip(SocketAddr::new(*address, *port))),
            hostname: Some(Arc::clone(&hostname)),
            ..endpoint.clone()
        };
        addresses.iter().map(at).collect()
    }
}

impl Name {
    /// Takes over an answer; a failure keeps the last good one. True if the addresses have changed.
    fn take(&mut self, answer: Result<Answer, ResolveError>, kind: Kind, dns: &DnsOptions) -> bool {
        let Answer { mut addresses, ttl } = match answer {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(name = %self.name, %error, "name resolution failed; the last answer stays");
                self.due = Instant::now() + self.after_failure(dns);
                return false;
            }
        };
        self.failures = 0;
        let use_ttl = dns.respect_ttl && !ttl.is_zero() && !addresses.is_empty();
        let wait = if use_ttl { ttl } else { dns.refresh_rate };
        self.due = Instant::now() + wait + dns.jitter.mul_f64(fastrand::f64());
        addresses.sort_by_key(|address| kind == Kind::Logical && !self.addresses.contains(address));
        match kind {
            Kind::Strict => addresses.sort(),
            Kind::Logical => addresses.truncate(1),
        }
        let has_changed = addresses != self.addresses;
        self.addresses = addresses;
        has_changed
    }

    /// `dns_failure_refresh_rate`: fixed if both bounds are the same, else exponential with full jitter.
    fn after_failure(&mut self, dns: &DnsOptions) -> Duration {
        let (base, max) = dns.failure_refresh;
        if base >= max {
            return base;
        }
        let window = base.saturating_mul(1 << self.failures.min(20)).min(max);
        self.failures = self.failures.saturating_add(1);
        window.mul_f64(fastrand::f64()).max(SHORTEST_WAIT)
    }
}
