//! MurmurHash2, 64 bits, as `std::hash` of libstdc++ has it: for rings that must be those of other programs.

const MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;
/// The seed of libstdc++.
const SEED: u64 = 0xc70f_6907;

/// The hash of `bytes`.
pub(super) fn murmur2(bytes: &[u8]) -> u64 {
    let mix = |value: u64| value ^ (value >> 47);
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        hash ^= mix(word).wrapping_mul(MULTIPLIER);
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u64::from(*byte));
        hash = (hash ^ tail).wrapping_mul(MULTIPLIER);
    }
    mix(mix(hash).wrapping_mul(MULTIPLIER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_envoys_tests() {
        assert_eq!(murmur2(b"foo"), 9_631_199_822_919_835_226);
        assert_eq!(murmur2(b"bar"), 11_474_628_671_133_349_555);
    }
}
