//! The steps of a case.

use serde::Deserialize;
use serde_json::Value;

use super::headers::Headers;
use super::tls::TlsClient;

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
    /// HTTP/2 frame by frame.
    Frames(Frames),
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
    /// Puts a text into a file of the case: its name and the text.
    Write(String, String),
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
    /// Over TLS.
    pub tls: Option<TlsClient>,
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
            tls: None,
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
    /// Over TLS.
    pub tls: Option<TlsClient>,
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
            tls: None,
        }
    }
}

/// HTTP/2 frames on a new connection, after the preface and empty SETTINGS. What comes back is noted up to the end of every
/// stream that was used, or of the connection.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frames {
    /// The frames.
    pub send: Vec<Frame>,
}

/// One HTTP/2 frame.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: FrameType,
    /// Its stream, 1 unless given.
    #[serde(default = "first_stream")]
    pub stream: u32,
    /// Its flags; END_STREAM and END_HEADERS for HEADERS, END_STREAM for DATA, none for others unless given.
    pub flags: Option<u8>,
    /// Fields of HEADERS and CONTINUATION, none of them indexed or compressed.
    #[serde(default)]
    pub fields: Headers,
    /// Payload as text, after the fields.
    #[serde(default)]
    pub text: String,
    /// Payload in hexadecimal, after the text.
    #[serde(default)]
    pub hex: String,
}

/// Types of HTTP/2 frames (RFC 9113, 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum FrameType {
    /// DATA.
    Data = 0,
    /// HEADERS.
    Headers = 1,
    /// PRIORITY.
    Priority = 2,
    /// RST_STREAM.
    RstStream = 3,
    /// SETTINGS.
    Settings = 4,
    /// PUSH_PROMISE.
    PushPromise = 5,
    /// PING.
    Ping = 6,
    /// GOAWAY.
    Goaway = 7,
    /// WINDOW_UPDATE.
    WindowUpdate = 8,
    /// CONTINUATION.
    Continuation = 9,
}

fn first_stream() -> u32 {
    1
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
