//! The version, in Envoy's form: agents split it at its slashes.

/// The Envoy release whose behaviour and API Pillion follows.
pub const ENVOY_VERSION: &str = "1.40.0";

/// `REVISION/VERSION/STATUS/TYPE/TLS`, five parts. The version part is that of the Envoy release that is followed, since
/// agents compare it; Pillion's own stands in the revision.
pub fn version() -> String {
    let kind = if cfg!(debug_assertions) { "DEBUG" } else { "RELEASE" };
    format!("pillion-{}/{ENVOY_VERSION}/Clean/{kind}/rustls", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn has_five_parts_as_agents_expect() {
        let version = super::version();
        let parts: Vec<_> = version.split('/').collect();
        assert_eq!(parts.len(), 5, "{version}");
        assert!(parts[1].split('.').all(|number| number.parse::<u32>().is_ok()), "{version}");
    }
}
