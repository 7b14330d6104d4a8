//! A zone fails and its traffic moves to the other one, and back; then both fail.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::mesh::{listener, watched};
use super::replica::Replica;
use super::traffic::{Kind, Traffic};
use super::{Report, Size, for_a_while, time_until};
use crate::programs::free_address;
use crate::scenario::Sidecar;
use crate::scenario::config::{endpoints_of, static_bootstrap};

/// Whoever cannot be served must hear so within this time.
const REFUSED_WITHIN_MS: f64 = 1000.0;

/// Two replicas for each zone; the second zone is for when the first one fails.
fn assignment(near: &[SocketAddr], far: &[SocketAddr]) -> Value {
    let zone = |name: &str, priority: u32, endpoints: &[SocketAddr]| {
        let mut zone = endpoints_of("up", endpoints)["endpoints"][0].clone();
        zone["locality"] = json!({"region": "here", "zone": name});
        zone["priority"] = json!(priority);
        zone
    };
    json!({"cluster_name": "up", "endpoints": [zone("near", 0, near), zone("far", 1, far)]})
}

/// Runs the drill.
pub async fn run(size: Size) -> Report {
    let start = |zone: &str| -> Vec<Replica> { (0..2).map(|_| Replica::start(zone)).collect() };
    let (mut near, mut far) = (start("near"), start("far"));
    let addresses = |zone: &[Replica]| -> Vec<SocketAddr> {
        zone.iter().map(|replica| replica.address).collect()
    };
    let mut up = watched(&[]);
    up["load_assignment"] = assignment(&addresses(&near), &addresses(&far));
    let address = free_address();
    let bootstrap = static_bootstrap(&[listener(address, Some("0.5s"))], &[up]);
    let _sidecar = Sidecar::start(&bootstrap, &[]);
    let kinds = [Kind::Http1, Kind::Http2, Kind::Grpc];
    let traffic = Traffic::start(address, &kinds, size.pick(2, 8)).await;
    let time = size.pick(Duration::from_secs(1), Duration::from_secs(10));
    let mut report = Report::default();
    for_a_while(time).await;
    let seen = traffic.take();
    report.expect(seen.share_of("near") > 99.9, "the far zone serves though the near one can");
    report.expect_unseen("both zones", &seen);
    one_zone(&mut near, &traffic, time, &mut report).await;
    both_zones(near.iter_mut().chain(&mut far).collect(), &traffic, time, &mut report).await;
    report.expect_unseen("at the end", &traffic.stop().await);
    report
}

/// The near zone is gone, and comes back.
async fn one_zone(near: &mut [Replica], traffic: &Traffic, time: Duration, report: &mut Report) {
    near.iter().for_each(|replica| replica.signal("KILL"));
    let moved = time_until("the far zone", || traffic.answers_of("far") > 0).await;
    report.figure("near zone killed; far zone answers after, ms", moved);
    for_a_while(time).await;
    report.expect_unseen("near zone gone", &traffic.take());
    near.iter_mut().for_each(Replica::restart);
    traffic.take();
    let back = time_until("the near zone", || traffic.answers_of("near") > 0).await;
    report.figure("near zone started again; answers after, ms", back);
    let quiet = || !traffic.take().by_replica.contains_key("far");
    let mut rounds = 0;
    while !quiet() && rounds < 100 {
        rounds += 1;
        traffic.flow(50).await;
    }
    report.expect(rounds < 100, "the far zone goes on serving");
}

/// Everybody is gone: clients hear so at once; and everybody comes back.
async fn both_zones(
    all: Vec<&mut Replica>,
    traffic: &Traffic,
    time: Duration,
    report: &mut Report,
) {
    all.iter().for_each(|replica| replica.signal("KILL"));
    // What is under way fails by a timeout at worst.
    for_a_while(Duration::from_secs(1)).await;
    traffic.take();
    for_a_while(time).await;
    let seen = traffic.take();
    report.figure("all killed", seen.figures());
    let longest = seen.quantile(1.0);
    report
        .expect(longest < REFUSED_WITHIN_MS, format_args!("a client waited {longest} ms in vain"));
    report.expect(seen.answers == 0, "somebody answers");
    all.into_iter().for_each(Replica::restart);
    let back = time_until("an answer", || traffic.answers() > 0).await;
    report.figure("all started again; the first answers after, ms", back);
    for_a_while(time).await;
    traffic.take();
}
