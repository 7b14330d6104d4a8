//! Protobuf to model: `Secret`, `TlsCertificate`, `CertificateValidationContext`.

use proto::envoy::config::core::v3::DataSource;
use proto::envoy::extensions::transport_sockets::tls::v3 as pb;
use proto::envoy::extensions::transport_sockets::tls::v3::certificate_validation_context::TrustChainVerification;
use proto::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use proto::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;

use super::{Certificate, SanKind, SanMatcher, Secret, SecretKind, ValidationContext};
use crate::config::error::{At, ConfigError, Context};
use crate::config::matcher::StringMatcher;
use crate::config::value;
use crate::{refuse_set, warn_set};

const FILES_ARE_READ_ONCE: &str = "files are read when the configuration arrives, and not again";

impl Secret {
    /// Translates a `Secret`.
    ///
    /// # Errors
    /// A field breaks a rule or is not supported, or a file cannot be read.
    pub fn from_proto(
        message: &pb::Secret,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Secret, ConfigError> {
        let kind = match value::required(&message.r#type, at)? {
            Type::TlsCertificate(certificate) => {
                let at = at.field("tls_certificate");
                SecretKind::Certificate(Certificate::from_proto(certificate, &at, context)?.into())
            }
            Type::ValidationContext(validation) => {
                let at = at.field("validation_context");
                let validation = ValidationContext::from_proto(validation, &at, context)?;
                SecretKind::Validation(validation.into())
            }
            Type::SessionTicketKeys(_) => {
                return Err(at.field("session_ticket_keys").unsupported());
            }
            Type::GenericSecret(_) => return Err(at.field("generic_secret").unsupported()),
        };
        Ok(Secret { name: message.name.as_str().into(), kind })
    }
}

impl Certificate {
    /// Translates a `TlsCertificate` and reads its files.
    ///
    /// # Errors
    /// A field breaks a rule or is not supported, or a file cannot be read.
    pub fn from_proto(
        message: &pb::TlsCertificate,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Certificate, ConfigError> {
        refuse_set!(at, message, [pkcs12, private_key_provider, password, tls_params]);
        warn_set!(context, at, message, [watched_directory], FILES_ARE_READ_ONCE);
        let reason = "it is not sent with the certificate";
        warn_set!(context, at, message, [ocsp_staple, signed_certificate_timestamp], reason);
        let pem = |field, source: &Option<DataSource>| {
            let at = at.field(field);
            filled(value::bytes(value::required(source, &at)?, &at, context)?, &at)
        };
        Ok(Certificate {
            chain_pem: pem("certificate_chain", &message.certificate_chain)?,
            key_pem: pem("private_key", &message.private_key)?,
        })
    }
}

fn filled(pem: Vec<u8>, at: &At<'_>) -> Result<Vec<u8>, ConfigError> {
    if pem.is_empty() {
        return Err(at.error("must not be empty"));
    }
    Ok(pem)
}

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
        refuse_unsupported(message, at)?;
        warn_set!(context, at, message, [watched_directory], FILES_ARE_READ_ONCE);
        let reason = "the verifier's own limit on the length of chains applies";
        warn_set!(context, at, message, [max_verify_depth], reason);
        warn_set!(context, at, message, [suppress_client_ca_list], "the list is always sent");
        let at_ca = at.field("trusted_ca");
        let trusted_ca = message.trusted_ca.as_ref();
        let trusted_ca_pem = trusted_ca
            .map(|source| filled(value::bytes(source, &at_ca, context)?, &at_ca))
            .transpose()?;
        Ok(ValidationContext {
            trusted_ca_pem,
            subject_alt_names: san_matchers(message, at, context)?,
        })
    }

    /// This context with another merged over it, as protobuf merges messages: what stands alone is the other's where it
    /// has it, lists are joined.
    pub fn merged(&self, over: &ValidationContext) -> ValidationContext {
        let ValidationContext { trusted_ca_pem, subject_alt_names } = over.clone();
        let own_names = self.subject_alt_names.iter().cloned();
        ValidationContext {
            trusted_ca_pem: trusted_ca_pem.or_else(|| self.trusted_ca_pem.clone()),
            subject_alt_names: own_names.chain(subject_alt_names).collect(),
        }
    }

    /// Refuses names without trust anchors, as Envoy does: anyone can make a certificate with a name.
    ///
    /// # Errors
    /// There are such names.
    pub fn check_complete(&self, at: &At<'_>) -> Result<(), ConfigError> {
        if self.trusted_ca_pem.is_none() && !self.subject_alt_names.is_empty() {
            return Err(at.error(
                "SAN-based verification of peer certificates without trusted CA is insecure and not allowed",
            ));
        }
        Ok(())
    }
}

/// Refuses what would make verification weaker or stricter than it is done.
fn refuse_unsupported(
    message: &pb::CertificateValidationContext,
    at: &At<'_>,
) -> Result<(), ConfigError> {
    refuse_set!(
        at,
        message,
        [
            ca_certificate_provider_instance,
            system_root_certs,
            verify_certificate_spki,
            verify_certificate_hash,
            crl,
            allow_expired_certificate,
            custom_validator_config,
            only_verify_leaf_cert_crl
        ]
    );
    if message.require_signed_certificate_timestamp.is_some_and(|required| required.value) {
        return Err(at.field("require_signed_certificate_timestamp").unsupported());
    }
    let at = at.field("trust_chain_verification");
    match value::enumeration(message.trust_chain_verification, &at)? {
        TrustChainVerification::VerifyTrustChain => Ok(()),
        TrustChainVerification::AcceptUntrusted => {
            Err(at.error("ACCEPT_UNTRUSTED is not supported by this version of Pillion"))
        }
    }
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
        matchers.extend(kinds.map(|kind| SanMatcher { kind, matcher: matcher.clone() }));
    }
    Ok(matchers)
}

impl SanMatcher {
    fn from_proto(
        message: &pb::SubjectAltNameMatcher,
        at: &At<'_>,
        context: &Context,
    ) -> Result<SanMatcher, ConfigError> {
        refuse_set!(at, message, [oid]);
        let kind = at.field("san_type");
        let kind = match value::enumeration(message.san_type, &kind)? {
            SanType::Dns => SanKind::Dns,
            SanType::Uri => SanKind::Uri,
            SanType::Email => SanKind::Email,
            SanType::IpAddress => SanKind::Ip,
            SanType::OtherName => {
                return Err(kind.error("OTHER_NAME is not supported by this version of Pillion"));
            }
            SanType::Unspecified => return Err(kind.error("is required")),
        };
        let at = at.field("matcher");
        let matcher =
            StringMatcher::from_proto(value::required(&message.matcher, &at)?, &at, context)?;
        Ok(SanMatcher { kind, matcher })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::Registry;

    fn translate(yaml: &str) -> Result<Secret, String> {
        let message: pb::Secret =
            Registry::load().from_yaml(yaml).expect("the test's YAML is a message");
        let at = At::resource("secret", "a");
        Secret::from_proto(&message, &at, &Context::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn certificates_are_read_and_print_without_their_key() {
        let secret = translate(
            "{name: a, tls_certificate: {certificate_chain: {inline_string: CERT}, \
             private_key: {inline_string: SECRET-KEY}}}",
        )
        .expect("it is valid");
        let SecretKind::Certificate(certificate) = &secret.kind else {
            panic!("not a certificate");
        };
        assert_eq!(certificate.chain_pem, b"CERT");
        assert_eq!(certificate.key_pem, b"SECRET-KEY");
        assert!(!format!("{secret:?}").contains("SECRET-KEY"));
    }

    #[test]
    fn names_of_peers_are_matched_by_kind() {
        let secret = translate(
            "{name: a, validation_context: {trusted_ca: {inline_string: CA}, \
             match_typed_subject_alt_names: [{san_type: URI, matcher: {prefix: 'spiffe://mesh/'}}], \
             match_subject_alt_names: [{exact: a.b}]}}",
        )
        .expect("it is valid");
        let SecretKind::Validation(validation) = secret.kind else {
            panic!("not a validation context");
        };
        let kinds: Vec<_> = validation.subject_alt_names.iter().map(|san| san.kind).collect();
        use SanKind::*;
        assert_eq!(kinds, [Uri, Dns, Uri, Email, Ip]);
    }

    #[test]
    fn secrets_that_break_a_rule_are_refused() {
        let refused = |yaml: &str| translate(yaml).expect_err("it breaks a rule");
        assert_eq!(refused("{name: a}"), "secret \"a\": is required");
        assert_eq!(
            refused("{name: a, tls_certificate: {certificate_chain: {inline_string: x}}}"),
            "secret \"a\": tls_certificate.private_key: is required"
        );
        assert_eq!(
            refused("{name: a, tls_certificate: {certificate_chain: {inline_string: ''}}}"),
            "secret \"a\": tls_certificate.certificate_chain: must not be empty"
        );
        assert_eq!(
            refused("{name: a, validation_context: {verify_certificate_hash: [ab]}}"),
            "secret \"a\": validation_context.verify_certificate_hash: \
             is not supported by this version of Pillion; remove the field"
        );
        assert_eq!(
            refused(
                "{name: a, validation_context: {match_typed_subject_alt_names: [{matcher: {exact: a}}]}}"
            ),
            "secret \"a\": validation_context.match_typed_subject_alt_names[0].san_type: is required"
        );
    }
}
