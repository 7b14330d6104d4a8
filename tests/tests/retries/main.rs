//! Requests that fail on their way: what is sent again, how often at most, and what never is.

mod race;
mod storm;

use pillion_tests::drill::raw::listen;
use pillion_tests::programs::free_address;
use pillion_tests::scenario::config::{cluster, http_listener, static_bootstrap};
use pillion_tests::scenario::{Answer, Connection, Protocol, Sidecar, Upstream, full, zeros};
use serde_json::json;

/// A mirror that takes nothing gets what it has room for; the request itself goes on at its own pace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_does_not_read_holds_nobody_up() {
    const LENGTH: usize = 8 << 20;
    let good = Upstream::start("good", Protocol::Http1).await;
    good.gate.open();
    let (stuck, stuck_address) = listen().await;
    let accepting = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = stuck.accept().await {
            held.push(stream);
        }
    });
    let listener = free_address();
    let route = json!({
        "match": {"prefix": "/"},
        "route": {"cluster": "good", "request_mirror_policies": [{"cluster": "stuck"}]},
    });
    let hosts = json!([{"name": "all", "domains": ["*"], "routes": [route]}]);
    let hcm = json!({"route_config": {"virtual_hosts": hosts}});
    let sidecar = Sidecar::start(
        &static_bootstrap(
            &[http_listener(listener, "good", &hcm)],
            &[
                cluster("good", Protocol::Http1, &[good.address]),
                cluster("stuck", Protocol::Http1, &[stuck_address]),
            ],
        ),
        &[],
    );
    let mut connection = Connection::must_open(listener, Protocol::Http1).await;
    let body = zeros(LENGTH, &Default::default());
    let response = connection.send("POST", "/count", &[], body).await.expect("it is answered");
    let answer = Answer::read(response).await.expect("it ends well");
    assert_eq!(answer.body, LENGTH.to_string());
    let answer = connection.send("POST", "/echo", &[], full("again")).await.expect("as before");
    assert_eq!(Answer::read(answer).await.expect("it ends well").body, "again");
    assert_eq!(sidecar.stat("cluster.good.retry_or_shadow_abandoned"), 0);
    accepting.abort();
}
