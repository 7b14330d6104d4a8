//! Opening `typed_config` messages, also those that come as a `TypedStruct`.

use std::fmt;
use std::sync::LazyLock;

use prost::encoding::{WireType, decode_key, decode_varint};
use prost::{Message, Name};
use proto::google::protobuf::Any;
use proto::{Registry, TypedStruct, type_url};

use crate::config::error::{At, ConfigError};

/// For typed structs, which are JSON: it takes about 10 MB from the first of them on.
static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::load);

/// Opens the message in `any`, which must be a `T`.
///
/// # Errors
/// There is none, it is of another type, or its bytes are no such message.
pub fn open<'a, T: Message + Name + Default>(
    any: impl Into<Option<&'a Any>>,
    at: &At<'_>,
) -> Result<T, ConfigError> {
    let any = any.into().ok_or_else(|| at.error("is required"))?;
    match TypedStruct::unpack(any) {
        None => proto::any::unpack(any).map_err(|error| at.error(error)),
        Some(typed) => described(&typed.map_err(|error| at.error(error))?, at),
    }
}

/// The message that a typed struct describes.
fn described<T: Message + Name + Default>(
    typed: &TypedStruct,
    at: &At<'_>,
) -> Result<T, ConfigError> {
    if type_url::message_name(&typed.type_url) != T::full_name() {
        let rule = format_args!("{:?} is not {:?}", typed.type_url, T::type_url());
        return Err(at.field("type_url").error(rule));
    }
    let fields = typed.value.as_ref().map(proto::convert::struct_to_json).unwrap_or_default();
    let text = serde_json::Value::Object(fields).to_string();
    REGISTRY.from_json(&text).map_err(|error| {
        at.field("value").error(format_args!("{}: {}", error.path(), error.problem()))
    })
}

/// Whether there is a `T` in `any`, or described by it.
pub fn is<'a, T: Name>(any: impl Into<Option<&'a Any>>) -> bool {
    let any = any.into();
    any.is_some() && type_name(any) == T::full_name()
}

/// The full name of the message in `any`, for the choice among extensions; empty if there is none. A typed struct counts
/// as what it describes.
pub fn type_name(any: Option<&Any>) -> &str {
    any.map_or("", |any| match type_url::message_name(&any.type_url) {
        name if TypedStruct::NAMES.contains(&name) => described_name(&any.value).unwrap_or(name),
        name => name,
    })
}

/// `TypedStruct.type_url`, read off the wire without decoding the rest.
fn described_name(mut bytes: &[u8]) -> Option<&str> {
    let mut url = None;
    while !bytes.is_empty() {
        let (tag, WireType::LengthDelimited) = decode_key(&mut bytes).ok()? else {
            return None;
        };
        let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
        let content = bytes.split_off(..length)?;
        if tag == 1 {
            url = std::str::from_utf8(content).ok();
        }
    }
    url.map(type_url::message_name)
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
    fn a_typed_struct_counts_as_what_it_describes() {
        let root = At::resource("listener", "a");
        let typed = |json: serde_json::Value| {
            proto::any::pack(&TypedStruct {
                type_url: Secret::type_url(),
                value: json.as_object().map(proto::convert::json_to_struct),
            })
        };
        let any = typed(serde_json::json!({"name": "b", "generic_secret": {}}));
        assert!(is::<Secret>(&any) && !is::<RawBuffer>(&any));
        assert_eq!(open::<Secret>(&any, &root).expect("it is one").name, "b");
        assert_eq!(
            open::<RawBuffer>(&any, &root).unwrap_err().message,
            format!("{:?} is not {:?}", Secret::type_url(), RawBuffer::type_url())
        );
        let wrong = open::<Secret>(&typed(serde_json::json!({"nome": "b"})), &root).unwrap_err();
        assert_eq!(wrong.path, "listener \"a\": value");
        assert!(wrong.message.starts_with("nome: "), "{wrong}");
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
