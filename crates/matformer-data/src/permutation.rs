//! Orders without a table.

use matformer_core::rng;
use rand_chacha::rand_core::Rng;

/// A keyed bijection of 0..n without a table: a Feistel network on the next even number of bits,
/// walked until it lands inside (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
pub(crate) struct Permutation {
    n: u64,
    half: u32,
    keys: [u64; 6],
}

impl Permutation {
    /// The one that (seed, name, index) has.
    pub(crate) fn keyed(n: u64, seed: u64, name: &str, index: u64) -> Self {
        Self::new(n, &mut rng::keyed(seed, name, index))
    }

    pub(crate) fn new(n: u64, random: &mut impl Rng) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        Self { n, half: bits.div_ceil(2).max(1), keys: std::array::from_fn(|_| random.next_u64()) }
    }

    /// The image of `x`, which is below n.
    pub(crate) fn at(&self, x: u64) -> u64 {
        let mut y = self.network(x);
        while y >= self.n {
            y = self.network(y);
        }
        y
    }

    fn network(&self, x: u64) -> u64 {
        let mask = (1 << self.half) - 1;
        let (mut left, mut right) = (x >> self.half, x & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        left << self.half | right
    }
}

/// The finalizer of SplitMix64: every output bit depends on every input bit.
fn mix(x: u64) -> u64 {
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
