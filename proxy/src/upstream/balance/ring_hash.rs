//! `RING_HASH` (ketama): hosts at many points of a ring; a hash goes to the next point.

use std::fmt::Write;

use xxhash_rust::xxh64::xxh64;

use super::hashing::{Share, Table, TableSize, hash_key};
use super::murmur::murmur2;
use crate::config::cluster::load_balancing::{HashFunction, RingHash};

/// The points of a ring, in order.
#[derive(Debug)]
pub(super) struct Ring {
    points: Box<[u64]>,
    /// The place of each point's host.
    hosts: Box<[u32]>,
    size: TableSize,
}

impl Ring {
    /// A ring on which each host has as many points as its share says, and the lightest host a whole number of them.
    pub(super) fn new(config: &RingHash, shares: &[Share]) -> Self {
        let least = shares.iter().map(|share| share.share).fold(1.0, f64::min);
        let scale = ((least * config.min_size as f64).ceil() / least).min(config.max_size as f64);
        let hash = match config.function {
            HashFunction::XxHash => |key: &str| xxh64(key.as_bytes(), 0),
            HashFunction::MurmurHash2 => |key: &str| murmur2(key.as_bytes()),
        };
        let entries = if shares.is_empty() { 0 } else { scale.ceil() as usize };
        let mut points: Vec<(u64, u32)> = Vec::with_capacity(entries);
        let (mut min, mut max) = (entries as u64, 0);
        let mut target = 0.0;
        let mut key = String::new();
        for (share, place) in shares.iter().zip(0..) {
            key.clear();
            key.push_str(&hash_key(&share.host, &config.hashing));
            key.push('_');
            let base = key.len();
            // Sums run on over all hosts, so that fractions of a point are not lost.
            target += scale * share.share;
            let mut of_host = 0;
            while (points.len() as f64) < target {
                key.truncate(base);
                // Writing to a string never fails.
                let _ = write!(key, "{of_host}");
                points.push((hash(&key), place));
                of_host += 1;
            }
            (min, max) = (min.min(of_host), max.max(of_host));
        }
        points.sort_unstable_by_key(|(hash, _)| *hash);
        Ring {
            size: TableSize { entries: entries as u64, min_per_host: min, max_per_host: max },
            points: points.iter().map(|(hash, _)| *hash).collect(),
            hosts: points.iter().map(|(_, place)| *place).collect(),
        }
    }
}

impl Table for Ring {
    fn find(&self, hash: u64, attempt: u32) -> Option<usize> {
        let len = self.points.len();
        if len == 0 {
            return None;
        }
        let next = self.points.partition_point(|point| *point < hash);
        Some(self.hosts[(next + attempt as usize) % len] as usize)
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

    fn ring(min_size: u64, max_size: u64, weights: &[u32]) -> Ring {
        let hashing = Hashing::default();
        let function = HashFunction::XxHash;
        Ring::new(&RingHash { min_size, max_size, function, hashing }, &shares(weights))
    }

    #[test]
    fn points_are_scaled_between_the_sizes() {
        let size = |ring: Ring| (ring.size.entries, ring.size.min_per_host, ring.size.max_per_host);
        // Envoy's own examples: each host a whole number, as even as the maximum allows.
        assert_eq!(size(ring(1024, 8 << 20, &[1, 1, 1])), (1026, 342, 342));
        assert_eq!(size(ring(6, 6, &[1, 1, 1, 1])), (6, 1, 2));
        assert_eq!(size(ring(10, 1000, &[1, 2, 2])), (10, 2, 4));
    }

    #[test]
    fn a_hash_goes_to_the_next_point_and_attempts_go_on() {
        let ring = ring(64, 64, &[1, 1]);
        for (index, point) in ring.points.iter().enumerate() {
            assert_eq!(ring.find(*point, 0), Some(ring.hosts[index] as usize));
            let next = ring.hosts[(index + 1) % ring.hosts.len()];
            assert_eq!(ring.find(*point, 1), Some(next as usize));
            assert_eq!(ring.find(point.wrapping_add(1), 0), Some(next as usize));
        }
        assert_eq!(ring.find(0, 0), Some(ring.hosts[0] as usize));
        assert_eq!(ring.find(u64::MAX, 0), Some(ring.hosts[0] as usize));
    }

    #[test]
    fn one_host_less_moves_only_its_own_hashes() {
        let (before, after) = (ring(4096, 4096, &[1, 1, 1, 1]), ring(3072, 3072, &[1, 1, 1]));
        for hash in (0..1000).map(|n| xxh64(&[n as u8, (n >> 8) as u8], 0)) {
            let host = before.find(hash, 0).unwrap();
            assert!(host == 3 || after.find(hash, 0) == Some(host));
        }
    }
}
