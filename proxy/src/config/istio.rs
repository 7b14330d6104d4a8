//! Istio's own filters that traffic does not depend on: they tell peers of each other and count.

use proto::TypedStruct;
use proto::google::protobuf::Any;
use proto::type_url::message_name;

/// What peers say after a handshake that agreed on this protocol (`istio.metadata_exchange`) is not understood here, so it is
/// never offered: without it, Envoy's filter lets the connection pass as it is.
pub const PEER_EXCHANGE: &str = "istio-peer-exchange";

/// The filters, by the message that configures them: `istio.metadata_exchange` over HTTP, and over TCP on both sides, and
/// `istio.stats`.
const FILTERS: [&str; 3] = [
    "io.istio.http.peer_metadata.Config",
    "envoy.tcp.metadataexchange.config.MetadataExchange",
    "stats.PluginConfig",
];

/// Why such a filter is left out.
pub const LEFT_OUT: &str =
    "left out: Pillion exchanges no metadata with peers and keeps no istio_* metrics";

/// Whether this configures such a filter. Istio packs most of them into typed structs.
pub fn is_telemetry(config: &Any) -> bool {
    let is = |type_url: &str| FILTERS.contains(&message_name(type_url));
    match TypedStruct::unpack(config) {
        Some(Ok(packed)) => is(&packed.type_url),
        Some(Err(_)) => false,
        None => is(&config.type_url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_structs_are_looked_into() {
        let packed = |name: &str| {
            let type_url = format!("type.googleapis.com/{name}");
            proto::any::pack(&TypedStruct { type_url, value: None })
        };
        assert!(is_telemetry(&packed("stats.PluginConfig")));
        assert!(!is_telemetry(&packed("my.Filter")));
        let type_url = "type.googleapis.com/io.istio.http.peer_metadata.Config".to_owned();
        assert!(is_telemetry(&Any { type_url, value: Vec::new() }));
    }
}
