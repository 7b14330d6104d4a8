//! What a context needs beside itself: certificates and validation contexts, wherever they come from.

use std::sync::Arc;

use crate::config::tls::{Certificate, CommonTls, SecretRef, ValidationContext};

/// The secrets of one context, all of them there.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// Our own certificates, in the context's order.
    pub certificates: Vec<Arc<Certificate>>,
    /// How peers are verified, merged from the context's parts; none if nothing is said of it.
    pub validation: Option<Arc<ValidationContext>>,
}

impl Secrets {
    /// The secrets that stand in the context itself; none if some come over SDS.
    pub fn inline(common: &CommonTls) -> Option<Secrets> {
        let certificate = |certificate: &SecretRef<Certificate>| match certificate {
            SecretRef::Inline(certificate) => Some(Arc::clone(certificate)),
            SecretRef::Sds { .. } => None,
        };
        let certificates = common.certificates.iter().map(certificate).collect::<Option<_>>()?;
        let validation = match &common.validation {
            Some(validation) if validation.sds.is_some() => return None,
            validation => validation.as_ref().map(|validation| Arc::clone(&validation.context)),
        };
        Some(Secrets { certificates, validation })
    }
}
