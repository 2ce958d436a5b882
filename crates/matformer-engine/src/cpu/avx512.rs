//! Dot products with AVX-512 and VNNI.

use std::arch::x86_64::*;

use matformer_nn::packed::{BLOCK, BLOCK_BYTES};

use super::{
    avx2::{ahead, define_dots, define_q8_dots, total},
    dot::{Inputs, Load, half},
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

define_q8_dots!("avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma", |w: __m256i, q: __m256i| {
    _mm256_dpbusd_epi32(_mm256_setzero_si256(), w, q)
});
