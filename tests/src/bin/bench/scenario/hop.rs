//! A hop of a mesh: client, sidecar, mutual TLS, sidecar, server. Two proxies of one kind make it, and what counts is the CPU
//! time of both.

use std::net::SocketAddr;

use super::traffic::{Load, figures};
use super::{Scenario, able, turns};
use crate::identities::Identities;
use crate::load::h2load::H2load;
use crate::load::wrk::Wrk;
use crate::measurement::{Figures, Metric, Row};
use crate::program::envoy::{Side, mesh_bootstrap};
use crate::program::{Program, Protocol, Running, Work};
use crate::{Bench, Result, probe, upstream};

/// HTTP/1.1 on all three connections.
pub const HTTP1: Scenario = Scenario {
    name: "mesh-http1",
    about: "two sidecars in mutual TLS, HTTP/1.1 all the way, 64 connections, answers of 102 bytes",
    compared_by: Metric::CpuPerRequest,
    run: |bench| {
        measure(bench, Protocol::Http1, Load::Wrk(Wrk { connections: 64, path: "/", body: 0 }))
    },
};

/// HTTP/2 on all three connections.
pub const HTTP2: Scenario = Scenario {
    name: "mesh-http2",
    about: "two sidecars in mutual TLS, HTTP/2 all the way, 8 connections with 32 streams each, answers of 102 bytes",
    compared_by: Metric::CpuPerRequest,
    run: |bench| {
        let load = H2load { connections: 8, streams: 32, grpc: false };
        measure(bench, Protocol::Http2, Load::H2load(load, 40_000))
    },
};

/// Both proxies.
struct Hop {
    outbound: Running,
    inbound: Running,
}

fn measure(bench: &Bench, protocol: Protocol, load: Load) -> Result<Vec<Row>> {
    let work = Work { protocol, upstream: upstream::start(protocol)?, idle_clusters: 0 };
    let identities = Identities::new()?;
    let prepare = |program| start(program, &work, &identities, load);
    Ok(turns::measure(bench, prepare, |hop| round(bench, hop, load)))
}

fn start(program: Program, work: &Work, identities: &Identities, load: Load) -> Result<Hop> {
    if !program.speaks_xds() {
        return Err("cannot do this".into());
    }
    able(program, work)?;
    let inbound = sidecar(program, work, Side::Inbound, identities)?;
    let to_inbound = Work { upstream: inbound.address, ..*work };
    let outbound = sidecar(program, &to_inbound, Side::Outbound, identities)?;
    probe::check(outbound.address, work.protocol, load.path())?;
    load.warm_up(outbound.address)?;
    Ok(Hop { outbound, inbound })
}

/// One of the two proxies.
pub fn sidecar(
    program: Program,
    work: &Work,
    side: Side,
    identities: &Identities,
) -> Result<Running> {
    let own = match side {
        Side::Outbound => &identities.client,
        Side::Inbound => &identities.server,
    };
    let bootstrap = |admin: SocketAddr, listen: SocketAddr| {
        mesh_bootstrap(admin, listen, work, side, own, &identities.authority)
    };
    program.start_with(bootstrap)
}

fn round(bench: &Bench, hop: &Hop, load: Load) -> Result<Figures> {
    let both = [&hop.outbound, &hop.inbound].map(|running| &running.process);
    let usages = || both.iter().map(|process| process.usage()).collect::<Result<Vec<_>, _>>();
    let before = usages()?;
    let seen = load.run(hop.outbound.address, bench)?;
    let after = usages()?;
    let cpu = after.iter().zip(&before).map(|(after, before)| after.cpu - before.cpu).sum();
    let memory = after.iter().map(|usage| usage.resident_mb()).sum();
    Ok(figures(&seen, cpu, memory))
}
