//! Dot products with AVX-512 and VNNI.

use std::arch::x86_64::*;

use matformer_nn::packed::BLOCK_BYTES;

use super::{
    avx2::{ahead, define_dots, total},
    dot::Load,
    inputs::{Inputs, RoundedRow},
};

define_dots!(
    "avx512f,avx2",
    16,
    _mm512_setzero_ps,
    load_wide,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    _mm512_reduce_add_ps
);

/// Products of blocks of `R` rows of `q8_0`, from block `from` on, with inputs `i` to before `i + M`.
///
/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn q8_dots<const R: usize, const M: usize>(
    rows: [&[[u8; BLOCK_BYTES]]; R],
    inputs: &Inputs,
    i: usize,
    from: usize,
) -> [[f32; M]; R] {
    let n = rows[0].len();
    let x: [RoundedRow<'_>; M] =
        std::array::from_fn(|m| inputs.rounded_row(i + m).part(from..from + n));
    let rows = rows.map(|row| &row[..n]);
    let flip = _mm256_set1_epi8(i8::MIN);
    let mut sums = [[_mm256_setzero_ps(); M]; R];
    for at in 0..n {
        for (row, sums) in rows.iter().zip(&mut sums) {
            let block = &row[at];
            let scale = i16::from_le_bytes([block[0], block[1]]);
            let scale = _mm256_cvtph_ps(_mm_set1_epi16(scale));
            ahead(block.as_ptr());
            // SAFETY: a block has 2 + 32 bytes.
            let w = unsafe { _mm256_loadu_si256(block.as_ptr().add(2).cast()) };
            // The instruction wants one side without signs: w + 128, whose share the sums begin without.
            let w = _mm256_xor_si256(w, flip);
            for (x, sum) in x.iter().zip(sums) {
                // SAFETY: a block of inputs has 32 values, and 8 numbers to begin with.
                let (q, begin) = unsafe {
                    let q = _mm256_loadu_si256(x.blocks[at].as_ptr().cast());
                    (q, _mm256_loadu_si256(x.begins[at].as_ptr().cast()))
                };
                let products = _mm256_cvtepi32_ps(_mm256_dpbusd_epi32(begin, w, q));
                let part = _mm256_mul_ps(products, _mm256_set1_ps(x.scales[at]));
                *sum = _mm256_fmadd_ps(part, scale, *sum);
            }
        }
    }
    sums.map(|of_row| of_row.map(|sum| total(sum)))
}
