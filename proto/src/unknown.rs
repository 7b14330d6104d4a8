//! Fields on the wire that the API does not define: a newer control plane sends them, and prost drops them without a word.

use prost_reflect::{DynamicMessage, ReflectMessage, Value};

use crate::google::protobuf::Any;
use crate::packed::{Content, Packed};
use crate::registry::Registry;

impl Registry {
    /// The unknown fields in the message that `any` holds, also those inside its own `Any`, such as
    /// `typed_config: field 900 of envoy.config.core.v3.TransportSocket`.
    ///
    /// This is what Envoy's `--reject-unknown-dynamic-fields` refuses and the statistic `server.dynamic_unknown_fields` counts. An `Any`
    /// of an unknown type and one that cannot be decoded have none.
    pub fn unknown_fields(&self, any: &Any) -> Vec<String> {
        let mut search =
            Search { registry: self, path: String::new(), depth: 0, found: Vec::new() };
        search.any(&Packed::from(any));
        search.found
    }
}

struct Search<'a> {
    registry: &'a Registry,
    path: String,
    /// How many messages lie around the value at hand.
    depth: usize,
    found: Vec<String>,
}

impl Search<'_> {
    fn any(&mut self, packed: &Packed) {
        if let Content::Known(message) = packed.open(self.registry.pool(), self.depth) {
            self.message(&message);
        }
    }

    fn message(&mut self, message: &DynamicMessage) {
        let descriptor = message.descriptor();
        for unknown in message.unknown_fields() {
            let separator = if self.path.is_empty() { "" } else { ": " };
            let (path, name) = (&self.path, descriptor.full_name());
            self.found.push(format!("{path}{separator}field {} of {name}", unknown.number()));
        }
        self.depth += 1;
        if descriptor.full_name() == "google.protobuf.Any" {
            self.any(&Packed::of(message));
        } else {
            for (field, value) in message.fields() {
                let dot = if self.path.is_empty() { "" } else { "." };
                self.value(&format!("{dot}{}", field.name()), value);
            }
        }
        self.depth -= 1;
    }

    fn value(&mut self, step: &str, value: &Value) {
        let length = self.path.len();
        self.path.push_str(step);
        match value {
            Value::Message(message) => self.message(message),
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(&format!("[{index}]"), item);
                }
            }
            Value::Map(entries) => {
                for (key, value) in entries {
                    self.value(&format!("[{}]", Value::from(key.clone())), value);
                }
            }
            _ => {}
        }
        self.path.truncate(length);
    }
}
