//! Traffic redirection: the packet filter rules that bring a machine's or a pod's connections to the proxy, without the
//! applications' knowledge.
//!
//! A [`Plan`] says what is taken. `rules::chains` turns it into rules once; `nftables` and `iptables` only print
//! them. [`install`] puts them in and takes out exactly what it put in; [`check`] says what is in place and what the
//! machine lacks. Ports, users and the order of the rules are those that Istio's users know.

pub mod check;
pub mod install;
mod iptables;
pub mod namespace;
mod nftables;
mod plan;
mod routing;
mod rules;
mod tool;

pub use plan::{Family, Inbound, Plan, PortSet, RangeSet};
pub use tool::ToolError;

/// What the rules are put in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// `nft`, with a table of our own.
    Nftables,
    /// `iptables-restore` and `ip6tables-restore`, with chains of our own.
    Iptables,
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Backend::Nftables => "nftables",
            Backend::Iptables => "iptables",
        })
    }
}

/// The rules as the backend's own program takes them, and the commands that go with them.
pub fn print(plan: &Plan, backend: Backend) -> String {
    let mut text = match backend {
        Backend::Nftables => nftables::script(plan, false),
        Backend::Iptables => iptables::print(plan),
    };
    for command in routing::commands(plan) {
        text.push_str(&format!("# ip {}\n", command.join(" ")));
    }
    text
}
