//! Protobuf to model: how a cluster's hosts are found.

use std::sync::Arc;
use std::time::Duration;

use proto::envoy::config::cluster::v3 as pb;
use proto::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CustomClusterType, DiscoveryType, LbConfig, OriginalDstLbConfig,
    RefreshRate,
};
use proto::envoy::config::core::v3::TypedExtensionConfig;
use proto::envoy::extensions::clusters::aggregate::v3::ClusterConfig as AggregateConfig;
use proto::envoy::extensions::clusters::common::dns::v3::DnsLookupFamily;
use proto::envoy::extensions::clusters::dns::v3::{DnsCluster, dns_cluster};
use proto::envoy::extensions::clusters::original_dst::v3::OriginalDstCluster;
use proto::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use proto::google::protobuf;

use super::{Discovery, DnsFamily, DnsOptions};
use crate::config::any;
use crate::config::endpoint::{Addresses, Assignment};
use crate::config::error::{At, ConfigError, Context};
use crate::config::source::ConfigSource;
use crate::config::value;
use crate::{refuse_set, warn_set};

const DEFAULT_DNS_REFRESH: Duration = Duration::from_secs(5);
const SHORTEST_DNS_REFRESH: Duration = Duration::from_millis(1);
const DEFAULT_CLEANUP_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_ORIGINAL_DST_HEADER: http::HeaderName =
    http::HeaderName::from_static("x-envoy-original-dst-host");

/// A cluster whose discovery is being translated.
pub(super) struct Finding<'m> {
    pub message: &'m pb::Cluster,
    pub name: &'m Arc<str>,
    pub at: &'m At<'m>,
    pub context: &'m Context,
}

impl Finding<'_> {
    /// `type` or `cluster_type`, with what it needs.
    pub fn discovery(&self) -> Result<Discovery, ConfigError> {
        let discovery = match &self.message.cluster_discovery_type {
            None => self.assigned()?,
            Some(ClusterDiscoveryType::Type(number)) => {
                match value::enumeration(*number, &self.at.field("type"))? {
                    DiscoveryType::Static => self.assigned()?,
                    DiscoveryType::StrictDns => self.strict_dns(self.dns_options()?)?,
                    DiscoveryType::LogicalDns => self.logical_dns(self.dns_options()?)?,
                    DiscoveryType::Eds => self.eds()?,
                    DiscoveryType::OriginalDst => self.original_dst()?,
                }
            }
            Some(ClusterDiscoveryType::ClusterType(custom)) => {
                self.custom(custom, &self.at.field("cluster_type"))?
            }
        };
        let eds = matches!(discovery, Discovery::Eds { .. });
        if self.message.eds_cluster_config.is_some() && !eds {
            return Err(self.at.field("eds_cluster_config").error("is for clusters of type EDS"));
        }
        Ok(discovery)
    }

    /// An extension: by the type of its configuration, or by its name where it needs none.
    fn custom(&self, custom: &CustomClusterType, at: &At<'_>) -> Result<Discovery, ConfigError> {
        let name = value::non_empty(&custom.name, &at.field("name"))?;
        let config = custom.typed_config.as_ref();
        let at = at.field("typed_config");
        match (any::type_name(config), name) {
            ("envoy.extensions.clusters.dns.v3.DnsCluster", _) => {
                self.dns_cluster(&any::open(config, &at)?, &at)
            }
            ("envoy.extensions.clusters.aggregate.v3.ClusterConfig", _) => {
                aggregate(&any::open(config, &at)?, &at)
            }
            ("envoy.extensions.clusters.original_dst.v3.OriginalDstCluster", _) => {
                self.original_dst_cluster(&any::open(config, &at)?, &at)
            }
            ("", "envoy.cluster.static") => self.assigned(),
            ("", "envoy.cluster.strict_dns") => self.strict_dns(self.dns_options()?),
            ("", "envoy.cluster.logical_dns") => self.logical_dns(self.dns_options()?),
            ("", "envoy.cluster.eds") => self.eds(),
            ("", "envoy.cluster.original_dst") => self.original_dst(),
            _ => Err(any::unknown(name, config, &at)),
        }
    }

    fn assigned(&self) -> Result<Discovery, ConfigError> {
        Ok(Discovery::Static(self.assignment(Addresses::Known)?))
    }

    fn strict_dns(&self, dns: DnsOptions) -> Result<Discovery, ConfigError> {
        Ok(Discovery::StrictDns { assignment: self.assignment(Addresses::Names)?, dns })
    }

    fn logical_dns(&self, dns: DnsOptions) -> Result<Discovery, ConfigError> {
        let assignment = self.assignment(Addresses::Names)?;
        if assignment.localities.len() != 1 || assignment.endpoint_count() != 1 {
            return Err(self.at.field("load_assignment").error(
                "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint",
            ));
        }
        Ok(Discovery::LogicalDns { assignment, dns })
    }

    /// `load_assignment`; without one there are no hosts.
    fn assignment(&self, addresses: Addresses) -> Result<Assignment, ConfigError> {
        let at = self.at.field("load_assignment");
        self.message.load_assignment.as_ref().map_or(Ok(Assignment::default()), |assignment| {
            Assignment::with_addresses(addresses, assignment, &at, self.context)
        })
    }

    fn eds(&self) -> Result<Discovery, ConfigError> {
        let reason = "the hosts of an EDS cluster come from its eds_cluster_config";
        warn_set!(self.context, self.at, self.message, [load_assignment], reason);
        let at = self.at.field("eds_cluster_config");
        let config = value::required(&self.message.eds_cluster_config, &at)?;
        let at = at.field("eds_config");
        let source = value::required(&config.eds_config, &at)?;
        let service_name = match config.service_name.as_str() {
            "" => self.name.clone(),
            name if *name == **self.name => self.name.clone(),
            name => name.into(),
        };
        Ok(Discovery::Eds {
            source: ConfigSource::from_proto(source, &at, self.context)?,
            service_name,
        })
    }

    fn original_dst(&self) -> Result<Discovery, ConfigError> {
        let at = self.at.field("original_dst_lb_config");
        match &self.message.lb_config {
            Some(LbConfig::OriginalDstLbConfig(config)) => self.original_dst_with(config, &at),
            _ => self.original_dst_with(&OriginalDstLbConfig::default(), &at),
        }
    }

    fn original_dst_cluster(
        &self,
        config: &OriginalDstCluster,
        at: &At<'_>,
    ) -> Result<Discovery, ConfigError> {
        let config = OriginalDstLbConfig {
            use_http_header: config.use_http_header,
            http_header_name: config.http_header_name.clone(),
            upstream_port_override: config.upstream_port_override,
            metadata_key: config.metadata_key.clone(),
        };
        self.original_dst_with(&config, at)
    }

    fn original_dst_with(
        &self,
        config: &OriginalDstLbConfig,
        at: &At<'_>,
    ) -> Result<Discovery, ConfigError> {
        refuse_set!(at, config, [metadata_key]);
        if self.message.load_assignment.is_some() {
            let at = self.at.field("load_assignment");
            return Err(at.error("ORIGINAL_DST clusters must have no load assignment configured"));
        }
        let name = config.http_header_name.as_str();
        let header = match (config.use_http_header, name) {
            (true, "") => Some(DEFAULT_ORIGINAL_DST_HEADER),
            (true, name) => Some(value::header_name(name, &at.field("http_header_name"))?),
            (false, "") => None,
            (false, _) => {
                let rule = "is set while use_http_header is not";
                return Err(at.field("http_header_name").error(rule));
            }
        };
        let port = config.upstream_port_override;
        let at_port = at.field("upstream_port_override");
        let cleanup = self.at.field("cleanup_interval");
        Ok(Discovery::OriginalDst {
            header,
            port_override: port.map(|port| value::port(port.value, &at_port)).transpose()?,
            cleanup_interval: value::positive_duration(self.message.cleanup_interval, &cleanup)?
                .unwrap_or(DEFAULT_CLEANUP_INTERVAL),
        })
    }

    /// The DNS settings of the cluster itself.
    fn dns_options(&self) -> Result<DnsOptions, ConfigError> {
        let (message, at) = (self.message, self.at);
        refuse_set!(at, message, [dns_resolvers, dns_resolution_config]);
        warn_set!(
            self.context,
            at,
            message,
            [use_tcp_for_dns_lookups],
            "DNS falls back to TCP by itself"
        );
        check_resolver(message.typed_dns_resolver_config.as_ref(), at, self.context)?;
        let refresh_rate = refresh_rate(message.dns_refresh_rate, at)?;
        Ok(DnsOptions {
            family: DnsFamily::from_cluster(
                message.dns_lookup_family,
                &at.field("dns_lookup_family"),
            )?,
            refresh_rate,
            failure_refresh: failure_refresh(message.dns_failure_refresh_rate, refresh_rate, at)?,
            respect_ttl: message.respect_dns_ttl,
            jitter: jitter(message.dns_jitter, at)?,
        })
    }

    /// `envoy.clusters.dns`
    fn dns_cluster(&self, config: &DnsCluster, at: &At<'_>) -> Result<Discovery, ConfigError> {
        refuse_set!(at, config, [dns_min_refresh_rate]);
        check_resolver(config.typed_dns_resolver_config.as_ref(), at, self.context)?;
        let refresh_rate = refresh_rate(config.dns_refresh_rate, at)?;
        let failure = config.dns_failure_refresh_rate.map(
            |dns_cluster::RefreshRate { base_interval, max_interval }| RefreshRate {
                base_interval,
                max_interval,
            },
        );
        let dns = DnsOptions {
            family: DnsFamily::from_extension(
                config.dns_lookup_family,
                &at.field("dns_lookup_family"),
            )?,
            refresh_rate,
            failure_refresh: failure_refresh(failure, refresh_rate, at)?,
            respect_ttl: config.respect_dns_ttl,
            jitter: jitter(config.dns_jitter, at)?,
        };
        if config.all_addresses_in_single_endpoint {
            self.logical_dns(dns)
        } else {
            self.strict_dns(dns)
        }
    }
}

impl DnsFamily {
    /// `Cluster.DnsLookupFamily`
    fn from_cluster(number: i32, at: &At<'_>) -> Result<DnsFamily, ConfigError> {
        use pb::cluster::DnsLookupFamily as Family;
        Ok(match value::enumeration(number, at)? {
            Family::Auto => DnsFamily::Auto,
            Family::V4Only => DnsFamily::V4Only,
            Family::V6Only => DnsFamily::V6Only,
            Family::V4Preferred => DnsFamily::V4Preferred,
            Family::All => DnsFamily::All,
        })
    }

    /// `envoy.extensions.clusters.common.dns.v3.DnsLookupFamily`, which counts from another start.
    fn from_extension(number: i32, at: &At<'_>) -> Result<DnsFamily, ConfigError> {
        Ok(match value::enumeration(number, at)? {
            DnsLookupFamily::Unspecified | DnsLookupFamily::Auto => DnsFamily::Auto,
            DnsLookupFamily::V4Only => DnsFamily::V4Only,
            DnsLookupFamily::V6Only => DnsFamily::V6Only,
            DnsLookupFamily::V4Preferred => DnsFamily::V4Preferred,
            DnsLookupFamily::All => DnsFamily::All,
        })
    }
}

/// `envoy.clusters.aggregate`
fn aggregate(config: &AggregateConfig, at: &At<'_>) -> Result<Discovery, ConfigError> {
    if config.clusters.is_empty() {
        return Err(at.field("clusters").error("must not be empty"));
    }
    Ok(Discovery::Aggregate {
        clusters: config.clusters.iter().map(|name| name.as_str().into()).collect(),
    })
}

fn refresh_rate(rate: Option<protobuf::Duration>, at: &At<'_>) -> Result<Duration, ConfigError> {
    let at = at.field("dns_refresh_rate");
    Ok(value::duration_above(SHORTEST_DNS_REFRESH, rate, &at)?.unwrap_or(DEFAULT_DNS_REFRESH))
}

fn jitter(jitter: Option<protobuf::Duration>, at: &At<'_>) -> Result<Duration, ConfigError> {
    Ok(value::duration(jitter, &at.field("dns_jitter"))?.unwrap_or_default())
}

/// First and longest wait after a failed resolution.
fn failure_refresh(
    rate: Option<RefreshRate>,
    refresh_rate: Duration,
    at: &At<'_>,
) -> Result<(Duration, Duration), ConfigError> {
    let Some(rate) = rate else {
        return Ok((refresh_rate, refresh_rate));
    };
    let at = at.field("dns_failure_refresh_rate");
    let base = at.field("base_interval");
    let base = value::duration_above(SHORTEST_DNS_REFRESH, rate.base_interval, &base)?
        .ok_or_else(|| base.error("is required"))?;
    let at_max = at.field("max_interval");
    let max = value::duration_above(SHORTEST_DNS_REFRESH, rate.max_interval, &at_max)?;
    let max = max.unwrap_or(base.saturating_mul(10));
    if max < base {
        let rule = "max_interval must be greater than or equal to base_interval";
        return Err(at.error(rule));
    }
    Ok((base, max))
}

/// Names are resolved by the system's resolver settings; a resolver with servers of its own would give other hosts.
fn check_resolver(
    resolver: Option<&TypedExtensionConfig>,
    at: &At<'_>,
    context: &Context,
) -> Result<(), ConfigError> {
    let Some(resolver) = resolver else {
        return Ok(());
    };
    let at = at.field("typed_dns_resolver_config");
    let config = resolver.typed_config.as_ref();
    if any::is::<CaresDnsResolverConfig>(config) {
        let at = at.field("typed_config");
        let cares: CaresDnsResolverConfig = any::open(config, &at)?;
        refuse_set!(at, cares, [resolvers]);
    }
    context.warn(&at, "names are resolved by the settings of the system");
    Ok(())
}
