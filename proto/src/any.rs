//! Packing, unpacking and naming `google.protobuf.Any`.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message, Name};

use crate::google::protobuf::Any;
use crate::type_url;

/// Why an `Any` could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum AnyError {
    /// The `Any` holds another message than the caller can read here.
    #[error("type {found:?} cannot be used here, {expected:?} is expected")]
    WrongType {
        /// Type URL of the message that the caller reads.
        expected: String,
        /// Type URL in the `Any`; empty where the sender left it out.
        found: String,
    },
    /// The bytes are no message of the type that the URL names.
    #[error("{type_url}: {source}")]
    Malformed {
        /// Type URL in the `Any`.
        type_url: String,
        /// What prost says about the bytes.
        source: DecodeError,
    },
}

/// The type URL under which `T` is packed, as a constant of its name.
pub fn type_url_of<T: Name>() -> String {
    format!("{}{}", type_url::PREFIX, T::full_name())
}

/// Whether `any` holds a `T`: its type URL ends in the full name of `T`, whatever the prefix.
pub fn is<T: Name>(any: &Any) -> bool {
    type_url::message_name(&any.type_url) == T::full_name()
}

/// Decodes the message in `any` after comparing its type.
pub fn unpack<T: Message + Name + Default>(any: &Any) -> Result<T, AnyError> {
    if !is::<T>(any) {
        return Err(AnyError::WrongType {
            expected: type_url_of::<T>(),
            found: any.type_url.clone(),
        });
    }
    decode(any)
}

/// Decodes the bytes in `any` as a `T` when the caller has compared the type already.
pub(crate) fn decode<T: Message + Default>(any: &Any) -> Result<T, AnyError> {
    T::decode(any.value.as_slice())
        .map_err(|source| AnyError::Malformed { type_url: any.type_url.clone(), source })
}

/// Packs `message` under its own type URL.
pub fn pack<T: Message + Name>(message: &T) -> Any {
    Any { type_url: type_url_of::<T>(), value: message.encode_to_vec() }
}

/// The name of the xDS resource in `any`, read off the wire without decoding the rest.
///
/// `None` for a type that carries no name (LEDS's `LbEndpoint` is named by its wrapper only), for an unknown type and for bytes
/// that are no protobuf. A resource whose name is empty or absent gives `Some("")`, as protobuf does not tell these apart.
pub fn resource_name(any: &Any) -> Option<String> {
    let tag = name_tag(&any.type_url)?;
    read_string(&any.value, tag)
}

/// The number of the field that names a resource of this type.
fn name_tag(type_url: &str) -> Option<u32> {
    match type_url {
        type_url::LISTENER
        | type_url::ROUTE_CONFIGURATION
        | type_url::SCOPED_ROUTE_CONFIGURATION
        | type_url::VIRTUAL_HOST
        | type_url::CLUSTER
        | type_url::CLUSTER_LOAD_ASSIGNMENT
        | type_url::SECRET
        | type_url::RUNTIME
        | type_url::TYPED_EXTENSION_CONFIG => Some(1),
        type_url::RESOURCE => Some(3),
        _ => None,
    }
}

/// The last value of the string field `wanted` in an encoded message; empty when it does not occur, `None` when the bytes are broken.
fn read_string(mut bytes: &[u8], wanted: u32) -> Option<String> {
    let mut name: &[u8] = &[];
    while !bytes.is_empty() {
        let (tag, wire_type) = decode_key(&mut bytes).ok()?;
        if wire_type == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
            let content = bytes.split_off(..length)?;
            if tag == wanted {
                name = content;
            }
        } else {
            skip_field(wire_type, tag, &mut bytes, DecodeContext::default()).ok()?;
        }
    }
    String::from_utf8(name.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::config::{cluster::v3::Cluster, endpoint::v3::ClusterLoadAssignment};
    use crate::envoy::service::discovery::v3::Resource;

    fn cluster(name: &str) -> Cluster {
        Cluster { name: name.into(), alt_stat_name: "other".into(), ..Default::default() }
    }

    #[test]
    fn unpack_returns_what_was_packed_whatever_the_prefix() {
        let mut any = pack(&cluster("a"));
        assert_eq!(unpack::<Cluster>(&any).unwrap(), cluster("a"));
        any.type_url = "example.com/envoy.config.cluster.v3.Cluster".into();
        assert_eq!(unpack::<Cluster>(&any).unwrap(), cluster("a"));
    }

    #[test]
    fn a_mismatch_names_both_types() {
        let error = unpack::<ClusterLoadAssignment>(&pack(&cluster("a"))).unwrap_err().to_string();
        assert!(error.contains(type_url::CLUSTER), "{error}");
        assert!(error.contains(type_url::CLUSTER_LOAD_ASSIGNMENT), "{error}");
    }

    #[test]
    fn malformed_bytes_are_refused_with_their_type() {
        let any = Any { type_url: type_url::CLUSTER.into(), value: vec![0x0a, 0xff] };
        let error = unpack::<Cluster>(&any).unwrap_err().to_string();
        assert!(error.starts_with(type_url::CLUSTER), "{error}");
        assert_eq!(resource_name(&any), None);
    }

    #[test]
    fn resource_names_are_read_off_the_wire() {
        assert_eq!(resource_name(&pack(&cluster("a"))).as_deref(), Some("a"));
        let assignment = ClusterLoadAssignment { cluster_name: "b".into(), ..Default::default() };
        assert_eq!(resource_name(&pack(&assignment)).as_deref(), Some("b"));
        let wrapped = Resource {
            name: "c".into(),
            version: "1".into(),
            resource: Some(pack(&cluster("inner"))),
            ..Default::default()
        };
        assert_eq!(resource_name(&pack(&wrapped)).as_deref(), Some("c"));
        assert_eq!(resource_name(&pack(&Cluster::default())).as_deref(), Some(""));
        assert_eq!(resource_name(&Any::default()), None);
    }
}
