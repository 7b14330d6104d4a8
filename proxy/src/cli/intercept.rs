//! `pillion intercept`: the rules that bring connections to the proxy.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::intercept::{self, Backend, Family, Inbound, Plan, PortSet, RangeSet, check, install};

/// `pillion intercept ...`
#[derive(Args, Clone, Debug)]
pub struct InterceptArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do with the rules.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Put the rules in, in place of older ones of Pillion's. Needs CAP_NET_ADMIN.
    Install(PlanArgs),
    /// Take out every rule that Pillion put in, and nothing else. Needs CAP_NET_ADMIN.
    Remove(PlanArgs),
    /// Print the rules. Needs no rights.
    Print(PlanArgs),
    /// Say whether the rules are in place and what the machine lacks. Exits with 0 only if they are.
    Check(PlanArgs),
}

/// `--backend`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BackendArg {
    /// nftables; iptables where only that is there.
    #[default]
    Auto,
    /// `nft`
    Nftables,
    /// `iptables-restore` and `ip6tables-restore`
    Iptables,
}

/// `--mode`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum InboundArg {
    /// The kernel rewrites the destination.
    #[default]
    Redirect,
    /// Nothing is rewritten; the listener must be `transparent`.
    Tproxy,
}

/// `--family`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FamilyArg {
    /// IPv4 and IPv6.
    #[default]
    Both,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// What is intercepted. Lists are separated by commas. The defaults are Istio's.
#[derive(Args, Clone, Debug)]
pub struct PlanArgs {
    /// What the rules are put in with.
    #[arg(long, value_enum, default_value_t)]
    pub backend: BackendArg,
    /// IP versions.
    #[arg(long, value_enum, default_value_t)]
    pub family: FamilyArg,
    /// How inbound connections reach the proxy.
    #[arg(long, value_enum, default_value_t)]
    pub inbound_mode: InboundArg,
    /// Where the proxy takes inbound connections.
    #[arg(long, default_value_t = 15006, value_name = "PORT")]
    pub inbound_port: u16,
    /// Where the proxy takes outbound connections.
    #[arg(long, default_value_t = 15001, value_name = "PORT")]
    pub outbound_port: u16,
    /// Where tunnels come in, which are left alone.
    #[arg(long, default_value_t = 15008, value_name = "PORT")]
    pub tunnel_port: u16,
    /// Inbound ports that are taken: `*` for all, empty for none.
    #[arg(long, default_value = "*", value_name = "PORTS", value_parser = ports)]
    pub include_inbound_ports: PortList,
    /// Inbound ports that are left alone.
    #[arg(long, default_value = "15020,15021,15090", value_name = "PORTS", value_parser = ports)]
    pub exclude_inbound_ports: PortList,
    /// Outbound destinations that are taken: `*` for all, empty for none.
    #[arg(long, default_value = "*", value_name = "RANGES", value_parser = ranges)]
    pub include_outbound_ranges: RangeList,
    /// Outbound destinations that are left alone.
    #[arg(long, default_value = "", value_name = "RANGES", value_parser = ranges)]
    pub exclude_outbound_ranges: RangeList,
    /// Outbound ports that are taken whatever the destination.
    #[arg(long, default_value = "", value_name = "PORTS", value_parser = ports)]
    pub include_outbound_ports: PortList,
    /// Outbound ports that are left alone.
    #[arg(long, default_value = "", value_name = "PORTS", value_parser = ports)]
    pub exclude_outbound_ports: PortList,
    /// The proxy's own users: what they send is not intercepted.
    #[arg(long, default_value = "1337", value_name = "UIDS", value_delimiter = ',')]
    pub proxy_uid: Vec<u32>,
    /// The proxy's own groups: what they send is not intercepted.
    #[arg(long, default_value = "1337", value_name = "GIDS", value_delimiter = ',')]
    pub proxy_gid: Vec<u32>,
    /// Take only what these users send.
    #[arg(long, value_name = "UIDS", value_delimiter = ',')]
    pub include_uid: Vec<u32>,
    /// Take only what these groups send.
    #[arg(long, value_name = "GIDS", value_delimiter = ',')]
    pub include_gid: Vec<u32>,
    /// Leave alone what these users send.
    #[arg(long, value_name = "UIDS", value_delimiter = ',')]
    pub exclude_uid: Vec<u32>,
    /// Leave alone what these groups send.
    #[arg(long, value_name = "GIDS", value_delimiter = ',')]
    pub exclude_gid: Vec<u32>,
    /// Take only what comes in over these interfaces.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = interface)]
    pub include_interface: Vec<String>,
    /// Leave alone what comes and goes over these interfaces.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = interface)]
    pub exclude_interface: Vec<String>,
    /// Sockets with this mark are the proxy's own; TPROXY uses it and the next number.
    #[arg(long, default_value_t = 1337, value_name = "MARK",
          value_parser = clap::value_parser!(u32).range(1..0xffff_ffff))]
    pub mark: u32,
    /// The routing table for TPROXY.
    #[arg(long, default_value_t = 133, value_name = "TABLE",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub route_table: u32,
    /// Where DNS queries go; without it they go their own way.
    #[arg(long, value_name = "PORT")]
    pub dns_port: Option<u16>,
}

/// A list of ports, or `*`.
#[derive(Clone, Debug)]
pub struct PortList(PortSet);

/// A list of address ranges, or `*`.
#[derive(Clone, Debug)]
pub struct RangeList(RangeSet);

fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

fn ports(text: &str) -> Result<PortList, String> {
    if text == "*" {
        return Ok(PortList(PortSet::All));
    }
    let port = |entry: &str| match entry.parse() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(format!("'{entry}' is no port between 1 and 65535")),
    };
    Ok(PortList(PortSet::Only(entries(text).map(port).collect::<Result<_, _>>()?)))
}

fn ranges(text: &str) -> Result<RangeList, String> {
    if text == "*" {
        return Ok(RangeList(RangeSet::All));
    }
    let range = |entry: &str| {
        let range = entry.parse().or_else(|_| entry.parse().map(|ip: std::net::IpAddr| ip.into()));
        let range: Result<IpNet, _> = range;
        range
            .map(|range| range.trunc())
            .map_err(|_| format!("'{entry}' is no address range like 10.0.0.0/8 or fd00::/8"))
    };
    Ok(RangeList(RangeSet::Only(entries(text).map(range).collect::<Result<_, _>>()?)))
}

/// Interface names go into the rules' text.
fn interface(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-@:+".contains(c);
    match !text.is_empty() && text.len() < 16 && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err(format!("'{text}' is no name of an interface")),
    }
}

impl PlanArgs {
    /// The plan that the flags describe.
    ///
    /// # Errors
    /// `*` where a list of exceptions is meant.
    pub fn plan(&self) -> Result<Plan, String> {
        let listed_ports = |flag: &str, list: &PortList| match &list.0 {
            PortSet::Only(ports) => Ok(ports.clone()),
            PortSet::All => Err(format!("{flag}: '*' is not possible, list the ports")),
        };
        let exclude_outbound_ranges = match &self.exclude_outbound_ranges.0 {
            RangeSet::Only(ranges) => ranges.clone(),
            RangeSet::All => {
                return Err(
                    "--exclude-outbound-ranges: '*' is not possible; to take nothing, leave \
                            --include-outbound-ranges empty"
                        .to_owned(),
                );
            }
        };
        Ok(Plan {
            families: match self.family {
                FamilyArg::Both => vec![Family::V4, Family::V6],
                FamilyArg::V4 => vec![Family::V4],
                FamilyArg::V6 => vec![Family::V6],
            },
            inbound: match self.inbound_mode {
                InboundArg::Redirect => Inbound::Redirect,
                InboundArg::Tproxy => Inbound::Tproxy,
            },
            inbound_port: self.inbound_port,
            outbound_port: self.outbound_port,
            tunnel_port: self.tunnel_port,
            inbound_ports: self.include_inbound_ports.0.clone(),
            exclude_inbound_ports: listed_ports(
                "--exclude-inbound-ports",
                &self.exclude_inbound_ports,
            )?,
            outbound_ranges: self.include_outbound_ranges.0.clone(),
            exclude_outbound_ranges,
            outbound_ports: listed_ports("--include-outbound-ports", &self.include_outbound_ports)?,
            exclude_outbound_ports: listed_ports(
                "--exclude-outbound-ports",
                &self.exclude_outbound_ports,
            )?,
            proxy_uids: self.proxy_uid.clone(),
            proxy_gids: self.proxy_gid.clone(),
            only_uids: self.include_uid.clone(),
            only_gids: self.include_gid.clone(),
            exclude_uids: self.exclude_uid.clone(),
            exclude_gids: self.exclude_gid.clone(),
            only_interfaces: self.include_interface.clone(),
            exclude_interfaces: self.exclude_interface.clone(),
            mark: self.mark,
            table: self.route_table,
            is_namespace: false,
            dns_port: self.dns_port,
        })
    }

    fn backend(&self) -> Option<Backend> {
        match self.backend {
            BackendArg::Auto => None,
            BackendArg::Nftables => Some(Backend::Nftables),
            BackendArg::Iptables => Some(Backend::Iptables),
        }
    }
}

/// Does what the command line says.
pub fn run(args: &InterceptArgs) -> ExitCode {
    let done = match &args.verb {
        Verb::Install(plan) => put_in(plan),
        Verb::Remove(plan) => take_out(plan),
        Verb::Print(plan) => print(plan),
        Verb::Check(plan) => return say_what_is(plan),
    };
    match done {
        Ok(said) => {
            println!("{}", said.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn put_in(args: &PlanArgs) -> Result<String, String> {
    let plan = args.plan()?;
    let backend = args.backend().map_or_else(|| install::choose(&plan), Ok);
    let backend = backend.map_err(|error| error.to_string())?;
    let done = install::install(&plan, backend)
        .map_err(|error| format!("{error}\n`pillion intercept check` says what is missing"))?;
    done.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    Ok(format!("rules are in place ({backend}); `pillion intercept remove` takes them out"))
}

fn take_out(args: &PlanArgs) -> Result<String, String> {
    let was_there = install::remove(&args.plan()?).map_err(|error| error.to_string())?;
    Ok(if was_there { "rules are removed" } else { "there were no rules" }.to_owned())
}

fn print(args: &PlanArgs) -> Result<String, String> {
    Ok(intercept::print(&args.plan()?, args.backend().unwrap_or(Backend::Nftables)))
}

fn say_what_is(args: &PlanArgs) -> ExitCode {
    let plan = match args.plan() {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let report = check::check(&plan, args.backend());
    report.lines.iter().for_each(|line| println!("{line}"));
    match (report.in_place, report.possible) {
        (true, _) => ExitCode::SUCCESS,
        (false, true) => {
            println!("result: not in place; `pillion intercept install` can put them in");
            ExitCode::FAILURE
        }
        (false, false) => {
            println!("result: not in place, and they cannot be put in as it is");
            ExitCode::FAILURE
        }
    }
}
