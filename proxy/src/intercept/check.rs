//! What is in place, and what the machine lacks.

use std::fs;

use super::install::{self, InstallError};
use super::plan::Plan;
use super::tool;
use super::{Backend, routing};

/// The bit of `CAP_NET_ADMIN` in a set of capabilities.
const NET_ADMIN: u32 = 12;

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// Whether the rules of the plan are in place, all of them.
    pub in_place: bool,
    /// Whether they could be put in now.
    pub possible: bool,
    /// What is so, a line each; and what to do about it.
    pub lines: Vec<String>,
}

/// Looks at the machine; changes nothing.
pub fn check(plan: &Plan, backend: Option<Backend>) -> Report {
    let mut report = Report { in_place: false, possible: true, lines: Vec::new() };
    let chosen = match backend.map_or_else(|| install::choose(plan), Ok) {
        Ok(chosen) => chosen,
        Err(error) => {
            report.possible = false;
            report.lines.push(format!("backend: {error}"));
            return report;
        }
    };
    report.lines.push(format!("backend: {chosen}"));
    rules(plan, chosen, &mut report);
    rights(&mut report);
    kernel(plan, chosen, &mut report);
    ip(plan, &mut report);
    report
}

fn rules(plan: &Plan, backend: Backend, report: &mut Report) {
    let line = match install::current(backend) {
        Ok(rules) if rules.is_empty() => "rules: none are in place".to_owned(),
        Ok(rules) if install::is_from(plan, backend, &rules) => {
            report.in_place = true;
            "rules: in place".to_owned()
        }
        Ok(_) => {
            "rules: in place, but made with other flags; `pillion intercept install` replaces them"
                .to_owned()
        }
        Err(error) => format!("rules: cannot be read: {}", explained(&error)),
    };
    report.lines.push(line);
}

fn rights(report: &mut Report) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = match has_net_admin(&status) {
        true => "rights: CAP_NET_ADMIN is there",
        false => {
            report.possible = false;
            "rights: CAP_NET_ADMIN is missing: run as root, or give the capability (Kubernetes: \
             securityContext.capabilities.add: [NET_ADMIN]; systemd: AmbientCapabilities=CAP_NET_ADMIN)"
        }
    };
    report.lines.push(line.to_owned());
}

/// Whether the effective set in the text of `/proc/self/status` has it.
fn has_net_admin(status: &str) -> bool {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.is_some_and(|set| set >> NET_ADMIN & 1 == 1)
}

fn kernel(plan: &Plan, backend: Backend, report: &mut Report) {
    let line = match install::dry_run(plan, backend) {
        Ok(()) => "kernel: takes the rules".to_owned(),
        Err(error) => {
            report.possible = false;
            format!("kernel: does not take the rules: {}", explained(&error))
        }
    };
    report.lines.push(line);
}

fn ip(plan: &Plan, report: &mut Report) {
    let needed = plan.is_tproxy();
    match tool::find("ip") {
        Err(error) if needed => {
            report.possible = false;
            report.lines.push(format!("routing: {error}; TPROXY needs it"));
        }
        Err(error) if routing::needs_address(plan) => {
            report.lines.push(format!("routing: {error}; ::6 cannot be added without it"));
        }
        Err(_) => {}
        Ok(_) if needed => {
            for family in &plan.families {
                let there = routing::has_rule(*family, plan);
                let line = match &there {
                    Ok(true) => format!("routing: the rule for mark {} is there", plan.mark),
                    Ok(false) => format!("routing: the rule for mark {} is not there", plan.mark),
                    Err(error) => format!("routing: {error}"),
                };
                report.in_place &= matches!(there, Ok(true));
                report.lines.push(format!("{line} ({family:?})"));
            }
        }
        Ok(_) => {}
    }
}

/// The error, with what it usually means.
fn explained(error: &InstallError) -> String {
    let text = error.to_string();
    let hints = [
        ("Operation not permitted", "this needs CAP_NET_ADMIN"),
        ("Permission denied", "this needs CAP_NET_ADMIN"),
        ("you must be root", "this needs CAP_NET_ADMIN"),
        (
            "No such file or directory",
            "the kernel lacks a part: load the modules nf_tables, nft_redir, nft_ct and, for TPROXY, nft_tproxy",
        ),
        (
            "Operation not supported",
            "the kernel lacks a part: load the modules nft_redir and nft_tproxy",
        ),
        (
            "Table does not exist",
            "the kernel lacks a part: load the modules iptable_nat and, for TPROXY, iptable_mangle",
        ),
        (
            "No chain/target/match",
            "the kernel lacks a part: load the modules xt_REDIRECT, xt_owner and xt_TPROXY",
        ),
    ];
    match hints.iter().find(|(said, _)| text.contains(said)) {
        Some((_, hint)) => format!("{text} ({hint})"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_is_read_from_the_effective_set() {
        assert!(has_net_admin("CapPrm:\t0\nCapEff:\t0000000000001000\n"));
        assert!(has_net_admin("CapEff:\t000001ffffffffff\n"));
        assert!(!has_net_admin("CapEff:\t0000000000000fff\nCapBnd:\t000001ffffffffff\n"));
        assert!(!has_net_admin(""));
    }
}
