//! Response flags: why a stream ended other than with the upstream's answer, in Envoy's short codes.

use std::fmt;
use std::ops::BitOr;

/// A set of response flags that remembers their order; prints as Envoy's `%RESPONSE_FLAGS%` (`-` when empty, else in the
/// order in which they were set, joined by `,`).
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseFlags {
    bits: u32,
    /// The flags' numbers, the first one set in the lowest [`WIDTH`] bits; as many as there are bits set, and at most
    /// [`ORDERED`].
    order: u64,
}

/// How many bits the number of a flag needs.
const WIDTH: u32 = 5;
/// How many flags have their order remembered.
const ORDERED: u32 = u64::BITS / WIDTH;

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $short:literal, $long:literal;)*) => {
        impl ResponseFlags {
            $($(#[$doc])* pub const $name: ResponseFlags =
                ResponseFlags { bits: 1 << $bit, order: $bit };)*

            /// Every flag with its short and long name, in Envoy's order.
            pub const ALL: &'static [(ResponseFlags, &'static str, &'static str)] =
                &[$((ResponseFlags::$name, $short, $long)),*];
        }
    };
}

flags! {
    /// The local health check filter failed the request.
    FAILED_LOCAL_HEALTH_CHECK = 0, "LH", "FailedLocalHealthCheck";
    /// No healthy host in the cluster.
    NO_HEALTHY_UPSTREAM = 1, "UH", "NoHealthyUpstream";
    /// The route's timeout expired.
    UPSTREAM_REQUEST_TIMEOUT = 2, "UT", "UpstreamRequestTimeout";
    /// The proxy reset the upstream stream.
    LOCAL_RESET = 3, "LR", "LocalReset";
    /// The upstream reset the stream.
    UPSTREAM_REMOTE_RESET = 4, "UR", "UpstreamRemoteReset";
    /// No connection to the upstream host could be made.
    UPSTREAM_CONNECTION_FAILURE = 5, "UF", "UpstreamConnectionFailure";
    /// The upstream closed the connection before it answered.
    UPSTREAM_CONNECTION_TERMINATION = 6, "UC", "UpstreamConnectionTermination";
    /// A circuit breaker was open.
    UPSTREAM_OVERFLOW = 7, "UO", "UpstreamOverflow";
    /// No route or no filter chain matched.
    NO_ROUTE_FOUND = 8, "NR", "NoRouteFound";
    /// A fault filter delayed the request.
    DELAY_INJECTED = 9, "DI", "DelayInjected";
    /// A fault filter answered the request.
    FAULT_INJECTED = 10, "FI", "FaultInjected";
    /// A local or global rate limit refused the request.
    RATE_LIMITED = 11, "RL", "RateLimited";
    /// An external authorization service refused the request.
    UNAUTHORIZED_EXTERNAL_SERVICE = 12, "UAEX", "UnauthorizedExternalService";
    /// The rate limit service failed and the filter denies on errors.
    RATELIMIT_SERVICE_ERROR = 13, "RLSE", "RateLimitServiceError";
    /// The downstream closed its connection before the stream ended.
    DOWNSTREAM_CONNECTION_TERMINATION = 14, "DC", "DownstreamConnectionTermination";
    /// All retries were used up.
    UPSTREAM_RETRY_LIMIT_EXCEEDED = 15, "URX", "UpstreamRetryLimitExceeded";
    /// Nothing moved on the stream for the stream idle timeout.
    STREAM_IDLE_TIMEOUT = 16, "SI", "StreamIdleTimeout";
    /// An `x-envoy-*` request header has a bad value (strict header checks).
    INVALID_ENVOY_REQUEST_HEADERS = 17, "IH", "InvalidEnvoyRequestHeaders";
    /// The downstream broke its protocol.
    DOWNSTREAM_PROTOCOL_ERROR = 18, "DPE", "DownstreamProtocolError";
    /// The upstream stream lived longer than allowed.
    UPSTREAM_MAX_STREAM_DURATION_REACHED = 19, "UMSDR", "UpstreamMaxStreamDurationReached";
    /// A cache answered.
    RESPONSE_FROM_CACHE_FILTER = 20, "RFCF", "ResponseFromCacheFilter";
    /// A filter's configuration never arrived.
    NO_FILTER_CONFIG_FOUND = 21, "NFCF", "NoFilterConfigFound";
    /// The connection or stream lived longer than allowed.
    DURATION_TIMEOUT = 22, "DT", "DurationTimeout";
    /// The upstream broke its protocol.
    UPSTREAM_PROTOCOL_ERROR = 23, "UPE", "UpstreamProtocolError";
    /// The route's cluster does not exist.
    NO_CLUSTER_FOUND = 24, "NC", "NoClusterFound";
    /// The overload manager ended the stream.
    OVERLOAD_MANAGER = 25, "OM", "OverloadManagerTerminated";
    /// The upstream's name could not be resolved.
    DNS_RESOLUTION_FAILED = 26, "DF", "DnsResolutionFailed";
    /// The endpoint policy dropped the request.
    DROP_OVERLOAD = 27, "DO", "DropOverload";
    /// The downstream reset its stream.
    DOWNSTREAM_REMOTE_RESET = 28, "DR", "DownstreamRemoteReset";
    /// The endpoint policy drops every request.
    UNCONDITIONAL_DROP_OVERLOAD = 29, "UDO", "UnconditionalDropOverload";
}

impl ResponseFlags {
    /// No flag.
    pub const NONE: ResponseFlags = ResponseFlags { bits: 0, order: 0 };

    /// Adds every flag of `other` that is not there yet.
    pub fn insert(&mut self, other: ResponseFlags) {
        for number in other.numbers() {
            let count = self.bits.count_ones();
            if self.bits & (1 << number) != 0 {
                continue;
            }
            self.bits |= 1 << number;
            if count < ORDERED {
                self.order |= u64::from(number) << (count * WIDTH);
            }
        }
    }

    /// The flags' numbers, in order. Flags beyond those whose order is remembered are left out: no stream has so many.
    fn numbers(self) -> impl Iterator<Item = u32> {
        let mask = (1 << WIDTH) - 1;
        let count = self.bits.count_ones().min(ORDERED);
        (0..count).map(move |place| (self.order >> (place * WIDTH)) as u32 & mask)
    }

    /// Whether any flag of `other` is set here.
    pub fn intersects(self, other: ResponseFlags) -> bool {
        self.bits & other.bits != 0
    }

    /// Whether no flag is set.
    pub fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// The flag with this short name (`UH`), as access log filters name them.
    pub fn from_short(short: &str) -> Option<ResponseFlags> {
        Self::ALL.iter().find(|(_, name, _)| *name == short).map(|(flag, _, _)| *flag)
    }

    fn write(self, f: &mut fmt::Formatter<'_>, long: bool) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (place, number) in self.numbers().enumerate() {
            let found = Self::ALL.iter().find(|(flag, _, _)| flag.bits == 1 << number);
            let Some((_, short, name)) = found else { continue };
            if place > 0 {
                f.write_str(",")?;
            }
            f.write_str(if long { name } else { short })?;
        }
        Ok(())
    }

    /// Prints as `%RESPONSE_FLAGS_LONG%`.
    pub fn long(self) -> impl fmt::Display {
        struct Long(ResponseFlags);
        impl fmt::Display for Long {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.write(f, true)
            }
        }
        Long(self)
    }
}

impl PartialEq for ResponseFlags {
    fn eq(&self, other: &ResponseFlags) -> bool {
        self.bits == other.bits
    }
}

impl Eq for ResponseFlags {}

impl BitOr for ResponseFlags {
    type Output = ResponseFlags;
    fn bitor(mut self, other: ResponseFlags) -> ResponseFlags {
        self.insert(other);
        self
    }
}

impl fmt::Display for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_short_codes_in_the_order_in_which_they_were_set() {
        assert_eq!(ResponseFlags::NONE.to_string(), "-");
        let both = ResponseFlags::UPSTREAM_CONNECTION_FAILURE
            | ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED;
        assert_eq!(both.to_string(), "UF,URX");
        let turned = ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED
            | ResponseFlags::UPSTREAM_CONNECTION_FAILURE
            | both;
        assert_eq!(turned.to_string(), "URX,UF");
        assert_eq!(turned, both);
        assert_eq!(both.long().to_string(), "UpstreamConnectionFailure,UpstreamRetryLimitExceeded");
        assert_eq!(
            ResponseFlags::from_short("UF"),
            Some(ResponseFlags::UPSTREAM_CONNECTION_FAILURE)
        );
        assert_eq!(ResponseFlags::from_short("xx"), None);
    }
}
