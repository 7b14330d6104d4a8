//! Internal redirects (`InternalRedirectPolicy`), with their translation.

use http::HeaderName;
use proto::envoy::config::core::v3::TypedExtensionConfig;
use proto::envoy::config::route::v3 as pb;
use proto::envoy::extensions::internal_redirect::allow_listed_routes::v3::AllowListedRoutesConfig;
use proto::envoy::extensions::internal_redirect::previous_routes::v3::PreviousRoutesConfig;
use proto::envoy::extensions::internal_redirect::safe_cross_scheme::v3::SafeCrossSchemeConfig;

use crate::config::value::{header_name, non_empty};
use crate::config::{At, ConfigError, any};

/// The statuses that may redirect. Others are not looked at.
const REDIRECTS: [u32; 5] = [301, 302, 303, 307, 308];

/// `InternalRedirectPolicy`.
#[derive(Clone, Debug)]
pub struct InternalRedirect {
    /// `max_internal_redirects`; default 1.
    pub max: u32,
    /// `redirect_response_codes`; default 302.
    pub codes: Vec<u16>,
    /// `predicates`
    pub predicates: Vec<RedirectPredicate>,
    /// `allow_cross_scheme_redirect`
    pub allow_cross_scheme: bool,
    /// `response_headers_to_copy`
    pub copy: Vec<HeaderName>,
}

/// Whether a redirect may lead to a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectPredicate {
    /// `allow_listed_routes`: only to routes of these names.
    AllowListedRoutes(Vec<Box<str>>),
    /// `previous_routes`: to each route only once from the same route.
    PreviousRoutes,
    /// `safe_cross_scheme`: not from `http` to `https`...
    SafeCrossScheme,
}

impl InternalRedirect {
    /// An `envoy.config.route.v3.InternalRedirectPolicy`.
    pub(super) fn from_proto(
        message: &pb::InternalRedirectPolicy,
        at: &At<'_>,
    ) -> Result<InternalRedirect, ConfigError> {
        let codes = &message.redirect_response_codes;
        let codes: Vec<u16> = match codes.is_empty() {
            true => vec![302],
            false => {
                let known = codes.iter().filter(|code| REDIRECTS.contains(code));
                known.filter_map(|code| u16::try_from(*code).ok()).collect()
            }
        };
        let predicates = message.predicates.iter().enumerate().map(|(index, predicate)| {
            RedirectPredicate::from_proto(predicate, &at.index("predicates", index))
        });
        let copy = message.response_headers_to_copy.iter().enumerate().map(|(index, name)| {
            let at = at.index("response_headers_to_copy", index);
            if name.starts_with(':') {
                return Err(
                    at.error(format_args!("{name:?}: headers with a colon cannot be copied"))
                );
            }
            header_name(name, &at)
        });
        Ok(InternalRedirect {
            max: message.max_internal_redirects.map_or(1, |number| number.value),
            codes,
            predicates: predicates.collect::<Result<_, _>>()?,
            allow_cross_scheme: message.allow_cross_scheme_redirect,
            copy: copy.collect::<Result<_, _>>()?,
        })
    }
}

impl RedirectPredicate {
    fn from_proto(
        message: &TypedExtensionConfig,
        at: &At<'_>,
    ) -> Result<RedirectPredicate, ConfigError> {
        let name = non_empty(&message.name, &at.field("name"))?;
        let config = message.typed_config.as_ref();
        let at = at.field("typed_config");
        if any::is::<PreviousRoutesConfig>(config) {
            Ok(RedirectPredicate::PreviousRoutes)
        } else if any::is::<SafeCrossSchemeConfig>(config) {
            Ok(RedirectPredicate::SafeCrossScheme)
        } else if any::is::<AllowListedRoutesConfig>(config) {
            let config: AllowListedRoutesConfig = any::open(config, &at)?;
            let names = config.allowed_route_names.into_iter().map(Into::into);
            Ok(RedirectPredicate::AllowListedRoutes(names.collect()))
        } else {
            Err(any::unknown(name, config, &at))
        }
    }
}
