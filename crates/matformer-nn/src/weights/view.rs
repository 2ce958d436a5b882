//! The bytes of a mapped tensor, and copies of a part of them.

use std::{
    io::{self, Write},
    ops::Range,
    path::Path,
};

use matformer_core::Dtype;
use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;

use super::values;
use crate::Error;

/// A tensor in a mapped weights file.
#[derive(Debug, Clone, Copy)]
pub struct TensorRef<'a> {
    /// Its name.
    pub name: &'a str,
    /// How its numbers are stored.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: &'a [usize],
    /// Its numbers, row-major and little-endian, exactly as many as the shape says.
    pub data: &'a [u8],
    /// The file that it is in.
    pub path: &'a Path,
    pub(super) map: &'a Mmap,
}

/// What is written of a tensor: its first entries along the first two dimensions, with zeros behind
/// them where the written tensor is larger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Entries of each dimension that are copied: at most those of the tensor, and from the third
    /// dimension on all of them.
    pub kept: Vec<usize>,
    /// Shape of what is written: no dimension is smaller than in `kept`.
    pub shape: Vec<usize>,
    /// How numbers are written. Those of another dtype are rounded to the nearest.
    pub dtype: Dtype,
}

impl Cut {
    /// The whole tensor as it is.
    pub fn whole(tensor: &TensorRef<'_>) -> Self {
        let shape = tensor.shape.to_vec();
        Self { kept: shape.clone(), shape, dtype: tensor.dtype }
    }
}

/// Bytes that are copied at a time: mapped pages count as resident memory until they are released.
pub(super) const PIECE: usize = 4 << 20;

impl TensorRef<'_> {
    /// Its values, row-major.
    pub fn floats(&self) -> Vec<f32> {
        values::floats(self.dtype, self.data)
    }

    /// Writes a part of the tensor, piece by piece. The pages that were read are released, so that
    /// a tensor of any size takes little resident memory.
    ///
    /// # Errors
    /// An [`Error::Tensor`] inside of the [`io::Error`] for a value that is NaN or infinite, or a
    /// cut that does not fit the tensor; what `out` returns.
    pub fn write(&self, cut: &Cut, out: &mut dyn Write) -> io::Result<()> {
        if !self.has(cut) {
            let expected = format!("at least {:?}, to be written as {:?}", cut.kept, cut.shape);
            return Err(self.wrong(format!("shape {:?}", self.shape), expected));
        }
        let from = Rows::of(self.shape, self.dtype);
        let kept = Rows::of(&cut.kept, self.dtype);
        let to = Rows::of(&cut.shape, cut.dtype);
        let pad = vec![0; to.bytes - kept.bytes / self.dtype.size() * cut.dtype.size()];
        let offset = self.data.as_ptr() as usize - self.map.as_ptr() as usize;
        let mut row = 0;
        while row < kept.rows {
            let rows = (PIECE / from.bytes.max(1)).clamp(1, kept.rows - row);
            let start = row * from.bytes;
            if kept.bytes == from.bytes && pad.is_empty() {
                self.write_values(start, rows * from.bytes, cut.dtype, out)?;
            } else {
                for row in row..row + rows {
                    self.write_values(row * from.bytes, kept.bytes, cut.dtype, out)?;
                    out.write_all(&pad)?;
                }
            }
            release(self.map, offset + start, rows * from.bytes);
            row += rows;
        }
        let zeros = vec![0; to.bytes];
        (kept.rows..to.rows).try_for_each(|_| out.write_all(&zeros))
    }

    /// Writes the same part of every `block` bytes of the tensor: the bytes in `ranges`, which are
    /// whole numbers that lie in a block, as they are stored. The pages that were read are released.
    ///
    /// # Errors
    /// An [`Error::Tensor`] inside of the [`io::Error`] for a value that is NaN or infinite, and for
    /// blocks or ranges that do not fit the tensor; what `out` returns.
    pub fn write_blocks(
        &self,
        block: usize,
        ranges: &[Range<usize>],
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let size = self.dtype.size();
        let fits = |range: &Range<usize>| {
            range.start <= range.end
                && range.end <= block
                && range.start.is_multiple_of(size)
                && range.end.is_multiple_of(size)
        };
        if block == 0 || !self.data.len().is_multiple_of(block) || !ranges.iter().all(fits) {
            let expected = format!("blocks of {block} bytes, and {ranges:?} in them");
            return Err(self.wrong(format!("{} bytes", self.data.len()), expected));
        }
        let piece = (PIECE / block).max(1) * block;
        for start in (0..self.data.len()).step_by(piece) {
            let end = self.data.len().min(start + piece);
            for block in (start..end).step_by(block) {
                for range in ranges {
                    self.write_values(block + range.start, range.len(), self.dtype, out)?;
                }
            }
            let offset = self.data.as_ptr() as usize - self.map.as_ptr() as usize;
            release(self.map, offset + start, end - start);
        }
        Ok(())
    }

    /// Whether a cut can be made of this tensor.
    fn has(&self, cut: &Cut) -> bool {
        let Cut { kept, shape, .. } = cut;
        kept.len() == self.shape.len()
            && kept.len() == shape.len()
            && kept.iter().zip(self.shape).all(|(kept, all)| kept <= all)
            && kept.iter().zip(shape).all(|(kept, written)| kept <= written)
            && kept.get(2..) == self.shape.get(2..)
            && kept.get(2..) == shape.get(2..)
    }

    /// Writes the values in `len` bytes of the tensor from byte `at` on.
    fn write_values(
        &self,
        at: usize,
        len: usize,
        dtype: Dtype,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let stored = &self.data[at..at + len];
        if let Some((position, value)) = values::not_finite(self.dtype, stored) {
            let element = at / self.dtype.size() + position;
            return Err(
                self.wrong(format!("{value} at element {element}"), "finite values".to_owned())
            );
        }
        if dtype == self.dtype {
            return out.write_all(stored);
        }
        let floats = values::floats(self.dtype, stored);
        let mut converted = Vec::with_capacity(floats.len() * dtype.size());
        values::write(floats, dtype, &mut converted)?;
        match values::not_finite(dtype, &converted) {
            None => out.write_all(&converted),
            Some((position, _)) => {
                let element = at / self.dtype.size() + position;
                let value = values::floats(self.dtype, stored)[position];
                let expected = format!("values that {} can hold", dtype.name());
                Err(self.wrong(format!("{value:e} at element {element}"), expected))
            }
        }
    }

    fn wrong(&self, found: String, expected: String) -> io::Error {
        io::Error::other(Error::Tensor {
            path: self.path.to_owned(),
            tensor: self.name.to_owned(),
            found,
            expected,
        })
    }
}

/// Gives pages of a mapped file back. They are read again if they are needed again.
pub(super) fn release(map: &Mmap, start: usize, len: usize) {
    #[cfg(unix)]
    {
        // SAFETY: the pages of a mapped file that nobody changes come back with the same contents.
        let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, len) };
    }
    #[cfg(not(unix))]
    let _ = (map, start, len);
}

/// A tensor as rows: entries of its first dimension, each with all that is below it.
struct Rows {
    rows: usize,
    /// Bytes of a row.
    bytes: usize,
}

impl Rows {
    fn of(shape: &[usize], dtype: Dtype) -> Self {
        let rows = shape.first().copied().unwrap_or(1);
        let below: usize = shape.iter().skip(1).product();
        Self { rows, bytes: below * dtype.size() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::{StoredTensor, WeightFiles, write_folder};

    /// Writes a cut of a tensor of this shape whose values are their positions.
    fn cut_of(shape: &[usize], from: Dtype, cut: &Cut) -> Result<Vec<f32>, String> {
        let dir = tempfile::tempdir().unwrap();
        let n: usize = shape.iter().product();
        let numbers = StoredTensor::new("t", from, shape.to_vec(), |out| {
            values::write((0..n).map(|i| i as f32), from, out)
        });
        write_folder(dir.path(), vec![numbers], u64::MAX).unwrap();
        let files = WeightFiles::open(dir.path()).unwrap();
        let tensors = files.tensors().unwrap();
        let mut out = Vec::new();
        tensors.view("t").unwrap().write(cut, &mut out).map_err(|e| e.to_string())?;
        Ok(values::floats(cut.dtype, &out))
    }

    fn cut(kept: &[usize], shape: &[usize]) -> Cut {
        Cut { kept: kept.to_vec(), shape: shape.to_vec(), dtype: Dtype::F32 }
    }

    #[test]
    fn rows_and_columns_are_cut_and_padded() {
        let all = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        for from in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
            for (shape, kept, written, expected) in [
                (&[2, 3][..], &[2, 3][..], &[2, 3][..], &all[..]),
                (&[2, 3], &[1, 3], &[1, 3], &[0.0, 1.0, 2.0]),
                (&[2, 3], &[2, 1], &[2, 1], &[0.0, 3.0]),
                (&[2, 3], &[1, 2], &[2, 3], &[0.0, 1.0, 0.0, 0.0, 0.0, 0.0]),
                (&[2, 3], &[2, 1], &[2, 2], &[0.0, 0.0, 3.0, 0.0]),
                (&[6], &[2], &[2], &[0.0, 1.0]),
                (&[6], &[2], &[4], &[0.0, 1.0, 0.0, 0.0]),
                (&[1, 2, 3], &[1, 1, 3], &[1, 2, 3], &[0.0, 1.0, 2.0, 0.0, 0.0, 0.0]),
            ] {
                let found = cut_of(shape, from, &cut(kept, written)).unwrap();
                assert_eq!(found, expected, "{shape:?} {kept:?} {written:?}");
            }
        }
    }

    #[test]
    fn a_large_tensor_is_copied_piece_by_piece() {
        let shape = [5, 300_000];
        let cut = cut(&[4, 299_999], &[4, 300_001]);
        let found = cut_of(&shape, Dtype::F32, &cut).unwrap();
        for (i, row) in found.chunks(300_001).enumerate() {
            let expected = (0..299_999).map(|j| (i * 300_000 + j) as f32).chain([0.0, 0.0]);
            assert!(expected.eq(row.iter().copied()));
        }
    }

    #[test]
    fn a_part_of_every_block_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let n = 3_000_000;
        let numbers = StoredTensor::new("t", Dtype::Bf16, vec![n], |out| {
            values::write((0..n).map(|i| (i % 6) as f32), Dtype::Bf16, out)
        });
        write_folder(dir.path(), vec![numbers], u64::MAX).unwrap();
        let files = WeightFiles::open(dir.path()).unwrap();
        let tensors = files.tensors().unwrap();
        let tensor = tensors.view("t").unwrap();
        let mut out = Vec::new();
        tensor.write_blocks(12, &[2..4, 8..12], &mut out).unwrap();
        let found = values::floats(Dtype::Bf16, &out);
        assert_eq!(found.len(), n / 2);
        assert!(found.chunks(3).all(|part| part == [1.0, 4.0, 5.0]));
        for (block, range) in [(0, 0..0), (7, 0..2), (12, 1..3), (12, 2..14)] {
            let error = tensor.write_blocks(block, &[range], &mut out).unwrap_err().to_string();
            assert!(error.contains("tensor `t`: 6000000 bytes; expected blocks"), "{error}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (kept, written) in [
            (&[3, 3][..], &[3, 3][..]),
            (&[2, 3], &[1, 3]),
            (&[6], &[6]),
            (&[2, 3, 1], &[2, 3, 1]),
            (&[2, 2], &[2, 2, 1]),
        ] {
            let error = cut_of(&[2, 3], Dtype::F32, &cut(kept, written)).unwrap_err();
            assert!(error.contains("tensor `t`: shape [2, 3]; expected at least"), "{error}");
        }
        let error =
            cut_of(&[70_000], Dtype::F32, &Cut { dtype: Dtype::F16, ..cut(&[70_000], &[70_000]) });
        let expected = "6.552e4 at element 65520; expected values that float16 can hold";
        assert!(error.unwrap_err().ends_with(expected));
    }
}
