//! `pillion intercept`: what it puts in, it takes out, and nothing else.

use std::process::Command;

use pillion_tests::programs::{in_path, pillion};

use super::machine::{Machine, can_run, printed};
use pillion_tests::programs::did_not_run;

/// Everything that interception may change on a machine.
fn state(machine: &Machine, backend: &str) -> String {
    let commands = ["ip rule", "ip -6 rule", "ip -o addr show dev lo", "ip route show table 133"];
    let mut state: String = commands.map(|command| printed(&machine.run(command))).concat();
    // Looking through iptables makes empty tables in nftables.
    let lists: &[&str] = match backend {
        "nftables" => &["nft list ruleset"],
        _ => &["iptables-save", "ip6tables-save"],
    };
    for list in lists {
        let rules = printed(&machine.run(list));
        // Counters and times move by themselves.
        state.extend(rules.lines().filter(|l| !l.starts_with(['#', ':'])).flat_map(|l| [l, "\n"]));
    }
    state
}

/// Installs with the flags, twice, checks, and removes, beside somebody else's rules.
fn come_and_go(backend: &str, flags: &str) {
    let flags = format!("--backend {backend} {flags}");
    let flags = flags.trim();
    let machine = Machine::new("machine");
    if backend == "iptables" {
        machine.must("iptables -t nat -A OUTPUT -p tcp --dport 7 -j ACCEPT");
        machine.must("iptables -t mangle -A PREROUTING -p tcp --dport 7 -j ACCEPT");
        machine.must("ip6tables -t nat -A OUTPUT -p tcp --dport 7 -j ACCEPT");
        machine.must("ip6tables -t mangle -A PREROUTING -p tcp --dport 7 -j ACCEPT");
    } else {
        machine.must("nft add table inet other");
    }
    machine.must("ip rule add fwmark 7 lookup 133");
    let before = state(&machine, backend);
    assert!(!machine.intercept(&format!("check {flags}")).status.success());
    machine.must_intercept(&format!("install {flags}"));
    let installed = state(&machine, backend);
    assert_ne!(installed, before);
    machine.must_intercept(&format!("check {flags}"));
    machine.must_intercept(&format!("install {flags}"));
    assert_eq!(state(&machine, backend), installed, "a second time changes nothing");
    let other = machine.intercept(&format!("check {flags} --exclude-uid 7"));
    assert!(!other.status.success() && printed(&other).contains("other flags"), "{other:?}");
    machine.must_intercept(&format!("install {flags} --exclude-uid 7"));
    machine.must_intercept("remove");
    assert_eq!(state(&machine, backend), before);
    assert_eq!(machine.must_intercept("remove").trim(), "there were no rules");
}

#[test]
fn nftables_rules_come_and_go() {
    if can_run(&["nft"]) {
        come_and_go("nftables", "");
        come_and_go("nftables", "--inbound-mode tproxy --include-inbound-ports 80,443");
    }
}

#[test]
fn iptables_rules_come_and_go() {
    if can_run(&["iptables-restore", "ip6tables-restore"]) {
        come_and_go("iptables", "");
        come_and_go("iptables", "--inbound-mode tproxy --dns-port 15053 --family v4");
    }
}

#[test]
fn without_rights_it_prints_and_says_what_is_missing() {
    if in_path("setpriv").is_none() {
        did_not_run("`setpriv` is not installed");
        return;
    }
    let run = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-all", "--inh-caps", "-all"]);
        let root = rustix::process::geteuid().is_root();
        if root {
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        } else {
            command = Command::new("env");
        }
        command.arg(pillion()).arg("intercept").args(arguments).output().expect("it runs")
    };
    let print = run(&["print"]);
    if !print.status.success() {
        did_not_run(&format!("nobody cannot run {}", pillion().display()));
        return;
    }
    assert!(printed(&print).contains("redirect to :15001"), "{print:?}");
    let check = run(&["check"]);
    assert!(!check.status.success());
    let said = printed(&check);
    assert!(
        said.contains("CAP_NET_ADMIN is missing") || said.contains("backend: neither"),
        "{said}"
    );
    let install = run(&["install"]);
    assert!(!install.status.success() && !install.stderr.is_empty(), "{install:?}");
}
