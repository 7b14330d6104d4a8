//! Protobuf to model: `Secret`, `TlsCertificate`.

use proto::envoy::config::core::v3::DataSource;
use proto::envoy::extensions::transport_sockets::tls::v3 as pb;
use proto::envoy::extensions::transport_sockets::tls::v3::secret::Type;

use super::{Certificate, Secret, SecretKind, TicketKeys, ValidationContext};
use crate::config::error::{At, ConfigError, Context};
use crate::config::value;
use crate::{refuse_set, warn_set};

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
            Type::SessionTicketKeys(keys) => {
                let at = at.field("session_ticket_keys");
                SecretKind::TicketKeys(TicketKeys::from_proto(keys, &at, context)?.into())
            }
            Type::GenericSecret(_) => return Err(at.field("generic_secret").unsupported()),
        };
        Ok(Secret { name: message.name.as_str().into(), kind, files: None })
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
        value::watched_directory(message.watched_directory.as_ref(), at, context)?;
        let reason = "it is not sent with the certificate";
        warn_set!(context, at, message, [signed_certificate_timestamp], reason);
        let staple = message.ocsp_staple.as_ref();
        let staple = staple.map(|staple| value::bytes(staple, &at.field("ocsp_staple"), context));
        let pem = |field, source: &Option<DataSource>| {
            let at = at.field(field);
            filled(value::bytes(value::required(source, &at)?, &at, context)?, &at)
        };
        Ok(Certificate {
            chain_pem: pem("certificate_chain", &message.certificate_chain)?,
            key_pem: pem("private_key", &message.private_key)?,
            ocsp_staple: staple.transpose()?.filter(|staple| !staple.is_empty()),
        })
    }
}

/// Refuses empty bytes.
pub(super) fn filled(pem: Vec<u8>, at: &At<'_>) -> Result<Vec<u8>, ConfigError> {
    if pem.is_empty() {
        return Err(at.error("must not be empty"));
    }
    Ok(pem)
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
    }
}
