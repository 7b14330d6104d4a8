//! A message without its Rust type: as a text gave it, to be merged, validated and handed on in binary form.

use prost::{DecodeError, Message, encoding};
use prost_reflect::{DynamicMessage, Kind, Value};

/// A message of Envoy's API that was read and not made into its Rust type. Large configurations are passed on so at less than
/// half the time.
#[derive(Debug, Clone, PartialEq)]
pub struct Untyped(pub(crate) DynamicMessage);

impl Untyped {
    /// [`crate::merge`] for messages without their Rust types. Both must be of one type.
    pub fn merge(&mut self, over: &Untyped) -> Result<(), DecodeError> {
        self.0.merge(encode(&over.0).as_slice())
    }

    /// Takes the messages out of the list at `path`, which names fields that hold messages; none where there is no such list.
    pub fn take_list(&mut self, path: &[&str]) -> Vec<Untyped> {
        let Some((list, way)) = path.split_last() else { return Vec::new() };
        let mut message = &mut self.0;
        for name in way {
            if !message.has_field_by_name(name) {
                return Vec::new();
            }
            match message.get_field_by_name_mut(name) {
                Some(Value::Message(inner)) => message = inner,
                _ => return Vec::new(),
            }
        }
        let items = message.get_field_by_name_mut(list).and_then(Value::as_list_mut);
        let items = items.map(std::mem::take).unwrap_or_default();
        let messages = items.into_iter().filter_map(|item| match item {
            Value::Message(message) => Some(Untyped(message)),
            _ => None,
        });
        messages.collect()
    }

    /// The message in binary form.
    pub fn encode(&self) -> Vec<u8> {
        encode(&self.0)
    }

    /// The message as its Rust type. It fails where messages lie more than 100 levels inside each other, protobuf's limit.
    pub(crate) fn typed<T: Message + Default>(self) -> Result<T, DecodeError> {
        T::decode(self.encode().as_slice())
    }
}

/// The message in binary form.
///
/// [`DynamicMessage`] does it too, but measures every message anew for each one around it.
pub(crate) fn encode(message: &DynamicMessage) -> Vec<u8> {
    let mut out = Vec::new();
    write(message, &mut out);
    out
}

fn write(message: &DynamicMessage, out: &mut Vec<u8>) {
    if message.unknown_fields().next().is_some() {
        out.extend(message.encode_to_vec());
        return;
    }
    for (field, value) in message.fields() {
        let number = field.number();
        match (value, field.kind()) {
            (Value::Message(inner), Kind::Message(_)) if !field.is_group() => {
                write_inner(number, inner, out);
            }
            (Value::List(items), Kind::Message(_)) if !field.is_group() => {
                for inner in items.iter().filter_map(Value::as_message) {
                    write_inner(number, inner, out);
                }
            }
            (Value::String(text), _) => encoding::string::encode(number, text, out),
            (Value::U32(integer), Kind::Uint32) => encoding::uint32::encode(number, integer, out),
            (value, _) => {
                let mut alone = DynamicMessage::new(field.parent_message().clone());
                alone.set_field(&field, value.clone());
                out.extend(alone.encode_to_vec());
            }
        }
    }
}

/// Writes a message that is a field of another. Its length goes in front once it is known.
fn write_inner(number: u32, inner: &DynamicMessage, out: &mut Vec<u8>) {
    encoding::encode_key(number, encoding::WireType::LengthDelimited, out);
    let start = out.len();
    write(inner, out);
    let mut length = Vec::with_capacity(encoding::encoded_len_varint(u64::MAX));
    encoding::encode_varint((out.len() - start) as u64, &mut length);
    out.splice(start..start, length);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::config::bootstrap::v3::Bootstrap;
    use crate::envoy::config::cluster::v3::Cluster;
    use crate::{Format, Registry};

    const YAML: &str = r#"
node: {id: a, metadata: {n: 1, l: [x, true, null], s: {k: v}}}
static_resources:
  clusters:
  - name: one
    connect_timeout: 0.25s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {hpack_table_size: 0}}
    circuit_breakers: {thresholds: [{max_requests: 7}]}
    lb_subset_config: {subset_selectors: [{keys: [a, b]}]}
  - {name: two, type: EDS, common_lb_config: {healthy_panic_threshold: {value: 12.5}}}
admin: {address: {pipe: {path: /x, mode: 511}}}
"#;

    #[test]
    fn both_ways_to_encode_agree() {
        let registry = Registry::load();
        let read = registry.parse_untyped::<Bootstrap>(Format::Yaml, YAML).unwrap().message;
        let typed: Bootstrap = registry.from_yaml(YAML).unwrap();
        assert_eq!(read.encode(), read.0.encode_to_vec());
        assert_eq!(read.typed::<Bootstrap>().unwrap(), typed);
    }

    #[test]
    fn lists_are_taken_out() {
        let registry = Registry::load();
        let mut read = registry.parse_untyped::<Bootstrap>(Format::Yaml, YAML).unwrap().message;
        let clusters = read.take_list(&["static_resources", "clusters"]);
        let names = clusters.into_iter().map(|cluster| cluster.typed::<Cluster>().unwrap().name);
        assert_eq!(names.collect::<Vec<_>>(), ["one", "two"]);
        assert!(read.take_list(&["static_resources", "clusters"]).is_empty());
        assert!(read.take_list(&["dynamic_resources", "x"]).is_empty());
        assert!(read.typed::<Bootstrap>().unwrap().static_resources.unwrap().clusters.is_empty());
    }

    #[test]
    fn merging_is_that_of_typed_messages() {
        let registry = Registry::load();
        let over = "{node: {id: b}, static_resources: {clusters: [{name: three}]}}";
        let untyped = |text| registry.parse_untyped::<Bootstrap>(Format::Yaml, text).unwrap();
        let mut merged = untyped(YAML).message;
        merged.merge(&untyped(over).message).unwrap();
        let mut typed: Bootstrap = registry.from_yaml(YAML).unwrap();
        crate::merge(&mut typed, &registry.from_yaml::<Bootstrap>(over).unwrap()).unwrap();
        assert_eq!(merged.typed::<Bootstrap>().unwrap(), typed);
    }
}
