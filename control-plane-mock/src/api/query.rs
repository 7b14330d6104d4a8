//! The parameters in a request's query.

use std::str::FromStr;
use std::time::Duration;

use proto::type_url;

use super::ApiError;

/// The query's pairs. A parameter that the route does not know is refused, so that a misspelt one does not go unnoticed.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, ApiError> {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let pairs: Vec<(String, String)> = pairs.into_owned().collect();
        let unknown = pairs.iter().find(|(name, _)| !known.contains(&name.as_str()));
        match unknown {
            Some((name, _)) => Err(ApiError::bad_request(format!(
                "unknown parameter {name:?}, expected one of: {}",
                known.join(", ")
            ))),
            None => Ok(Self(pairs)),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let pair = self.0.iter().find(|(key, _)| key == name);
        pair.map(|(_, value)| value.as_str())
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let pairs = self.0.iter().filter(move |(key, _)| key == name);
        pairs.map(|(_, value)| value.as_str())
    }

    /// A parameter that is a number or the like.
    pub(super) fn parsed<T: FromStr<Err: std::fmt::Display>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, ApiError> {
        let parse = |value: &str| {
            value.parse().map_err(|error| ApiError::bad_request(format!("{name}={value}: {error}")))
        };
        self.get(name).map(parse).transpose()
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, ApiError> {
        let missing = || ApiError::bad_request(format!("the parameter {name:?} is missing"));
        self.get(name).ok_or_else(missing)
    }

    /// A time in seconds, such as `0.5`.
    pub(super) fn seconds(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        let seconds: Option<f64> = self.parsed(name)?;
        let duration = seconds.map(Duration::try_from_secs_f64).transpose();
        duration.map_err(|error| ApiError::bad_request(format!("{name}: {error}")))
    }

    /// The type URL that `type` gives or abbreviates.
    pub(super) fn type_url(&self) -> Option<String> {
        self.get("type").map(full_type)
    }
}

/// The type URL behind a short name; anything else is a type URL already.
pub(super) fn full_type(name: &str) -> String {
    type_url::from_short_name(name).unwrap_or(name).to_owned()
}
