//! `pillion run -- COMMAND`: the proxy and its application as one process tree.

use std::net::SocketAddr;
use std::process::Command;

use pillion_tests::programs::{Process, did_not_run, free_address, free_port, in_path, pillion};
use pillion_tests::scenario::config::{cluster, http_listener, static_bootstrap};
use pillion_tests::scenario::{Connection, PATIENCE, Protocol, Upstream, empty, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Starts `pillion run` with more flags and an application.
fn run(bootstrap: &Value, flags: &[&str], application: &[&str]) -> Process {
    let mut command = Command::new(pillion());
    command.args(["run", "--config-yaml", &bootstrap.to_string(), "-l", "warning"]);
    command.args(["--concurrency", "1", "--drain-time-s", "5"]);
    command.args(flags).arg("--").args(application);
    Process::spawn("pillion", &mut command).unwrap_or_else(|error| panic!("{error}"))
}

/// The exit code, when it has ended.
async fn code(process: &mut Process) -> Option<i32> {
    let status = tokio::task::block_in_place(|| process.wait_exit(PATIENCE));
    status.unwrap_or_else(|error| panic!("{error}")).code()
}

/// A sidecar with one listener in front of one server.
async fn scene(direction: &str) -> (Value, SocketAddr, Upstream) {
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let listener = free_address();
    let mut http = http_listener(listener, "up", &json!({}));
    http["traffic_direction"] = json!(direction);
    let clusters = [cluster("up", Protocol::Http1, &[upstream.address])];
    (static_bootstrap(&[http], &clusters), listener, upstream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exit_code_is_the_applications() {
    let (bootstrap, ..) = scene("OUTBOUND").await;
    assert_eq!(code(&mut run(&bootstrap, &[], &["sh", "-c", "exit 7"])).await, Some(7));
    let mut killed = run(&bootstrap, &[], &["sh", "-c", "kill -KILL $$"]);
    assert_eq!(code(&mut killed).await, Some(137));
    let mut missing = run(&bootstrap, &[], &["/no/such/program"]);
    assert_eq!(code(&mut missing).await, Some(127));
    assert!(missing.log().contains("/no/such/program"), "{}", missing.log());
    let mut refused =
        run(&json!({"static_resources": {"clusters": [{}]}}), &[], &["echo", "started"]);
    assert_eq!(code(&mut refused).await, Some(1));
    assert!(!refused.log().contains("started"), "{}", refused.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_starts_when_the_proxy_is_ready() {
    if in_path("curl").is_none() {
        return did_not_run("`curl` is not installed");
    }
    let (bootstrap, listener, _upstream) = scene("OUTBOUND").await;
    let url = format!("http://{listener}/");
    let mut process = run(
        &bootstrap,
        &[],
        &["curl", "-s", "-S", "-o", "/dev/null", "-w", "got %{http_code}", &url],
    );
    assert_eq!(code(&mut process).await, Some(0), "{}", process.log());
    assert!(process.log().contains("got 200"), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_reach_the_application_and_its_end_drains_the_proxy() {
    let (bootstrap, listener, upstream) = scene("INBOUND").await;
    let script = "trap 'echo hangup' HUP; trap 'echo user' USR2; trap 'echo bye; exit 3' TERM
                  echo up; while :; do sleep 0.05; done";
    let mut process = run(&bootstrap, &[], &["sh", "-c", script]);
    until("the application", || process.log().contains("up\n")).await;
    let mut connection = Connection::must_open(listener, Protocol::Http1).await;
    let response = connection.send("GET", "/hold", &[], empty()).await.expect("a head");
    for (signal, word) in [("HUP", "hangup"), ("USR2", "user"), ("TERM", "bye")] {
        process.signal(signal).expect("kill is there");
        until(word, || process.log().contains(word)).await;
    }
    // The response under way ends as it should, although the application is gone.
    upstream.gate.open();
    let body = http_body_util::BodyExt::collect(response.into_body()).await;
    assert!(body.is_ok(), "{body:?}");
    assert_eq!(code(&mut process).await, Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_does_not_outlive_its_proxy() {
    let (bootstrap, ..) = scene("OUTBOUND").await;
    let script = "echo pid $$; trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done";
    let mut process = run(&bootstrap, &[], &["sh", "-c", script]);
    until("the application", || process.log().contains("pid ")).await;
    process.signal("KILL").expect("kill is there");
    code(&mut process).await;
    until("the application's end", || process.log().contains("bye")).await;
}

/// Why applications cannot have namespaces of their own here; none if they can.
fn why_no_namespace() -> Option<String> {
    for program in ["ip", "curl", "python3"] {
        if in_path(program).is_none() {
            return Some(format!("`{program}` is not installed"));
        }
    }
    if in_path("nft").is_none() && in_path("iptables-restore").is_none() {
        return Some("neither `nft` nor `iptables-restore` is installed".to_owned());
    }
    let tried = Command::new("unshare").args(["-U", "-n", "true"]).output();
    let tried = tried.map_err(|error| error.to_string());
    match tried.map(|output| (output.status.success(), output.stderr)) {
        Ok((true, _)) => None,
        Ok((false, said)) => Some(format!(
            "the kernel lets nobody make user and network namespaces: {}",
            String::from_utf8_lossy(&said).trim()
        )),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

/// Everything that the application sends goes where it wants; what comes to `inbound` goes to the application.
fn intercepted(inbound: SocketAddr, app_port: u16, service: SocketAddr) -> Value {
    let at = |ip: &str, port: u16| json!({"socket_address": {"address": ip, "port_value": port}});
    let kind = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    let to = |cluster: &str| {
        json!([{"filters": [{"name": "tcp", "typed_config":
            {"@type": kind, "stat_prefix": cluster, "cluster": cluster}}]}])
    };
    let outbound = json!({
        "name": "outbound", "traffic_direction": "OUTBOUND", "use_original_dst": true,
        "address": at("0.0.0.0", 15001), "additional_addresses": [{"address": at("::", 15001)}],
        "filter_chains": to("passthrough"),
    });
    // Nobody has this address: the listener does.
    let virtual_service = json!({
        "name": "service", "traffic_direction": "OUTBOUND", "bind_to_port": false,
        "address": at("203.0.113.9", 80), "additional_addresses": [{"address": at("2001:db8::9", 80)}],
        "filter_chains": to("service"),
    });
    let inbound = json!({
        "name": "inbound", "traffic_direction": "INBOUND",
        "address": at(&inbound.ip().to_string(), inbound.port()), "filter_chains": to("app"),
    });
    let app = SocketAddr::from(([127, 0, 0, 1], app_port));
    let passthrough =
        json!({"name": "passthrough", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"});
    let service = cluster("service", Protocol::Http1, &[service]);
    static_bootstrap(
        &[outbound, virtual_service, inbound],
        &[passthrough, service, cluster("app", Protocol::Http1, &[app])],
    )
}

/// Who runs `pillion run --intercept`: an ordinary user, where the tests' user can be one.
fn run_as_nobody(bootstrap: &Value, flags: &[&str], application: &[&str]) -> Process {
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let may_run = Command::new("setpriv").args(nobody).arg(pillion()).arg("--version").output();
    let mut command = match may_run.is_ok_and(|output| output.status.success()) {
        true => {
            let mut command = Command::new("setpriv");
            command.args(nobody).arg(pillion());
            command
        }
        false => Command::new(pillion()),
    };
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin").current_dir("/");
    command.args(["run", "--config-yaml", &bootstrap.to_string(), "-l", "warning"]);
    command
        .args(["--concurrency", "1", "--drain-time-s", "5", "--intercept"])
        .args(flags)
        .arg("--")
        .args(application);
    Process::spawn("pillion", &mut command).unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_application_sends_comes_to_the_proxy_without_rights() {
    if let Some(why) = why_no_namespace() {
        return did_not_run(&why);
    }
    let upstream = Upstream::start("up", Protocol::Http1).await;
    let bootstrap = intercepted(free_address(), free_port(), upstream.address);
    let script = "for host in 203.0.113.9 '[2001:db8::9]'; do
                    curl -s -S -m 20 -o /dev/null -w 'got %{http_code}\\n' http://$host/; done; id -u";
    let mut process = run_as_nobody(&bootstrap, &[], &["sh", "-c", script]);
    assert_eq!(code(&mut process).await, Some(0), "{}", process.log());
    assert_eq!(process.log().matches("got 200").count(), 2, "{}", process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_to_the_proxy_reaches_the_application_in_its_namespace() {
    if let Some(why) = why_no_namespace() {
        return did_not_run(&why);
    }
    let (inbound, port) = (free_address(), free_port());
    let bootstrap = intercepted(inbound, port, free_address());
    let port = port.to_string();
    let server = ["python3", "-u", "-m", "http.server", &port, "--bind", "127.0.0.1"];
    let mut process = run_as_nobody(&bootstrap, &["--app-port", &port], &server);
    until("the server", || process.log().contains("Serving HTTP")).await;
    let mut client = tokio::net::TcpStream::connect(inbound).await.expect("it connects");
    client.write_all(b"GET /etc/hostname HTTP/1.0\r\n\r\n").await.expect("it is sent");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    drop(client);
    // On the host nobody listens at the application's port.
    let outside = std::net::TcpStream::connect(format!("127.0.0.1:{port}"));
    assert!(outside.is_err(), "the application has a namespace of its own");
    process.signal("TERM").expect("kill is there");
    assert_eq!(code(&mut process).await, Some(143), "{}", process.log());
}
