//! A plan as chains of rules, in the order that Istio's users expect. Both backends print the same chains.

use ipnet::IpNet;

use super::plan::{Family, Inbound, Plan, PortSet, RangeSet};

/// Where the kernel calls a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// What comes in, before it is routed, for NAT.
    NatPrerouting,
    /// What is sent from here, for NAT.
    NatOutput,
    /// What comes in, before NAT, to mark it or to hand it over.
    ManglePrerouting,
    /// What is sent from here, before NAT, to mark it; a changed mark routes it anew.
    MangleOutput,
}

/// A list of rules.
#[derive(Debug)]
pub struct Chain {
    /// Its name, in lower case.
    pub name: &'static str,
    /// Whether its rules belong to NAT or come before it.
    pub is_nat: bool,
    /// What calls it; none if only other chains do.
    pub hook: Option<Hook>,
    /// The rules.
    pub rules: Vec<Rule>,
}

/// A condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// The interface that it came in by.
    In(String),
    /// The interface that it leaves by.
    Out(String),
    /// The source address.
    Source(IpNet),
    /// The destination address.
    Destination(IpNet),
    /// Any other destination address of the same version.
    NotDestination(IpNet),
    /// One of these destination ports; comes after the transport.
    Ports(Vec<u16>),
    /// Any other destination port.
    NotPort(u16),
    /// The user of the socket.
    Uid(u32),
    /// The group of the socket.
    Gid(u32),
    /// The packet's mark.
    Mark(u32),
    /// Any other mark.
    NotMark(u32),
    /// The connection's mark.
    ConnectionMark(u32),
    /// The connection exists already.
    Established,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Back to where the chain was called from.
    Return,
    /// No further chain of this hook looks at it.
    Accept,
    /// On in another chain, and back here.
    Jump(&'static str),
    /// On in another chain.
    Goto(&'static str),
    /// To this port of this machine.
    Redirect(u16),
    /// To the transparent listener at this port, with this mark.
    Tproxy(Family, u16, u32),
    /// Sets the packet's mark.
    SetMark(u32),
    /// The connection gets the packet's mark.
    SaveMark,
    /// The packet gets the connection's mark.
    RestoreMark,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All must hold.
    pub matches: Vec<Match>,
    /// What then happens.
    pub action: Action,
}

impl Rule {
    /// The only IP version that the rule is about; none for both.
    pub fn family(&self) -> Option<Family> {
        self.matches.iter().find_map(|condition| match condition {
            Match::Source(range) | Match::Destination(range) | Match::NotDestination(range) => {
                Some(Family::of(range))
            }
            _ => None,
        })
    }
}

fn rule(matches: impl Into<Vec<Match>>, action: Action) -> Rule {
    Rule { matches: matches.into(), action }
}

fn lo() -> String {
    "lo".to_owned()
}

/// Every chain of a plan; a chain comes after those that it calls.
pub fn chains(plan: &Plan) -> Vec<Chain> {
    let mut chains = Vec::new();
    let regular = |name, is_nat, rules| Chain { name, is_nat, hook: None, rules };
    let hooked = |name, hook, rules| {
        let is_nat = matches!(hook, Hook::NatPrerouting | Hook::NatOutput);
        Chain { name, is_nat, hook: Some(hook), rules }
    };
    if plan.takes_inbound() && plan.inbound == Inbound::Redirect {
        chains.push(regular("inbound", true, inbound(plan)));
        let rules = from_interfaces(plan, "inbound");
        chains.push(hooked("prerouting", Hook::NatPrerouting, rules));
    }
    if plan.is_tproxy() {
        chains.push(regular("divert", false, divert(plan)));
        chains.push(regular("take_over", false, tproxy(plan)));
        chains.push(hooked("hand_over", Hook::ManglePrerouting, hand_over(plan)));
        chains.push(hooked("mark_output", Hook::MangleOutput, mark(plan)));
    }
    if plan.takes_outbound() || plan.takes_inbound() || plan.dns_port.is_some() {
        chains.push(regular("proxy", true, from_proxy(plan)));
        chains.push(regular("outbound", true, outbound(plan)));
        chains.push(hooked("output", Hook::NatOutput, output(plan)));
    }
    chains
}

/// What comes in over the plan's interfaces goes on in `target`.
fn from_interfaces(plan: &Plan, target: &'static str) -> Vec<Rule> {
    let excluded = plan.exclude_interfaces.iter();
    let mut rules: Vec<Rule> =
        excluded.map(|name| rule([Match::In(name.clone())], Action::Return)).collect();
    if plan.only_interfaces.is_empty() {
        rules.push(rule([Match::Tcp], Action::Jump(target)));
        return rules;
    }
    // TPROXY sees what the machine sends to itself, too, and tells it apart by its mark.
    let own = (target == "take_over").then(lo);
    for name in plan.only_interfaces.iter().cloned().chain(own) {
        rules.push(rule([Match::Tcp, Match::In(name)], Action::Jump(target)));
    }
    rules
}

/// Ports that are not taken. The tunnel's comes first, as in Istio.
fn excluded_inbound(plan: &Plan) -> Vec<Rule> {
    let mut rules = vec![rule([Match::Tcp, Match::Ports(vec![plan.tunnel_port])], Action::Return)];
    if !plan.exclude_inbound_ports.is_empty() {
        let ports = Match::Ports(plan.exclude_inbound_ports.clone());
        rules.push(rule([Match::Tcp, ports], Action::Return));
    }
    rules
}

/// TCP to one of the taken inbound ports.
fn taken_inbound(plan: &Plan) -> Vec<Match> {
    match &plan.inbound_ports {
        PortSet::All => vec![Match::Tcp],
        PortSet::Only(ports) => vec![Match::Tcp, Match::Ports(ports.clone())],
    }
}

fn inbound(plan: &Plan) -> Vec<Rule> {
    let mut rules = excluded_inbound(plan);
    rules.push(rule(taken_inbound(plan), Action::Redirect(plan.inbound_port)));
    rules
}

fn divert(plan: &Plan) -> Vec<Rule> {
    vec![rule([], Action::SetMark(plan.mark)), rule([], Action::Accept)]
}

/// What TPROXY takes: neither what is marked as the proxy's own, nor what the machine sends to itself, except what the
/// proxy sends to the machine's own address, which `mark` has marked.
fn tproxy(plan: &Plan) -> Vec<Rule> {
    let mut rules = vec![rule([Match::Mark(plan.mark)], Action::Return)];
    for family in &plan.families {
        let own = [Match::In(lo()), Match::Source(family.passthrough())];
        rules.push(rule(own, Action::Return));
    }
    rules.push(rule([Match::In(lo()), Match::NotMark(plan.mark + 1)], Action::Return));
    rules.extend(excluded_inbound(plan));
    let mut established = taken_inbound(plan);
    established.push(Match::Established);
    rules.push(rule(established, Action::Goto("divert")));
    for family in &plan.families {
        let mut new = taken_inbound(plan);
        new.push(Match::NotDestination(family.loopback()));
        rules.push(rule(new, Action::Tproxy(*family, plan.inbound_port, plan.mark)));
    }
    rules
}

/// Before NAT, what comes in is handed over; the mark of what the proxy sent under the client's address is remembered.
fn hand_over(plan: &Plan) -> Vec<Rule> {
    let mut rules = from_interfaces(plan, "take_over");
    rules.push(rule([Match::Tcp, Match::Mark(plan.mark)], Action::SaveMark));
    rules
}

/// Answers to what the proxy sent under the client's address get the mark that brings them back to the proxy.
fn mark(plan: &Plan) -> Vec<Rule> {
    let mut rules = leaving_excluded(plan);
    rules.push(rule([Match::Tcp, Match::Out(lo()), Match::Mark(plan.mark)], Action::Return));
    for family in &plan.families {
        for owner in proxy_owners(plan) {
            let to_itself =
                [Match::Tcp, Match::Out(lo()), Match::NotDestination(family.loopback()), owner];
            rules.push(rule(to_itself, Action::SetMark(plan.mark + 1)));
        }
    }
    let answers = [Match::Tcp, Match::ConnectionMark(plan.mark)];
    rules.push(rule(answers, Action::RestoreMark));
    rules
}

fn leaving_excluded(plan: &Plan) -> Vec<Rule> {
    let names = plan.exclude_interfaces.iter();
    names.map(|name| rule([Match::Out(name.clone())], Action::Return)).collect()
}

fn owners(uids: &[u32], gids: &[u32]) -> Vec<Match> {
    let uids = uids.iter().map(|uid| Match::Uid(*uid));
    uids.chain(gids.iter().map(|gid| Match::Gid(*gid))).collect()
}

fn proxy_owners(plan: &Plan) -> Vec<Match> {
    owners(&plan.proxy_uids, &plan.proxy_gids)
}

/// What is sent: by whom?
fn output(plan: &Plan) -> Vec<Rule> {
    let mut rules = leaving_excluded(plan);
    if !plan.exclude_outbound_ports.is_empty() {
        let ports = Match::Ports(plan.exclude_outbound_ports.clone());
        rules.push(rule([Match::Tcp, ports.clone()], Action::Return));
        rules.push(rule([Match::Udp, ports], Action::Return));
    }
    for family in &plan.families {
        let passthrough = [Match::Out(lo()), Match::Source(family.passthrough())];
        rules.push(rule(passthrough, Action::Return));
    }
    rules.push(rule([Match::Mark(plan.mark)], Action::Return));
    rules.extend(proxy_owners(plan).into_iter().map(|owner| rule([owner], Action::Goto("proxy"))));
    if let Some(port) = plan.dns_port {
        for transport in [Match::Udp, Match::Tcp] {
            rules.push(rule([transport, Match::Ports(vec![53])], Action::Redirect(port)));
        }
    }
    // An application that calls itself by its own address is left alone.
    if !plan.takes_loopback() && !plan.is_namespace {
        rules.push(rule([Match::Out(lo())], Action::Return));
    }
    let excluded = owners(&plan.exclude_uids, &plan.exclude_gids).into_iter();
    rules.extend(excluded.map(|owner| rule([owner], Action::Return)));
    let only = owners(&plan.only_uids, &plan.only_gids);
    if only.is_empty() {
        rules.push(rule([Match::Tcp], Action::Goto("outbound")));
    }
    rules.extend(only.into_iter().map(|owner| rule([Match::Tcp, owner], Action::Goto("outbound"))));
    rules
}

/// What the proxy sends to the machine's own address: its application calls itself through a service.
fn from_proxy(plan: &Plan) -> Vec<Rule> {
    if !plan.takes_inbound() {
        return Vec::new();
    }
    let to_itself = |family: &Family| {
        let to = Match::NotDestination(family.loopback());
        let matches = [Match::Tcp, Match::Out(lo()), to, Match::NotPort(plan.tunnel_port)];
        rule(matches, Action::Redirect(plan.inbound_port))
    };
    plan.families.iter().map(to_itself).collect()
}

/// What applications send: where to?
fn outbound(plan: &Plan) -> Vec<Rule> {
    let mut rules = Vec::new();
    let wanted = |range: &IpNet| plan.families.contains(&Family::of(range));
    if !plan.takes_loopback() {
        let own = plan.families.iter().map(|family| match plan.is_namespace {
            true => family.own_range(),
            false => family.loopback(),
        });
        rules.extend(own.map(|own| rule([Match::Destination(own)], Action::Return)));
    }
    for range in plan.exclude_outbound_ranges.iter().filter(|range| wanted(range)) {
        rules.push(rule([Match::Destination(*range)], Action::Return));
    }
    if !plan.outbound_ports.is_empty() {
        let ports = Match::Ports(plan.outbound_ports.clone());
        rules.push(rule([Match::Tcp, ports], Action::Redirect(plan.outbound_port)));
    }
    match &plan.outbound_ranges {
        RangeSet::All => rules.push(rule([Match::Tcp], Action::Redirect(plan.outbound_port))),
        RangeSet::Only(ranges) => {
            for range in ranges.iter().filter(|range| wanted(range)) {
                let matches = [Match::Tcp, Match::Destination(*range)];
                rules.push(rule(matches, Action::Redirect(plan.outbound_port)));
            }
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(chains: &'a [Chain], name: &str) -> &'a [Rule] {
        &chains.iter().find(|chain| chain.name == name).expect("it is there").rules
    }

    #[test]
    fn a_chain_comes_after_those_that_it_calls() {
        let plan = Plan { inbound: Inbound::Tproxy, ..Plan::default() };
        for plan in [Plan::default(), plan] {
            let chains = chains(&plan);
            for (index, chain) in chains.iter().enumerate() {
                for rule in &chain.rules {
                    if let Action::Jump(to) | Action::Goto(to) = rule.action {
                        assert!(chains[..index].iter().any(|c| c.name == to), "{to}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_proxy_is_told_apart_before_anything_is_taken() {
        let chains = chains(&Plan::default());
        let output = of(&chains, "output");
        let place = |wanted: &Match| {
            output.iter().position(|rule| rule.matches.contains(wanted)).expect("it is there")
        };
        let taken = output.iter().position(|rule| rule.action == Action::Goto("outbound"));
        let taken = taken.expect("outbound connections are taken");
        assert!(place(&Match::Source(Family::V4.passthrough())) < place(&Match::Uid(1337)));
        assert!(place(&Match::Gid(1337)) < taken && place(&Match::Mark(1337)) < taken);
        assert_eq!(taken, output.len() - 1);
    }

    #[test]
    fn nothing_inbound_leaves_no_rule_of_it() {
        let plan = Plan { inbound_ports: PortSet::Only(Vec::new()), ..Plan::default() };
        let chains = chains(&plan);
        assert!(chains.iter().all(|chain| chain.name != "prerouting"));
        assert!(of(&chains, "proxy").is_empty());
    }

    #[test]
    fn loopback_addresses_are_taken_only_when_asked_for() {
        let ranges = RangeSet::Only(vec!["127.0.0.2/32".parse().expect("a range")]);
        let asked = chains(&Plan { outbound_ranges: ranges, ..Plan::default() });
        let keeps_lo = |chains: &[Chain]| {
            let lo = rule([Match::Out(lo())], Action::Return);
            of(chains, "output").contains(&lo)
        };
        assert!(!keeps_lo(&asked) && keeps_lo(&chains(&Plan::default())));
    }
}
