//! How fast memory is read.

use std::{hint::black_box, time::Instant};

use matformer_nn::memory::Pages;

#[cfg(target_arch = "x86_64")]
use super::{avx2::ahead, levels::PLAIN};
use super::{levels::vectorised, team::Team, threads as all_threads};
use crate::{Error, Result};

/// Floats that are read: 256 MiB.
const FLOATS: usize = 1 << 26;
/// Floats that a thread reads at a time.
const PART: usize = 1 << 16;
/// Floats whose sums are side by side: two cache lines.
const LANES: usize = 32;
/// Times that all is read.
const ROUNDS: usize = 8;

/// Bytes per second that threads read together at best, in large pages as weights are: what decoding of one text can
/// reach at most. `threads` are all of the machine if absent.
///
/// # Errors
/// When the system has no 256 MiB for it.
pub fn bandwidth(threads: Option<usize>) -> Result<f64> {
    let bytes = FLOATS * size_of::<f32>();
    let mut pages = Pages::zeroed(bytes).map_err(|error| Error::Memory { bytes, error })?;
    let values: &mut [f32] = bytemuck::cast_slice_mut(&mut pages);
    values.fill(1.0);
    let mut team = Team::new(threads.unwrap_or_else(all_threads));
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        team.each(values.chunks(PART), |part| {
            let mut sums = [0.0; LANES];
            add_up(part, &mut sums);
            black_box(sums);
        });
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok(bytes as f64 / best)
}

vectorised! {
    /// Sums of every 32nd value; values beyond a multiple of 32 do not count.
    fn add_up(values: &[f32], sums: &mut [f32; LANES]) {
        let mut found = [0.0; LANES];
        for part in values.as_chunks::<LANES>().0 {
            #[cfg(target_arch = "x86_64")]
            if LEVEL != PLAIN {
                let later = part.as_ptr().wrapping_add(8 * LANES);
                ahead(later.cast());
                ahead(later.wrapping_add(LANES / 2).cast());
            }
            found.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
        }
        *sums = found;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_values_count() {
        let values: Vec<f32> = (0..320).map(|i| i as f32).collect();
        let mut sums = [0.0; LANES];
        add_up(&values, &mut sums);
        let expected: [f32; LANES] =
            std::array::from_fn(|lane| (0..10).map(|i| (32 * i + lane) as f32).sum());
        assert_eq!(sums, expected);
    }
}
