//! Strided products: what they read, what they write, and on which cores.

use std::{marker::PhantomData, ops::Range};

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use rayon::prelude::*;

/// A matrix inside a slice: element (i, j) lies at `i·row + j·col`.
#[derive(Clone, Copy)]
pub(super) struct Mat<'a> {
    pub values: &'a [f32],
    pub row: usize,
    pub col: usize,
}

impl<'a> Mat<'a> {
    /// Rows of `row` values each, of which the first columns are used.
    pub(super) fn rows(values: &'a [f32], row: usize) -> Self {
        Self { values, row, col: 1 }
    }

    pub(super) fn t(self) -> Self {
        Self { row: self.col, col: self.row, ..self }
    }

    /// Without what lies before element `start` of its slice.
    fn skip(self, start: usize) -> Self {
        Self { values: &self.values[start..], ..self }
    }

    fn check(&self, rows: usize, cols: usize) {
        let last = (rows.max(1) - 1) * self.row + (cols.max(1) - 1) * self.col;
        assert!(rows * cols == 0 || last < self.values.len(), "matrix lies inside its slice");
    }
}

/// A matrix that is written: element (i, j) lies at `i·row + j`.
///
/// It borrows its elements exclusively, as `&mut [f32]` does, but they need not lie next to each
/// other: several tasks can hold columns of one matrix. Parts come from splitting alone, so no two
/// overlap.
#[derive(Debug)]
pub(super) struct Target<'a> {
    start: *mut f32,
    rows: usize,
    cols: usize,
    row: usize,
    values: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is an exclusive borrow of its elements.
unsafe impl Send for Target<'_> {}

impl<'a> Target<'a> {
    /// All of `values`, as rows of `cols` each.
    pub(super) fn new(values: &'a mut [f32], cols: usize) -> Self {
        let rows = values.len() / cols.max(1);
        Self::strided(values, [rows, cols], cols)
    }

    /// `[rows, cols]` values at the start of a slice, whose rows begin `row` elements apart.
    pub(super) fn strided(values: &'a mut [f32], [rows, cols]: [usize; 2], row: usize) -> Self {
        Mat::rows(values, row).check(rows, cols);
        assert!(cols <= row || rows <= 1, "rows do not overlap");
        Self { start: values.as_mut_ptr(), rows, cols, row, values: PhantomData }
    }

    /// Rows and columns.
    pub(super) fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// The same matrix for a shorter time.
    pub(super) fn reborrow(&mut self) -> Target<'_> {
        Target { values: PhantomData, ..*self }
    }

    /// Row `i`.
    pub(super) fn row(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.rows, "row lies inside the matrix");
        // SAFETY: the row's elements belong to this matrix alone, which is borrowed meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(i * self.row), self.cols) }
    }

    /// The first `at` rows, and the others.
    pub(super) fn split_rows(self, at: usize) -> (Self, Self) {
        assert!(at <= self.rows, "split lies inside the matrix");
        // Of an empty part nothing is read: its start may lie anywhere.
        let start = self.start.wrapping_add(at * self.row);
        (Self { rows: at, ..self }, Self { start, rows: self.rows - at, ..self })
    }

    /// The first `at` columns, and the others.
    pub(super) fn split_cols(self, at: usize) -> (Self, Self) {
        assert!(at <= self.cols, "split lies inside the matrix");
        let start = self.start.wrapping_add(at);
        (Self { cols: at, ..self }, Self { start, cols: self.cols - at, ..self })
    }

    /// A range of rows.
    pub(super) fn rows(self, range: Range<usize>) -> Self {
        self.split_rows(range.end).0.split_rows(range.start).1
    }

    /// A range of columns.
    pub(super) fn cols(self, range: Range<usize>) -> Self {
        self.split_cols(range.end).0.split_cols(range.start).1
    }

    /// Parts of `len` rows each, the last with what is left.
    pub(super) fn row_chunks(self, len: usize) -> Vec<Self> {
        let (mut rest, mut parts) = (self, Vec::new());
        while rest.rows > 0 {
            let at = len.min(rest.rows);
            let (part, others) = rest.split_rows(at);
            parts.push(part);
            rest = others;
        }
        parts
    }

    /// Parts of `len` columns each, the last with what is left.
    pub(super) fn col_chunks(self, len: usize) -> Vec<Self> {
        let (mut rest, mut parts) = (self, Vec::new());
        while rest.cols > 0 {
            let at = len.min(rest.cols);
            let (part, others) = rest.split_cols(at);
            parts.push(part);
            rest = others;
        }
        parts
    }
}

/// Sizes of a product `[m, k] · [k, n]`.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// How a product is written.
#[derive(Clone, Copy)]
pub(super) struct Write {
    /// Adds to what is there.
    pub add: bool,
    /// Factor on the product.
    pub factor: f32,
    /// On all cores, or on this one.
    pub parallel: bool,
}

impl Write {
    /// Over what is there, on this core.
    pub const NEW: Self = Self { add: false, factor: 1.0, parallel: false };
    /// To what is there, on this core.
    pub const ADD: Self = Self { add: true, ..Self::NEW };
    /// Over what is there, on all cores.
    pub const PARALLEL: Self = Self { parallel: true, ..Self::NEW };
}

/// Rows or columns of a shared product that one task writes: a quarter, so that small ones fill the
/// cores too, but enough to be a product and few enough to stay in the cache.
fn part_of(n: usize) -> usize {
    (n / 4).clamp(32, 128)
}

/// `dst = factor · a · b`, or adds it: dst has rows of `dst_row` values.
pub(super) fn product(dst: &mut [f32], dst_row: usize, a: Mat<'_>, b: Mat<'_>, s: Size, w: Write) {
    write_product(Target::strided(dst, [s.m, s.n], dst_row), a, b, s.k, w);
}

/// `dst = factor · a · b`, or adds it: `[m, k] · [k, n]` for a target of m rows and n columns.
pub(super) fn write_product(dst: Target<'_>, a: Mat<'_>, b: Mat<'_>, k: usize, w: Write) {
    let [m, n] = dst.shape();
    a.check(m, k);
    b.check(k, n);
    if m * n == 0 {
        return;
    }
    if !w.parallel {
        one_core(dst, a, b, k, w);
    } else if m > n {
        let len = part_of(m);
        dst.row_chunks(len).into_par_iter().enumerate().for_each(|(i, dst)| {
            one_core(dst, a.skip(i * len * a.row), b, k, w);
        });
    } else {
        let len = part_of(n);
        dst.col_chunks(len).into_par_iter().enumerate().for_each(|(i, dst)| {
            one_core(dst, a, b.skip(i * len * b.col), k, w);
        });
    }
}

/// The product on this core, by the library that is faster for the layout: faer in general
/// (AVX-512 where available), gemm for a transposed left operand, which it packs faster.
fn one_core(dst: Target<'_>, a: Mat<'_>, b: Mat<'_>, k: usize, w: Write) {
    let [m, n] = dst.shape();
    a.check(m, k);
    b.check(k, n);
    let (a_ptr, b_ptr) = (a.values.as_ptr(), b.values.as_ptr());
    let [dst_row, a_row, a_col, b_row, b_col] =
        [dst.row, a.row, a.col, b.row, b.col].map(|stride| stride as isize);
    let dst = dst.start;
    if a.row < a.col {
        // SAFETY: a and b lie inside their slices, as was checked; dst is an exclusive borrow of
        // its elements.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                dst,
                1,
                dst_row,
                w.add,
                a_ptr,
                a_col,
                a_row,
                b_ptr,
                b_col,
                b_row,
                1.0,
                w.factor,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
        return;
    }
    // SAFETY: as above.
    let (dst, a, b) = unsafe {
        (
            MatMut::from_raw_parts_mut(dst, m, n, dst_row, 1),
            MatRef::from_raw_parts(a_ptr, m, k, a_row, a_col),
            MatRef::from_raw_parts(b_ptr, k, n, b_row, b_col),
        )
    };
    let accumulate = if w.add { Accum::Add } else { Accum::Replace };
    matmul(dst, accumulate, a, b, w.factor, Par::Seq);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 + 11) % 23) as f32 - 11.0).collect()
    }

    /// Writes its index into every element of every part.
    fn fill(parts: Vec<Target<'_>>) {
        parts.into_par_iter().enumerate().for_each(|(i, mut part)| {
            for row in 0..part.shape()[0] {
                part.row(row).iter_mut().for_each(|v| *v += (i + 1) as f32);
            }
        });
    }

    #[test]
    fn parts_of_a_target_cover_it_once() {
        for (rows, cols, len) in [(3, 7, 2), (8, 8, 3), (1, 5, 9), (0, 4, 1), (5, 1, 1)] {
            let mut values = vec![0.0; rows * cols];
            fill(Target::new(&mut values, cols).col_chunks(len));
            let expected = |i: usize| (i % cols / len + 1) as f32;
            assert!(values.iter().enumerate().all(|(i, v)| *v == expected(i)), "{values:?}");
            values.fill(0.0);
            fill(Target::new(&mut values, cols).row_chunks(len));
            let expected = |i: usize| (i / cols / len + 1) as f32;
            assert!(values.iter().enumerate().all(|(i, v)| *v == expected(i)), "{values:?}");
        }
        let mut values = vec![0.0; 24];
        let (left, right) = Target::new(&mut values, 6).rows(1..3).split_cols(4);
        fill(vec![left, right.cols(1..2)]);
        let line = [1.0, 1.0, 1.0, 1.0, 0.0, 2.0];
        assert_eq!(values, [[0.0; 6], line, line, [0.0; 6]].concat());
    }

    #[test]
    #[should_panic(expected = "rows do not overlap")]
    fn rows_that_overlap_are_no_target() {
        Target::strided(&mut [0.0; 10], [3, 4], 2);
    }

    #[test]
    fn a_product_into_columns_leaves_the_others_alone() {
        // One core and all, either library, more rows than columns and the other way round.
        for (m, n, k) in [(3, 5, 4), (70, 3, 9), (2, 300, 6), (150, 40, 33)] {
            let (a, b) = (numbers(m * k), numbers(k * n));
            let expected: Vec<f32> = (0..m * n)
                .map(|i| (0..k).map(|l| a[i / n * k + l] * b[l * n + i % n]).sum())
                .collect();
            let transposed: Vec<f32> = (0..m * k).map(|i| a[i % m * k + i / m]).collect();
            let (first, row) = (2, n + 5);
            for parallel in [false, true] {
                for left in [Mat::rows(&a, k), Mat::rows(&transposed, m).t()] {
                    let mut values = vec![7.0; m * row];
                    let target = Target::new(&mut values, row).cols(first..first + n);
                    let write = Write { add: true, factor: 2.0, parallel };
                    write_product(target, left, Mat::rows(&b, n), k, write);
                    for (i, value) in values.iter().enumerate() {
                        let inside = (first..first + n).contains(&(i % row));
                        let at = || i / row * n + i % row - first;
                        let sum = if inside { 7.0 + 2.0 * expected[at()] } else { 7.0 };
                        assert_eq!(*value, sum, "{m}x{n}x{k}, element {i}");
                    }
                }
            }
        }
    }
}
