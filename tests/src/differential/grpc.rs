//! gRPC messages of scripted upstreams, written and told as JSON.

use std::sync::LazyLock;

use proto::Registry;
use proto::google::protobuf::Any;
use serde_json::{Value, json};

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::load);

/// A flag and a length stand before each message.
const PREFIX: usize = 5;

/// The frame of a message that is written with its `@type`.
pub fn frame(message: &Value) -> Result<Vec<u8>, String> {
    let any: Any = REGISTRY.from_json(&message.to_string()).map_err(|error| error.to_string())?;
    let length = u32::try_from(any.value.len()).map_err(|error| error.to_string())?;
    Ok([&[0], &length.to_be_bytes()[..], &any.value].concat())
}

/// The messages of this type that a body holds.
pub fn messages(name: &str, mut body: &[u8]) -> Value {
    let mut told = Vec::new();
    while let Some((prefix, rest)) = body.split_at_checked(PREFIX) {
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
        let Some((message, rest)) = rest.split_at_checked(length as usize) else { break };
        let type_url = format!("type.googleapis.com/{name}");
        told.push(REGISTRY.any_to_json(&Any { type_url, value: message.to_vec() }));
        body = rest;
    }
    json!(told)
}
