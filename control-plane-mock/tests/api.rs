//! The program and its HTTP API, from outside.

mod client;

use std::net::SocketAddr;
use std::process::Stdio;

use client::{LONG, NODE, Sotw};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use proto::type_url::CLUSTER;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};

/// The program with its output.
struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    xds: SocketAddr,
    api: SocketAddr,
}

impl Program {
    async fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_control-plane-mock"))
            .args(["--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--json"])
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program was built");
        let stdout = child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let first = lines.next_line().await.expect("readable").expect("a line");
        let first: Value = serde_json::from_str(&first).expect("a JSON line");
        let address = |name: &str| first[name].as_str().expect("there").parse().expect("address");
        Self { child, lines, xds: address("xds"), api: address("api") }
    }

    /// The next event of this kind.
    async fn event(&mut self, kind: &str) -> Value {
        let event = async {
            loop {
                let line = self.lines.next_line().await.expect("readable").expect("it runs");
                let event: Value = serde_json::from_str(&line).expect("a JSON line");
                if event["event"] == kind {
                    return event;
                }
            }
        };
        tokio::time::timeout(LONG, event).await.expect("an event was expected")
    }

    async fn call(&self, method: Method, path: &str, body: &str) -> (StatusCode, Value) {
        let socket = TcpStream::connect(self.api).await.expect("it listens");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.expect("HTTP");
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "mock");
        let request = request.body(Full::<bytes::Bytes>::from(body.to_owned())).expect("a request");
        let response = sender.send_request(request).await.expect("a response");
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn open(&self) -> Sotw {
        client::open_sotw(self.xds).await
    }
}

fn cluster(name: &str) -> String {
    format!("'@type': {CLUSTER}\nname: {name}\n")
}

#[tokio::test]
async fn resources_are_put_waited_for_listed_and_deleted() {
    let mut program = Program::start(&[]).await;
    let body = format!("{}---\n{}", cluster("a"), cluster("b"));
    let (status, put) = program.call(Method::PUT, "/resources", &body).await;
    assert_eq!((status, &put), (StatusCode::OK, &json!({"version": 1})));

    let mut stream = program.open().await;
    stream.subscribe(CLUSTER, &[]);
    let response = stream.receive().await;
    stream.answer(&response, &[], None);
    let path = format!("/wait?type=cds&version=1&node={NODE}");
    let (status, answer) = program.call(Method::GET, &path, "").await;
    let expected = json!({"node": NODE, "version": 1, "error": null});
    assert_eq!((status, answer), (StatusCode::OK, expected));
    let acked = program.event("acked").await;
    assert_eq!((&acked["node"], &acked["type"]), (&json!(NODE), &json!("cds")));

    let (_, listed) = program.call(Method::GET, "/resources?type=cds", "").await;
    let named = json!({"@type": CLUSTER, "name": "b"});
    assert_eq!((&listed[1]["name"], &listed[1]["resource"]), (&json!("b"), &named));

    program.call(Method::DELETE, "/resources?type=cds&name=a", "").await;
    let response = stream.receive().await;
    stream.answer(&response, &[], Some("too few"));
    let (status, answer) = program.call(Method::GET, "/wait?type=cds&version=2", "").await;
    assert_eq!((status, &answer["error"]), (StatusCode::CONFLICT, &json!("too few")));
    let (_, clients) = program.call(Method::GET, "/clients", "").await;
    assert_eq!(clients[0]["subscriptions"][0]["names"], json!(["*"]));
    let (status, _) = program.call(Method::GET, "/wait?type=eds&version=1&timeout=0.01", "").await;
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn faults_are_armed_and_disarmed() {
    let program = Program::start(&[]).await;
    program.call(Method::PUT, "/resources", &cluster("a")).await;
    let fault = json!({"kind": "withhold", "type": "cds"}).to_string();
    let (_, armed) = program.call(Method::POST, "/faults", &fault).await;
    let (_, faults) = program.call(Method::GET, "/faults", "").await;
    assert_eq!(faults[0]["fault"]["type"], CLUSTER);
    let mut stream = program.open().await;
    stream.subscribe(CLUSTER, &[]);
    program.call(Method::DELETE, &format!("/faults?id={}", armed["id"]), "").await;
    stream.receive().await;
    program.call(Method::POST, "/disconnect", "").await;
    stream.receive_end().await;
}

#[tokio::test]
async fn mistakes_are_explained() {
    let program = Program::start(&[]).await;
    let broken = format!("{}nam: a\n", cluster("a"));
    let calls = [
        (Method::PUT, "/resources", broken.as_str(), 400, "nam"),
        (Method::PUT, "/resources?nod=a", "", 400, "nod"),
        (Method::GET, "/wait?type=cds", "", 400, "version"),
        (Method::GET, "/wait?type=cds&version=x", "", 400, "version=x"),
        (Method::POST, "/faults", r#"{"kind": "explode"}"#, 400, "explode"),
        (Method::DELETE, "/faults?id=9", "", 404, "id"),
        (Method::GET, "/nothing", "", 404, "/nothing"),
    ];
    for (method, path, body, expected, word) in calls {
        let (status, answer) = program.call(method, path, body).await;
        assert_eq!(status.as_u16(), expected, "{path}");
        let error = answer["error"].as_str().expect("an error");
        assert!(error.contains(word), "{path}: {error}");
    }
}

#[tokio::test]
async fn certificates_are_issued_over_http() {
    let program = Program::start(&["--trust-domain", "example.org"]).await;
    let (_, svid) =
        program.call(Method::POST, "/identity/svid?id=spiffe://example.org/a", "").await;
    assert!(svid["private_key"].as_str().expect("there").contains("PRIVATE KEY"));
    let (_, before) = program.call(Method::GET, "/identity/bundle", "").await;
    program.call(Method::POST, "/identity/rotate?authority=true", "").await;
    let (_, after) = program.call(Method::GET, "/identity/bundle", "").await;
    assert!(after.as_str().expect("PEM").ends_with(before.as_str().expect("PEM")));
}

#[tokio::test]
async fn a_folder_is_served_and_followed() {
    let folder = tempfile::tempdir().expect("writable");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it is inside")).expect("writable");
        // Renamed into place, so that no half-written file is read.
        let new = path.with_extension("new");
        std::fs::write(&new, text).expect("writable");
        std::fs::rename(new, path).expect("writable");
    };
    write("a.yaml", &cluster("a"));
    write("nodes/someone/b.yaml", &cluster("b"));
    write("broken.yaml", "'@type': nothing\n");
    let path = folder.path().to_str().expect("UTF-8").to_owned();
    let mut program = Program::start(&["--resources", &path]).await;
    let broken = program.event("file_broken").await;
    assert!(broken["path"].as_str().expect("there").ends_with("broken.yaml"));
    assert_eq!(program.event("folder_read").await["version"], 1);

    let mut stream = program.open().await;
    stream.subscribe(CLUSTER, &[]);
    let response = stream.receive().await;
    assert_eq!(client::names(&response), ["a"]);
    stream.answer(&response, &[], None);

    write(&format!("nodes/{NODE}/c.yaml"), &cluster("c"));
    let response = stream.receive().await;
    assert_eq!(client::names(&response), ["a", "c"]);
    stream.answer(&response, &[], None);

    write("a.yaml", &format!("{}no_such_field: 1\n", cluster("a")));
    let broken = program.event("file_broken").await;
    let error = broken["error"].as_str().expect("there");
    assert!(error.contains("no_such_field") && error.contains("line 3"), "{error}");

    write("a.yaml", &cluster("d"));
    let response = stream.receive().await;
    assert_eq!(client::names(&response), ["c", "d"]);
    assert!(program.child.try_wait().expect("it is ours").is_none(), "it stays up");
}
