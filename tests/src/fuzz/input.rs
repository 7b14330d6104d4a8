//! Inputs: samples with random changes.

use fastrand::Rng;

/// One of the elements.
pub fn one<'a, T>(rng: &mut Rng, of: &'a [T]) -> &'a T {
    &of[rng.usize(..of.len())]
}

/// Up to `most` things.
pub fn some<T>(rng: &mut Rng, most: usize, mut make: impl FnMut(&mut Rng) -> T) -> Vec<T> {
    let count = rng.usize(..=most);
    (0..count).map(|_| make(rng)).collect()
}

/// One of the samples after a few changes: bytes replaced, taken out, doubled, and pieces of `words` put in.
pub fn bytes<S: AsRef<[u8]>>(rng: &mut Rng, samples: &[S], words: &[&[u8]]) -> Vec<u8> {
    let mut out = one(rng, samples).as_ref().to_vec();
    for _ in 0..rng.usize(..8) {
        let at = rng.usize(..=out.len());
        let end = (at + rng.usize(..8)).min(out.len());
        match rng.u8(..5) {
            0 if at < out.len() => out[at] = rng.u8(..),
            1 if at < out.len() => out[at] ^= 1 << rng.u8(..8),
            2 => drop(out.drain(at..end)),
            3 => {
                let copy = out[at..end].to_vec();
                out.splice(at..at, copy);
            }
            _ if words.is_empty() => out.truncate(end),
            _ => drop(out.splice(at..at, one(rng, words).iter().copied())),
        }
    }
    out
}

/// As [`bytes()`], in UTF-8.
pub fn text(rng: &mut Rng, samples: &[&str], words: &[&str]) -> String {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    String::from_utf8_lossy(&bytes(rng, samples, &words)).into_owned()
}
