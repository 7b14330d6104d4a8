//! An `Any` that a walk through messages meets, and what is in it.

use prost::bytes::Bytes;
use prost_reflect::{DescriptorPool, DynamicMessage, Value};

use crate::google::protobuf::Any;
use crate::type_url;

/// How many messages may lie around an `Any` that is opened. As protobuf bounds each message to 100 levels by itself, this bounds the
/// stack of every walk, whatever a control plane packs into each other.
const MAX_DEPTH: usize = 200;

/// The two fields of an `Any`. The bytes are shared with the message around it, so that opening one inside another copies nothing.
pub(crate) struct Packed {
    pub(crate) type_url: String,
    pub(crate) value: Bytes,
}

/// What a [`Packed`] holds.
pub(crate) enum Content {
    /// A message, ready to be walked.
    Known(DynamicMessage),
    /// A message of a type that Envoy's API does not have.
    UnknownType,
    /// Nothing that can be walked, and why.
    Refused(String),
}

impl From<&Any> for Packed {
    fn from(any: &Any) -> Self {
        Packed { type_url: any.type_url.clone(), value: Bytes::from(any.value.clone()) }
    }
}

impl Packed {
    /// The fields of `any`, which is a `google.protobuf.Any`.
    pub(crate) fn of(any: &DynamicMessage) -> Self {
        let (url, value) = (any.get_field_by_number(1), any.get_field_by_number(2));
        Packed {
            type_url: url.as_deref().and_then(Value::as_str).unwrap_or_default().to_owned(),
            value: value.as_deref().and_then(Value::as_bytes).cloned().unwrap_or_default(),
        }
    }

    /// Decodes the content of an `Any` that `depth` messages lie around.
    pub(crate) fn open(&self, pool: &DescriptorPool, depth: usize) -> Content {
        let Some(descriptor) = pool.get_message_by_name(type_url::message_name(&self.type_url))
        else {
            return Content::UnknownType;
        };
        if depth > MAX_DEPTH {
            return Content::Refused(format!(
                "more than {MAX_DEPTH} messages are packed into each other"
            ));
        }
        match DynamicMessage::decode(descriptor, self.value.clone()) {
            Ok(message) => Content::Known(message),
            Err(error) => Content::Refused(format!("value is no {}: {error}", self.type_url)),
        }
    }
}
