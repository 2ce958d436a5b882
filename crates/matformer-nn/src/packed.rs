//! Matrices packed for inference, and what their values are.

use std::sync::Arc;

use burn::tensor::{bf16, f16};

use crate::{Error, Result};

/// How a packed matrix stores its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackedFormat {
    /// The upper half of an f32, rounded to nearest, ties to even: 8 bits of precision.
    Bf16,
    /// GGML's `q8_0`: blocks of 32 values of a row, each an f16 scale and 32 signed bytes.
    Q8_0,
}

/// Values of one block of [`PackedFormat::Q8_0`].
pub const BLOCK: usize = 32;
/// Bytes of such a block: an f16 scale and signed bytes.
pub const BLOCK_BYTES: usize = 2 + BLOCK;

/// A matrix `[rows, cols]` in a packed format, row-major; copies share its bytes.
#[derive(Clone)]
pub struct Packed {
    format: PackedFormat,
    rows: usize,
    cols: usize,
    bytes: Arc<[u8]>,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed({:?}, [{}, {}])", self.format, self.rows, self.cols)
    }
}

impl PackedFormat {
    /// Bytes of a row of `cols` values, if there is one of this length.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        match self {
            Self::Bf16 => Some(2 * cols),
            Self::Q8_0 => cols.is_multiple_of(BLOCK).then_some(cols / BLOCK * BLOCK_BYTES),
        }
    }

    /// Appends the first `cols` values of a packed row.
    ///
    /// # Panics
    /// If the row has fewer.
    pub fn unpack(self, row: &[u8], cols: usize, values: &mut Vec<f32>) {
        match self {
            Self::Bf16 => {
                let pairs = row.as_chunks::<2>().0;
                values.extend(pairs[..cols].iter().map(|b| bf16::from_le_bytes(*b).to_f32()));
            }
            Self::Q8_0 => {
                let blocks = row.as_chunks::<BLOCK_BYTES>().0;
                let (whole, rest) = (cols / BLOCK, cols % BLOCK);
                // Block by block: a chain of iterators has no vector code.
                for block in &blocks[..whole] {
                    values.extend_from_slice(&unpack_block(block));
                }
                if rest > 0 {
                    values.extend_from_slice(&unpack_block(&blocks[whole])[..rest]);
                }
            }
        }
    }
}

impl Packed {
    /// Packs row-major values of a matrix `[rows, cols]`.
    ///
    /// # Errors
    /// When the number of values is not `rows · cols`, or `cols` is not a multiple of the format's
    /// block size.
    pub fn pack(format: PackedFormat, [rows, cols]: [usize; 2], values: &[f32]) -> Result<Self> {
        check(rows * cols, values.len(), "values")?;
        let mut bytes = Vec::with_capacity(rows * row_bytes(format, cols)?);
        match format {
            PackedFormat::Bf16 => {
                bytes.extend(values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()));
            }
            PackedFormat::Q8_0 => {
                values.chunks_exact(BLOCK).for_each(|v| pack_block(v, &mut bytes))
            }
        }
        Ok(Self { format, rows, cols, bytes: bytes.into() })
    }

    /// A matrix `[rows, cols]` of bytes that are packed already.
    ///
    /// # Errors
    /// When the number of bytes is not that of such a matrix, or `cols` is not a multiple of the
    /// format's block size.
    pub fn from_bytes(
        format: PackedFormat,
        [rows, cols]: [usize; 2],
        bytes: impl Into<Arc<[u8]>>,
    ) -> Result<Self> {
        let bytes = bytes.into();
        check(rows * row_bytes(format, cols)?, bytes.len(), "bytes")?;
        Ok(Self { format, rows, cols, bytes })
    }

    /// Its format.
    pub fn format(&self) -> PackedFormat {
        self.format
    }

    /// `[rows, cols]`
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// Its bytes, row after row.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The first `cols` values of each of the first `rows` rows, row-major.
    ///
    /// # Panics
    /// If the matrix has fewer.
    pub fn unpack(&self, rows: usize, cols: usize) -> Vec<f32> {
        assert!(rows <= self.rows && cols <= self.cols, "part lies inside the matrix");
        let mut values = Vec::with_capacity(rows * cols);
        let row_bytes = self.bytes.len() / self.rows.max(1);
        for row in self.bytes.chunks_exact(row_bytes.max(1)).take(rows) {
            self.format.unpack(row, cols, &mut values);
        }
        values
    }
}

fn row_bytes(format: PackedFormat, cols: usize) -> Result<usize> {
    format.row_bytes(cols).ok_or_else(|| Error::Packed {
        found: format!("rows of {cols} values"),
        expected: format!("a multiple of {BLOCK}, the size of a block of `q8_0`"),
    })
}

fn check(expected: usize, found: usize, what: &str) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Packed { found: format!("{found} {what}"), expected: expected.to_string() })
}

/// The scale maps the largest magnitude to 127, so that every value is within half a step.
fn pack_block(values: &[f32], bytes: &mut Vec<u8>) {
    let largest = values.iter().fold(0f32, |max, v| max.max(v.abs()));
    // The largest finite f16 is the largest scale: what lies beyond is cut off, not infinite.
    let scale = (largest / 127.0).min(f16::MAX.to_f32());
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    bytes.extend(f16::from_f32(scale).to_le_bytes());
    bytes.extend(values.iter().map(|v| (v * inverse).round() as i8 as u8)); // saturates
}

fn unpack_block(block: &[u8; BLOCK_BYTES]) -> [f32; BLOCK] {
    let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
    std::array::from_fn(|i| f32::from(block[2 + i] as i8) * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of very different magnitudes in every block.
    fn values(n: usize) -> Vec<f32> {
        let mut rng = matformer_core::rng::keyed(1, "packed", 0);
        let unit = |rng: &mut _| (matformer_core::rng::unit(rng) * 2.0 - 1.0) as f32;
        (0..n).map(|i| unit(&mut rng) * 10f32.powi(i as i32 % 7 - 3)).collect()
    }

    #[test]
    fn bf16_is_within_half_a_unit_of_its_last_place() {
        let values = values(6 * 50);
        let packed = Packed::pack(PackedFormat::Bf16, [6, 50], &values).unwrap();
        assert_eq!(packed.bytes().len(), 6 * 50 * 2);
        for (found, value) in packed.unpack(6, 50).iter().zip(&values) {
            assert!((found - value).abs() <= value.abs() / 256.0, "{value}: {found}");
        }
        // Ties go to even, and what bf16 can hold stays as it is.
        let exact = [1.0, -0.0, 3.5, f32::INFINITY];
        let ties = [f32::from_bits(0x3F80_8000), f32::from_bits(0x3F81_8000)];
        let packed = Packed::pack(PackedFormat::Bf16, [1, 6], &[&exact[..], &ties].concat());
        let found = packed.unwrap().unpack(1, 6);
        assert_eq!(found[..4], exact);
        assert_eq!(
            found[4..].iter().map(|v| v.to_bits() >> 16).collect::<Vec<_>>(),
            [0x3F80, 0x3F82]
        );
    }

    #[test]
    fn q8_0_is_within_half_a_step_of_its_block() {
        let values = values(5 * 96);
        let packed = Packed::pack(PackedFormat::Q8_0, [5, 96], &values).unwrap();
        assert_eq!(packed.bytes().len(), 5 * 3 * 34);
        let found = packed.unpack(5, 96);
        for (found, block) in found.chunks(32).zip(values.chunks(32)) {
            let largest = block.iter().fold(0f32, |max, v| max.max(v.abs()));
            for (found, value) in found.iter().zip(block) {
                // Half a step, and what the scale's eleven bits leave of up to 127 of them.
                let limit = largest / 127.0 / 2.0 + largest / 2048.0;
                assert!((found - value).abs() <= limit, "{value}: {found}");
            }
        }
        // The bytes of one block, by GGML's definition.
        let block: Vec<f32> = (0..32).map(|i| (i as f32 - 16.0) * 127.0 / 16.0).collect();
        let packed = Packed::pack(PackedFormat::Q8_0, [1, 32], &block).unwrap();
        assert_eq!(packed.bytes()[..3], [0x00, 0x3C, -127i8 as u8]); // scale 1.0
        assert_eq!(packed.bytes()[2 + 24], 64); // 63.5, away from zero
        // Zeros need no scale.
        let zeros = Packed::pack(PackedFormat::Q8_0, [1, 32], &[0.0; 32]).unwrap();
        assert_eq!(zeros.unpack(1, 32), [0.0; 32]);
    }

    #[test]
    fn a_part_is_what_the_whole_has_there() {
        let values = values(4 * 64);
        for format in [PackedFormat::Bf16, PackedFormat::Q8_0] {
            let packed = Packed::pack(format, [4, 64], &values).unwrap();
            let whole = packed.unpack(4, 64);
            for (rows, cols) in [(4, 1), (2, 33), (3, 64), (0, 5), (4, 0)] {
                let expected: Vec<f32> =
                    whole.chunks(64).take(rows).flat_map(|row| row[..cols].to_vec()).collect();
                assert_eq!(packed.unpack(rows, cols), expected, "{format:?} {rows} {cols}");
            }
            let again = Packed::from_bytes(format, [4, 64], packed.bytes().to_vec()).unwrap();
            assert_eq!(again.unpack(4, 64), whole);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let message = |result: Result<Packed>| result.unwrap_err().to_string();
        let found = [
            message(Packed::pack(PackedFormat::Q8_0, [1, 33], &[0.0; 33])),
            message(Packed::pack(PackedFormat::Bf16, [2, 2], &[0.0; 5])),
            message(Packed::from_bytes(PackedFormat::Q8_0, [1, 32], vec![0; 33])),
        ];
        assert_eq!(
            found,
            [
                "packed weight: rows of 33 values, expected a multiple of 32, the size of a block of \
             `q8_0`",
                "packed weight: 5 values, expected 4",
                "packed weight: 33 bytes, expected 34",
            ]
        );
    }
}
