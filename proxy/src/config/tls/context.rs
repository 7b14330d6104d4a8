//! Protobuf to model: `UpstreamTlsContext`, `DownstreamTlsContext`, and the transport sockets that carry them.

use std::sync::Arc;

use prost::{Message, Name};
use proto::envoy::config::core::v3::TransportSocket;
use proto::envoy::config::core::v3::transport_socket::ConfigType;
use proto::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use proto::envoy::extensions::transport_sockets::tls::v3 as pb;
use proto::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use proto::envoy::extensions::transport_sockets::tls::v3::downstream_tls_context::{
    OcspStaplePolicy, SessionTicketKeysType,
};
use proto::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use proto::google::protobuf::{Any, BoolValue};

use super::parameters::{Parameters, Side};
use super::{
    Certificate, CommonTls, DownstreamTls, NamedSecret, SecretFiles, SecretRef, SecretSource,
    TicketKeys, UpstreamTls, Validation, ValidationContext,
};
use crate::config::any;
use crate::config::error::{At, ConfigError, Context};
use crate::config::istio;
use crate::config::source::ConfigSource;
use crate::config::value;
use crate::{refuse_set, warn_set};

/// The longest server name, in bytes.
const MAX_SNI: usize = 255;
const RAW_BUFFER: &str = "envoy.transport_sockets.raw_buffer";

impl UpstreamTls {
    /// Translates a cluster's `transport_socket`: none and `raw_buffer` are plaintext.
    ///
    /// # Errors
    /// The socket is of another kind, or a field breaks a rule or is not supported.
    pub fn from_transport_socket(
        socket: Option<&TransportSocket>,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Option<Arc<UpstreamTls>>, ConfigError> {
        let message = tls_context::<pb::UpstreamTlsContext>(socket, at)?;
        let at = at.field("typed_config");
        message.map(|tls| UpstreamTls::from_proto(&tls, &at, context).map(Arc::new)).transpose()
    }

    /// Translates an `UpstreamTlsContext`.
    ///
    /// # Errors
    /// A field breaks a rule or is not supported.
    pub fn from_proto(
        message: &pb::UpstreamTlsContext,
        at: &At<'_>,
        context: &Context,
    ) -> Result<UpstreamTls, ConfigError> {
        warn_set!(context, at, message, [allow_renegotiation], "connections never renegotiate");
        let reason = "key usage is checked by Pillion's own rules";
        warn_set!(context, at, message, [enforce_rsa_key_usage], reason);
        if message.sni.len() > MAX_SNI {
            return Err(at.field("sni").error(format_args!("is longer than {MAX_SNI} bytes")));
        }
        let at_common = at.field("common_tls_context");
        let common = message.common_tls_context.as_ref();
        let common = CommonTls::from_proto(common, Side::Upstream, &at_common, context)?;
        if common.certificates.len() > 1 {
            return Err(
                at_common.error("multiple TLS certificates are not supported for client contexts")
            );
        }
        let anchored = common.validation.as_ref().is_some_and(Validation::has_trust_anchors);
        if message.auto_sni_san_validation && !anchored {
            let at = at.field("auto_sni_san_validation");
            return Err(at.error("needs a trusted_ca: anyone can make a certificate with a name"));
        }
        Ok(UpstreamTls {
            common,
            sni: message.sni.as_str().into(),
            auto_host_sni: message.auto_host_sni,
            auto_sni_san_validation: message.auto_sni_san_validation,
            max_session_keys: message.max_session_keys.map_or(1, |keys| keys.value),
        })
    }
}

impl DownstreamTls {
    /// Translates a filter chain's `transport_socket`: none and `raw_buffer` are plaintext.
    ///
    /// # Errors
    /// The socket is of another kind, or a field breaks a rule or is not supported.
    pub fn from_transport_socket(
        socket: Option<&TransportSocket>,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Option<Arc<DownstreamTls>>, ConfigError> {
        let message = tls_context::<pb::DownstreamTlsContext>(socket, at)?;
        let at = at.field("typed_config");
        message.map(|tls| DownstreamTls::from_proto(&tls, &at, context).map(Arc::new)).transpose()
    }

    /// Translates a `DownstreamTlsContext`.
    ///
    /// # Errors
    /// A field breaks a rule or is not supported.
    pub fn from_proto(
        message: &pb::DownstreamTlsContext,
        at: &At<'_>,
        context: &Context,
    ) -> Result<DownstreamTls, ConfigError> {
        let is_true = |flag: Option<BoolValue>| flag.is_some_and(|flag| flag.value);
        if is_true(message.require_sni) {
            return Err(at.field("require_sni").unsupported());
        }
        let policy = at.field("ocsp_staple_policy");
        match value::enumeration(message.ocsp_staple_policy, &policy)? {
            OcspStaplePolicy::LenientStapling => {}
            OcspStaplePolicy::StrictStapling | OcspStaplePolicy::MustStaple => {
                return Err(policy.unsupported());
            }
        }
        let reason = "sessions end by Pillion's own rules";
        warn_set!(context, at, message, [session_timeout], reason);
        let at_common = at.field("common_tls_context");
        let common = message.common_tls_context.as_ref();
        let common = CommonTls::from_proto(common, Side::Downstream, &at_common, context)?;
        if common.certificates.is_empty() {
            return Err(at_common.error("no TLS certificates found for server context"));
        }
        Ok(DownstreamTls {
            common,
            require_client_certificate: is_true(message.require_client_certificate),
            ticket_keys: ticket_keys(message, at, context)?,
            stateless_resumption: !matches!(
                message.session_ticket_keys_type,
                Some(SessionTicketKeysType::DisableStatelessSessionResumption(true))
            ),
            stateful_resumption: !message.disable_stateful_session_resumption,
            full_scan_on_sni_mismatch: is_true(message.full_scan_certs_on_sni_mismatch),
            prefer_client_ciphers: message.prefer_client_ciphers,
        })
    }
}

/// What tickets are sealed with, where it is said.
fn ticket_keys(
    message: &pb::DownstreamTlsContext,
    at: &At<'_>,
    context: &Context,
) -> Result<Option<SecretRef<TicketKeys>>, ConfigError> {
    Ok(match &message.session_ticket_keys_type {
        None | Some(SessionTicketKeysType::DisableStatelessSessionResumption(_)) => None,
        Some(SessionTicketKeysType::SessionTicketKeys(keys)) => {
            let at = at.field("session_ticket_keys");
            context.take_files();
            let translated = TicketKeys::from_proto(keys, &at, context)?;
            let message = || Some(Type::SessionTicketKeys(keys.clone()));
            Some(match SecretFiles::new(message, &at, context) {
                Some(files) => SecretRef::Named(files.named()),
                None => SecretRef::Inline(Arc::new(translated)),
            })
        }
        Some(SessionTicketKeysType::SessionTicketKeysSdsSecretConfig(config)) => {
            let at = at.field("session_ticket_keys_sds_secret_config");
            Some(SecretRef::Named(sds(config, &at, context)?))
        }
    })
}

/// The TLS context of a transport socket; none for plaintext.
fn tls_context<T: Message + Name + Default>(
    socket: Option<&TransportSocket>,
    at: &At<'_>,
) -> Result<Option<T>, ConfigError> {
    let Some(socket) = socket else {
        return Ok(None);
    };
    let name = value::non_empty(&socket.name, &at.field("name"))?;
    let config: Option<&Any> =
        socket.config_type.as_ref().map(|ConfigType::TypedConfig(config)| config);
    let at = at.field("typed_config");
    match config {
        None if name == RAW_BUFFER => Ok(None),
        config if any::is::<RawBuffer>(config) => Ok(None),
        config if any::is::<T>(config) => any::open(config, &at).map(Some),
        config => Err(any::unknown(name, config, &at)),
    }
}

impl CommonTls {
    fn from_proto(
        message: Option<&pb::CommonTlsContext>,
        side: Side,
        at: &At<'_>,
        context: &Context,
    ) -> Result<CommonTls, ConfigError> {
        let empty = pb::CommonTlsContext::default();
        let message = message.unwrap_or(&empty);
        refuse_set!(
            at,
            message,
            [
                tls_certificate_provider_instance,
                custom_tls_certificate_selector,
                tls_certificate_certificate_provider,
                tls_certificate_certificate_provider_instance,
                custom_handshaker
            ]
        );
        warn_set!(context, at, message, [key_log], "keys are never written to a file");
        let parameters = message.tls_params.as_ref();
        let Parameters { allow_tls12, allow_tls13, tls12_cipher_suites, groups } =
            Parameters::from_proto(parameters, side, &at.field("tls_params"), context)?;
        let validation = message.validation_context_type.as_ref();
        Ok(CommonTls {
            certificates: certificates(message, at, context)?,
            validation: validation
                .map(|validation| Validation::from_proto(validation, at, context))
                .transpose()?,
            alpn: alpn(&message.alpn_protocols, at, context)?,
            allow_tls12,
            allow_tls13,
            tls12_cipher_suites,
            groups,
        })
    }
}

/// `tls_certificates`, or else their SDS form.
fn certificates(
    message: &pb::CommonTlsContext,
    at: &At<'_>,
    context: &Context,
) -> Result<Vec<SecretRef<Certificate>>, ConfigError> {
    if message.tls_certificates.is_empty() {
        let configs = message.tls_certificate_sds_secret_configs.iter().enumerate();
        let secret = |(i, config)| {
            let at = at.index("tls_certificate_sds_secret_configs", i);
            sds(config, &at, context).map(SecretRef::Named)
        };
        return configs.map(secret).collect();
    }
    let reason = "tls_certificates is set and stands above it";
    warn_set!(context, at, message, [tls_certificate_sds_secret_configs], reason);
    let certificates = message.tls_certificates.iter().enumerate();
    certificates
        .map(|(i, certificate)| {
            let at = at.index("tls_certificates", i);
            context.take_files();
            let translated = Certificate::from_proto(certificate, &at, context)?;
            let message = || Some(Type::TlsCertificate(certificate.clone()));
            Ok(match SecretFiles::new(message, &at, context) {
                Some(files) => SecretRef::Named(files.named()),
                None => SecretRef::Inline(Arc::new(translated)),
            })
        })
        .collect()
}

/// The name of a secret, and its source.
fn sds(
    message: &pb::SdsSecretConfig,
    at: &At<'_>,
    context: &Context,
) -> Result<NamedSecret, ConfigError> {
    let name = value::non_empty(&message.name, &at.field("name"))?.into();
    let at = at.field("sds_config");
    let source = match &message.sds_config {
        None => SecretSource::Bootstrap,
        Some(source) => SecretSource::Sds(ConfigSource::from_proto(source, &at, context)?),
    };
    Ok(NamedSecret { name, source })
}

impl Validation {
    /// Whether chains are verified; what comes over SDS is taken to have what is needed.
    fn has_trust_anchors(&self) -> bool {
        let context = &self.context;
        self.named.is_some() || context.trusted_ca_pem.is_some() || context.spiffe.is_some()
    }

    fn from_proto(
        message: &ValidationContextType,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Validation, ConfigError> {
        match message {
            ValidationContextType::ValidationContext(validation) => {
                let at = at.field("validation_context");
                context.take_files();
                let translated = ValidationContext::from_proto(validation, &at, context)?;
                translated.check_complete(&at)?;
                let message = || Some(Type::ValidationContext(validation.clone()));
                Ok(match SecretFiles::new(message, &at, context) {
                    Some(files) => {
                        Validation { context: Arc::default(), named: Some(files.named()) }
                    }
                    None => Validation { context: translated.into(), named: None },
                })
            }
            ValidationContextType::ValidationContextSdsSecretConfig(config) => {
                let at = at.field("validation_context_sds_secret_config");
                let named = Some(sds(config, &at, context)?);
                Ok(Validation { context: Arc::default(), named })
            }
            ValidationContextType::CombinedValidationContext(combined) => {
                combined_validation(combined, &at.field("combined_validation_context"), context)
            }
            ValidationContextType::ValidationContextCertificateProvider(_) => {
                Err(at.field("validation_context_certificate_provider").unsupported())
            }
            ValidationContextType::ValidationContextCertificateProviderInstance(_) => {
                Err(at.field("validation_context_certificate_provider_instance").unsupported())
            }
        }
    }
}

fn combined_validation(
    message: &CombinedCertificateValidationContext,
    at: &At<'_>,
    context: &Context,
) -> Result<Validation, ConfigError> {
    refuse_set!(
        at,
        message,
        [validation_context_certificate_provider, validation_context_certificate_provider_instance]
    );
    let default = at.field("default_validation_context");
    let validation = value::required(&message.default_validation_context, &default)?;
    context.take_files();
    let validation = ValidationContext::from_proto(validation, &default, context)?;
    if !context.take_files().watched.is_empty() {
        return Err(default.error(
            "has a watched_directory, which is supported in what SDS brings and in validation_context",
        ));
    }
    let at = at.field("validation_context_sds_secret_config");
    let config = value::required(&message.validation_context_sds_secret_config, &at)?;
    Ok(Validation { context: validation.into(), named: Some(sds(config, &at, context)?) })
}

/// Protocol names of 1 to 255 bytes (RFC 7301, section 3.1).
fn alpn(protocols: &[String], at: &At<'_>, context: &Context) -> Result<Vec<Vec<u8>>, ConfigError> {
    for (i, protocol) in protocols.iter().enumerate() {
        if !(1..=255).contains(&protocol.len()) {
            let at = at.index("alpn_protocols", i);
            return Err(at.error("a protocol's name has 1 to 255 bytes"));
        }
    }
    let offered = protocols.iter().filter(|protocol| *protocol != istio::PEER_EXCHANGE);
    let offered: Vec<_> = offered.map(|protocol| protocol.as_bytes().to_vec()).collect();
    if offered.len() < protocols.len() {
        let reason = "istio-peer-exchange is never offered, as no metadata is exchanged with peers";
        context.warn(&at.field("alpn_protocols"), reason);
    }
    Ok(offered)
}

#[cfg(test)]
mod tests;
