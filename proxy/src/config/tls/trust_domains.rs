//! Protobuf to model: the trust domains of the SPIFFE validator, each with its bundle, or all in one map.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::envoy::config::core::v3::data_source::Specifier;
use proto::envoy::config::core::v3::{DataSource, TypedExtensionConfig};
use proto::envoy::extensions::transport_sockets::tls::v3 as pb;
use serde::Deserialize;

use super::TrustDomain;
use super::secret::filled;
use crate::config::any;
use crate::config::error::{At, ConfigError, Context};
use crate::config::value;
use crate::refuse_set;

/// The trust domains of the one custom validator that exists, `envoy.tls.cert_validator.spiffe`.
pub(super) fn trust_domains(
    message: &TypedExtensionConfig,
    at: &At<'_>,
    context: &Context,
) -> Result<Vec<TrustDomain>, ConfigError> {
    let at = at.field("typed_config");
    let config = message.typed_config.as_ref();
    if !any::is::<pb::SpiffeCertValidatorConfig>(config) {
        return Err(any::unknown(&message.name, config, &at));
    }
    let config: pb::SpiffeCertValidatorConfig = any::open(config, &at)?;
    if let Some(source) = &config.trust_bundles {
        return bundle_map(source, &at.field("trust_bundles"), context);
    }
    let mut domains: Vec<TrustDomain> = Vec::new();
    for (i, domain) in config.trust_domains.iter().enumerate() {
        let at = at.index("trust_domains", i);
        refuse_set!(at, domain, [workload_trust_domain]);
        let name = value::non_empty(&domain.name, &at.field("name"))?;
        if domains.iter().any(|known| *known.name == *name) {
            let error =
                format_args!("multiple trust bundles are given for the trust domain {name:?}");
            return Err(at.field("name").error(error));
        }
        let at = at.field("trust_bundle");
        let bundle = value::bytes(value::required(&domain.trust_bundle, &at)?, &at, context)?;
        domains.push(TrustDomain { name: name.into(), bundle_pem: filled(bundle, &at)? });
    }
    Ok(domains)
}

/// A SPIFFE bundle map: the bundle of each trust domain, as of the SPIFFE Trust Domain and Bundle specification.
#[derive(Deserialize)]
struct BundleMap {
    trust_domains: BTreeMap<String, Bundle>,
}

#[derive(Deserialize)]
struct Bundle {
    keys: Vec<Key>,
}

/// A JSON Web Key, of which only those for X.509 matter here.
#[derive(Deserialize)]
struct Key {
    #[serde(rename = "use")]
    usage: Option<String>,
    /// Certificates in DER, in base64.
    #[serde(default)]
    x5c: Vec<String>,
}

/// `trust_bundles`: stands above `trust_domains`, and its file is read again when it is replaced.
fn bundle_map(
    source: &DataSource,
    at: &At<'_>,
    context: &Context,
) -> Result<Vec<TrustDomain>, ConfigError> {
    if let (Some(Specifier::Filename(path)), None) = (&source.specifier, &source.watched_directory)
    {
        context.note_watched(Path::new(path).parent().unwrap_or(Path::new("")));
    }
    let bytes = value::bytes(source, at, context)?;
    let map: BundleMap = serde_json::from_slice(&bytes)
        .map_err(|error| at.error(format_args!("is no SPIFFE bundle map: {error}")))?;
    let domains = map.trust_domains.into_iter().map(|(name, bundle)| {
        let mut pem = String::new();
        let keys = bundle.keys.iter().filter(|key| key.usage.as_deref() == Some("x509-svid"));
        for certificate in keys.flat_map(|key| &key.x5c) {
            let bad =
                |error| at.error(format_args!("the bundle of {name:?} is no base64: {error}"));
            let der = STANDARD.decode(certificate).map_err(bad)?;
            // Writing to a text cannot fail.
            let _ = writeln!(pem, "-----BEGIN CERTIFICATE-----");
            for line in STANDARD.encode(der).as_bytes().chunks(64) {
                let _ = writeln!(pem, "{}", String::from_utf8_lossy(line));
            }
            let _ = writeln!(pem, "-----END CERTIFICATE-----");
        }
        if pem.is_empty() {
            return Err(at.error(format_args!("the bundle of {name:?} has no key for x509-svid")));
        }
        Ok(TrustDomain { name: name.into(), bundle_pem: pem.into_bytes() })
    });
    domains.collect()
}

#[cfg(test)]
mod tests {
    use super::super::ValidationContext;
    use super::*;
    use proto::Registry;

    fn translate(yaml: &str) -> Result<ValidationContext, String> {
        let message = Registry::load().from_yaml(yaml).expect("the test's YAML is a message");
        let at = At::resource("secret", "a");
        ValidationContext::from_proto(&message, &at, &Context::default())
            .map_err(|error| error.to_string())
    }

    const SPIFFE: &str =
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";

    #[test]
    fn trust_domains_have_one_bundle_each() {
        let spiffe = |domains: &str| {
            translate(&format!(
                "{{custom_validator_config: {{name: envoy.tls.cert_validator.spiffe, typed_config: \
                 {{'@type': {SPIFFE}, trust_domains: [{domains}]}}}}}}"
            ))
        };
        let bundle = "trust_bundle: {inline_string: CA}";
        let two = spiffe(&format!("{{name: a, {bundle}}}, {{name: b, {bundle}}}")).expect("valid");
        let domains = two.spiffe.expect("it has them");
        assert_eq!(domains.iter().map(|domain| &*domain.name).collect::<Vec<_>>(), ["a", "b"]);
        let at = "secret \"a\": custom_validator_config.typed_config.trust_domains";
        assert_eq!(
            spiffe(&format!("{{name: a, {bundle}}}, {{name: a, {bundle}}}")).expect_err("twice"),
            format!("{at}[1].name: multiple trust bundles are given for the trust domain \"a\"")
        );
        let none = spiffe("").expect("Envoy takes it, and lets nobody in");
        assert_eq!(none.spiffe, Some(Vec::new()));
        assert_eq!(
            spiffe("{name: a}").expect_err("no bundle"),
            format!("{at}[0].trust_bundle: is required")
        );
    }

    #[test]
    fn a_bundle_map_stands_above_single_bundles() {
        let with = |map: &str| {
            let config = format!(
                "{{'@type': {SPIFFE}, trust_domains: [{{name: old, trust_bundle: \
                {{inline_string: CA}}}}], trust_bundles: {{inline_string: '{map}'}}}}"
            );
            translate(&format!("{{custom_validator_config: {{name: a, typed_config: {config}}}}}"))
        };
        let x509 = r#"{"use": "x509-svid", "kty": "EC", "x5c": ["AAEC"]}"#;
        let jwt = r#"{"use": "jwt-svid", "kty": "EC"}"#;
        let domains = |keys: &str| {
            with(&format!(
                r#"{{"trust_domains": {{"a.test": {{"sequence_number": 1, "keys": [{keys}]}}}}}}"#
            ))
        };
        let found = domains(&format!("{jwt}, {x509}")).expect("it is valid").spiffe.expect("some");
        assert_eq!((found.len(), &*found[0].name), (1, "a.test"));
        let pem = String::from_utf8_lossy(&found[0].bundle_pem);
        assert_eq!(pem, "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n");
        let at = "secret \"a\": custom_validator_config.typed_config.trust_bundles";
        assert_eq!(
            domains(jwt).expect_err("nothing for X.509"),
            format!("{at}: the bundle of \"a.test\" has no key for x509-svid")
        );
        assert!(with("no JSON").is_err());
    }
}
