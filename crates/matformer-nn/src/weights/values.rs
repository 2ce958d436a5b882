//! Numbers as weights files hold them: little-endian f32, bf16 or f16.

use std::io::{self, Write};

use burn::tensor::{bf16, f16};
use matformer_core::Dtype;
use safetensors::tensor::Dtype as Stored;

/// What safetensors calls a dtype.
pub(super) fn to_stored(dtype: Dtype) -> Stored {
    match dtype {
        Dtype::F32 => Stored::F32,
        Dtype::Bf16 => Stored::BF16,
        Dtype::F16 => Stored::F16,
    }
}

/// The dtype of weights, or `None` for one that holds something else.
pub(super) fn from_stored(dtype: Stored) -> Option<Dtype> {
    match dtype {
        Stored::F32 => Some(Dtype::F32),
        Stored::BF16 => Some(Dtype::Bf16),
        Stored::F16 => Some(Dtype::F16),
        _ => None,
    }
}

/// The dtype that all have, or f32 where they have several.
pub fn common_dtype(dtypes: impl IntoIterator<Item = Dtype>) -> Dtype {
    let mut dtypes = dtypes.into_iter();
    let first = dtypes.next().unwrap_or_default();
    if dtypes.all(|dtype| dtype == first) { first } else { Dtype::F32 }
}

/// The values of stored bytes, exactly. Bytes behind the last whole number are left out.
pub fn floats(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let pairs = || bytes.as_chunks().0.iter().copied();
    match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect(),
        Dtype::Bf16 => pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
        Dtype::F16 => pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
    }
}

/// The first value that is NaN or infinite, and its position.
pub fn not_finite(dtype: Dtype, bytes: &[u8]) -> Option<(usize, f32)> {
    // All bits of the exponent are set. Without an early exit the loops are vectorised.
    let pairs = |mask: u16| {
        let bad = |b: &[u8; 2]| u16::from_le_bytes(*b) & mask == mask;
        bytes.as_chunks().0.iter().fold(false, |any, b| any | bad(b))
    };
    let any = match dtype {
        Dtype::F32 => {
            const MASK: u32 = 0x7f80_0000;
            let bad = |b: &[u8; 4]| u32::from_le_bytes(*b) & MASK == MASK;
            bytes.as_chunks().0.iter().fold(false, |any, b| any | bad(b))
        }
        Dtype::Bf16 => pairs(0x7f80),
        Dtype::F16 => pairs(0x7c00),
    };
    if !any {
        return None;
    }
    floats(dtype, bytes).into_iter().enumerate().find(|(_, value)| !value.is_finite())
}

/// Writes values, rounded to the nearest that the dtype has.
///
/// # Errors
/// What `out` returns.
pub fn write(
    values: impl IntoIterator<Item = f32>,
    dtype: Dtype,
    out: &mut dyn Write,
) -> io::Result<()> {
    values.into_iter().try_for_each(|value| match dtype {
        Dtype::F32 => out.write_all(&value.to_le_bytes()),
        Dtype::Bf16 => out.write_all(&bf16::from_f32(value).to_le_bytes()),
        Dtype::F16 => out.write_all(&f16::from_f32(value).to_le_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_16_bits_is_judged_as_its_value_is() {
        for dtype in [Dtype::Bf16, Dtype::F16] {
            for bits in 0..=u16::MAX {
                let bytes = bits.to_le_bytes();
                let value = floats(dtype, &bytes)[0];
                let found = not_finite(dtype, &bytes);
                assert_eq!(found.is_some(), !value.is_finite(), "{dtype:?} {bits:#x}");
            }
        }
        for value in [0.0, -1.5, f32::MAX, f32::MIN_POSITIVE, f32::INFINITY, f32::NAN] {
            let bytes = [1.0f32.to_le_bytes(), value.to_le_bytes()].concat();
            let found = not_finite(Dtype::F32, &bytes).map(|(at, _)| at);
            assert_eq!(found, (!value.is_finite()).then_some(1), "{value}");
        }
    }
}
