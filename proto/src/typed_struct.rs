//! The message that carries an extension's configuration as a plain `Struct`.

use crate::any::{self, AnyError};
use crate::google::protobuf::{Any, Struct};
use crate::type_url;

/// `xds.type.v3.TypedStruct`, and `udpa.type.v1.TypedStruct`, which has the same two fields.
///
/// Control planes that do not link an extension's type (Istio's EnvoyFilter, Wasm) send its configuration this way. The crate of
/// Envoy's types has neither.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TypedStruct {
    /// Type URL of the message that `value` describes by the JSON mapping.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message's fields in their JSON form.
    #[prost(message, optional, tag = "2")]
    pub value: Option<Struct>,
}

impl prost::Name for TypedStruct {
    const NAME: &'static str = "TypedStruct";
    const PACKAGE: &'static str = "xds.type.v3";
}

impl TypedStruct {
    /// Full names of the two messages that this type reads.
    pub const NAMES: [&'static str; 2] = ["xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct"];

    /// The typed struct in `any`, or `None` where `any` holds something else.
    pub fn unpack(any: &Any) -> Option<Result<Self, AnyError>> {
        Self::NAMES.contains(&type_url::message_name(&any.type_url)).then(|| any::decode(any))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_packages_are_read_and_others_left_alone() {
        let sent = TypedStruct { type_url: "type.googleapis.com/my.Filter".into(), value: None };
        let mut any = any::pack(&sent);
        assert_eq!(TypedStruct::unpack(&any).unwrap().unwrap(), sent);
        any.type_url = "type.googleapis.com/udpa.type.v1.TypedStruct".into();
        assert_eq!(TypedStruct::unpack(&any).unwrap().unwrap(), sent);
        any.type_url = type_url::CLUSTER.into();
        assert!(TypedStruct::unpack(&any).is_none());
    }
}
