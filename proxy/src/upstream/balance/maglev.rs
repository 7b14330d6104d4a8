//! `MAGLEV`: a table that hosts fill in turn, each in an order of its own.

use xxhash_rust::xxh64::xxh64;

use super::hashing::{Share, Table, TableSize, hash_key};
use crate::config::cluster::load_balancing::Maglev as Config;

/// The host of each entry.
#[derive(Debug)]
pub(super) struct Maglev {
    entries: Entries,
    size: TableSize,
}

/// Places of hosts; narrow as long as there are few.
#[derive(Debug)]
enum Entries {
    Narrow(Box<[u16]>),
    Wide(Box<[u32]>),
}

/// A host while the table is filled.
struct Filling {
    key: String,
    place: u32,
    share: f64,
    /// The next entry in the host's order, and the way to the one after it.
    entry: u64,
    skip: u64,
    target: f64,
    count: u64,
}

const VACANT: u32 = u32::MAX;

impl Maglev {
    pub(super) fn new(config: &Config, shares: &[Share]) -> Self {
        let size = config.table_size;
        let mut filling: Vec<Filling> = shares
            .iter()
            .zip(0..)
            .map(|(share, place)| {
                let key = hash_key(&share.host, &config.hashing);
                let entry = xxh64(key.as_bytes(), 0) % size;
                let skip = xxh64(key.as_bytes(), 1) % (size - 1).max(1) + 1;
                let (target, count) = (0.0, 0);
                Filling { key, place, share: share.share, entry, skip, target, count }
            })
            .collect();
        // The order of the assignment must not matter.
        filling.sort_by(|a, b| a.key.cmp(&b.key));
        let entries = fill(&mut filling, size);
        let counts = filling.iter().map(|host| host.count);
        Maglev {
            size: TableSize {
                entries: size,
                min_per_host: counts.clone().min().unwrap_or(0),
                max_per_host: counts.max().unwrap_or(0),
            },
            entries: match shares.len() {
                0..=0xffff => Entries::Narrow(entries.iter().map(|place| *place as u16).collect()),
                _ => Entries::Wide(entries.into()),
            },
        }
    }
}

/// Goes round the hosts until the table is full: each takes its next vacant entry, lighter ones not in every round.
fn fill(hosts: &mut [Filling], size: u64) -> Vec<u32> {
    if hosts.is_empty() {
        return Vec::new();
    }
    let largest = hosts.iter().map(|host| host.share).fold(0.0, f64::max);
    let mut entries = vec![VACANT; size as usize];
    let mut taken = 0;
    let mut round = 0.0;
    loop {
        round += 1.0;
        for host in &mut *hosts {
            if round * host.share < host.target {
                continue;
            }
            host.target += largest;
            while entries[host.entry as usize] != VACANT {
                host.entry = (host.entry + host.skip) % size;
            }
            entries[host.entry as usize] = host.place;
            host.count += 1;
            taken += 1;
            if taken == size {
                return entries;
            }
        }
    }
}

impl Table for Maglev {
    fn find(&self, hash: u64, attempt: u32) -> Option<usize> {
        // An attempt that turns most bits over leads elsewhere for most hashes.
        let hash = if attempt == 0 { hash } else { hash ^ (u64::MAX - u64::from(attempt) + 1) };
        let at = |len: usize| (hash % len.max(1) as u64) as usize;
        match &self.entries {
            Entries::Narrow(entries) => entries.get(at(entries.len())).map(|p| usize::from(*p)),
            Entries::Wide(entries) => entries.get(at(entries.len())).map(|p| *p as usize),
        }
    }

    fn size(&self) -> TableSize {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::shares;
    use super::*;
    use crate::config::cluster::load_balancing::Hashing;

    fn maglev(table_size: u64, weights: &[u32]) -> Maglev {
        Maglev::new(&Config { table_size, hashing: Hashing::default() }, &shares(weights))
    }

    #[test]
    fn entries_follow_weights() {
        let even = maglev(65_537, &[1, 1, 1]).size;
        assert!(even.max_per_host - even.min_per_host <= 1, "{even:?}");
        let table = maglev(1009, &[1, 3]);
        let of_second = (0..1009).filter(|hash| table.find(*hash, 0) == Some(1)).count();
        assert!(of_second.abs_diff(757) <= 2, "{of_second}");
    }

    #[test]
    fn one_host_less_moves_few_others() {
        let (before, after) = (maglev(65_537, &[1; 10]), maglev(65_537, &[1; 9]));
        let kept = |hash: &u64| before.find(*hash, 0) == after.find(*hash, 0);
        let kept = (0..65_537).filter(kept).count();
        assert!(kept > 65_537 * 8 / 10, "{kept}");
    }

    #[test]
    fn the_smallest_table_has_two_entries() {
        let table = maglev(2, &[1, 1]);
        assert_eq!((0..4).filter(|hash| table.find(*hash, 0) == Some(0)).count(), 2);
        assert_ne!(table.find(5, 0), table.find(5, 1));
    }
}
