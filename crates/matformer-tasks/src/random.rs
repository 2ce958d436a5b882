//! Python's `random.Random(seed)`, bit for bit: few-shot examples and samples of scores are those that
//! lm-evaluation-harness draws.

use std::collections::HashSet;

const N: usize = 624;
const M: usize = 397;

/// MT19937, seeded as `random.Random` seeds it with a small integer.
#[derive(Debug, Clone)]
pub struct PythonRandom {
    state: Vec<u32>,
    next: usize,
}

impl PythonRandom {
    /// As `random.Random(seed)`.
    pub fn new(seed: u32) -> Self {
        // `init_by_array` with one key.
        let mut state = linear(19_650_218);
        let mut i = 1;
        for _ in 0..N {
            let before = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = (state[i] ^ before.wrapping_mul(1_664_525)).wrapping_add(seed);
            i = step(i, &mut state);
        }
        for _ in 0..N - 1 {
            let before = state[i - 1] ^ (state[i - 1] >> 30);
            let mixed = state[i] ^ before.wrapping_mul(1_566_083_941);
            state[i] = mixed.wrapping_sub(i as u32);
            i = step(i, &mut state);
        }
        state[0] = 1 << 31;
        Self { state, next: N }
    }

    /// `k` distinct numbers below `n`, in the order in which `sample(range(n), k)` returns them; `None` if there are
    /// fewer than `k`.
    pub fn sample(&mut self, n: usize, k: usize) -> Option<Vec<usize>> {
        if k > n {
            return None;
        }
        if n <= set_size(k) {
            let mut pool: Vec<usize> = (0..n).collect();
            let draw = |i: usize| {
                let j = self.below(n - i);
                let drawn = pool[j];
                pool[j] = pool[n - i - 1];
                drawn
            };
            return Some((0..k).map(draw).collect());
        }
        let mut seen = HashSet::new();
        let draw = |_| {
            let mut j = self.below(n);
            while !seen.insert(j) {
                j = self.below(n);
            }
            j
        };
        Some((0..k).map(draw).collect())
    }

    /// One of `items`, which are not none, as `choices` draws each of its own.
    pub fn choice<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[(self.unit() * items.len() as f64) as usize]
    }

    /// A number from 0 to below 1, as `random()`.
    fn unit(&mut self) -> f64 {
        let (high, low) = (self.word() >> 5, self.word() >> 6);
        (f64::from(high) * f64::from(1_u32 << 26) + f64::from(low)) / (1_u64 << 53) as f64
    }

    /// A number below `n`, which is not 0.
    fn below(&mut self, n: usize) -> usize {
        let bits = usize::BITS - n.leading_zeros();
        loop {
            let drawn = self.bits(bits);
            if drawn < n {
                return drawn;
            }
        }
    }

    /// The lowest 32 bits are drawn first.
    fn bits(&mut self, bits: u32) -> usize {
        if bits <= 32 {
            return (self.word() >> (32 - bits)) as usize;
        }
        let low = self.word() as usize;
        low | ((self.word() >> (64 - bits)) as usize) << 32
    }

    fn word(&mut self) -> u32 {
        if self.next == N {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn twist(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 1 << 31) | (self.state[(i + 1) % N] & !(1 << 31));
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ odd;
        }
        self.next = 0;
    }
}

fn linear(seed: u32) -> Vec<u32> {
    let mut state = vec![seed; N];
    for i in 1..N {
        let before = state[i - 1] ^ (state[i - 1] >> 30);
        state[i] = before.wrapping_mul(1_812_433_253).wrapping_add(i as u32);
    }
    state
}

fn step(i: usize, state: &mut [u32]) -> usize {
    if i + 1 < N {
        return i + 1;
    }
    state[0] = state[N - 1];
    1
}

/// Above this many, Python keeps a set of what was drawn instead of a list of what is left: it takes less memory.
fn set_size(k: usize) -> usize {
    if k <= 5 {
        return 21;
    }
    let mut size = 4;
    while size < 3 * k {
        size *= 4;
    }
    21 + size
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As CPython 3.11 prints them.
    #[test]
    fn samples_are_those_of_python() {
        let mut random = PythonRandom::new(1234);
        assert_eq!(random.sample(10, 3).unwrap(), EXPECTED_SMALL);
        assert_eq!(random.sample(1000, 6).unwrap(), EXPECTED_LARGE);
        assert_eq!(random.sample(25, 8).unwrap(), EXPECTED_POOL);
        assert_eq!(random.sample(2, 3), None);
    }
    const EXPECTED_SMALL: [usize; 3] = [7, 1, 0];
    const EXPECTED_LARGE: [usize; 6] = [92, 932, 965, 961, 826, 596];
    const EXPECTED_POOL: [usize; 8] = [1, 21, 22, 2, 3, 11, 7, 0];
}
