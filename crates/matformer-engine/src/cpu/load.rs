//! How numbers of a matrix become f32.

use burn::tensor::bf16;

use super::inputs::Inputs;

/// A number of a row, and how it becomes f32.
pub(super) trait Load {
    type Unit: Copy;

    fn widen(unit: Self::Unit) -> f32;

    /// An input in the order that registers of such numbers have.
    fn sorted(inputs: &Inputs, i: usize) -> &[f32];

    /// Sixteen neighbours at once, in the order of sorted inputs.
    ///
    /// # Safety
    /// The processor has AVX2, and sixteen of them lie at `from`.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load(from: *const Self::Unit) -> [std::arch::x86_64::__m256; 2];

    /// The same of 32 neighbours.
    ///
    /// # Safety
    /// The processor has AVX-512, and 32 of them lie at `from`.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load_wide(from: *const Self::Unit) -> [std::arch::x86_64::__m512; 2];
}

pub(super) struct F32;

impl Load for F32 {
    type Unit = f32;

    #[inline(always)]
    fn widen(unit: f32) -> f32 {
        unit
    }

    #[inline(always)]
    fn sorted(inputs: &Inputs, i: usize) -> &[f32] {
        inputs.row(i)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load(from: *const f32) -> [std::arch::x86_64::__m256; 2] {
        use std::arch::x86_64::_mm256_loadu_ps as read;
        // SAFETY: as the caller's.
        unsafe { [read(from), read(from.add(8))] }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load_wide(from: *const f32) -> [std::arch::x86_64::__m512; 2] {
        use std::arch::x86_64::_mm512_loadu_ps as read;
        // SAFETY: as the caller's.
        unsafe { [read(from), read(from.add(16))] }
    }
}

/// A register of bf16 is two of f32 without moving anything between lanes: those at even places, shifted, and those at
/// odd places, masked.
pub(super) struct Bf16;

impl Load for Bf16 {
    type Unit = [u8; 2];

    #[inline(always)]
    fn widen(unit: [u8; 2]) -> f32 {
        bf16::from_le_bytes(unit).to_f32()
    }

    #[inline(always)]
    fn sorted(inputs: &Inputs, i: usize) -> &[f32] {
        inputs.even_odd_row(i)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn load(from: *const [u8; 2]) -> [std::arch::x86_64::__m256; 2] {
        use std::arch::x86_64::*;
        // SAFETY: as the caller's; sixteen of them are 32 bytes.
        unsafe {
            let both = _mm256_loadu_si256(from.cast());
            let odd = _mm256_and_si256(both, _mm256_set1_epi32(ODD));
            [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(both)), _mm256_castsi256_ps(odd)]
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load_wide(from: *const [u8; 2]) -> [std::arch::x86_64::__m512; 2] {
        use std::arch::x86_64::*;
        // SAFETY: as the caller's; 32 of them are 64 bytes.
        let both = unsafe { _mm512_loadu_si512(from.cast()) };
        let odd = _mm512_and_si512(both, _mm512_set1_epi32(ODD));
        [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(both)), _mm512_castsi512_ps(odd)]
    }
}

/// The upper half of 32 bits.
#[cfg(target_arch = "x86_64")]
const ODD: i32 = !0xFFFF;
