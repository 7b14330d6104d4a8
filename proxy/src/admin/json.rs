//! JSON in the layout and the shapes of Envoy's admin interface.

use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Value, json};

use crate::config::endpoint::Locality;
use crate::io::Address;

/// `value` indented by one space a level, with a final newline.
pub(super) fn pretty(value: &Value) -> String {
    let mut out = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b" "));
    value.serialize(&mut serializer).expect("a vector takes every byte");
    out.push(b'\n');
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// `envoy.config.core.v3.Address`.
pub(super) fn address(address: &Address) -> Value {
    match address {
        Address::Ip(ip) => json!({
            "socket_address": {"address": ip.ip().to_string(), "port_value": ip.port()}
        }),
        Address::Pipe(path) => json!({"pipe": {"path": path.display().to_string()}}),
    }
}

/// `envoy.config.core.v3.Locality`; what is empty is left out.
pub(super) fn locality(locality: &Locality) -> Value {
    let Locality { region, zone, sub_zone } = locality;
    let parts = [("region", region), ("zone", zone), ("sub_zone", sub_zone)];
    let named = parts.into_iter().filter(|(_, value)| !value.is_empty());
    named.map(|(name, value)| (name.to_string(), Value::from(&**value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_envoy_does() {
        let value = json!({"a": [1, {"b": "c"}], "d": {}});
        let expected = "{\n \"a\": [\n  1,\n  {\n   \"b\": \"c\"\n  }\n ],\n \"d\": {}\n}\n";
        assert_eq!(pretty(&value), expected);
    }

    #[test]
    fn an_address_keeps_its_kind() {
        let ip = Address::Ip("[::1]:80".parse().unwrap());
        assert_eq!(address(&ip), json!({"socket_address": {"address": "::1", "port_value": 80}}));
        let pipe = Address::Pipe(std::path::Path::new("/run/x").into());
        assert_eq!(address(&pipe), json!({"pipe": {"path": "/run/x"}}));
    }
}
