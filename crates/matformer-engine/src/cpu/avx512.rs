//! Dot products with AVX-512 and VNNI.

use std::arch::x86_64::*;

use matformer_nn::packed::BLOCK_BYTES;

use super::{
    avx2::{LINE, ahead, define_dots, define_q8_dots, total},
    inputs::{Inputs, RoundedRow},
    load::Load,
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

/// Products of blocks of `R` rows of `q8_0`, from block `from` on, with inputs `i` to before `i + M`: of two rows in
/// registers that hold a block of each.
///
/// # Safety
/// The processor has AVX-512 (F, BW, VL), VNNI, FMA and F16C.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn q8_dots<const R: usize, const M: usize>(
    rows: [&[[u8; BLOCK_BYTES]]; R],
    inputs: &Inputs,
    i: usize,
    from: usize,
    ahead_by: usize,
) -> [[f32; M]; R] {
    let mut found = [[0f32; M]; R];
    if let ([first, second], [of_first, of_second]) = (&rows[..], &mut found[..]) {
        // SAFETY: the caller's.
        let of_both: [[f32; 2]; M] =
            unsafe { q8_pair([*first, *second], inputs, i, from, ahead_by) };
        for ((a, b), both) in of_first.iter_mut().zip(of_second).zip(of_both) {
            [*a, *b] = both;
        }
        return found;
    }
    // SAFETY: the caller's.
    unsafe { q8_rows(rows, inputs, i, from, ahead_by) }
}

/// The products of two rows with `M` inputs.
///
/// # Safety
/// As [`q8_dots`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn q8_pair<const M: usize>(
    rows: [&[[u8; BLOCK_BYTES]]; 2],
    inputs: &Inputs,
    i: usize,
    from: usize,
    ahead_by: usize,
) -> [[f32; 2]; M] {
    let n = rows[0].len();
    let x: [RoundedRow<'_>; M] =
        std::array::from_fn(|m| inputs.rounded_row(i + m).part(from..from + n));
    let [first, second] = rows.map(|row| &row[..n]);
    let mut sums = [_mm512_setzero_ps(); M];
    for at in 0..n {
        let [a, b] = [&first[at], &second[at]];
        ahead(a.as_ptr().wrapping_add(ahead_by));
        ahead(b.as_ptr().wrapping_add(ahead_by));
        // SAFETY: a block has 2 + 32 bytes.
        let (low, high) = unsafe {
            let at = |block: &[u8; BLOCK_BYTES]| block.as_ptr().wrapping_add(2);
            (_mm256_loadu_si256(at(a).cast()), _mm256_loadu_si256(at(b).cast()))
        };
        let w = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
        // The instruction wants one side without signs: w + 128, whose share the sums begin without.
        let w = _mm512_xor_si512(w, _mm512_set1_epi8(i8::MIN));
        let half = |block: &[u8; BLOCK_BYTES]| i16::from_le_bytes([block[0], block[1]]);
        let scales = _mm256_set_m128i(_mm_set1_epi16(half(b)), _mm_set1_epi16(half(a)));
        let scales = _mm512_cvtph_ps(scales);
        for (x, sum) in x.iter().zip(&mut sums) {
            // SAFETY: a block of inputs has 32 values, and what its sums begin with 8.
            let (q, begin) = unsafe {
                (
                    _mm256_loadu_si256(x.blocks[at].as_ptr().cast()),
                    _mm256_loadu_si256(x.begins[at].as_ptr().cast()),
                )
            };
            let (q, begin) = (_mm512_broadcast_i64x4(q), _mm512_broadcast_i64x4(begin));
            let products = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(begin, w, q));
            let products = _mm512_mul_ps(products, _mm512_set1_ps(x.scales[at]));
            *sum = _mm512_fmadd_ps(products, scales, *sum);
        }
    }
    let mut found = [[0f32; 2]; M];
    for (found, sum) in found.iter_mut().zip(sums) {
        let high = _mm256_castsi256_ps(_mm512_extracti64x4_epi64::<1>(_mm512_castps_si512(sum)));
        *found = [total(_mm512_castps512_ps256(sum)), total(high)];
    }
    found
}

define_q8_dots!(
    q8_rows,
    "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c",
    |w: __m256i, scale: [u8; 2]| {
        // The instruction wants one side without signs: w + 128, whose share the sums begin without.
        let shifted = _mm256_xor_si256(w, _mm256_set1_epi8(i8::MIN));
        (shifted, _mm256_cvtph_ps(_mm_set1_epi16(i16::from_le_bytes(scale))))
    },
    |sum: __m256, (w, scale), q: __m256i, x: &RoundedRow<'_>, at: usize| {
        // SAFETY: 8 numbers belong to a block.
        let begin = unsafe { _mm256_loadu_si256(x.begins[at].as_ptr().cast()) };
        let products = _mm256_cvtepi32_ps(_mm256_dpbusd_epi32(begin, w, q));
        _mm256_fmadd_ps(_mm256_mul_ps(products, _mm256_set1_ps(x.scales[at])), scale, sum)
    }
);
