//! Matrices as decoding reads them.

use std::{borrow::Cow, ops::Range};

use bytemuck::cast_slice;
use matformer_nn::{
    Packed, PackedFormat,
    memory::Pages,
    packed::{BLOCK, BLOCK_BYTES},
};

use super::{
    dot::{Rows, widen},
    inputs::Form,
};
use crate::{Error, Format, Result};

/// Bytes that a matrix begins at a multiple of.
const ALIGN: usize = 64;

/// Where a matrix `[rows, cols]` is in the memory of all, row-major.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    rows: usize,
    cols: usize,
    /// Absent for f32.
    packed: Option<PackedFormat>,
    bytes: Range<usize>,
}

/// The memory of all matrices of a model, while they are read.
#[derive(Debug)]
pub(crate) struct Store {
    pages: Pages,
    used: usize,
    format: Format,
}

/// A matrix, to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    matrix: &'a Matrix,
    bytes: &'a [u8],
}

/// What a matrix is held in: rows that do not divide into blocks of `q8_0` are bf16.
fn packed(format: Format, cols: usize) -> Option<PackedFormat> {
    match format {
        Format::F32 => None,
        Format::Q8_0 if cols.is_multiple_of(BLOCK) => Some(PackedFormat::Q8_0),
        Format::Bf16 | Format::Q8_0 => Some(PackedFormat::Bf16),
    }
}

/// Bytes that a matrix takes.
fn bytes([rows, cols]: [usize; 2], packed: Option<PackedFormat>) -> usize {
    let row = packed.map_or(Some(4 * cols), |packed| packed.row_bytes(cols));
    (rows * row.unwrap_or(0)).next_multiple_of(ALIGN)
}

impl Store {
    /// Memory for matrices of these shapes.
    pub(crate) fn new(format: Format, shapes: impl Iterator<Item = [usize; 2]>) -> Result<Self> {
        let all = shapes.map(|shape| bytes(shape, packed(format, shape[1]))).sum();
        let pages = Pages::zeroed(all).map_err(|error| Error::Memory { bytes: all, error })?;
        Ok(Self { pages, used: 0, format })
    }

    /// Takes a matrix in.
    pub(crate) fn add(&mut self, shape: [usize; 2], values: &[f32]) -> Result<Matrix> {
        let packed = packed(self.format, shape[1]);
        let from = self.used;
        self.used += bytes(shape, packed);
        let packed_values = packed.map(|f| Packed::pack(f, shape, values)).transpose()?;
        let held = packed_values.as_ref().map_or(cast_slice(values), Packed::bytes);
        let bytes = from..from + held.len();
        self.pages[bytes.clone()].copy_from_slice(held);
        Ok(Matrix { rows: shape[0], cols: shape[1], packed, bytes })
    }

    /// All of it.
    pub(crate) fn finish(self) -> Pages {
        self.pages
    }
}

impl Matrix {
    /// The matrix in the memory of all.
    pub(crate) fn view<'a>(&'a self, pages: &'a Pages) -> View<'a> {
        View { matrix: self, bytes: &pages[self.bytes.clone()] }
    }
}

impl<'a> View<'a> {
    pub(crate) fn rows(self) -> usize {
        self.matrix.rows
    }

    pub(crate) fn cols(self) -> usize {
        self.matrix.cols
    }

    /// What its products with few inputs read of them.
    pub(crate) fn form(self) -> Form {
        match self.matrix.packed {
            None => Form::Values,
            Some(PackedFormat::Bf16) => Form::EvenOdd,
            Some(PackedFormat::Q8_0) => Form::Rounded,
        }
    }

    fn bytes_of(self, rows: Range<usize>) -> &'a [u8] {
        let row = self.bytes.len() / self.matrix.rows.max(1);
        &self.bytes[rows.start * row..rows.end * row]
    }

    /// Some of its rows.
    pub(crate) fn part(self, rows: Range<usize>) -> Rows<'a> {
        let bytes = self.bytes_of(rows);
        match self.matrix.packed {
            None => Rows::F32(cast_slice(bytes)),
            Some(PackedFormat::Bf16) => Rows::Bf16(bytes.as_chunks::<2>().0),
            Some(PackedFormat::Q8_0) => Rows::Q8(bytes.as_chunks::<BLOCK_BYTES>().0),
        }
    }

    /// Some of its rows in f32.
    pub(crate) fn wide(self, rows: Range<usize>) -> Cow<'a, [f32]> {
        if self.matrix.packed.is_none() {
            return Cow::Borrowed(cast_slice(self.bytes_of(rows)));
        }
        let mut values = vec![0.0; rows.len() * self.matrix.cols];
        widen(self.part(rows), &mut values);
        Cow::Owned(values)
    }

    /// Appends a row's values in f32.
    pub(crate) fn widen(self, row: usize, out: &mut Vec<f32>) {
        let before = out.len();
        out.resize(before + self.matrix.cols, 0.0);
        widen(self.part(row..row + 1), &mut out[before..]);
    }
}
