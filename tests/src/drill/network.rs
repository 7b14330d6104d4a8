//! A network that loses packets, and one that cuts a replica off. It is a network namespace of its own, in which the packet
//! filter drops what it is told to: that needs the right to make one, and `nft`.

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

use tokio::task::block_in_place;

use super::mesh::{listener, watched};
use super::replica::Replica;
use super::traffic::{Kind, Traffic};
use super::{Report, Size, for_a_while, time_until};
use crate::programs::{free_address, in_path, pillion};
use crate::scenario::Sidecar;
use crate::scenario::config::static_bootstrap;

/// Runs the drill in a network namespace of its own.
pub async fn run(size: Size) -> Report {
    if let Some(missing) = ["unshare", "nft", "ip"].into_iter().find(|p| in_path(p).is_none()) {
        return did_not_run(&format!("`{missing}` is not installed"));
    }
    let mut command = Command::new("unshare");
    command.arg("-n").arg(pillion().with_file_name("drill")).arg("inside");
    if size == Size::Small {
        command.arg("--small");
    }
    match block_in_place(|| command.output()) {
        Ok(output) if output.status.success() => {
            let printed = String::from_utf8_lossy(&output.stdout).into_owned();
            serde_json::from_str(&printed)
                .unwrap_or_else(|error| panic!("the drill inside printed {printed:?}: {error}"))
        }
        Ok(output) if said(&output).contains("unshare") => did_not_run(&said(&output)),
        Ok(output) => panic!("the drill inside failed: {}", said(&output)),
        Err(error) => did_not_run(&error.to_string()),
    }
}

fn did_not_run(why: &str) -> Report {
    let mut report = Report::default();
    report.figure("did not run", why);
    report
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

/// Does what `run` is for, and prints its report as JSON.
pub async fn run_inside(size: Size) {
    must("ip", &["link", "set", "lo", "up"]);
    must("nft", &["add", "table", "inet", "drill"]);
    must("nft", &["add chain inet drill input { type filter hook input priority 0; }"]);
    let replicas: Vec<_> = (0..4).map(|number| Replica::start(&format!("r{number}"))).collect();
    let addresses: Vec<_> = replicas.iter().map(|replica| replica.address).collect();
    let address = free_address();
    let bootstrap = static_bootstrap(&[listener(address, Some("1s"))], &[watched(&addresses)]);
    let _sidecar = Sidecar::start(&bootstrap, &[]);
    let kinds = [Kind::Http1, Kind::Http2, Kind::Grpc];
    let traffic = Traffic::start(address, &kinds, size.pick(2, 8)).await;
    let time = size.pick(Duration::from_millis(1500), Duration::from_secs(15));
    let mut report = Report::default();
    for percent in [1, 5] {
        for replica in &addresses {
            lose(*replica, percent);
        }
        for_a_while(time).await;
        heal();
        report.expect_unseen(&format!("{percent} % of the packets are lost"), &traffic.take());
    }
    lose(addresses[0], 100);
    for_a_while(time).await;
    let seen = traffic.take();
    report.expect_unseen("r0 is cut off", &seen);
    heal();
    let back = time_until("r0 to answer", || traffic.answers_of("r0") > 0).await;
    report.figure("healed; r0 answers after, ms", back);
    report.expect_unseen("at the end", &traffic.stop().await);
    println!("{}", serde_json::to_string(&report).expect("a report has a JSON form"));
}

/// Drops this share of the packets to and from an address, in percent.
fn lose(address: SocketAddr, percent: u32) {
    let port = address.port();
    let drawn = match percent {
        100 => String::new(),
        _ => format!("numgen random mod 100 < {percent}"),
    };
    for direction in ["dport", "sport"] {
        must("nft", &[&format!("add rule inet drill input tcp {direction} {port} {drawn} drop")]);
    }
}

fn heal() {
    must("nft", &["flush chain inet drill input"]);
}

fn must(program: &str, arguments: &[&str]) {
    let path = in_path(program).unwrap_or_else(|| panic!("`{program}` is not installed"));
    let output = block_in_place(|| Command::new(path).args(arguments).output());
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", said(&output));
}
