//! Opening `typed_config` messages.

use std::fmt;

use prost::{Message, Name};
use proto::google::protobuf::Any;

use crate::config::error::{At, ConfigError};

/// Opens the message in `any`, which must be a `T`.
///
/// # Errors
/// There is none, it is of another type, or its bytes are no such message.
pub fn open<'a, T: Message + Name + Default>(
    any: impl Into<Option<&'a Any>>,
    at: &At<'_>,
) -> Result<T, ConfigError> {
    let any = any.into().ok_or_else(|| at.error("is required"))?;
    proto::any::unpack(any).map_err(|error| at.error(error))
}

/// The full name of the message in `any`, for the choice among extensions; empty if there is none.
pub fn type_name(any: Option<&Any>) -> &str {
    any.map_or("", |any| proto::type_url::message_name(&any.type_url))
}

/// The extension that `any` configures does not exist here; `name` is what the configuration calls it.
pub fn unknown(name: impl fmt::Display, any: Option<&Any>, at: &At<'_>) -> ConfigError {
    let url = any.map_or("", |any| any.type_url.as_str());
    at.error(format_args!(
        "didn't find a registered implementation for {name:?} with type URL {url:?}: \
         Pillion has no such extension",
        name = name.to_string(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
    use proto::envoy::extensions::transport_sockets::tls::v3::Secret;

    #[test]
    fn a_message_of_the_right_type_opens() {
        let root = At::resource("cluster", "a");
        let any = proto::any::pack(&RawBuffer {});
        assert!(open::<RawBuffer>(&any, &root).is_ok());
        assert!(open::<RawBuffer>(Some(&any), &root).is_ok());
    }

    #[test]
    fn absent_and_wrong_messages_are_refused_where_they_stand() {
        let root = At::resource("cluster", "a");
        let at = root.field("typed_config");
        let error = open::<RawBuffer>(None, &at).unwrap_err().to_string();
        assert_eq!(error, "cluster \"a\": typed_config: is required");
        let error = open::<Secret>(&proto::any::pack(&RawBuffer {}), &at).unwrap_err().to_string();
        assert!(error.contains("raw_buffer.v3.RawBuffer"), "{error}");
    }

    #[test]
    fn an_unknown_extension_is_named_with_its_type_url() {
        let root = At::resource("cluster", "a");
        let any = Any { type_url: "type.googleapis.com/my.Own".into(), value: Vec::new() };
        assert_eq!(type_name(Some(&any)), "my.Own");
        assert_eq!(
            unknown("my_own", Some(&any), &root).to_string(),
            "cluster \"a\": didn't find a registered implementation for \"my_own\" with type URL \
             \"type.googleapis.com/my.Own\": Pillion has no such extension"
        );
    }
}
