//! The resources that a control plane sends, translated as the process translates them.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use pillion::config::bootstrap::Bootstrap;
use pillion::config::cluster::Cluster;
use pillion::config::endpoint::Assignment;
use pillion::config::listener::Listener;
use pillion::config::route::RouteConfiguration;
use pillion::config::tls::Secret;
use pillion::config::{At, ConfigError, Context};
use pillion::http::filters;
use prost::{Message, Name};
use proto::Registry;
use proto::envoy::config::bootstrap::v3::Bootstrap as PbBootstrap;
use proto::envoy::config::cluster::v3::Cluster as PbCluster;
use proto::envoy::config::endpoint::v3::ClusterLoadAssignment as PbAssignment;
use proto::envoy::config::listener::v3::Listener as PbListener;
use proto::envoy::config::route::v3::RouteConfiguration as PbRoutes;
use proto::envoy::extensions::transport_sockets::tls::v3::Secret as PbSecret;
use regex::Regex;
use serde_json::Value;

use super::place::Place;

/// What became of a resource.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It was taken: a hash of the model, and the warnings.
    Taken(u64, Vec<Complaint>),
    /// It was refused.
    Refused(Complaint),
}

/// A place, and what was said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Where.
    pub at: Place,
    /// What.
    pub text: String,
}

/// A resource's message and its translation.
pub struct Root {
    /// The full name of the message.
    pub message: String,
    translate: fn(&Registry, &str, bool) -> Outcome,
}

/// The roots in the order of the page.
pub fn roots() -> Vec<Root> {
    vec![
        Root {
            message: PbBootstrap::full_name(),
            translate: |registry, text, checked| {
                translate(registry, text, checked, |message: &PbBootstrap, context| {
                    Bootstrap::from_proto(message, context).map(|bootstrap| shown(&bootstrap))
                })
            },
        },
        Root {
            message: PbListener::full_name(),
            translate: |registry, text, checked| {
                translate(registry, text, checked, |message: &PbListener, context| {
                    let at = At::resource("listener", &message.name);
                    Listener::from_proto(message, &at, context).map(debug)
                })
            },
        },
        Root {
            message: PbRoutes::full_name(),
            translate: |registry, text, checked| {
                translate(registry, text, checked, |message: &PbRoutes, context| {
                    let at = At::resource("routes", &message.name);
                    RouteConfiguration::from_proto(message, &at, context).map(debug)
                })
            },
        },
        Root {
            message: PbCluster::full_name(),
            translate: |registry, text, checked| {
                translate(registry, text, checked, |message: &PbCluster, context| {
                    let at = At::resource("cluster", &message.name);
                    Cluster::from_proto(message, &at, context).map(debug)
                })
            },
        },
        Root {
            message: PbAssignment::full_name(),
            translate: |registry, text, checked| {
                translate(registry, text, checked, |message: &PbAssignment, context| {
                    let at = At::resource("endpoints", &message.cluster_name);
                    Assignment::from_proto(message, &at, context).map(debug)
                })
            },
        },
        Root {
            message: PbSecret::full_name(),
            translate: |registry, text, checked| {
                translate(registry, text, checked, |message: &PbSecret, context| {
                    let at = At::resource("secret", &message.name);
                    Secret::from_proto(message, &at, context).map(debug)
                })
            },
        },
    ]
}

impl Root {
    /// Translates a resource.
    pub fn outcome(&self, registry: &Registry, resource: &Value) -> Outcome {
        (self.translate)(registry, &resource.to_string(), true)
    }

    /// Translates a resource that need not follow the rules of the API.
    pub fn outcome_unchecked(&self, registry: &Registry, resource: &Value) -> Outcome {
        (self.translate)(registry, &resource.to_string(), false)
    }
}

fn debug<T: std::fmt::Debug>(model: T) -> String {
    format!("{model:?}")
}

/// The bootstrap without the messages that it keeps for dumps.
fn shown(bootstrap: &Bootstrap) -> String {
    let clusters: Vec<_> = bootstrap.clusters.iter().map(|(cluster, _)| cluster).collect();
    let listeners: Vec<_> = bootstrap.listeners.iter().map(|(listener, _)| listener).collect();
    let Bootstrap { node, secrets, ads, lds, cds, admin, .. } = bootstrap;
    let Bootstrap { stats_flush_interval, load_stats, local_cluster_name, runtime, .. } = bootstrap;
    let sources = debug((ads, lds, cds, load_stats));
    let process = debug((node, admin, stats_flush_interval, local_cluster_name, runtime));
    format!("{} {sources} {process}", debug((secrets, clusters, listeners)))
}

fn translate<T: Message + Name + Default>(
    registry: &Registry,
    text: &str,
    checked: bool,
    model: impl Fn(&T, &Context) -> Result<String, ConfigError>,
) -> Outcome {
    let refused = |at: &str, text: &str| {
        Outcome::Refused(Complaint { at: Place::parse(at), text: text.to_owned() })
    };
    let message: T = match registry.from_json(text) {
        Ok(message) => message,
        Err(error) => return refused(&error.path(), error.problem()),
    };
    if checked && let Err(violations) = registry.validate(&message) {
        return refused(&violations[0].path, &violations[0].rule);
    }
    let context = Context::with_http_filters(&filters::Table);
    // The probe asks for what nobody has thought of; a panic is a finding like any other.
    let translated = catch_unwind(AssertUnwindSafe(|| model(&message, &context)));
    match translated {
        Err(_) => refused("", "it panics"),
        Ok(Err(error)) => {
            let complaint = complaint(&error.to_string());
            Outcome::Refused(complaint)
        }
        Ok(Ok(shown)) => {
            let files = context.take_files();
            let warnings = context.take_warnings().iter().map(|text| complaint(text)).collect();
            Outcome::Taken(fingerprint(&format!("{shown} {files:?}")), warnings)
        }
    }
}

/// A message of Pillion's, `listener "a": filter_chains[0]: why`, taken apart.
fn complaint(text: &str) -> Complaint {
    static FORM: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?s)^[a-z ]+(?: "[^"]*")?: (?:([a-z0-9_]+(?:\.[a-z0-9_]+|\[\d+\]|\["[^"]*"\])*): )?(.*)$"#)
            .expect("it is constant and good")
    });
    match FORM.captures(text) {
        Some(parts) => Complaint {
            at: Place::parse(parts.get(1).map_or("", |at| at.as_str())),
            text: parts[2].to_owned(),
        },
        None => Complaint { at: Place::default(), text: text.to_owned() },
    }
}

/// A hash of what a model prints, whatever the order of the entries of its maps.
fn fingerprint(shown: &str) -> u64 {
    static TIMES: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"tv_n?sec: \d+").expect("it is constant and good"));
    let shown = TIMES.replace_all(shown, "");
    let mut words: Vec<&str> = shown.split([' ', ',', '{', '}', '(', ')', '[', ']']).collect();
    words.sort_unstable();
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_taken_apart() {
        let found = complaint("cluster \"a\": hosts[0].metadata[\"k\"]: is: bad");
        assert_eq!(
            (found.at.to_string().as_str(), &*found.text),
            ("hosts[0].metadata[\"k\"]", "is: bad")
        );
        let found = complaint("bootstrap: admin.address: is required");
        assert_eq!((found.at.to_string().as_str(), &*found.text), ("admin.address", "is required"));
        let found = complaint("cluster \"a\": it cannot be decoded");
        assert_eq!((found.at.to_string().as_str(), &*found.text), ("", "it cannot be decoded"));
    }
}
