//! The format of a case: one YAML file under `tests/cases`, read into these types. `tests/cases/README.md` explains it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

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
    pub pillion: Value,
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
    /// Network filters instead of the HttpConnectionManager.
    pub network_filters: Option<Value>,
    /// Merged over the listener.
    pub listener: Value,
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

/// A scripted upstream.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    /// What it speaks.
    pub protocol: UpstreamProtocol,
    /// Answers in the order of the requests (TCP: of the connections); the last one repeats.
    pub replies: Vec<Reply>,
}

/// What an upstream speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Bytes.
    Tcp,
    /// The port refuses connections.
    Refused,
}

/// One answer of an upstream.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reply {
    /// Status, 200 unless given.
    pub status: u16,
    /// Headers, without the framing that the upstream adds.
    pub headers: Headers,
    /// The body; the upstream's name unless given.
    pub body: Option<String>,
    /// Trailers; they make an HTTP/1 body chunked.
    pub trailers: Headers,
    /// These bytes instead of all the above (HTTP/1 and TCP); over HTTP/2 no answer but REFUSED_STREAM, or what `then` says.
    pub raw: Option<String>,
    /// Waits for the step `release` with this name first; an HTTP/2 answer that ends in a reset waits before the reset.
    pub hold: Option<String>,
    /// Answers before it reads the request's body (HTTP/1), or before the first byte (TCP).
    pub early: bool,
    /// Sends back what it receives, after everything else (HTTP/1 after an upgrade, TCP).
    pub echo: bool,
    /// What becomes of the connection.
    pub then: Then,
}

impl Default for Reply {
    fn default() -> Self {
        Self {
            status: 200,
            headers: Headers::default(),
            body: None,
            trailers: Headers::default(),
            raw: None,
            hold: None,
            early: false,
            echo: false,
            then: Then::default(),
        }
    }
}

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// It stays open.
    #[default]
    Keep,
    /// It is closed.
    Close,
    /// It is reset (HTTP/2: the stream, with INTERNAL_ERROR).
    Reset,
}

/// One step.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A GET of this path, the short form of `request`.
    Get(String),
    /// A request in structured form.
    Request(Request),
    /// Bytes.
    Raw(Raw),
    /// Closes a named connection.
    Close(String),
    /// Lets the replies that hold for this name go.
    Release(String),
    /// Waits for a condition.
    Wait(Wait),
    /// A request to the admin port, `GET /ready` or `POST /healthcheck/fail`.
    Admin(String),
    /// Changes what the control plane serves (ADS): a merge patch over the configuration so far.
    Push(Value),
}

/// A request in structured form.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// Method, GET unless given.
    pub method: String,
    /// Path, `/` unless given.
    pub path: String,
    /// Authority, `test` unless given.
    pub host: String,
    /// Further headers; over HTTP/1 in this order after `host`.
    pub headers: Headers,
    /// The body in one piece, with a length.
    pub body: Option<String>,
    /// The body in pieces (HTTP/1 chunked, HTTP/2 one DATA frame each).
    pub chunks: Vec<String>,
    /// Trailers.
    pub trailers: Headers,
    /// HTTP/2 with prior knowledge instead of HTTP/1.1.
    pub http2: bool,
    /// Name of the port, `listener` unless given.
    pub to: String,
    /// Source address.
    pub source: Option<String>,
    /// Keeps the connection under this name, for further requests on it (HTTP/1).
    pub connection: Option<String>,
    /// Goes on with the next step; the answer is awaited at the end.
    pub background: bool,
    /// Waits until the proxy closes the connection.
    pub closed: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            method: "GET".into(),
            path: "/".into(),
            host: "test".into(),
            headers: Headers::default(),
            body: None,
            chunks: Vec::new(),
            trailers: Headers::default(),
            http2: false,
            to: "listener".into(),
            source: None,
            connection: None,
            background: false,
            closed: false,
        }
    }
}

/// Bytes on a connection, and what is read back.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    /// Text to send.
    pub send: String,
    /// Bytes to send before it, in hexadecimal.
    pub hex: String,
    /// A TLS ClientHello to send before both, with these contents.
    pub client_hello: Option<ClientHello>,
    /// How many HTTP responses are awaited.
    pub responses: usize,
    /// How many bytes are awaited instead.
    pub bytes: usize,
    /// Closes the sending side after sending.
    pub half_close: bool,
    /// Waits until the proxy closes the connection.
    pub closed: bool,
    /// Keeps the connection under this name.
    pub connection: Option<String>,
    /// Name of the port, `listener` unless given.
    pub to: String,
    /// Source address.
    pub source: Option<String>,
    /// Goes on with the next step; the answer is awaited at the end.
    pub background: bool,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            send: String::new(),
            hex: String::new(),
            client_hello: None,
            responses: 0,
            bytes: 0,
            half_close: false,
            closed: false,
            connection: None,
            to: "listener".into(),
            source: None,
            background: false,
        }
    }
}

/// What a TLS ClientHello offers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientHello {
    /// Server name.
    pub sni: Option<String>,
    /// Application protocols.
    pub alpn: Vec<String>,
}

/// A condition.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// An upstream has received this many requests (TCP: connections).
    Received(String, usize),
    /// A statistic has this value.
    Stat(String, Value),
    /// The control plane has seen an ACK or NACK of its latest version for this type: `cluster`, `listener`, ...
    Answer(String),
}

/// Headers in order. A case writes a map, whose values may be lists for repeated headers, or a list of `[name, value]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// Whether a header of this lower-case name is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut headers = Vec::new();
        match Value::deserialize(deserializer)? {
            Value::Object(map) => {
                for (name, value) in map {
                    match value {
                        Value::Array(values) => {
                            headers.extend(values.iter().map(|v| (name.clone(), text(v))))
                        }
                        value => headers.push((name, text(&value))),
                    }
                }
            }
            Value::Array(pairs) => {
                for pair in pairs {
                    match pair.as_array().map(Vec::as_slice) {
                        Some([name, value]) => headers.push((text(name), text(value))),
                        _ => return Err(D::Error::custom("a header in a list is [name, value]")),
                    }
                }
            }
            _ => return Err(D::Error::custom("headers are a map or a list of [name, value]")),
        }
        Ok(Self(headers))
    }
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
        let mut case: Self = serde_json::from_value(value).map_err(|e| in_file(e.to_string()))?;
        let below = path.strip_prefix(root).unwrap_or(path).with_extension("");
        case.name = below.to_string_lossy().into_owned();
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

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Keeps `log: null` (the default format) apart from no `log` at all.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}
