//! Dot products with AVX-512 and VNNI.

use std::arch::x86_64::*;

use matformer_nn::packed::{BLOCK, BLOCK_BYTES};

use super::{
    avx2::{ahead, define_q8_dots, total},
    dot::{Inputs, Load, half},
};

/// Values of a register.
pub(super) const WIDTH: usize = 16;

/// Products of `R` rows with `M` inputs, all of one length, of which the multiple of sixteen is read.
///
/// # Safety
/// The processor has AVX-512F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn dots<L: Load, const R: usize, const M: usize>(
    rows: [&[L::Unit]; R],
    inputs: [&[f32]; M],
) -> [[f32; M]; R] {
    let n = inputs[0].len() / WIDTH * WIDTH;
    assert!(rows.iter().all(|row| row.len() >= n) && inputs.iter().all(|x| x.len() >= n));
    let mut sums = [[_mm512_setzero_ps(); M]; R];
    let mut at = 0;
    while at < n {
        for r in 0..R {
            let from = rows[r].as_ptr().wrapping_add(at);
            ahead(from.cast());
            // SAFETY: sixteen values lie at `at`, which is below n by sixteen at least.
            let w = unsafe { L::load_wide(from) };
            for m in 0..M {
                // SAFETY: as above.
                let x = unsafe { _mm512_loadu_ps(inputs[m].as_ptr().add(at)) };
                sums[r][m] = _mm512_fmadd_ps(w, x, sums[r][m]);
            }
        }
        at += WIDTH;
    }
    sums.map(|of_row| of_row.map(|sum| _mm512_reduce_add_ps(sum)))
}

define_q8_dots!("avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma", |w: __m256i, q: __m256i| {
    _mm256_dpbusd_epi32(_mm256_setzero_si256(), w, q)
});
