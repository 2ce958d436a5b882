//! Instruction sets that the processor may have, and functions that are compiled for each.

/// Plain code.
pub(super) const PLAIN: u8 = 0;
/// The processor has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
pub(super) const AVX2: u8 = 1;
/// It also has AVX-512 (F, BW, VL), VNNI and F16C.
#[cfg(target_arch = "x86_64")]
pub(super) const AVX512: u8 = 2;

/// Compiles a function for the baseline instruction set, for AVX2 and for AVX-512, and selects one at run time.
macro_rules! vectorised {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$doc])*
        pub(crate) fn $name($($arg: $ty),*) $(-> $out)? {
            #[inline(always)]
            fn plain<const LEVEL: u8>($($arg: $ty),*) $(-> $out)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide($($arg: $ty),*) $(-> $out)? {
                    plain::<{ $crate::cpu::levels::AVX2 }>($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
                fn widest($($arg: $ty),*) $(-> $out)? {
                    plain::<{ $crate::cpu::levels::AVX512 }>($($arg),*)
                }
                use std::arch::is_x86_feature_detected as has;
                let all = has!("avx512f") && has!("avx512bw") && has!("avx512vl");
                if all && has!("avx512vnni") && has!("f16c") {
                    // SAFETY: the processor has these.
                    return unsafe { widest($($arg),*) };
                }
                if has!("avx2") && has!("fma") {
                    // SAFETY: the processor has these.
                    return unsafe { wide($($arg),*) };
                }
            }
            plain::<{ $crate::cpu::levels::PLAIN }>($($arg),*)
        }
    };
}
pub(super) use vectorised;
