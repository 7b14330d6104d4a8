//! Maps by address ranges and by domains: the custom matchers of `matcher_tree`.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use proto::matchers::{IpMatcher, ServerNameMatcher};
use proto::xds::r#type::matcher::v3::matcher::OnMatch;

use super::{Branch, Unknown};
use crate::config::matcher::MatchInput;
use crate::config::value::xds_cidr;
use crate::config::{At, ConfigError};

/// Translates an `on_match`.
type ToBranch<'f, A> = &'f dyn Fn(&Option<OnMatch>, &At<'_>) -> Result<Branch<A>, ConfigError>;

/// `IPMatcher`. A look-up asks once for each length that ranges have, however many ranges there are.
#[derive(Clone, Debug)]
pub(super) struct Ranges<A> {
    /// The lengths of ranges, longest first.
    lengths: Box<[u8]>,
    ranges: HashMap<IpNet, Vec<RangeEntry>>,
    branches: Box<[Branch<A>]>,
}

#[derive(Clone, Copy, Debug)]
struct RangeEntry {
    branch: usize,
    exclusive: bool,
}

impl<A> Ranges<A> {
    pub(super) fn from_proto(
        message: &IpMatcher,
        branch: ToBranch<'_, A>,
        at: &At<'_>,
    ) -> Result<Self, ConfigError> {
        let mut ranges: HashMap<IpNet, Vec<RangeEntry>> = HashMap::new();
        let mut branches = Vec::new();
        for (index, matcher) in message.range_matchers.iter().enumerate() {
            let at = at.index("range_matchers", index);
            if matcher.ranges.is_empty() {
                return Err(at.field("ranges").error("must not be empty"));
            }
            for (position, range) in matcher.ranges.iter().enumerate() {
                let range = xds_cidr(range, &at.index("ranges", position))?;
                let entry = RangeEntry { branch: index, exclusive: matcher.exclusive };
                ranges.entry(range).or_default().push(entry);
            }
            branches.push(branch(&matcher.on_match, &at.field("on_match"))?);
        }
        let mut lengths: Vec<u8> = ranges.keys().map(IpNet::prefix_len).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        Ok(Ranges { lengths: lengths.into(), ranges, branches: branches.into() })
    }

    /// The longest range that leads somewhere; after one that does not, exclusive ranges are passed over.
    pub(super) fn find(&self, text: &str, input: &MatchInput<'_>) -> Result<Option<&A>, Unknown> {
        let Ok(address) = text.parse::<IpAddr>() else { return Ok(None) };
        let ranges = self.lengths.iter().filter_map(|length| IpNet::new(address, *length).ok());
        let entries = ranges.filter_map(|range| self.ranges.get(&range.trunc())).flatten();
        for (position, entry) in entries.enumerate() {
            if position > 0 && entry.exclusive {
                continue;
            }
            if let Some(found) = self.branches[entry.branch].follow(input)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    pub(super) fn branches(&self) -> impl Iterator<Item = &Branch<A>> {
        self.branches.iter()
    }
}

/// `ServerNameMatcher`
#[derive(Clone, Debug)]
pub(super) struct Domains<A> {
    /// Where each domain leads; `*.example.com` stands there as `.example.com`.
    domains: HashMap<Box<str>, usize>,
    branches: Box<[Branch<A>]>,
}

impl<A> Domains<A> {
    pub(super) fn from_proto(
        message: &ServerNameMatcher,
        branch: ToBranch<'_, A>,
        at: &At<'_>,
    ) -> Result<Self, ConfigError> {
        let mut domains = HashMap::new();
        let mut branches = Vec::new();
        for (index, matcher) in message.domain_matchers.iter().enumerate() {
            let at = at.index("domain_matchers", index);
            if matcher.domains.is_empty() {
                return Err(at.field("domains").error("must not be empty"));
            }
            for (position, domain) in matcher.domains.iter().enumerate() {
                let at = at.index("domains", position);
                if domains.insert(domain_key(domain, &at)?.into(), index).is_some() {
                    return Err(at.error(format_args!("{domain:?} stands in another place")));
                }
            }
            branches.push(branch(&matcher.on_match, &at.field("on_match"))?);
        }
        Ok(Domains { domains, branches: branches.into() })
    }

    /// The name itself, then the domains around it, and `*` at last.
    pub(super) fn find(&self, name: &str, input: &MatchInput<'_>) -> Result<Option<&A>, Unknown> {
        if name.is_empty() {
            return Ok(None);
        }
        let around = name.match_indices('.').map(|(dot, _)| &name[dot..]);
        for key in std::iter::once(name).chain(around).chain(["*"]) {
            let Some(branch) = self.domains.get(key) else { continue };
            if let Some(found) = self.branches[*branch].follow(input)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    pub(super) fn branches(&self) -> impl Iterator<Item = &Branch<A>> {
        self.branches.iter()
    }
}

fn domain_key<'d>(domain: &'d str, at: &At<'_>) -> Result<&'d str, ConfigError> {
    let key = domain.strip_prefix('*').filter(|rest| rest.len() > 1 && rest.starts_with('.'));
    match (domain, key) {
        ("*", _) => Ok(domain),
        (_, Some(key)) if !key.contains('*') => Ok(key),
        (_, None) if !domain.is_empty() && !domain.contains('*') => Ok(domain),
        _ => Err(at
            .error(format_args!("{domain:?} is neither a domain, nor \"*.\" with one, nor \"*\""))),
    }
}
