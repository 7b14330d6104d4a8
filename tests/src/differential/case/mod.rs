//! The format of a case: one YAML file under `tests/cases`, read into these types. `tests/cases/README.md` explains it.

mod headers;
mod step;
mod tls;
mod upstream;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub use headers::Headers;
pub use step::{ClientHello, Frame, FrameType, Frames, Raw, Request, Step, Wait};
pub use tls::{TlsClient, TlsServer};
pub use upstream::{Reply, Then, Upstream, UpstreamProtocol};

/// One case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Path below `tests/cases` without the extension: `routes/prefix`.
    #[serde(skip)]
    pub name: String,
    /// What the case shows, in one sentence.
    pub about: String,
    /// What both programs are started with, a [`Config`].
    #[serde(default)]
    pub config: Value,
    /// Scripted upstreams by name; one plain HTTP/1.1 upstream `a` if there are none.
    #[serde(default)]
    pub upstreams: BTreeMap<String, Upstream>,
    /// Files by name, with what is in them at first; `{{file.NAME}}` is the path.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// What happens, in order.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// Statistics that are compared at the end, by full name.
    #[serde(default)]
    pub stats: Vec<String>,
    /// Configurations by what is special about them; compared is whether a program starts with them.
    #[serde(default)]
    pub starts: BTreeMap<String, Config>,
    /// Regular expressions whose matches in any observed text are replaced by `<masked>`.
    #[serde(default)]
    pub mask: Vec<String>,
    /// Whether the connections to an upstream are told apart; they are unless this says false.
    pub connections: Option<bool>,
    /// Places that are a matter of timing and not compared, as JSON pointers: `/upstreams/a`.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// The field, by the end of its path, that Pillion does not support yet and so must refuse: `match.cookies`. The case
    /// is compared once Pillion has it.
    pub needs: Option<String>,
    /// Differences that are wanted.
    #[serde(default)]
    pub accepted: Vec<Accepted>,
}

/// A difference that is wanted: Pillion is stricter or better at this place.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// JSON pointer to the value, as the difference prints it: `/steps/2/status`.
    pub at: String,
    /// What Pillion shows there instead; null if the value is absent.
    #[serde(default)]
    pub pillion: Value,
    /// Or what differs there: a merge patch over the object that Envoy shows.
    #[serde(default)]
    pub patch: Option<Value>,
    /// Why.
    pub reason: String,
}

/// A configuration: a whole bootstrap, or what differs from the plain one that `bootstrap.rs` builds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Merged over the finished bootstrap.
    pub bootstrap: Value,
    /// Routes of a virtual host `all` for every domain; `/` to upstream `a` unless given.
    pub routes: Option<Value>,
    /// Virtual hosts instead of `routes`.
    pub virtual_hosts: Option<Value>,
    /// Merged over the RouteConfiguration.
    pub route_config: Value,
    /// Merged over the HttpConnectionManager.
    pub hcm: Value,
    /// HTTP filters before the router.
    pub http_filters: Vec<Value>,
    /// Network filters before the HttpConnectionManager.
    pub filters_before: Vec<Value>,
    /// Network filters instead of the HttpConnectionManager.
    pub network_filters: Option<Value>,
    /// Merged over the listener.
    pub listener: Value,
    /// A DownstreamTlsContext for the listener's filter chain.
    pub tls: Value,
    /// UpstreamTlsContexts for the clusters of upstreams, by upstream.
    pub cluster_tls: BTreeMap<String, Value>,
    /// Format of the listener's own access log, into the same file.
    pub listener_log: Option<String>,
    /// Further listeners.
    pub listeners: Vec<Value>,
    /// Merged over the cluster that each upstream gets, by upstream.
    pub cluster: BTreeMap<String, Value>,
    /// Further clusters.
    pub clusters: Vec<Value>,
    /// Format of the access log: a text, or an object for JSON; null for Envoy's default format.
    #[serde(deserialize_with = "present")]
    pub log: Option<Value>,
    /// Listeners and clusters come over ADS instead of the bootstrap.
    pub ads: Option<AdsProtocol>,
    /// What comes over ADS beside them: resources with their `@type`, by any name.
    pub resources: BTreeMap<String, Value>,
}

/// The variant of the xDS protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdsProtocol {
    /// State of the world.
    Sotw,
    /// Incremental.
    Delta,
}

impl Config {
    /// Reads the form that a case has it in.
    pub fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Null => Ok(Self::default()),
            value => Self::deserialize(value).map_err(|error| format!("config: {error}")),
        }
    }
}

impl Case {
    /// Reads one case below `root`.
    pub fn load(root: &Path, path: &Path) -> Result<Self, String> {
        let in_file = |error: String| format!("{}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|e| in_file(e.to_string()))?;
        // Through JSON values: their map form of an enum is `name: value`, YAML's own would be a tag.
        let value: Value = yaml_serde::from_str(&text).map_err(|e| in_file(e.to_string()))?;
        let mut case = Self::from_value(value).map_err(in_file)?;
        let below = path.strip_prefix(root).unwrap_or(path).with_extension("");
        case.name = below.to_string_lossy().into_owned();
        Ok(case)
    }

    /// A case without a name.
    pub fn from_value(value: Value) -> Result<Self, String> {
        let mut case: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        if case.upstreams.is_empty() {
            case.upstreams.insert("a".into(), Upstream::default());
        }
        Ok(case)
    }

    /// All cases below `root` whose name contains `filter`, in the order of their names.
    pub fn load_all(root: &Path, filter: &str) -> Result<Vec<Self>, String> {
        let mut paths = Vec::new();
        collect(root, &mut paths).map_err(|e| format!("{}: {e}", root.display()))?;
        paths.sort();
        let cases: Result<Vec<_>, _> = paths.iter().map(|path| Self::load(root, path)).collect();
        Ok(cases?.into_iter().filter(|case| case.name.contains(filter)).collect())
    }
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, into)?;
        } else if path.extension().is_some_and(|e| e == "yaml") {
            into.push(path);
        }
    }
    Ok(())
}

/// Keeps `log: null` (the default format) apart from no `log` at all.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_log_and_the_default_log_are_told_apart() {
        let log = |value: Value| Config::read(&value).unwrap().log;
        assert_eq!(log(json!({})), None);
        assert_eq!(log(json!({"log": null})), Some(Value::Null));
    }

    #[test]
    fn a_misspelt_key_is_an_error() {
        assert!(Config::read(&json!({"route": []})).unwrap_err().contains("unknown field `route`"));
    }
}
