//! The rules for `iptables-restore` and `ip6tables-restore`: chains of our own, called from the kernel's.

use super::plan::{Family, Plan};
use super::rules::{Action, Chain, Hook, Match, Rule, chains};

/// What the names of our chains begin with.
pub const PREFIX: &str = "PILLION_";
/// An empty chain that says that the passthrough address ::6 was added with the rules.
pub const OWNS_ADDRESS: &str = "PILLION_ADDED_ADDRESS";
/// The kernel's tables that our chains may be in.
pub const TABLES: [&str; 2] = ["mangle", "nat"];

/// The chain that says which plan the rules were made from.
pub fn plan_mark(plan: &Plan) -> String {
    format!("{PREFIX}{}", plan.fingerprint())
}

/// Both versions' scripts, to read.
pub fn print(plan: &Plan) -> String {
    let scripts = plan.families.iter().map(|family| {
        let program = restore_program(*family);
        format!("# {program} --noflush\n{}", script(plan, *family, "", false))
    });
    scripts.collect()
}

/// The program that takes a version's script.
pub fn restore_program(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables-restore",
        Family::V6 => "ip6tables-restore",
    }
}

/// The program that prints a version's rules.
pub fn save_program(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables-save",
        Family::V6 => "ip6tables-save",
    }
}

/// A script that puts the rules in, in place of those of ours that `installed` (the output of `iptables-save`) shows.
pub fn script(plan: &Plan, family: Family, installed: &str, owns_address: bool) -> String {
    let all = chains(plan);
    let mut text = String::new();
    for table in TABLES {
        let ours: Vec<&Chain> = all.iter().filter(|c| c.is_nat == (table == "nat")).collect();
        let old = Installed::read(installed, table);
        if ours.is_empty() && old.is_empty() {
            continue;
        }
        text.push_str(&format!("*{table}\n"));
        let mut declared: Vec<String> = ours.iter().map(|chain| name(chain.name)).collect();
        if table == "nat" {
            declared.push(plan_mark(plan));
            declared.extend(owns_address.then(|| OWNS_ADDRESS.to_owned()));
        }
        // A declaration makes a chain, or empties it.
        for chain in declared.iter().chain(old.chains.iter().filter(|c| !declared.contains(c))) {
            text.push_str(&format!(":{chain} - [0:0]\n"));
        }
        old.calls.iter().for_each(|call| text.push_str(&format!("-D {call}\n")));
        for gone in old.chains.iter().filter(|chain| !declared.contains(chain)) {
            text.push_str(&format!("-X {gone}\n"));
        }
        for chain in ours {
            text.push_str(&print_chain(chain, family));
        }
        text.push_str("COMMIT\n");
    }
    text
}

/// A script that takes out what `installed` shows of ours; empty if there is nothing.
pub fn removal(installed: &str) -> String {
    let mut text = String::new();
    for table in TABLES {
        let old = Installed::read(installed, table);
        if old.is_empty() {
            continue;
        }
        text.push_str(&format!("*{table}\n"));
        old.chains.iter().for_each(|chain| text.push_str(&format!(":{chain} - [0:0]\n")));
        old.calls.iter().for_each(|call| text.push_str(&format!("-D {call}\n")));
        old.chains.iter().for_each(|chain| text.push_str(&format!("-X {chain}\n")));
        text.push_str("COMMIT\n");
    }
    text
}

/// What is ours in a table.
struct Installed {
    chains: Vec<String>,
    /// The rules of the kernel's chains that call ours.
    calls: Vec<String>,
}

impl Installed {
    fn read(saved: &str, table: &str) -> Installed {
        let begin = format!("*{table}");
        let lines = saved.lines().skip_while(|line| *line != begin);
        let lines: Vec<&str> = lines.take_while(|line| *line != "COMMIT").collect();
        let chains = lines.iter().filter_map(|line| {
            let name = line.strip_prefix(':')?.split(' ').next()?;
            name.starts_with(PREFIX).then(|| name.to_owned())
        });
        let calls = lines.iter().filter_map(|line| {
            let rule = line.strip_prefix("-A ")?;
            let calls = rule.contains(&format!("-j {PREFIX}"));
            (calls && !rule.starts_with(PREFIX)).then(|| rule.to_owned())
        });
        Installed { chains: chains.collect(), calls: calls.collect() }
    }

    fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }
}

fn name(chain: &str) -> String {
    format!("{PREFIX}{}", chain.to_uppercase())
}

fn print_chain(chain: &Chain, family: Family) -> String {
    let name = name(chain.name);
    let mut text = String::new();
    if let Some(hook) = chain.hook {
        let from = match hook {
            Hook::NatPrerouting | Hook::ManglePrerouting => "PREROUTING",
            Hook::NatOutput | Hook::MangleOutput => "OUTPUT",
        };
        text.push_str(&format!("-A {from} -j {name}\n"));
    }
    let both = |rule: &&Rule| rule.family().is_none_or(|only| only == family);
    for rule in chain.rules.iter().filter(both).flat_map(one_port_each) {
        text.push_str(&format!("-A {name} {}\n", print_rule(&rule)));
    }
    text
}

/// A rule for each port: `multiport` takes 15 at most.
fn one_port_each(rule: &Rule) -> Vec<Rule> {
    let place = rule.matches.iter().position(|m| matches!(m, Match::Ports(_)));
    let Some((place, Match::Ports(ports))) = place.map(|place| (place, &rule.matches[place]))
    else {
        return vec![rule.clone()];
    };
    let one = |port: &u16| {
        let mut one = rule.clone();
        one.matches[place] = Match::Ports(vec![*port]);
        one
    };
    ports.iter().map(one).collect()
}

fn print_rule(rule: &Rule) -> String {
    let matches = rule.matches.iter().map(print_match);
    matches.chain([print_action(&rule.action)]).collect::<Vec<_>>().join(" ")
}

fn print_match(condition: &Match) -> String {
    match condition {
        Match::Tcp => "-p tcp".to_owned(),
        Match::Udp => "-p udp".to_owned(),
        Match::In(name) => format!("-i {name}"),
        Match::Out(name) => format!("-o {name}"),
        Match::Source(range) => format!("-s {range}"),
        Match::Destination(range) => format!("-d {range}"),
        Match::NotDestination(range) => format!("! -d {range}"),
        Match::Ports(ports) => {
            let ports: Vec<String> = ports.iter().map(|port| format!("--dport {port}")).collect();
            ports.join(" ")
        }
        Match::NotPort(port) => format!("! --dport {port}"),
        Match::Uid(uid) => format!("-m owner --uid-owner {uid}"),
        Match::Gid(gid) => format!("-m owner --gid-owner {gid}"),
        Match::Mark(mark) => format!("-m mark --mark {mark}"),
        Match::NotMark(mark) => format!("-m mark ! --mark {mark}"),
        Match::ConnectionMark(mark) => format!("-m connmark --mark {mark}"),
        Match::Established => "-m conntrack --ctstate RELATED,ESTABLISHED".to_owned(),
    }
}

fn print_action(action: &Action) -> String {
    match action {
        Action::Return => "-j RETURN".to_owned(),
        Action::Accept => "-j ACCEPT".to_owned(),
        Action::Jump(chain) => format!("-j {}", name(chain)),
        Action::Goto(chain) => format!("-g {}", name(chain)),
        Action::Redirect(port) => format!("-j REDIRECT --to-ports {port}"),
        Action::Tproxy(_, port, mark) => {
            format!("-j TPROXY --tproxy-mark {mark}/0xffffffff --on-port {port}")
        }
        Action::SetMark(mark) => format!("-j MARK --set-mark {mark}"),
        Action::SaveMark => "-j CONNMARK --save-mark".to_owned(),
        Action::RestoreMark => "-j CONNMARK --restore-mark".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_only_its_rules() {
        let text = script(&Plan::default(), Family::V6, "", false);
        assert!(text.contains("-A PILLION_OUTPUT -o lo -s ::6/128 -j RETURN"), "{text}");
        assert!(text.contains("-A PILLION_INBOUND -p tcp --dport 15021 -j RETURN"), "{text}");
        assert!(!text.contains("127.0.0.1") && !text.contains("*mangle"), "{text}");
    }

    #[test]
    fn what_is_there_is_replaced_and_removed_exactly() {
        let saved = "*nat\n:PREROUTING ACCEPT [0:0]\n:PILLION_OLD - [0:0]\n:PILLION_OUTPUT - [0:0]\n:DOCKER - [0:0]\n\
             -A PREROUTING -j DOCKER\n-A OUTPUT -j PILLION_OUTPUT\n-A PILLION_OUTPUT -j PILLION_OLD\nCOMMIT\n";
        let replaced = script(&Plan::default(), Family::V4, saved, false);
        let deleted = replaced.find("-D OUTPUT -j PILLION_OUTPUT").expect("the old call goes");
        let added = replaced.find("-A OUTPUT -j PILLION_OUTPUT").expect("the new one comes");
        assert!(deleted < added && replaced.contains("-X PILLION_OLD\n"), "{replaced}");
        assert!(
            !replaced.contains("-X PILLION_OUTPUT") && !replaced.contains("DOCKER"),
            "{replaced}"
        );
        let removal = removal(saved);
        assert!(
            removal.contains("-X PILLION_OUTPUT\n") && !removal.contains("DOCKER"),
            "{removal}"
        );
        assert_eq!(super::removal("*nat\n:DOCKER - [0:0]\nCOMMIT\n"), "");
    }
}
