//! Request mirroring (`RequestMirrorPolicy`), with its translation.

use std::sync::Arc;

use http::HeaderValue;
use proto::envoy::config::common::mutation_rules::v3::HeaderMutation;
use proto::envoy::config::common::mutation_rules::v3::header_mutation::Action;
use proto::envoy::config::route::v3::route_action::RequestMirrorPolicy;

use super::cluster_specifier::request_header;
use crate::config::headers::{HeaderAdd, HeaderMutations};
use crate::config::value::{header_name, runtime_fraction};
use crate::config::{At, ConfigError, Context};
use crate::warn_set;

/// `RequestMirrorPolicy`.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// `cluster` or `cluster_header`
    pub target: MirrorTarget,
    /// `runtime_fraction.default_value` as numerator and denominator; without it every request is mirrored.
    pub fraction: Option<(u32, u32)>,
    /// Not `disable_shadow_host_suffix_append`: the host gets `-shadow`.
    pub append_suffix: bool,
    /// `request_headers_mutations`, in order.
    pub mutations: Vec<HeaderMutations>,
    /// `host_rewrite_literal`
    pub host_rewrite: Option<HeaderValue>,
}

/// Where a mirrored request goes.
#[derive(Clone, Debug)]
pub enum MirrorTarget {
    /// `cluster`
    Cluster(Arc<str>),
    /// `cluster_header`
    Header(Box<str>),
}

/// The policies of `request_mirror_policies` of the message that stands here.
pub(super) fn mirrors(
    messages: &[RequestMirrorPolicy],
    at: &At<'_>,
    context: &Context,
) -> Result<Vec<Arc<Mirror>>, ConfigError> {
    let each = messages.iter().enumerate().map(|(index, message)| {
        Mirror::from_proto(message, &at.index("request_mirror_policies", index), context)
            .map(Arc::new)
    });
    each.collect()
}

impl Mirror {
    fn from_proto(
        message: &RequestMirrorPolicy,
        at: &At<'_>,
        context: &Context,
    ) -> Result<Mirror, ConfigError> {
        warn_set!(context, at, message, [trace_sampled], "Pillion writes no spans");
        let target = match (message.cluster.as_str(), message.cluster_header.as_str()) {
            ("", "") => return Err(at.error("names no cluster; set cluster or cluster_header")),
            (name, "") => MirrorTarget::Cluster(name.into()),
            ("", header) => {
                MirrorTarget::Header(request_header(header, &at.field("cluster_header"))?)
            }
            _ => return Err(at.error("only one of cluster and cluster_header can be set")),
        };
        let share = message.runtime_fraction.as_ref();
        let share =
            share.map(|value| runtime_fraction(value, &at.field("runtime_fraction"), context));
        let mutations = message
            .request_headers_mutations
            .iter()
            .enumerate()
            .map(|(index, one)| mutation(one, &at.index("request_headers_mutations", index)));
        let host_rewrite = match message.host_rewrite_literal.as_str() {
            "" => None,
            host => Some(HeaderValue::from_str(host).map_err(|error| {
                at.field("host_rewrite_literal").error(format_args!("{host:?}: {error}"))
            })?),
        };
        Ok(Mirror {
            target,
            fraction: share.transpose()?,
            append_suffix: !message.disable_shadow_host_suffix_append,
            mutations: mutations.collect::<Result<_, _>>()?,
            host_rewrite,
        })
    }
}

fn mutation(message: &HeaderMutation, at: &At<'_>) -> Result<HeaderMutations, ConfigError> {
    match &message.action {
        None => Err(at.error("has no action; set remove or append")),
        Some(Action::Remove(name)) => Ok(HeaderMutations {
            remove: vec![header_name(name, &at.field("remove"))?],
            add: Vec::new(),
        }),
        Some(Action::Append(option)) => Ok(HeaderMutations {
            remove: Vec::new(),
            add: vec![HeaderAdd::from_proto(option, &at.field("append"))?],
        }),
        Some(Action::RemoveOnMatch(_)) => Err(at.field("remove_on_match").unsupported()),
    }
}
