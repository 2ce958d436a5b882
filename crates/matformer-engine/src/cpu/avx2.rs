//! Dot products with AVX2 and FMA: registers that a compiler does not find by itself.

use std::arch::x86_64::*;

use matformer_nn::packed::BLOCK_BYTES;

use super::{
    dot::half,
    inputs::{Inputs, RoundedRow},
    load::Load,
};

/// Bytes that memory is read by.
pub(super) const LINE: usize = 64;

/// Defines `WIDTH`, the values of a register, and `dots`, by instructions on registers: zeros, how a format's values
/// get into two of them and the inputs' into one, `a·b + c`, and the sum of its values.
macro_rules! define_dots {
    (
        $features:literal, $width:literal, $zero:ident, $load:ident, $read:ident, $write:ident, $all:ident,
        $fma:ident, $total:ident
    ) => {
        /// Values of a register.
        pub(super) const WIDTH: usize = $width;

        /// Products of `R` rows with `M` inputs, all of one length, of which the multiple of `2·WIDTH` is read. What
        /// lies `ahead_by` bytes ahead is asked for.
        ///
        /// # Safety
        /// The processor has the features.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn dots<L: Load, const R: usize, const M: usize>(
            rows: [&[L::Unit]; R],
            inputs: [&[f32]; M],
            ahead_by: usize,
        ) -> [[f32; M]; R] {
            let n = inputs[0].len() / (2 * WIDTH) * (2 * WIDTH);
            assert!(rows.iter().all(|row| row.len() >= n) && inputs.iter().all(|x| x.len() >= n));
            let mut sums = [[$zero(); M]; R];
            let mut at = 0;
            while at < n {
                for half in 0..2 {
                    for r in 0..R {
                        let from = rows[r].as_ptr().wrapping_add(at);
                        let line = half * LINE;
                        if line < 2 * WIDTH * size_of::<L::Unit>() {
                            ahead(from.cast::<u8>().wrapping_add(line + ahead_by));
                        }
                        // SAFETY: two registers of values lie at `at`, which is below n by so many at least.
                        let w = unsafe { L::$load(from)[half] };
                        for m in 0..M {
                            // SAFETY: as above.
                            let x = unsafe { $read(inputs[m].as_ptr().add(at + half * WIDTH)) };
                            sums[r][m] = $fma(w, x, sums[r][m]);
                        }
                    }
                }
                at += 2 * WIDTH;
            }
            sums.map(|of_row| of_row.map(|sum| $total(sum)))
        }

        /// `out += Σ weights[i]·values[i]` in the columns up to the multiple of `WIDTH`, whose number is returned. A
        /// value begins `stride` after the one before.
        ///
        /// # Safety
        /// The processor has the features.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn weigh(
            weights: &[f32],
            values: &[f32],
            stride: usize,
            out: &mut [f32],
        ) -> usize {
            let width = out.len();
            assert!(width <= stride);
            assert!(weights.is_empty() || (weights.len() - 1) * stride + width <= values.len());
            let mut at = 0;
            while at + WIDTH <= width {
                let out = &mut out[at..];
                // As many sums at a time as hide how long an addition takes.
                // SAFETY: so many columns are in every value and in `out`.
                at += unsafe {
                    match (width - at) / WIDTH {
                        8.. => weigh_columns::<8>(weights, values, stride, out, at),
                        4.. => weigh_columns::<4>(weights, values, stride, out, at),
                        _ => weigh_columns::<1>(weights, values, stride, out, at),
                    }
                };
            }
            at
        }

        /// The same in `N` registers of columns from `at` on, which `out` begins with; returns how many columns.
        ///
        /// # Safety
        /// The processor has the features, and every value and `out` have the columns.
        #[target_feature(enable = $features)]
        unsafe fn weigh_columns<const N: usize>(
            weights: &[f32],
            values: &[f32],
            stride: usize,
            out: &mut [f32],
            at: usize,
        ) -> usize {
            let mut sums = [$zero(); N];
            for (i, weight) in weights.iter().enumerate() {
                let weight = $all(*weight);
                let value = values.as_ptr().wrapping_add(i * stride + at);
                for (n, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: the caller's.
                    *sum = $fma(weight, unsafe { $read(value.add(n * WIDTH)) }, *sum);
                }
            }
            for (sum, out) in sums.into_iter().zip(out.chunks_exact_mut(WIDTH)) {
                // SAFETY: a register's values.
                unsafe { $write(out.as_mut_ptr(), $fma(sum, $all(1.0), $read(out.as_ptr()))) };
            }
            N * WIDTH
        }
    };
}
pub(super) use define_dots;

define_dots!(
    "avx2,fma",
    8,
    _mm256_setzero_ps,
    load,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    total
);

/// Defines `$name` by what its instructions need of a block of a row: `$weights` makes it of the 32 bytes and the
/// scale, and `$add` adds to the sums a block of an input, which are its 32 bytes, and the place of it in the input.
macro_rules! define_q8_dots {
    ($name:ident, $features:literal, $weights:expr, $add:expr) => {
        /// Products of blocks of `R` rows of `q8_0`, from block `from` on, with inputs `i` to before `i + M`.
        ///
        /// # Safety
        /// The processor has the features.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name<const R: usize, const M: usize>(
            rows: [&[[u8; BLOCK_BYTES]]; R],
            inputs: &Inputs,
            i: usize,
            from: usize,
            ahead_by: usize,
        ) -> [[f32; M]; R] {
            let n = rows[0].len();
            let x: [RoundedRow<'_>; M] =
                std::array::from_fn(|m| inputs.rounded_row(i + m).part(from..from + n));
            let rows = rows.map(|row| &row[..n]);
            let mut sums = [[_mm256_setzero_ps(); M]; R];
            for at in 0..n {
                for (row, sums) in rows.iter().zip(&mut sums) {
                    let block = &row[at];
                    ahead(block.as_ptr().wrapping_add(ahead_by));
                    // SAFETY: a block has 2 + 32 bytes.
                    let w = unsafe { _mm256_loadu_si256(block.as_ptr().add(2).cast()) };
                    let weights = $weights(w, [block[0], block[1]]);
                    for (x, sum) in x.iter().zip(sums) {
                        // SAFETY: a block of inputs has 32 values.
                        let q = unsafe { _mm256_loadu_si256(x.blocks[at].as_ptr().cast()) };
                        *sum = $add(*sum, weights, q, x, at);
                    }
                }
            }
            // Not by `map`: a closure with instructions of its own is not always inlined.
            let mut found = [[0f32; M]; R];
            for (found, sum) in found.iter_mut().flatten().zip(sums.iter().flatten()) {
                *found = total(*sum);
            }
            found
        }
    };
}
pub(super) use define_q8_dots;

define_q8_dots!(
    q8_dots,
    "avx2,fma",
    |w: __m256i, scale: [u8; 2]| (w, _mm256_abs_epi8(w), half(u16::from_le_bytes(scale))),
    |sum: __m256, (w, magnitude, scale), q: __m256i, x: &RoundedRow<'_>, at: usize| {
        // The sign of the weight goes to the input: |w|·(±q). Pairs stay below 2·128·127 < 2¹⁵.
        let pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(q, w));
        let products = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
        let factor = _mm256_set1_ps(scale * x.scales[at]);
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), factor, sum)
    }
);

/// Asks for what is read later: weights come from memory, and are used once.
#[inline(always)]
pub(super) fn ahead(from: *const u8) {
    // SAFETY: a hint, which no address is wrong for.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) };
}

/// The sum of a register's values.
#[target_feature(enable = "avx2")]
pub(super) fn total(sum: __m256) -> f32 {
    let half = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
    let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
    _mm_cvtss_f32(_mm_add_ss(quarter, _mm_shuffle_ps::<1>(quarter, quarter)))
}
