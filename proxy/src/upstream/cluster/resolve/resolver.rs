//! Names to addresses.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

use crate::config::cluster::DnsFamily;

/// What a name resolved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The addresses; none if the name does not exist or has no address of the family.
    pub addresses: Vec<IpAddr>,
    /// How long the answer is good.
    pub ttl: Duration,
}

/// A name could not be resolved for now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ResolveError(pub String);

/// Resolves names. Tests have their own.
pub trait Resolver: Send + Sync {
    /// The addresses of a name. That there are none is an answer too.
    fn resolve(
        &self,
        name: Arc<str>,
        family: DnsFamily,
    ) -> BoxFuture<'_, Result<Answer, ResolveError>>;
}

/// The system's way: `/etc/resolv.conf` and `/etc/hosts`. Hosts are asked for anew each time; the configuration is read when a
/// name is first asked for, since most sidecars never ask for one.
#[derive(Default)]
pub struct SystemResolver {
    /// In the order of [`FAMILIES`].
    by_family: [OnceLock<Result<TokioResolver, ResolveError>>; FAMILIES.len()],
}

const FAMILIES: [(DnsFamily, LookupIpStrategy); 5] = [
    (DnsFamily::Auto, LookupIpStrategy::Ipv6thenIpv4),
    (DnsFamily::V4Only, LookupIpStrategy::Ipv4Only),
    (DnsFamily::V6Only, LookupIpStrategy::Ipv6Only),
    (DnsFamily::V4Preferred, LookupIpStrategy::Ipv4thenIpv6),
    (DnsFamily::All, LookupIpStrategy::Ipv4AndIpv6),
];

impl Resolver for SystemResolver {
    fn resolve(
        &self,
        name: Arc<str>,
        family: DnsFamily,
    ) -> BoxFuture<'_, Result<Answer, ResolveError>> {
        let index = FAMILIES.iter().position(|(listed, _)| *listed == family).unwrap_or_default();
        let resolver = self.by_family[index].get_or_init(|| build(FAMILIES[index].1));
        Box::pin(async move {
            let resolver = resolver.as_ref().map_err(Clone::clone)?;
            match resolver.lookup_ip(&*name).await {
                Ok(lookup) => Ok(Answer {
                    addresses: lookup.iter().collect(),
                    ttl: lookup.valid_until().saturating_duration_since(Instant::now()),
                }),
                Err(error) if error.is_no_records_found() => {
                    Ok(Answer { addresses: Vec::new(), ttl: Duration::ZERO })
                }
                Err(error) => Err(ResolveError(format!("cannot resolve {name}: {error}"))),
            }
        })
    }
}

/// Reads the system's configuration. Without one, only `/etc/hosts` and literal addresses resolve.
fn build(strategy: LookupIpStrategy) -> Result<TokioResolver, ResolveError> {
    let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot read the system's DNS configuration; no name server is asked");
        TokioResolver::builder_with_config(
            ResolverConfig::default(),
            TokioRuntimeProvider::default(),
        )
    });
    let options = builder.options_mut();
    options.ip_strategy = strategy;
    // The refresh rate decides when to ask again.
    options.cache_size = 0;
    builder.build().map_err(|error| ResolveError(error.to_string()))
}
