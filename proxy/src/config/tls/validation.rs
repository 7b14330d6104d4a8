//! Protobuf to model: `CertificateValidationContext`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::envoy::extensions::transport_sockets::tls::v3 as pb;
use proto::envoy::extensions::transport_sockets::tls::v3::certificate_validation_context::TrustChainVerification;
use proto::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;

use super::secret::filled;
use super::trust_domains::trust_domains;
use super::{SanKind, SanMatcher, ValidationContext};
use crate::config::error::{At, ConfigError, Context};
use crate::config::matcher::StringMatcher;
use crate::config::value;
use crate::{refuse_set, warn_set};

/// The deepest `max_verify_depth`.
const MAX_DEPTH: u32 = 100;

impl ValidationContext {
    /// Translates a `CertificateValidationContext` and reads its files.
    ///
    /// # Errors
    /// A field breaks a rule or is not supported, or a file cannot be read.
    pub fn from_proto(
        message: &pb::CertificateValidationContext,
        at: &At<'_>,
        context: &Context,
    ) -> Result<ValidationContext, ConfigError> {
        refuse_set!(at, message, [ca_certificate_provider_instance]);
        if message.require_signed_certificate_timestamp.is_some_and(|required| required.value) {
            return Err(at.field("require_signed_certificate_timestamp").unsupported());
        }
        value::watched_directory(message.watched_directory.as_ref(), at, context)?;
        warn_set!(context, at, message, [suppress_client_ca_list], "the list is always sent");
        let pem = |field, source| {
            let at = at.field(field);
            filled(value::bytes(source, &at, context)?, &at)
        };
        let depth = at.field("max_verify_depth");
        let max_verify_depth = message.max_verify_depth.map(|depth| depth.value);
        if max_verify_depth.is_some_and(|depth| depth > MAX_DEPTH) {
            return Err(depth.error(format_args!("is above {MAX_DEPTH}")));
        }
        let accept_untrusted = at.field("trust_chain_verification");
        let trust_chain: TrustChainVerification =
            value::enumeration(message.trust_chain_verification, &accept_untrusted)?;
        let custom = message.custom_validator_config.as_ref();
        let spiffe = custom
            .map(|custom| trust_domains(custom, &at.field("custom_validator_config"), context));
        Ok(ValidationContext {
            trusted_ca_pem: match (&message.trusted_ca, &message.system_root_certs) {
                (Some(ca), _) => Some(pem("trusted_ca", ca)?),
                (None, Some(_)) => Some(system_roots(&at.field("system_root_certs"))?),
                (None, None) => None,
            },
            subject_alt_names: san_matchers(message, at, context)?,
            certificate_hashes: digests(
                &message.verify_certificate_hash,
                |i| at.index("verify_certificate_hash", i),
                hex_digest,
            )?,
            spki_hashes: digests(
                &message.verify_certificate_spki,
                |i| at.index("verify_certificate_spki", i),
                base64_digest,
            )?,
            crl_pem: message.crl.as_ref().map(|crl| pem("crl", crl)).transpose()?,
            crl_of_leaf_only: message.only_verify_leaf_cert_crl,
            allow_expired: message.allow_expired_certificate,
            accept_untrusted: trust_chain == TrustChainVerification::AcceptUntrusted,
            max_verify_depth,
            spiffe: spiffe.transpose()?,
        })
    }

    /// This context with `other` merged over it, as protobuf merges messages: what `other` sets wins, and lists are
    /// joined. So an SDS context lies over the default one of a `combined_validation_context`.
    #[must_use]
    pub fn merged(&self, other: &ValidationContext) -> ValidationContext {
        let joined = |one: &[[u8; 32]], more: &[[u8; 32]]| [one, more].concat();
        ValidationContext {
            trusted_ca_pem: other.trusted_ca_pem.clone().or_else(|| self.trusted_ca_pem.clone()),
            subject_alt_names: [&*self.subject_alt_names, &*other.subject_alt_names].concat(),
            certificate_hashes: joined(&self.certificate_hashes, &other.certificate_hashes),
            spki_hashes: joined(&self.spki_hashes, &other.spki_hashes),
            crl_pem: other.crl_pem.clone().or_else(|| self.crl_pem.clone()),
            crl_of_leaf_only: self.crl_of_leaf_only || other.crl_of_leaf_only,
            allow_expired: self.allow_expired || other.allow_expired,
            accept_untrusted: self.accept_untrusted || other.accept_untrusted,
            max_verify_depth: other.max_verify_depth.or(self.max_verify_depth),
            spiffe: other.spiffe.clone().or_else(|| self.spiffe.clone()),
        }
    }

    /// Whether only the chain is verified, and nothing special asked of it.
    pub fn is_chain_only(&self) -> bool {
        self.subject_alt_names.is_empty()
            && self.certificate_hashes.is_empty()
            && self.spki_hashes.is_empty()
            && self.crl_pem.is_none()
            && self.spiffe.is_none()
            && !self.allow_expired
            && !self.accept_untrusted
    }

    /// Refuses names without trust anchors, as Envoy does: anyone can make a certificate with a name. Asked of a context
    /// that is complete, so after SDS has filled it.
    ///
    /// # Errors
    /// The context matches names and trusts nobody, or has a CRL and no CA.
    pub fn check_complete(&self, at: &At<'_>) -> Result<(), ConfigError> {
        let anchored = self.trusted_ca_pem.is_some() || self.spiffe.is_some();
        if !anchored && !self.subject_alt_names.is_empty() {
            return Err(at.error(
                "SAN-based verification of peer certificates without trusted CA is insecure and not allowed",
            ));
        }
        if !anchored && self.crl_pem.is_some() {
            return Err(at.field("crl").error("needs a trusted_ca"));
        }
        Ok(())
    }
}

/// The files in which systems keep the authorities that everybody trusts.
const SYSTEM_ROOTS: [&str; 4] = [
    // Debian, Alpine, Arch
    "/etc/ssl/certs/ca-certificates.crt",
    // Fedora, RHEL
    "/etc/pki/tls/certs/ca-bundle.crt",
    // SUSE
    "/etc/ssl/ca-bundle.pem",
    // FreeBSD, musl builds of OpenSSL
    "/etc/ssl/cert.pem",
];

/// The system's authorities; the environment variable `SSL_CERT_FILE` goes before the usual places.
fn system_roots(at: &At<'_>) -> Result<Vec<u8>, ConfigError> {
    if let Some(path) = std::env::var_os("SSL_CERT_FILE") {
        let unreadable = |error| at.error(format_args!("SSL_CERT_FILE, {path:?}: {error}"));
        return std::fs::read(&path).map_err(unreadable);
    }
    SYSTEM_ROOTS
        .iter()
        .find_map(|path| std::fs::read(path).ok())
        .ok_or_else(|| at.error(format_args!("the system has none of {}", SYSTEM_ROOTS.join(", "))))
}

/// The digests of a list.
fn digests<'a>(
    list: &[String],
    at: impl Fn(usize) -> At<'a>,
    parse: fn(&str) -> Option<[u8; 32]>,
) -> Result<Vec<[u8; 32]>, ConfigError> {
    let parsed = list.iter().enumerate().map(|(i, text)| {
        parse(text).ok_or_else(|| at(i).error(format_args!("{text:?} is no SHA-256 digest")))
    });
    parsed.collect()
}

/// 64 hexadecimal digits, with or without colons between the bytes.
fn hex_digest(text: &str) -> Option<[u8; 32]> {
    let bytes: Vec<&str> = if text.contains(':') {
        text.split(':').collect()
    } else {
        (0..text.len()).step_by(2).map(|at| text.get(at..at + 2)).collect::<Option<_>>()?
    };
    let byte = |digits: &str| {
        let is_byte = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_byte.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
    };
    bytes.into_iter().map(byte).collect::<Option<Vec<u8>>>()?.try_into().ok()
}

fn base64_digest(text: &str) -> Option<[u8; 32]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

fn san_matchers(
    message: &pb::CertificateValidationContext,
    at: &At<'_>,
    context: &Context,
) -> Result<Vec<SanMatcher>, ConfigError> {
    let mut matchers = Vec::new();
    for (i, matcher) in message.match_typed_subject_alt_names.iter().enumerate() {
        let at = at.index("match_typed_subject_alt_names", i);
        matchers.push(SanMatcher::from_proto(matcher, &at, context)?);
    }
    // The older form asks for a name of any kind.
    for (i, matcher) in message.match_subject_alt_names.iter().enumerate() {
        let at = at.index("match_subject_alt_names", i);
        let matcher = StringMatcher::from_proto(matcher, &at, context)?;
        let kinds = [SanKind::Dns, SanKind::Uri, SanKind::Email, SanKind::Ip];
        matchers.extend(kinds.map(|kind| SanMatcher {
            kind,
            oid: "".into(),
            matcher: matcher.clone(),
        }));
    }
    Ok(matchers)
}

impl SanMatcher {
    fn from_proto(
        message: &pb::SubjectAltNameMatcher,
        at: &At<'_>,
        context: &Context,
    ) -> Result<SanMatcher, ConfigError> {
        let oid = at.field("oid");
        let kind = at.field("san_type");
        let kind = match value::enumeration(message.san_type, &kind)? {
            SanType::Dns => SanKind::Dns,
            SanType::Uri => SanKind::Uri,
            SanType::Email => SanKind::Email,
            SanType::IpAddress => SanKind::Ip,
            SanType::OtherName => SanKind::OtherName,
            SanType::Unspecified => return Err(kind.error("is required")),
        };
        let is_number =
            |arc: &str| !arc.is_empty() && arc.bytes().all(|digit| digit.is_ascii_digit());
        match kind {
            SanKind::OtherName if !message.oid.split('.').all(is_number) => {
                return Err(oid.error(format_args!("{:?} is no object identifier", message.oid)));
            }
            SanKind::OtherName => {}
            _ if message.oid.is_empty() => {}
            _ => return Err(oid.error("is for san_type OTHER_NAME only")),
        }
        let at = at.field("matcher");
        let matcher =
            StringMatcher::from_proto(value::required(&message.matcher, &at)?, &at, context)?;
        Ok(SanMatcher { kind, oid: message.oid.as_str().into(), matcher })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::Registry;

    fn translate(yaml: &str) -> Result<ValidationContext, String> {
        let message = Registry::load().from_yaml(yaml).expect("the test's YAML is a message");
        let at = At::resource("secret", "a");
        ValidationContext::from_proto(&message, &at, &Context::default())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn names_of_peers_are_matched_by_kind() {
        let validation = translate(
            "{trusted_ca: {inline_string: CA}, \
             match_typed_subject_alt_names: [{san_type: URI, matcher: {prefix: 'spiffe://mesh/'}}], \
             match_subject_alt_names: [{exact: a.b}]}",
        )
        .expect("it is valid");
        let kinds: Vec<_> = validation.subject_alt_names.iter().map(|san| san.kind).collect();
        use SanKind::*;
        assert_eq!(kinds, [Uri, Dns, Uri, Email, Ip]);
    }

    #[test]
    fn digests_are_read_in_each_of_their_forms() {
        let digits = "0123456789abcdefABCDEF0123456789".repeat(2);
        let pairs: Vec<&str> = (0..64).step_by(2).map(|at| &digits[at..at + 2]).collect();
        let (plain, colons) = (digits.clone(), pairs.join(":"));
        let validation = translate(&format!(
            "{{verify_certificate_hash: [{plain}, '{colons}'], \
             verify_certificate_spki: [NvqYIYSbgK2vCJpQhObf77vv+bQWtc5ek5RIOwPiC9A=]}}"
        ))
        .expect("it is valid");
        assert_eq!(validation.certificate_hashes[0], validation.certificate_hashes[1]);
        assert_eq!(validation.certificate_hashes[0][..3], [0x01, 0x23, 0x45]);
        assert_eq!(validation.spki_hashes[0][0], 0x36);
        for bad in [&digits[2..], &colons.replacen(':', "", 1), &digits.replace('0', "+")] {
            assert_eq!(
                translate(&format!("{{verify_certificate_hash: ['{bad}']}}")).expect_err("bad"),
                format!("secret \"a\": verify_certificate_hash[0]: {bad:?} is no SHA-256 digest")
            );
        }
    }

    #[test]
    fn what_sds_brings_lies_over_the_default() {
        let default = translate(
            "{trusted_ca: {inline_string: OLD}, verify_certificate_hash: [], max_verify_depth: 2, \
             match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: a}}]}",
        )
        .expect("it is valid");
        let sds = translate(
            "{trusted_ca: {inline_string: NEW}, allow_expired_certificate: true, \
             match_typed_subject_alt_names: [{san_type: URI, matcher: {exact: b}}]}",
        )
        .expect("it is valid");
        let merged = default.merged(&sds);
        assert_eq!(merged.trusted_ca_pem.as_deref(), Some(&b"NEW"[..]));
        assert_eq!((merged.max_verify_depth, merged.allow_expired), (Some(2), true));
        assert_eq!(merged.subject_alt_names.len(), 2);
    }

    #[test]
    fn contexts_that_break_a_rule_are_refused() {
        for (yaml, error) in [
            (
                "{match_typed_subject_alt_names: [{matcher: {exact: a}}]}",
                "match_typed_subject_alt_names[0].san_type: is required",
            ),
            (
                "{match_typed_subject_alt_names: [{san_type: OTHER_NAME, matcher: {exact: a}}]}",
                "match_typed_subject_alt_names[0].oid: \"\" is no object identifier",
            ),
            (
                "{match_typed_subject_alt_names: [{san_type: DNS, oid: 1.2, matcher: {exact: a}}]}",
                "match_typed_subject_alt_names[0].oid: is for san_type OTHER_NAME only",
            ),
            ("{max_verify_depth: 101}", "max_verify_depth: is above 100"),
            (
                "{custom_validator_config: {name: a, typed_config: {'@type': \
                 type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig, \
                 trust_bundles: {inline_string: '{\"trust_domains\": 1}'}}}}",
                "custom_validator_config.typed_config.trust_bundles: is no SPIFFE bundle map: \
                 invalid type: integer `1`, expected a map at line 1 column 19",
            ),
        ] {
            assert_eq!(translate(yaml).expect_err(yaml), format!("secret \"a\": {error}"));
        }
    }
}
