//! The rules for `nft -f -`: one table of our own, replaced as a whole in one transaction.

use super::plan::{Family, Plan};
use super::rules::{Action, Chain, Hook, Match, Rule, chains};

/// The table, as `nft` names it.
pub const TABLE: &str = "inet pillion";
/// An empty chain that says that the passthrough address ::6 was added with the rules.
pub const OWNS_ADDRESS: &str = "added_address";

/// The chain that says which plan the table was made from.
pub fn plan_mark(plan: &Plan) -> String {
    format!("plan_{}", plan.fingerprint())
}

/// A script that puts the table in, in place of an older one. With `owns_address` it notes that ::6 goes with it.
pub fn script(plan: &Plan, owns_address: bool) -> String {
    let mut text = format!("{}\n\ntable {TABLE} {{\n", removal());
    text.push_str("\t# says which flags it was made from\n");
    text.push_str(&format!("\tchain {} {{ }}\n", plan_mark(plan)));
    if owns_address {
        text.push_str(&format!("\tchain {OWNS_ADDRESS} {{ }}\n"));
    }
    for chain in chains(plan) {
        text.push_str(&print_chain(&chain, plan));
    }
    text.push_str("}\n");
    text
}

/// A script that takes the table out; nothing happens if there is none.
pub fn removal() -> String {
    format!("add table {TABLE}\ndelete table {TABLE}")
}

fn print_chain(chain: &Chain, plan: &Plan) -> String {
    let mut text = format!("\n\tchain {} {{\n", chain.name);
    if let Some(hook) = chain.hook {
        let (kind, hook, priority) = match hook {
            Hook::NatPrerouting => ("nat", "prerouting", -100),
            Hook::NatOutput => ("nat", "output", -100),
            Hook::ManglePrerouting => ("filter", "prerouting", -150),
            Hook::MangleOutput => ("route", "output", -150),
        };
        text.push_str(&format!(
            "\t\ttype {kind} hook {hook} priority {priority}; policy accept;\n"
        ));
        // Without an address in a rule it is for both versions, so the version that is left out is let go first.
        if let [only] = plan.families.as_slice() {
            let other = if *only == Family::V4 { "ipv6" } else { "ipv4" };
            text.push_str(&format!("\t\tmeta nfproto {other} return\n"));
        }
    }
    for rule in &chain.rules {
        text.push_str(&format!("\t\t{}\n", print_rule(rule)));
    }
    text.push_str("\t}\n");
    text
}

fn print_rule(rule: &Rule) -> String {
    let mut words = Vec::new();
    let mut transport = "";
    for (index, condition) in rule.matches.iter().enumerate() {
        let named =
            rule.matches[index..].iter().any(|m| matches!(m, Match::Ports(_) | Match::NotPort(_)));
        match condition {
            // A condition on ports says the transport by itself.
            Match::Tcp if named => transport = "tcp",
            Match::Udp if named => transport = "udp",
            condition => words.push(print_match(condition, transport)),
        }
    }
    words.push(print_action(&rule.action));
    words.join(" ")
}

fn print_match(condition: &Match, transport: &str) -> String {
    match condition {
        Match::Tcp => "meta l4proto tcp".to_owned(),
        Match::Udp => "meta l4proto udp".to_owned(),
        Match::In(name) => format!("iifname \"{name}\""),
        Match::Out(name) => format!("oifname \"{name}\""),
        Match::Source(range) => format!("{} saddr {range}", version(Family::of(range))),
        Match::Destination(range) => format!("{} daddr {range}", version(Family::of(range))),
        Match::NotDestination(range) => {
            format!("{} daddr != {range}", version(Family::of(range)))
        }
        Match::Ports(ports) => {
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            format!("{transport} dport {{ {} }}", ports.join(", "))
        }
        Match::NotPort(port) => format!("{transport} dport != {port}"),
        Match::Uid(uid) => format!("meta skuid {uid}"),
        Match::Gid(gid) => format!("meta skgid {gid}"),
        Match::Mark(mark) => format!("meta mark {mark}"),
        Match::NotMark(mark) => format!("meta mark != {mark}"),
        Match::ConnectionMark(mark) => format!("ct mark {mark}"),
        Match::Established => "ct state established,related".to_owned(),
    }
}

fn print_action(action: &Action) -> String {
    match action {
        Action::Return => "return".to_owned(),
        Action::Accept => "accept".to_owned(),
        Action::Jump(chain) => format!("jump {chain}"),
        Action::Goto(chain) => format!("goto {chain}"),
        Action::Redirect(port) => format!("redirect to :{port}"),
        Action::Tproxy(family, port, mark) => {
            format!("meta mark set {mark} tproxy {} to :{port} accept", version(*family))
        }
        Action::SetMark(mark) => format!("meta mark set {mark}"),
        Action::SaveMark => "ct mark set meta mark".to_owned(),
        Action::RestoreMark => "meta mark set ct mark".to_owned(),
    }
}

fn version(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intercept::{Inbound, PortSet};

    #[test]
    fn the_default_table_reads_like_istios() {
        let text = script(&Plan::default(), false);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let place = |line: &str| {
            lines.iter().position(|l| *l == line).unwrap_or_else(|| panic!("{line} in\n{text}"))
        };
        let order = [
            "oifname \"lo\" ip saddr 127.0.0.6/32 return",
            "oifname \"lo\" ip6 saddr ::6/128 return",
            "meta mark 1337 return",
            "meta skuid 1337 goto proxy",
            "meta skgid 1337 goto proxy",
            "oifname \"lo\" return",
            "meta l4proto tcp goto outbound",
        ];
        assert!(order.map(place).is_sorted(), "{text}");
        for line in [
            "tcp dport { 15008 } return",
            "tcp dport { 15020, 15021, 15090 } return",
            "meta l4proto tcp redirect to :15006",
            "oifname \"lo\" ip daddr != 127.0.0.1/32 tcp dport != 15008 redirect to :15006",
            "ip6 daddr ::1/128 return",
            "meta l4proto tcp redirect to :15001",
        ] {
            place(line);
        }
    }

    #[test]
    fn tproxy_takes_the_listed_ports() {
        let ports = PortSet::Only(vec![80, 443]);
        let plan = Plan {
            inbound: Inbound::Tproxy,
            inbound_ports: ports,
            families: vec![Family::V4],
            ..Plan::default()
        };
        let text = script(&plan, true);
        let rule = "tcp dport { 80, 443 } ip daddr != 127.0.0.1/32 meta mark set 1337 tproxy ip to :15006 accept";
        assert!(text.contains(rule), "{text}");
        assert!(text.contains("meta nfproto ipv6 return") && !text.contains("ip6"), "{text}");
        assert!(text.contains("chain added_address"), "{text}");
    }
}
