//! Plain values: numbers, durations, percentages, metadata; addresses and data sources have files of their own.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use proto::envoy::config::core::v3 as core;
use proto::envoy::r#type::v3::{FractionalPercent, Percent};
use proto::google::protobuf;

use crate::config::endpoint::Metadata;
use crate::config::error::{At, ConfigError, Context};
use crate::warn_set;

mod address;
mod data_source;

pub use address::{address, cidr, socket_address, target};
pub use data_source::{bytes, text, watched_directory};

/// The value of a field that must be set.
pub fn required<'v, T>(value: &'v Option<T>, at: &At<'_>) -> Result<&'v T, ConfigError> {
    value.as_ref().ok_or_else(|| at.error("is required"))
}

/// A string that must not be empty.
pub fn non_empty<'v>(text: &'v str, at: &At<'_>) -> Result<&'v str, ConfigError> {
    if text.is_empty() {
        return Err(at.error("must not be empty"));
    }
    Ok(text)
}

/// An enum's value; numbers that the enum does not define are refused.
pub fn enumeration<E: TryFrom<i32>>(number: i32, at: &At<'_>) -> Result<E, ConfigError> {
    E::try_from(number)
        .map_err(|_| at.error(format_args!("{number} is not a defined value of this enum")))
}

/// A number within a range, both ends included; `default` if it is not set.
pub fn within(
    value: Option<protobuf::UInt32Value>,
    default: u32,
    (least, most): (u32, u32),
    at: &At<'_>,
) -> Result<u32, ConfigError> {
    let value = value.map_or(default, |value| value.value);
    if !(least..=most).contains(&value) {
        return Err(at.error(format_args!("{value} is not within {least} and {most}")));
    }
    Ok(value)
}

/// A port number from 0 to 65535.
pub fn port(value: u32, at: &At<'_>) -> Result<u16, ConfigError> {
    u16::try_from(value).map_err(|_| at.error(format_args!("{value} is above 65535")))
}

/// A duration that is not negative, if the field is set.
pub fn duration(
    value: Option<protobuf::Duration>,
    at: &At<'_>,
) -> Result<Option<Duration>, ConfigError> {
    value.map(|value| proto::convert::duration(&value).map_err(|error| at.error(error))).transpose()
}

/// A duration longer than `bound`, if the field is set.
pub fn duration_above(
    bound: Duration,
    value: Option<protobuf::Duration>,
    at: &At<'_>,
) -> Result<Option<Duration>, ConfigError> {
    let value = duration(value, at)?;
    match value {
        Some(short) if short <= bound => {
            Err(at.error(format_args!("{short:?} is not longer than {bound:?}")))
        }
        value => Ok(value),
    }
}

/// A duration longer than zero, if the field is set.
pub fn positive_duration(
    value: Option<protobuf::Duration>,
    at: &At<'_>,
) -> Result<Option<Duration>, ConfigError> {
    duration_above(Duration::ZERO, value, at)
}

/// A timeout that 0 turns off; `default` if the field is not set.
pub fn timeout(
    value: Option<protobuf::Duration>,
    default: Option<Duration>,
    at: &At<'_>,
) -> Result<Option<Duration>, ConfigError> {
    Ok(duration(value, at)?.map_or(default, |value| (!value.is_zero()).then_some(value)))
}

/// A percentage from 0 to 100.
pub fn percent(value: &Percent, at: &At<'_>) -> Result<f64, ConfigError> {
    if !(0.0..=100.0).contains(&value.value) {
        return Err(at.error(format_args!("{} is not within 0 and 100", value.value)));
    }
    Ok(value.value)
}

/// A `FractionalPercent` as numerator and denominator (100, 10,000 or 1,000,000).
pub fn fraction(value: &FractionalPercent, at: &At<'_>) -> Result<(u32, u32), ConfigError> {
    proto::convert::fraction(value)
        .map(|fraction| (fraction.numerator, fraction.denominator))
        .ok_or_else(|| {
            at.field("denominator")
                .error(format_args!("{} is not a defined value of this enum", value.denominator))
        })
}

/// A `RuntimeFractionalPercent` as numerator and denominator: its default value, as runtime keys are not asked for.
pub fn runtime_fraction(
    value: &core::RuntimeFractionalPercent,
    at: &At<'_>,
    context: &Context,
) -> Result<(u32, u32), ConfigError> {
    warn_set!(context, at, value, [runtime_key], "the default value is always used");
    let at = at.field("default_value");
    fraction(required(&value.default_value, &at)?, &at)
}

/// The share of an optional `RuntimeFractionalPercent`, as numerator and denominator.
pub fn share(
    value: Option<&core::RuntimeFractionalPercent>,
    default: (u32, u32),
    at: &At<'_>,
    context: &Context,
) -> Result<(u32, u32), ConfigError> {
    value.map_or(Ok(default), |value| runtime_fraction(value, at, context))
}

/// A header's name, in lower case.
pub fn header_name(name: &str, at: &At<'_>) -> Result<HeaderName, ConfigError> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| at.error(format_args!("{name:?} is not a valid header name")))
}

/// `filter_metadata`; none if there is none.
pub fn metadata(
    value: Option<&core::Metadata>,
    at: &At<'_>,
    context: &Context,
) -> Option<Arc<Metadata>> {
    let value = value?;
    warn_set!(context, at, value, [typed_filter_metadata], "nothing in Pillion reads it");
    if value.filter_metadata.is_empty() {
        return None;
    }
    let namespaces = value.filter_metadata.iter();
    let metadata = namespaces
        .map(|(name, fields)| (name.clone(), proto::convert::struct_to_json(fields).into()))
        .collect();
    Some(Arc::new(metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: i64) -> Option<protobuf::Duration> {
        Some(protobuf::Duration { seconds, nanos: 0 })
    }

    #[test]
    fn timeouts_of_zero_are_off_and_absent_ones_the_default() {
        let at = At::resource("cluster", "a");
        let default = Some(Duration::from_secs(5));
        assert_eq!(timeout(None, default, &at), Ok(default));
        assert_eq!(timeout(seconds(0), default, &at), Ok(None));
        assert_eq!(timeout(seconds(2), default, &at), Ok(Some(Duration::from_secs(2))));
    }

    #[test]
    fn durations_outside_their_range_are_refused() {
        let root = At::resource("cluster", "a");
        let at = root.field("t");
        let error = duration(seconds(-1), &at).unwrap_err().to_string();
        assert_eq!(error, "cluster \"a\": t: duration is negative (-1 s, 0 ns)");
        let error = positive_duration(seconds(0), &at).unwrap_err().to_string();
        assert_eq!(error, "cluster \"a\": t: 0ns is not longer than 0ns");
        assert_eq!(positive_duration(None, &at), Ok(None));
    }

    #[test]
    fn numbers_outside_their_range_are_refused() {
        let at = At::resource("cluster", "a");
        let value = Some(protobuf::UInt32Value { value: 1 });
        let error = within(value, 2, (2, 9), &at).unwrap_err().to_string();
        assert_eq!(error, "cluster \"a\": 1 is not within 2 and 9");
        assert_eq!(within(None, 2, (2, 9), &at), Ok(2));
        assert_eq!(
            port(65536, &at).unwrap_err().to_string(),
            "cluster \"a\": 65536 is above 65535"
        );
        let error = percent(&Percent { value: f64::NAN }, &at).unwrap_err().to_string();
        assert_eq!(error, "cluster \"a\": NaN is not within 0 and 100");
    }

    #[test]
    fn undefined_enum_numbers_are_refused() {
        let at = At::resource("cluster", "a");
        assert_eq!(
            enumeration::<core::RoutingPriority>(7, &at).unwrap_err().to_string(),
            "cluster \"a\": 7 is not a defined value of this enum"
        );
        let value = FractionalPercent { numerator: 1, denominator: 9 };
        assert_eq!(
            fraction(&value, &at).unwrap_err().to_string(),
            "cluster \"a\": denominator: 9 is not a defined value of this enum"
        );
    }

    #[test]
    fn empty_metadata_costs_nothing() {
        let at = At::resource("cluster", "a");
        let context = Context::default();
        assert_eq!(metadata(Some(&core::Metadata::default()), &at, &context), None);
        assert!(context.take_warnings().is_empty());
    }
}
