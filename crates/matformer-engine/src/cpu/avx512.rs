//! Dot products with AVX-512 and VNNI.

use std::arch::x86_64::*;

use matformer_nn::packed::BLOCK_BYTES;

use super::{
    avx2::{LINE, ahead, define_dots, define_q8_dots, total},
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

define_q8_dots!(
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
