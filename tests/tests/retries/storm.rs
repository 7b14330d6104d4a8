//! Retries where nothing but their own bounds limits them.

use std::sync::atomic::Ordering::Relaxed;

use pillion_tests::drill::storm::{HOPS, RETRIES, ask, chain, failing};
use pillion_tests::programs::pillion;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_load_multiplies_where_bounds_are_turned_off() {
    const REQUESTS: u64 = 16;
    let (server, load) = failing().await;
    let unlimited = json!({"circuit_breakers": {"thresholds": [{"max_retries": u32::MAX}]}});
    let unbounded = json!({"pillion.bound_retries": false});
    let (first, _sidecars) = chain(&pillion(), server, &unlimited, &unbounded);
    ask(first, REQUESTS).await;
    assert_eq!(load.load(Relaxed), REQUESTS * (RETRIES + 1).pow(HOPS));
}
