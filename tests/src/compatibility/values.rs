//! What a field is tried with.

use proto::{FieldDescriptor, Kind, MessageDescriptor, Registry};
use serde_json::{Value, json};

use super::decisions::Decisions;

/// Whether protobuf's JSON writes this message in a form of its own, so that there are no fields to look at.
pub fn has_own_form(message: &MessageDescriptor) -> bool {
    message.package_name() == "google.protobuf" && message.name() != "Any"
}

/// Whether a field holds any message of an extension.
pub fn is_any(field: &FieldDescriptor) -> bool {
    let kind = match field.is_map() {
        true => map_value(field),
        false => field.kind(),
    };
    matches!(kind, Kind::Message(message) if message.full_name() == "google.protobuf.Any")
}

/// The message that a field, its elements or its entries hold, if it has fields of its own.
pub fn message_of(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    let kind = if field.is_map() { map_value(field) } else { field.kind() };
    match kind {
        Kind::Message(message) if !has_own_form(&message) && !is_any(field) => Some(message),
        _ => None,
    }
}

fn map_value(field: &FieldDescriptor) -> Kind {
    match field.kind() {
        Kind::Message(entry) => entry.map_entry_value_field().kind(),
        other => other,
    }
}

/// The values of a field, without the list or the map around them that the field may need.
pub fn values(field: &FieldDescriptor, decisions: &Decisions, registry: &Registry) -> Vec<Value> {
    if let Some(given) = decisions.values.get(field.full_name()) {
        return given.clone();
    }
    let kind = if field.is_map() { map_value(field) } else { field.kind() };
    // The value that a field has anyway says nothing.
    let default = !field.supports_presence() && !field.is_list() && !field.is_map();
    match kind {
        Kind::Message(message) => match decisions.values.get(message.full_name()) {
            Some(given) => given.clone(),
            None => of_message(&message, registry),
        },
        Kind::Enum(kind) => {
            let says = |number: i32| number != 0 || !default;
            let values = kind.values().filter(|value| says(value.number()));
            values.map(|value| json!(value.name())).collect()
        }
        Kind::Bool if default => vec![json!(true)],
        Kind::Bool => vec![json!(true), json!(false)],
        Kind::String => ["a", "/a", "x-a", "127.0.0.1", "a.b"].map(Value::from).to_vec(),
        Kind::Bytes => vec![json!("YQ=="), json!("Yg==")],
        Kind::Double | Kind::Float => [0.5, 1.0, 2.0, 150.0].map(Value::from).to_vec(),
        _ => [1, 2, 7, 50, 200, 70_000].map(Value::from).to_vec(),
    }
}

fn of_message(message: &MessageDescriptor, registry: &Registry) -> Vec<Value> {
    match message.full_name() {
        "google.protobuf.Any" => extensions(registry),
        "google.protobuf.Duration" => ["1.5s", "0.25s", "30s", "600s"].map(Value::from).to_vec(),
        "google.protobuf.Timestamp" => vec![json!("2026-01-01T00:00:00Z")],
        "google.protobuf.BoolValue" => vec![json!(true), json!(false)],
        "google.protobuf.StringValue" => ["a", "/a", "127.0.0.1"].map(Value::from).to_vec(),
        "google.protobuf.BytesValue" => vec![json!("YQ==")],
        "google.protobuf.DoubleValue" | "google.protobuf.FloatValue" => {
            [0.5, 1.0, 2.0].map(Value::from).to_vec()
        }
        name if name.starts_with("google.protobuf.") && name.ends_with("IntValue") => Vec::new(),
        "google.protobuf.UInt32Value"
        | "google.protobuf.UInt64Value"
        | "google.protobuf.Int32Value"
        | "google.protobuf.Int64Value" => [1, 2, 7, 50, 200, 70_000].map(Value::from).to_vec(),
        "google.protobuf.Struct" => vec![json!({"a": "b"})],
        "google.protobuf.Value" => vec![json!("a")],
        _ => vec![json!({})],
    }
}

/// Every message that may configure an extension.
fn extensions(registry: &Registry) -> Vec<Value> {
    let is_extension = |message: &MessageDescriptor| {
        let package = message.package_name();
        message.parent_message().is_none()
            && (package.starts_with("envoy.extensions.")
                || package.starts_with("xds.type.matcher.")
                || package == "google.protobuf" && message.name() == "StringValue"
                || ["envoy.config.rbac.v3.Action", "envoy.config.route.v3.FilterConfig"]
                    .contains(&message.full_name()))
    };
    let mut names: Vec<String> = registry
        .messages()
        .filter(is_extension)
        .map(|message| message.full_name().to_owned())
        .collect();
    names.sort();
    let empty = |name: &String| {
        let mut message = json!({"@type": format!("type.googleapis.com/{name}")});
        if name.starts_with("google.protobuf.") {
            message["value"] = json!("a");
        }
        message
    };
    names.iter().map(empty).collect()
}
