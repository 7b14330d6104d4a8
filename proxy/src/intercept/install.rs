//! Putting the rules in and taking them out.

use super::plan::{Family, Plan};
use super::tool::{self, ToolError};
use super::{Backend, iptables, nftables, routing};

/// Why the rules could not be put in or taken out.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Neither backend is there.
    #[error(
        "neither `nft` (package nftables) nor `iptables-restore` (package iptables) is installed"
    )]
    NoBackend,
    /// A program failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

/// What was done besides.
#[derive(Debug, Default)]
pub struct Done {
    /// What does not hinder the rules, but is worth knowing.
    pub warnings: Vec<String>,
}

/// Programs that an `iptables` backend needs.
const IPTABLES: [Family; 2] = [Family::V4, Family::V6];

/// nftables where `nft` is there and the kernel takes the rules, else iptables.
///
/// # Errors
/// Neither program is installed.
pub fn choose(plan: &Plan) -> Result<Backend, InstallError> {
    let has_nft = tool::find("nft").is_ok();
    let has_iptables = tool::find(iptables::restore_program(Family::V4)).is_ok();
    match (has_nft, has_iptables) {
        (true, false) => Ok(Backend::Nftables),
        (false, true) => Ok(Backend::Iptables),
        (false, false) => Err(InstallError::NoBackend),
        // A kernel may know only the older of the two. Without rights neither works, and nftables says why.
        (true, true) => match dry_run(plan, Backend::Nftables) {
            Err(_) if dry_run(plan, Backend::Iptables).is_ok() => Ok(Backend::Iptables),
            _ => Ok(Backend::Nftables),
        },
    }
}

/// Asks the backend whether it would take the rules; changes nothing.
///
/// # Errors
/// What the backend says.
pub fn dry_run(plan: &Plan, backend: Backend) -> Result<(), InstallError> {
    match backend {
        Backend::Nftables => {
            tool::run("nft", &["-c", "-f", "-"], &nftables::script(plan, false))?;
        }
        Backend::Iptables => {
            for family in &plan.families {
                let script = iptables::script(plan, *family, "", false);
                let args = ["--test", "--noflush"];
                tool::run(iptables::restore_program(*family), &args, &script)?;
            }
        }
    }
    Ok(())
}

/// Puts the rules in, in place of older ones of ours. nftables does it in one step; iptables does each IP version and
/// table in one, and when a later one fails, takes everything out again.
///
/// # Errors
/// What a program says. No rule of this call is left then.
pub fn install(plan: &Plan, backend: Backend) -> Result<Done, InstallError> {
    let mut done = Done::default();
    if let Err(error) = routing::install(plan) {
        let _ = routing::remove(plan);
        return Err(error.into());
    }
    let added = match routing::needs_address(plan).then(routing::add_address) {
        Some(Ok(added)) => added || owns_address(backend),
        Some(Err(error)) => {
            done.warnings.push(format!(
                "clusters cannot bind to ::6, from where inbound IPv6 connections pass: {error}"
            ));
            false
        }
        None => false,
    };
    let put = match backend {
        Backend::Nftables => {
            let script = nftables::script(plan, added);
            tool::run("nft", &["-f", "-"], &script).map(drop)
        }
        Backend::Iptables => restore_all(plan, added),
    };
    if let Err(error) = put {
        // What was there before is worth more than a tidy machine: nftables has kept it, iptables cannot.
        if backend == Backend::Iptables || !is_installed(backend) {
            let _ = remove(plan);
            if added {
                let _ = routing::remove_address();
            }
        }
        return Err(error.into());
    }
    Ok(done)
}

fn restore_all(plan: &Plan, owns_address: bool) -> Result<(), ToolError> {
    for family in IPTABLES {
        let installed = match saved(family) {
            Ok(installed) => installed,
            // A version that is not wanted need not be there.
            Err(_) if !plan.families.contains(&family) => continue,
            Err(error) => return Err(error),
        };
        let script = match plan.families.contains(&family) {
            true => iptables::script(plan, family, &installed, owns_address),
            false => iptables::removal(&installed),
        };
        if !script.is_empty() {
            tool::run(iptables::restore_program(family), &["--noflush"], &script)?;
        }
    }
    Ok(())
}

/// The rules of a version as `iptables-save` prints them.
fn saved(family: Family) -> Result<String, ToolError> {
    tool::run(iptables::save_program(family), &[], "")
}

/// Our table as `nft` prints it; empty if there is none.
fn listed() -> Result<String, ToolError> {
    let words: Vec<&str> =
        ["list", "table"].into_iter().chain(nftables::TABLE.split(' ')).collect();
    match tool::run("nft", &words, "") {
        Err(ToolError::Failed { said, .. }) if said.contains("No such file or directory") => {
            Ok(String::new())
        }
        other => other,
    }
}

fn is_installed(backend: Backend) -> bool {
    current(backend).is_ok_and(|rules| !rules.is_empty())
}

/// The rules of ours that are in place now; empty if there are none.
///
/// # Errors
/// They cannot be read.
pub fn current(backend: Backend) -> Result<String, InstallError> {
    match backend {
        Backend::Nftables => Ok(listed()?),
        Backend::Iptables => {
            let mut ours = String::new();
            for family in IPTABLES {
                let Ok(saved) = saved(family) else { continue };
                let lines = saved.lines().filter(|line| line.contains(iptables::PREFIX));
                lines.for_each(|line| ours.push_str(&format!("{line}\n")));
            }
            Ok(ours)
        }
    }
}

/// Whether the rules in place were made from this plan.
pub fn is_from(plan: &Plan, backend: Backend, rules: &str) -> bool {
    match backend {
        Backend::Nftables => rules.contains(&nftables::plan_mark(plan)),
        Backend::Iptables => rules.contains(&iptables::plan_mark(plan)),
    }
}

/// Whether the rules in place brought ::6 with them.
fn owns_address(backend: Backend) -> bool {
    let mark = match backend {
        Backend::Nftables => nftables::OWNS_ADDRESS,
        Backend::Iptables => iptables::OWNS_ADDRESS,
    };
    current(backend).is_ok_and(|rules| rules.contains(mark))
}

/// Takes out every rule that was put in, by either backend, the routing table for TPROXY, and ::6 if it came with them.
/// `plan` tells the mark and the number of that table. Says whether there was anything.
///
/// # Errors
/// What a program says.
pub fn remove(plan: &Plan) -> Result<bool, InstallError> {
    let mut was_there = false;
    let mut address = false;
    if tool::find("nft").is_ok() && !listed()?.is_empty() {
        address |= owns_address(Backend::Nftables);
        tool::run("nft", &["-f", "-"], &nftables::removal())?;
        was_there = true;
    }
    if tool::find(iptables::restore_program(Family::V4)).is_ok() {
        address |= owns_address(Backend::Iptables);
        for family in IPTABLES {
            // The program of a version may be missing, and then no rule of it is there either.
            let Ok(installed) = saved(family) else { continue };
            let script = iptables::removal(&installed);
            if !script.is_empty() {
                tool::run(iptables::restore_program(family), &["--noflush"], &script)?;
                was_there = true;
            }
        }
    }
    if tool::find("ip").is_ok() {
        routing::remove(plan)?;
        if address {
            routing::remove_address()?;
        }
    }
    Ok(was_there)
}
