//! Random generators from keys. There is no shared stream: each use has a generator of its own.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// The generator of (seed, name, index). Its numbers are the same on every platform and in every
/// version.
///
/// Its key is the SHA-256 of seed and index as little-endian u64 and the name in UTF-8.
pub fn keyed(seed: u64, name: &str, index: u64) -> ChaCha8Rng {
    let mut hasher = Sha256::new();
    hasher.update(seed.to_le_bytes());
    hasher.update(index.to_le_bytes());
    hasher.update(name.as_bytes()); // last, because only its length varies
    ChaCha8Rng::from_seed(hasher.finalize().into())
}

/// A uniform number in [0, 1), from the upper 53 bits of one draw.
pub fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A uniform number in (0, 1], for use in a logarithm: [`unit()`] of the same draw plus 2^-53.
pub fn unit_open(rng: &mut ChaCha8Rng) -> f64 {
    ((rng.next_u64() >> 11) as f64 + 1.0) / (1u64 << 53) as f64
}

/// A uniform index below `n`, 0 if `n` is 0. The bias is below n / 2^64.
pub fn index(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_pinned() {
        let mut rng = keyed(42, "draw", 7);
        // Computed apart from this crate, from the definitions of SHA-256 and ChaCha8.
        assert_eq!(rng.next_u64(), 18_263_204_755_794_307_983);
        assert_eq!(rng.next_u64(), 16_494_939_887_445_305_071);
    }

    #[test]
    fn unit_numbers_are_pinned() {
        let mut rng = keyed(42, "draw", 7);
        // The two draws above, without their 11 lowest bits and over 2^53.
        let upper = |draw: u64| (draw / 2048) as f64;
        assert_eq!(unit(&mut rng), upper(18_263_204_755_794_307_983) / 2f64.powi(53));
        assert_eq!(unit_open(&mut rng), (upper(16_494_939_887_445_305_071) + 1.0) / 2f64.powi(53));
    }

    #[test]
    fn every_part_of_the_key_counts() {
        let first = |seed, name, index| keyed(seed, name, index).next_u64();
        let all = [first(1, "a", 0), first(0, "a", 1), first(1, "b", 0), first(1, "a", 1)];
        assert!((1..all.len()).all(|i| !all[..i].contains(&all[i])), "{all:?}");
    }

    #[test]
    fn numbers_are_spread_over_their_range() {
        let mut rng = keyed(0, "spread", 0);
        let mut counts = [0; 5];
        for _ in 0..5000 {
            counts[index(&mut rng, 5)] += 1;
            assert!((0.0..1.0).contains(&unit(&mut rng)));
            let open = unit_open(&mut rng);
            assert!(open > 0.0 && open <= 1.0);
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
        assert_eq!(index(&mut rng, 0), 0);
    }
}
