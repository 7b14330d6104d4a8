//! What goes with the rules outside of the packet filter: the routing table that brings TPROXY's packets to the machine
//! itself, and the address ::6.

use super::plan::{Family, Plan};
use super::tool::{self, ToolError};

/// The priority of our routing rule, by which it is found again.
const PRIORITY: &str = "1337";

/// The `ip` commands that a plan needs.
pub fn commands(plan: &Plan) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    if plan.is_tproxy() {
        for family in &plan.families {
            commands.push(rule("add", *family, plan));
            commands.push(route("replace", *family, plan));
        }
    }
    if needs_address(plan) {
        commands.push(address("add"));
    }
    commands
}

/// Whether connections may have to come from ::6. IPv4 has all of 127.0.0.0/8 already.
pub fn needs_address(plan: &Plan) -> bool {
    plan.takes_inbound() && plan.families.contains(&Family::V6)
}

/// Adds the routing rule and its table, if they are not there.
pub fn install(plan: &Plan) -> Result<(), ToolError> {
    if !plan.is_tproxy() {
        return Ok(());
    }
    for family in &plan.families {
        if !has_rule(*family, plan)? {
            ip(&rule("add", *family, plan))?;
        }
        ip(&route("replace", *family, plan))?;
    }
    Ok(())
}

/// Takes the routing rule and its table out, for both versions.
pub fn remove(plan: &Plan) -> Result<(), ToolError> {
    for family in [Family::V4, Family::V6] {
        if has_rule(family, plan).unwrap_or(false) {
            ip(&rule("del", family, plan))?;
            // Without its rule the route does nothing; it may be gone with the interface.
            let _ = ip(&route("del", family, plan));
        }
    }
    Ok(())
}

/// Whether our routing rule of a version is there.
pub fn has_rule(family: Family, plan: &Plan) -> Result<bool, ToolError> {
    let args = words(&[version(family), "rule", "show"]);
    let mark = format!("fwmark {:#x} ", plan.mark);
    let begin = format!("{PRIORITY}:");
    let ours = |line: &str| line.starts_with(&begin) && line.contains(&mark);
    Ok(ip(&args)?.lines().any(ours))
}

/// Adds ::6 to the loopback interface; says whether it was not there.
pub fn add_address() -> Result<bool, ToolError> {
    let shown = ip(&words(&["-6", "-o", "addr", "show", "dev", "lo"]))?;
    if shown.contains(" ::6/128 ") {
        return Ok(false);
    }
    ip(&address("add"))?;
    Ok(true)
}

/// Takes ::6 from the loopback interface.
pub fn remove_address() -> Result<(), ToolError> {
    ip(&address("del")).map(drop)
}

fn ip(args: &[String]) -> Result<String, ToolError> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    tool::run("ip", &args, "")
}

fn version(family: Family) -> &'static str {
    match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn rule(verb: &str, family: Family, plan: &Plan) -> Vec<String> {
    let (mark, table) = (plan.mark.to_string(), plan.table.to_string());
    let version = version(family);
    words(&[version, "rule", verb, "fwmark", &mark, "lookup", &table, "priority", PRIORITY])
}

fn route(verb: &str, family: Family, plan: &Plan) -> Vec<String> {
    let table = plan.table.to_string();
    words(&[version(family), "route", verb, "local", "default", "dev", "lo", "table", &table])
}

fn address(verb: &str) -> Vec<String> {
    words(&["-6", "addr", verb, "::6/128", "dev", "lo"])
}
