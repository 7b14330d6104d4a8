//! What is asked of an input.

use std::net::IpAddr;

use ipnet::IpNet;
use proto::envoy::extensions::matching::input_matchers::consistent_hashing::v3::ConsistentHashing;
use proto::envoy::extensions::matching::input_matchers::ip::v3::Ip;
use proto::envoy::extensions::matching::input_matchers::metadata::v3::Metadata;
use proto::envoy::extensions::matching::input_matchers::runtime_fraction::v3::RuntimeFraction;
use proto::matchers::CelMatcher;
use proto::xds::core::v3::TypedExtensionConfig;
use xxhash_rust::xxh64::xxh64;

use super::{Input, Unknown};
use crate::config::cel::Condition;
use crate::config::matcher::{MatchInput, StringMatcher, ValueMatcher};
use crate::config::value::{cidr, required, runtime_fraction};
use crate::config::{At, ConfigError, Context, any};

/// What is asked of an input.
#[derive(Clone, Debug)]
pub enum Rule {
    /// `value_match`
    Text(StringMatcher),
    /// `custom_match` by `envoy.extensions.matching.input_matchers.ip.v3.Ip`
    Ip(Box<[IpNet]>),
    /// `custom_match` by `envoy.extensions.matching.input_matchers.metadata.v3.Metadata`
    Metadata {
        /// `value`
        value: ValueMatcher,
        /// `invert`
        invert: bool,
    },
    /// `custom_match` by `xds.type.matcher.v3.CelMatcher`
    Cel(Condition),
    /// `custom_match` by `envoy.extensions.matching.input_matchers.consistent_hashing.v3.ConsistentHashing`: the remainder of
    /// the value's hash reaches the threshold.
    Hash {
        /// `seed`
        seed: u64,
        /// `modulo`, above 0
        modulo: u64,
        /// `threshold`
        threshold: u64,
    },
    /// `custom_match` by `envoy.extensions.matching.input_matchers.runtime_fraction.v3.RuntimeFraction`: the remainder of the
    /// value's hash lies below the fraction.
    Fraction {
        /// `seed`
        seed: u64,
        /// `runtime_fraction.default_value` as numerator and denominator.
        share: (u32, u32),
    },
}

impl Rule {
    pub(super) fn accepts(&self, value: &Input, input: &MatchInput<'_>) -> Result<bool, Unknown> {
        let hash = |seed: u64| -> Result<Option<u64>, Unknown> {
            Ok(value.text(input)?.map(|text| xxh64(text.as_bytes(), seed)))
        };
        Ok(match self {
            Rule::Text(matcher) => value.text(input)?.is_some_and(|text| matcher.matches(&text)),
            Rule::Ip(ranges) => {
                let address = value.text(input)?.and_then(|text| text.parse::<IpAddr>().ok());
                address.is_some_and(|address| ranges.iter().any(|range| range.contains(&address)))
            }
            Rule::Metadata { value: matcher, invert } => {
                let found = value.metadata(input);
                found.is_some_and(|found| matcher.matches(found)) != *invert
            }
            Rule::Cel(condition) => condition.holds(input),
            Rule::Hash { seed, modulo, threshold } => {
                hash(*seed)?.is_some_and(|hash| hash % modulo >= *threshold)
            }
            Rule::Fraction { seed, share: (numerator, denominator) } => {
                let (numerator, denominator) = (u64::from(*numerator), u64::from(*denominator));
                hash(*seed)?.is_some_and(|hash| hash % denominator < numerator)
            }
        })
    }

    /// A `custom_match` of a single predicate.
    pub(super) fn custom(
        extension: &TypedExtensionConfig,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Rule, ConfigError> {
        let config = extension.typed_config.as_ref();
        let at = at.field("typed_config");
        if any::is::<Ip>(config) {
            let message: Ip = any::open(config, &at)?;
            let ranges = message.cidr_ranges.iter().enumerate();
            let ranges = ranges.map(|(index, range)| cidr(range, &at.index("cidr_ranges", index)));
            return Ok(Rule::Ip(ranges.collect::<Result<_, _>>()?));
        }
        if any::is::<Metadata>(config) {
            let message: Metadata = any::open(config, &at)?;
            let at = at.field("value");
            let value = required(&message.value, &at)?;
            let value = ValueMatcher::from_proto(value, &at, context)?;
            return Ok(Rule::Metadata { value, invert: message.invert });
        }
        if any::is::<CelMatcher>(config) {
            let message: CelMatcher = any::open(config, &at)?;
            let at = at.field("expr_match");
            let expression = required(&message.expr_match, &at)?;
            return Condition::from_xds(expression, &at).map(Rule::Cel);
        }
        if any::is::<ConsistentHashing>(config) {
            let ConsistentHashing { threshold, modulo, seed } = any::open(config, &at)?;
            if modulo == 0 {
                return Err(at.field("modulo").error("must be above 0"));
            }
            return Ok(Rule::Hash { seed, modulo: modulo.into(), threshold: threshold.into() });
        }
        if any::is::<RuntimeFraction>(config) {
            let message: RuntimeFraction = any::open(config, &at)?;
            let at = at.field("runtime_fraction");
            let fraction = required(&message.runtime_fraction, &at)?;
            let share = runtime_fraction(fraction, &at, context)?;
            return Ok(Rule::Fraction { seed: message.seed, share });
        }
        Err(any::unknown(&extension.name, config, &at))
    }
}
