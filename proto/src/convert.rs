//! Well-known protobuf types as Rust's own types, with range checks, and back.

use std::time::Duration;

use serde_json::{Map, Number};

use crate::envoy::r#type::v3::{FractionalPercent, Percent, fractional_percent::DenominatorType};
use crate::google::protobuf::{self, ListValue, NullValue, Struct, Value, value::Kind};

/// The longest duration that protobuf allows, in seconds (10,000 years, `google/protobuf/duration.proto`).
const MAX_SECONDS: i64 = 315_576_000_000;

/// Why a `google.protobuf.Duration` cannot be used as a time span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The duration is below zero.
    #[error("duration is negative ({seconds} s, {nanos} ns)")]
    Negative {
        /// The message's `seconds`.
        seconds: i64,
        /// The message's `nanos`.
        nanos: i32,
    },
    /// Seconds or nanoseconds are beyond what protobuf allows, or their signs differ.
    #[error("duration is out of range ({seconds} s, {nanos} ns)")]
    OutOfRange {
        /// The message's `seconds`.
        seconds: i64,
        /// The message's `nanos`.
        nanos: i32,
    },
}

/// A protobuf duration as a time span. Negative ones and those beyond protobuf's range of 10,000 years are refused.
pub fn duration(value: &protobuf::Duration) -> Result<Duration, DurationError> {
    let protobuf::Duration { seconds, nanos } = *value;
    if seconds.unsigned_abs() > MAX_SECONDS.unsigned_abs() || nanos.unsigned_abs() > 999_999_999 {
        return Err(DurationError::OutOfRange { seconds, nanos });
    }
    match (u64::try_from(seconds), u32::try_from(nanos)) {
        (Ok(whole), Ok(rest)) => Ok(Duration::new(whole, rest)),
        (Err(_), Ok(rest)) if rest > 0 => Err(DurationError::OutOfRange { seconds, nanos }),
        (Ok(whole), Err(_)) if whole > 0 => Err(DurationError::OutOfRange { seconds, nanos }),
        _ => Err(DurationError::Negative { seconds, nanos }),
    }
}

/// A time span as a protobuf duration; what is longer than protobuf's 10,000 years becomes these.
pub fn to_proto_duration(value: Duration) -> protobuf::Duration {
    match i64::try_from(value.as_secs()) {
        Ok(seconds) if seconds < MAX_SECONDS => {
            protobuf::Duration { seconds, nanos: value.subsec_nanos().cast_signed() }
        }
        _ => protobuf::Duration { seconds: MAX_SECONDS, nanos: 0 },
    }
}

/// A `Struct` as a JSON object. Numbers without a fraction become integers; NaN and infinities, which JSON lacks, become null.
pub fn struct_to_json(value: &Struct) -> Map<String, serde_json::Value> {
    let fields = value.fields.iter();
    fields.map(|(key, value)| (key.clone(), value_to_json(value))).collect()
}

/// A `google.protobuf.Value` as JSON; one without a kind is null. See [`struct_to_json`].
pub fn value_to_json(value: &Value) -> serde_json::Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::NumberValue(number)) => number_to_json(*number),
        Some(Kind::StringValue(text)) => serde_json::Value::String(text.clone()),
        Some(Kind::BoolValue(flag)) => serde_json::Value::Bool(*flag),
        Some(Kind::StructValue(fields)) => serde_json::Value::Object(struct_to_json(fields)),
        Some(Kind::ListValue(list)) => list.values.iter().map(value_to_json).collect(),
    }
}

/// A float as JSON the way protobuf prints it: `20`, not `20.0`.
pub(crate) fn number_to_json(number: f64) -> serde_json::Value {
    /// Up to here (2^53) every whole float is an exact integer.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT {
        return serde_json::Value::from(number as i64);
    }
    Number::from_f64(number).map_or(serde_json::Value::Null, serde_json::Value::Number)
}

/// A JSON object as a `Struct`. Integers become floats, as a `Struct` has no other number.
pub fn json_to_struct(fields: &Map<String, serde_json::Value>) -> Struct {
    let fields = fields.iter();
    Struct { fields: fields.map(|(key, value)| (key.clone(), json_to_value(value))).collect() }
}

/// JSON as a `google.protobuf.Value`. See [`json_to_struct`].
pub fn json_to_value(value: &serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(NullValue::NullValue.into()),
        serde_json::Value::Bool(flag) => Kind::BoolValue(*flag),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.iter().map(json_to_value).collect() })
        }
        serde_json::Value::Object(fields) => Kind::StructValue(json_to_struct(fields)),
    };
    Value { kind: Some(kind) }
}

/// A chance as numerator over denominator, from `envoy.type.v3.FractionalPercent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fraction {
    /// How many of [`Fraction::denominator`] are chosen.
    pub numerator: u32,
    /// 100, 10,000 or 1,000,000.
    pub denominator: u32,
}

impl Fraction {
    /// Whether a draw of `random` (any uniformly random number) is chosen, by the same rule as Envoy: `random % denominator < numerator`.
    pub fn chooses(&self, random: u64) -> bool {
        random % u64::from(self.denominator) < u64::from(self.numerator)
    }
}

/// The chance in a `FractionalPercent`; `None` where the denominator is none that the API defines. A numerator above the denominator
/// always chooses, as in Envoy.
pub fn fraction(percent: &FractionalPercent) -> Option<Fraction> {
    let denominator = match DenominatorType::try_from(percent.denominator).ok()? {
        DenominatorType::Hundred => 100,
        DenominatorType::TenThousand => 10_000,
        DenominatorType::Million => 1_000_000,
    };
    Some(Fraction { numerator: percent.numerator, denominator })
}

/// A `Percent` as a ratio from 0 to 1; `None` where it is no number from 0 to 100.
pub fn ratio(percent: &Percent) -> Option<f64> {
    (0.0..=100.0).contains(&percent.value).then(|| percent.value / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn proto(seconds: i64, nanos: i32) -> protobuf::Duration {
        protobuf::Duration { seconds, nanos }
    }

    #[test]
    fn durations_convert_both_ways() {
        let span = Duration::new(3, 250_000_000);
        assert_eq!(duration(&proto(3, 250_000_000)), Ok(span));
        assert_eq!(to_proto_duration(span), proto(3, 250_000_000));
        assert_eq!(to_proto_duration(Duration::MAX), proto(MAX_SECONDS, 0));
        assert!(duration(&to_proto_duration(Duration::MAX)).is_ok());
    }

    #[test]
    fn negative_and_out_of_range_durations_are_refused() {
        for (seconds, nanos) in [(-1, 0), (0, -1), (-1, -5)] {
            assert_eq!(
                duration(&proto(seconds, nanos)),
                Err(DurationError::Negative { seconds, nanos })
            );
        }
        for (seconds, nanos) in [
            (MAX_SECONDS + 1, 0),
            (i64::MIN, 0),
            (0, 1_000_000_000),
            (0, i32::MIN),
            (1, -1),
            (-1, 1),
        ] {
            assert_eq!(
                duration(&proto(seconds, nanos)),
                Err(DurationError::OutOfRange { seconds, nanos })
            );
        }
    }

    #[test]
    fn structs_convert_both_ways() {
        let object = json!({"a": [1, 2.5, "x", true, null], "b": {"c": -7}});
        let object = object.as_object().unwrap();
        assert_eq!(&struct_to_json(&json_to_struct(object)), object);
        let infinite = Value { kind: Some(Kind::NumberValue(f64::INFINITY)) };
        assert_eq!(value_to_json(&infinite), serde_json::Value::Null);
    }

    #[test]
    fn fractions_choose_as_many_draws_as_they_say() {
        let percent =
            FractionalPercent { numerator: 25, denominator: DenominatorType::TenThousand.into() };
        let fraction = fraction(&percent).unwrap();
        assert_eq!((0..10_000).filter(|draw| fraction.chooses(*draw)).count(), 25);
    }

    #[test]
    fn ratios_outside_0_to_100_percent_are_refused() {
        assert_eq!(ratio(&Percent { value: 50.0 }), Some(0.5));
        for value in [-0.1, 100.1, f64::NAN] {
            assert_eq!(ratio(&Percent { value }), None);
        }
    }
}
