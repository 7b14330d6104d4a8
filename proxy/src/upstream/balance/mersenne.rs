//! The Mersenne Twister MT19937 (`std::mt19937`): a bounded-load pick walks the hosts in the order that it gives.

const SIZE: usize = 624;
const MIDDLE: usize = 397;

/// A generator of 32-bit numbers.
pub(super) struct Mersenne {
    state: [u32; SIZE],
    next: usize,
}

impl Mersenne {
    /// A generator that gives the same numbers for the same seed.
    pub(super) fn new(seed: u32) -> Self {
        let mut state = [seed; SIZE];
        for index in 1..SIZE {
            let before = state[index - 1];
            let mixed = (before ^ (before >> 30)).wrapping_mul(1_812_433_253);
            state[index] = mixed.wrapping_add(index as u32);
        }
        Mersenne { state, next: SIZE }
    }

    fn twist(&mut self) {
        for index in 0..SIZE {
            let word =
                (self.state[index] & 0x8000_0000) | (self.state[(index + 1) % SIZE] & 0x7fff_ffff);
            let odd = if word & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[index] = self.state[(index + MIDDLE) % SIZE] ^ (word >> 1) ^ odd;
        }
        self.next = 0;
    }

    fn number(&mut self) -> u32 {
        if self.next == SIZE {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// A number below `bound`, which is above 0, without favour to any.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        let width = (1_u64 << 32) / u64::from(bound);
        loop {
            let number = u64::from(self.number()) / width;
            if number < u64::from(bound) {
                return number as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_standard() {
        // C++ [rand.predef]: the 10000th number of the default seed.
        let mut random = Mersenne::new(5489);
        (0..9999).for_each(|_| {
            random.number();
        });
        assert_eq!(random.number(), 4_123_659_995);
    }
}
