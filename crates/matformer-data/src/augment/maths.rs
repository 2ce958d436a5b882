//! Functions that give the same bits on every machine: the system's own may differ in the last one.
//!
//! Nothing but sums, products, quotients and square roots, which IEEE 754 defines to the last bit.

use std::f64::consts::{LN_2, SQRT_2};

/// The natural logarithm of a normal number above 0, within 1e-15 of its size or of 1.
pub(super) fn ln(x: f64) -> f64 {
    const FRACTION: u64 = (1 << 52) - 1;
    const ONE: u64 = 1023 << 52;
    let mut exponent = (x.to_bits() >> 52) as i32 - 1023;
    let mut fraction = f64::from_bits(x.to_bits() & FRACTION | ONE); // 1 to 2
    if fraction > SQRT_2 {
        fraction /= 2.0;
        exponent += 1;
    }
    // ln f = 2 artanh z; z is at most 0.172, so that the 13th term is below 1e-19.
    let z = (fraction - 1.0) / (fraction + 1.0);
    let series = (0..12).rev().fold(0.0, |sum, k| sum * z * z + 1.0 / (2.0 * f64::from(k) + 1.0));
    f64::from(exponent) * LN_2 + 2.0 * z * series
}

/// e to the power `x`, within 1e-13 of its size; 0 below -700, and no more than at 700 above.
pub(super) fn exp(x: f64) -> f64 {
    if x < -700.0 {
        return 0.0;
    }
    let x = x.min(700.0);
    let exponent = (x / LN_2).round();
    let rest = x - exponent * LN_2; // at most 0.35 in size
    let series = (1..16).rev().fold(1.0, |sum, k| 1.0 + sum * rest / f64::from(k));
    series * f64::from_bits(((exponent as i64 + 1023) as u64) << 52)
}

/// Sine and cosine of an angle of at most 45 degrees to either side, within 1e-15.
pub(super) fn sin_cos(degrees: f64) -> (f64, f64) {
    let x = degrees.to_radians();
    // The Taylor series from its term `k` on, over its first factor.
    let series = |first: i32| {
        let term = |sum: f64, k: i32| 1.0 - sum * x * x / f64::from((k + 1) * (k + 2));
        (0..8).rev().map(|k| 2 * k + first).fold(1.0, term)
    };
    (x * series(1), series(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_what_they_are_called(x in -600.0..600.0_f64, degrees in -45.0..45.0_f64) {
            prop_assert!((exp(x) / x.exp() - 1.0).abs() < 1e-13);
            prop_assert!((ln(x.exp()) - x).abs() < 1e-15 * x.abs().max(1.0) + 1e-15);
            let (sine, cosine) = degrees.to_radians().sin_cos();
            prop_assert!((sin_cos(degrees).0 - sine).abs() < 1e-15);
            prop_assert!((sin_cos(degrees).1 - cosine).abs() < 1e-15);
        }
    }

    #[test]
    fn the_ends_are_exact() {
        assert_eq!((ln(1.0), exp(0.0), sin_cos(0.0)), (0.0, 1.0, (0.0, 1.0)));
        assert_eq!((exp(-701.0), exp(f64::NEG_INFINITY)), (0.0, 0.0));
        assert!(exp(f64::INFINITY).is_finite());
    }
}
