//! A server that closes connections whenever it likes, and a sidecar that may not send anything again.

use pillion_tests::drill::race::send;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_replay_requests_fail_and_none_is_doubled() {
    let outcome = send(4_000, json!({"pillion.replay_on_reused_connection": false})).await;
    assert!(outcome.failed_gets() > 0, "none failed");
    assert_eq!(outcome.replayed, 0);
    assert!(outcome.seen.values().all(|times| *times == 1));
}
