//! What happens in the demo, step by step.

use std::error::Error;

use http::Method;
use tokio::time::Instant;

use super::display::Display;
use super::http_client::HttpClient;
use super::mesh::Mesh;
use super::resources::{CLIENT_ID, SERVER_ID};
use super::traffic::{Counts, SlowRequest, Traffic};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const V1: &str = "greeter-v1";
const V2: &str = "greeter-v2";
/// The replicas of the first version, with the milliseconds that each works for an answer.
const REPLICAS: [(&str, u64); 3] = [("v1-a", 4), ("v1-b", 4), ("v1-c", 12)];
/// How many slow requests must be under way on a replica that is drained.
const DRAINED: usize = 3;
/// The share of the second version, in percent.
const SHARE: u32 = 10;

/// The first step: configuration arrives. Returns the traffic that begins after it.
///
/// # Errors
/// A process does not start, or a sidecar refuses its configuration.
pub async fn configuration_arrives(mesh: &mut Mesh, display: &mut Display) -> Result<Traffic> {
    display.step("Configuration arrives over ADS");
    display.say(&format!(
        "The control plane serves xDS on {}; both sidecars started with only its address.",
        mesh.xds
    ));
    for (name, work) in REPLICAS {
        mesh.add_replica(name, work).await?;
    }
    display.say("Three replicas of greeter v1 run, each behind a listener of the server side.");
    let begin = Instant::now();
    mesh.configure_client(V1, &REPLICAS.map(|(name, _)| name)).await?;
    display.say(&format!(
        "The client side acknowledged its cluster, endpoints, listener and routes after {} ms.",
        begin.elapsed().as_millis()
    ));
    display.say(&format!("It takes requests on http://{}/ now.", mesh.address()));
    Ok(Traffic::start(mesh.address()).await?)
}

/// Requests go to the less busy of two random replicas.
///
/// # Errors
/// A replica gets nothing.
pub async fn requests_spread(traffic: &Traffic, display: &mut Display) -> Result<()> {
    display.step("Requests spread by P2C (LEAST_REQUEST)");
    display.say("16 clients ask; v1-c works three times as long for an answer as the others.");
    let spread = |counts: &Counts| {
        counts.answered() >= 1500 && REPLICAS.iter().all(|(name, _)| counts.of(name) > 0)
    };
    let awaited = "1500 requests answered, some by each replica";
    display.count_until(&traffic.tally, awaited, spread).await?;
    display.say("Of two random replicas the one with fewer requests under way won each time.");
    Ok(())
}

/// Both sidecars prove who they are, with certificates that change under way.
///
/// # Errors
/// A sidecar is somebody else, keeps its old certificate, or the server side lets a stranger in.
pub async fn identities_are_proven(
    mesh: &mut Mesh,
    traffic: &Traffic,
    display: &mut Display,
) -> Result<()> {
    display.step("Every hop proves who it is");
    let before = mesh.shown_certificates().await?;
    for (side, shown, expected) in
        [("client", &before[0], CLIENT_ID), ("server", &before[1], SERVER_ID)]
    {
        display.say(&format!("The {side} side is {}, issued over SDS.", shown.id));
        if shown.id != expected {
            return Err(format!("the {side} side should be {expected}").into());
        }
    }
    display.say("All requests between them go over mutual TLS, and each accepts only the other.");
    let inbound = mesh.inbound_of("v1-a")?;
    if HttpClient::new(inbound).send(Method::GET, "/", "").await.is_ok() {
        return Err(format!("{inbound} answers a stranger").into());
    }
    display.say("Asked past the client side, without a certificate, the server side hung up.");
    mesh.rotate_certificates().await?;
    traffic.tally.borrow_mut().next_phase();
    let after = mesh.shown_certificates().await?;
    if before.iter().zip(&after).any(|(before, after)| before.serial == after.serial) {
        return Err("a sidecar shows its old certificate".into());
    }
    let more = |counts: &Counts| counts.answered() >= 300;
    display.count_until(&traffic.tally, "300 requests answered after it", more).await?;
    display.say("Both got new certificates meanwhile; no request noticed.");
    Ok(())
}

/// A replica crashes, and its load moves.
///
/// # Errors
/// The dead replica is still in use after the client side acknowledged its removal.
pub async fn replica_dies(mesh: &mut Mesh, traffic: &Traffic, display: &mut Display) -> Result<()> {
    display.step("A replica is killed and its load moves");
    traffic.tally.borrow_mut().announce_failures();
    let begin = Instant::now();
    mesh.kill("v1-b").await?;
    mesh.set_endpoints(V1, &["v1-a", "v1-c"]).await?;
    traffic.tally.borrow_mut().next_phase();
    display.say(&format!(
        "v1-b got SIGKILL; {} ms later the client side had acknowledged endpoints without it.",
        begin.elapsed().as_millis()
    ));
    display.say("Only requests under way in between may fail: nobody retries them here.");
    let moved = |counts: &Counts| counts.answered() >= 800;
    let counts = display.count_until(&traffic.tally, "800 more requests answered", moved).await?;
    let excused = traffic.tally.borrow().excused;
    display.say(&format!("{excused} failed in that moment, {} after it.", counts.failed));
    mesh.remove_replica("v1-b").await?;
    expect_none_of("v1-b", traffic)
}

/// A second version gets a share of the requests.
///
/// # Errors
/// The share is not what was pushed.
pub async fn route_changes(
    mesh: &mut Mesh,
    traffic: &Traffic,
    display: &mut Display,
) -> Result<()> {
    display.step("A route change is pushed: 90/10 to a second version");
    mesh.add_replica("v2-a", 4).await?;
    mesh.add_cluster(V2, &["v2-a"]).await?;
    mesh.set_weights(&[(V1, 100 - SHARE), (V2, SHARE)]).await?;
    traffic.tally.borrow_mut().next_phase();
    display.say("greeter v2 runs; the client side acknowledged its cluster and the new routes.");
    let enough = |counts: &Counts| counts.answered() >= 1500;
    let counts = display.count_until(&traffic.tally, "1500 more requests answered", enough).await?;
    let share = counts.of("v2-a") as f64 / counts.answered() as f64 * 100.0;
    display.say(&format!("v2 answered {share:.1} % of them."));
    // 1500 requests put the share within half of its value with a certainty of many nines.
    let wanted = f64::from(SHARE);
    if (share - wanted).abs() > wanted / 2.0 {
        return Err(format!("v2 should answer about {SHARE} %").into());
    }
    Ok(())
}

/// An endpoint is removed while requests are under way on it.
///
/// # Errors
/// One of them breaks off, or a new request reaches the endpoint.
pub async fn endpoint_drains(
    mesh: &mut Mesh,
    traffic: &Traffic,
    display: &mut Display,
) -> Result<()> {
    display.step("An endpoint is removed and drained");
    let slow = begin_slow_requests("v1-c", traffic).await?;
    mesh.set_endpoints(V1, &["v1-a"]).await?;
    traffic.tally.borrow_mut().next_phase();
    display.say(&format!(
        "v1-c was removed with {DRAINED} slow answers of it under way; new requests go elsewhere."
    ));
    let mut whole = 0;
    for request in slow {
        let drained = request.replica == "v1-c";
        let finished = request.finish().await;
        whole += usize::from(drained && finished);
    }
    if whole < DRAINED {
        return Err(format!("only {whole} of {DRAINED} answers of v1-c came whole").into());
    }
    display.say(&format!("All {DRAINED} came whole. Then v1-c got SIGTERM and ended."));
    mesh.remove_replica("v1-c").await?;
    let more = |counts: &Counts| counts.answered() >= 500;
    display.count_until(&traffic.tally, "500 more requests answered", more).await?;
    expect_none_of("v1-c", traffic)
}

/// A zone fails, another one takes its load over and gives it back.
///
/// # Errors
/// A request reaches a zone that should get none.
pub async fn zone_fails_over(
    mesh: &mut Mesh,
    traffic: &Traffic,
    display: &mut Display,
) -> Result<()> {
    display.step("A zone fails, and its load goes to another one and back");
    mesh.add_replica("v1-d", 4).await?;
    let more = |counts: &Counts| counts.answered() >= 300;
    for (east_is_healthy, idle, said) in [
        (true, "v1-d", "v1-a is in zone east, v1-d in zone west, which is only to help out."),
        (false, "v1-a", "Zone east became unhealthy over EDS: all of its load went west."),
        (true, "v1-d", "Zone east is healthy again and has its load back."),
    ] {
        let zones = [("east", "v1-a", east_is_healthy), ("west", "v1-d", true)];
        mesh.set_zones(V1, &zones).await?;
        traffic.tally.borrow_mut().next_phase();
        display.count_until(&traffic.tally, "300 more requests answered", more).await?;
        expect_none_of(idle, traffic)?;
        display.say(said);
    }
    Ok(())
}

/// Begins slow requests until enough of them are under way on a replica.
async fn begin_slow_requests(replica: &str, traffic: &Traffic) -> Result<Vec<SlowRequest>> {
    const TRIES: usize = 100;
    let mut begun: Vec<SlowRequest> = Vec::new();
    for _ in 0..TRIES {
        if begun.iter().filter(|request| request.replica == replica).count() == DRAINED {
            return Ok(begun);
        }
        begun.extend(traffic.begin_slow().await);
    }
    Err(format!("{TRIES} slow requests were not enough to meet {replica} {DRAINED} times").into())
}

/// No request that began in the current phase may have reached a replica that is gone.
fn expect_none_of(replica: &str, traffic: &Traffic) -> Result<()> {
    match traffic.tally.borrow().current.of(replica) {
        0 => Ok(()),
        count => {
            Err(format!("{count} new requests reached {replica}, which has to get none").into())
        }
    }
}
