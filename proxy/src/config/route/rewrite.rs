//! Translating what changes paths and hosts, redirects and direct responses.

use http::StatusCode;
use proto::envoy::config::route::v3 as pb;
use proto::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use proto::envoy::config::route::v3::route_action::HostRewriteSpecifier;
use proto::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

use super::{DirectResponse, HostRewrite, PathRewrite, Redirect};
use crate::config::matcher::re2;
use crate::config::value::{bytes, enumeration, header_name, port};
use crate::config::{At, ConfigError, Context};
use crate::refuse_set;

impl PathRewrite {
    /// The rewrites of a `RouteAction`, of which at most one may be set.
    pub(super) fn from_action(
        message: &pb::RouteAction,
        at: &At<'_>,
        context: &Context,
    ) -> Result<PathRewrite, ConfigError> {
        refuse_set!(at, message, [path_rewrite_policy, path_rewrite]);
        match (message.prefix_rewrite.as_str(), &message.regex_rewrite) {
            ("", None) => Ok(PathRewrite::None),
            ("", Some(regex)) => Self::from_regex(regex, &at.field("regex_rewrite"), context),
            (prefix, None) => Ok(PathRewrite::Prefix(prefix.into())),
            (_, Some(_)) => Err(at.field("regex_rewrite").error("prefix_rewrite is set already")),
        }
    }

    fn from_regex(
        message: &RegexMatchAndSubstitute,
        at: &At<'_>,
        context: &Context,
    ) -> Result<PathRewrite, ConfigError> {
        let (pattern, substitution) = re2::substitution_from_proto(message, at, context)?;
        Ok(PathRewrite::Regex { pattern, substitution })
    }
}

impl HostRewrite {
    /// The host rewrite specifier of a `RouteAction`.
    pub(super) fn from_proto(
        specifier: Option<&HostRewriteSpecifier>,
        at: &At<'_>,
        context: &Context,
    ) -> Result<HostRewrite, ConfigError> {
        match specifier {
            None => Ok(HostRewrite::None),
            Some(HostRewriteSpecifier::AutoHostRewrite(auto)) => match auto.value {
                true => Ok(HostRewrite::Auto),
                false => Ok(HostRewrite::None),
            },
            Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => match host.as_str() {
                "" => Ok(HostRewrite::None),
                host => {
                    Ok(HostRewrite::Literal(header_text(host, &at.field("host_rewrite_literal"))?))
                }
            },
            Some(HostRewriteSpecifier::HostRewriteHeader(name)) => {
                header_name(name, &at.field("host_rewrite_header")).map(HostRewrite::Header)
            }
            Some(HostRewriteSpecifier::HostRewritePathRegex(regex)) => {
                let at = at.field("host_rewrite_path_regex");
                let (pattern, substitution) = re2::substitution_from_proto(regex, &at, context)?;
                Ok(HostRewrite::PathRegex { pattern, substitution })
            }
            Some(HostRewriteSpecifier::HostRewrite(_)) => {
                Err(at.field("host_rewrite").unsupported())
            }
        }
    }
}

impl Redirect {
    /// An `envoy.config.route.v3.RedirectAction`.
    pub(super) fn from_proto(
        message: &pb::RedirectAction,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Redirect, ConfigError> {
        let set = |text: &str, field: &str| match text {
            "" => Ok(None),
            text => header_text(text, &at.field(field)).map(Some),
        };
        let scheme = match &message.scheme_rewrite_specifier {
            None | Some(SchemeRewriteSpecifier::HttpsRedirect(false)) => None,
            Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".into()),
            Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => set(scheme, "scheme_redirect")?,
        };
        let (path, rewrite) = match &message.path_rewrite_specifier {
            None => (None, PathRewrite::None),
            Some(PathRewriteSpecifier::PathRedirect(path)) => {
                (set(path, "path_redirect")?, PathRewrite::None)
            }
            Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => {
                let prefix = set(prefix, "prefix_rewrite")?;
                (None, prefix.map_or(PathRewrite::None, PathRewrite::Prefix))
            }
            Some(PathRewriteSpecifier::RegexRewrite(regex)) => {
                (None, PathRewrite::from_regex(regex, &at.field("regex_rewrite"), context)?)
            }
            Some(PathRewriteSpecifier::PathRewrite(_)) => {
                return Err(at.field("path_rewrite").unsupported());
            }
        };
        let port = port(message.port_redirect, &at.field("port_redirect"))?;
        Ok(Redirect {
            code: match enumeration(message.response_code, &at.field("response_code"))? {
                RedirectResponseCode::MovedPermanently => StatusCode::MOVED_PERMANENTLY,
                RedirectResponseCode::Found => StatusCode::FOUND,
                RedirectResponseCode::SeeOther => StatusCode::SEE_OTHER,
                RedirectResponseCode::TemporaryRedirect => StatusCode::TEMPORARY_REDIRECT,
                RedirectResponseCode::PermanentRedirect => StatusCode::PERMANENT_REDIRECT,
            },
            scheme,
            host: set(&message.host_redirect, "host_redirect")?,
            port: (port != 0).then_some(port),
            path,
            rewrite,
            strip_query: message.strip_query,
        })
    }
}

impl DirectResponse {
    /// An `envoy.config.route.v3.DirectResponseAction` with a body of at most `limit` bytes.
    pub(super) fn from_proto(
        message: &pb::DirectResponseAction,
        limit: usize,
        at: &At<'_>,
        context: &Context,
    ) -> Result<DirectResponse, ConfigError> {
        refuse_set!(at, message, [body_format]);
        let status =
            u16::try_from(message.status).ok().filter(|status| (200..600).contains(status));
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        let at_body = at.field("body");
        let body = match &message.body {
            None => Vec::new(),
            Some(source) => bytes(source, &at_body, context)?,
        };
        if body.len() > limit {
            let rule = format!("response body size is {} bytes; maximum is {limit}", body.len());
            return Err(at_body.error(rule));
        }
        Ok(DirectResponse {
            status: status.ok_or_else(|| {
                at.field("status")
                    .error(format_args!("{} is not within 200 and 599", message.status))
            })?,
            body: body.into(),
        })
    }
}

/// A text that will stand in a header.
fn header_text(text: &str, at: &At<'_>) -> Result<Box<str>, ConfigError> {
    match http::HeaderValue::from_str(text) {
        Ok(_) => Ok(text.into()),
        Err(error) => Err(at.error(format_args!("{text:?}: {error}"))),
    }
}
