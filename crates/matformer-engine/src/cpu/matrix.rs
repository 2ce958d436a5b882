//! Matrices as decoding reads them.

use std::{borrow::Cow, ops::Range};

use matformer_nn::{
    Packed, PackedFormat,
    packed::{BLOCK, BLOCK_BYTES},
};

use super::dot::Rows;
use crate::{Error, Format, Result};

/// A matrix `[rows, cols]`, row-major, in one of the formats.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    rows: usize,
    cols: usize,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    F32(Vec<f32>),
    Packed(Packed),
}

impl Matrix {
    /// Packs values; rows that do not divide into blocks of `q8_0` become bf16.
    pub(crate) fn new(format: Format, [rows, cols]: [usize; 2], values: Vec<f32>) -> Result<Self> {
        let packed = |format| Packed::pack(format, [rows, cols], &values).map_err(Error::from);
        let values = match format {
            Format::F32 => Values::F32(values),
            Format::Q8_0 if cols.is_multiple_of(BLOCK) => {
                Values::Packed(packed(PackedFormat::Q8_0)?)
            }
            Format::Bf16 | Format::Q8_0 => Values::Packed(packed(PackedFormat::Bf16)?),
        };
        Ok(Self { rows, cols, values })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Whether its products need their inputs rounded to blocks.
    pub(crate) fn rounds(&self) -> bool {
        matches!(&self.values, Values::Packed(packed) if packed.format() == PackedFormat::Q8_0)
    }

    /// Some of its rows.
    pub(crate) fn part(&self, rows: Range<usize>) -> Rows<'_> {
        match &self.values {
            Values::F32(values) => Rows::F32(&values[rows.start * self.cols..rows.end * self.cols]),
            Values::Packed(packed) => {
                let bytes = packed.bytes_of(rows);
                match packed.format() {
                    PackedFormat::Bf16 => Rows::Bf16(bytes.as_chunks::<2>().0),
                    PackedFormat::Q8_0 => Rows::Q8(bytes.as_chunks::<BLOCK_BYTES>().0),
                }
            }
        }
    }

    /// Some of its rows in f32.
    pub(crate) fn wide(&self, rows: Range<usize>) -> Cow<'_, [f32]> {
        match self.part(rows.clone()) {
            Rows::F32(values) => Cow::Borrowed(values),
            Rows::Bf16(_) | Rows::Q8(_) => {
                let mut values = Vec::with_capacity(rows.len() * self.cols);
                rows.for_each(|row| self.widen(row, &mut values));
                Cow::Owned(values)
            }
        }
    }

    /// Appends a row's values in f32.
    pub(crate) fn widen(&self, row: usize, out: &mut Vec<f32>) {
        match &self.values {
            Values::F32(values) => {
                out.extend_from_slice(&values[row * self.cols..(row + 1) * self.cols])
            }
            Values::Packed(packed) => packed.unpack_row(row, self.cols, out),
        }
    }
}
