//! Dot products with AVX2 and FMA: registers that a compiler does not find by itself.

use std::arch::x86_64::*;

use matformer_nn::packed::{BLOCK, BLOCK_BYTES};

use super::dot::{Inputs, Load, half};

/// Bytes between what is computed with and what is asked for.
const AHEAD: usize = 4096;

/// Values of a register.
pub(super) const WIDTH: usize = 8;

/// Products of `R` rows with `M` inputs, all of one length, of which the multiple of eight is read.
///
/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn dots<L: Load, const R: usize, const M: usize>(
    rows: [&[L::Unit]; R],
    inputs: [&[f32]; M],
) -> [[f32; M]; R] {
    let n = inputs[0].len() / WIDTH * WIDTH;
    assert!(rows.iter().all(|row| row.len() >= n) && inputs.iter().all(|x| x.len() >= n));
    let mut sums = [[_mm256_setzero_ps(); M]; R];
    let mut at = 0;
    while at < n {
        for r in 0..R {
            let from = rows[r].as_ptr().wrapping_add(at);
            ahead(from.cast());
            // SAFETY: eight values lie at `at`, which is below n by eight at least.
            let w = unsafe { L::load(from) };
            for m in 0..M {
                // SAFETY: as above.
                let x = unsafe { _mm256_loadu_ps(inputs[m].as_ptr().add(at)) };
                sums[r][m] = _mm256_fmadd_ps(w, x, sums[r][m]);
            }
        }
        at += WIDTH;
    }
    sums.map(|of_row| of_row.map(|sum| total(sum)))
}

/// The same of blocks of `q8_0`: `R` rows from block `from` on, with inputs `i` to before `i + M`.
///
/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn q8_dots<const R: usize, const M: usize>(
    rows: [&[[u8; BLOCK_BYTES]]; R],
    inputs: &Inputs,
    i: usize,
    from: usize,
) -> [[f32; M]; R] {
    let n = rows[0].len();
    let mut x = [(&[[0i16; BLOCK]][..0], &[0f32][..0]); M];
    for (m, x) in x.iter_mut().enumerate() {
        let (values, scales) = inputs.rounded_row(i + m);
        *x = (&values.as_chunks::<BLOCK>().0[from..from + n], &scales[from..from + n]);
    }
    let rows = rows.map(|row| &row[..n]);
    let mut sums = [[_mm256_setzero_ps(); M]; R];
    for at in 0..n {
        for (row, sums) in rows.iter().zip(&mut sums) {
            let block = &row[at];
            let scale = half(u16::from_le_bytes([block[0], block[1]]));
            ahead(block.as_ptr());
            // SAFETY: a block has 2 + 32 bytes.
            let (left, right) = unsafe {
                let bytes = block.as_ptr().add(2);
                (
                    _mm256_cvtepi8_epi16(_mm_loadu_si128(bytes.cast())),
                    _mm256_cvtepi8_epi16(_mm_loadu_si128(bytes.add(16).cast())),
                )
            };
            for ((values, scales), sum) in x.iter().zip(sums) {
                let q = values[at].as_ptr();
                // SAFETY: a block of inputs has 32 values.
                let (a, b) =
                    unsafe { (_mm256_loadu_si256(q.cast()), _mm256_loadu_si256(q.add(16).cast())) };
                let pairs =
                    _mm256_add_epi32(_mm256_madd_epi16(left, a), _mm256_madd_epi16(right, b));
                let factor = _mm256_set1_ps(scale * scales[at]);
                *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(pairs), factor, *sum);
            }
        }
    }
    sums.map(|of_row| of_row.map(|sum| total(sum)))
}

/// Asks for what is read some rows later: weights come from memory, and are used once.
#[inline(always)]
fn ahead(from: *const u8) {
    // SAFETY: a hint, which no address is wrong for.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD).cast()) };
}

/// The sum of a register's values.
#[target_feature(enable = "avx2")]
fn total(sum: __m256) -> f32 {
    let half = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
    let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
    _mm_cvtss_f32(_mm_add_ss(quarter, _mm_shuffle_ps::<1>(quarter, quarter)))
}
