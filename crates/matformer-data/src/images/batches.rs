//! Batches of images as a pure function of (seed, step, rank, world).

use std::ops::Range;

use rayon::prelude::*;

use super::ImageSet;
use crate::{Augment, AugmentConfig, Error, Result, permutation::Permutation};

/// A batch of images on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageBatch {
    /// Images.
    pub rows: usize,
    /// Normalised pixels, [rows, channels, size, size].
    pub pixels: Vec<f32>,
    /// Soft labels: one weight per class for each image, [rows, classes]; each row sums to 1.
    pub weights: Vec<f32>,
}

/// Walks the images of a set without replacement, in another order each epoch, each varied anew.
///
/// Row `r` of rank `k` at step `t` is global row `i = (t * world + k) * rows + r`; it shows image
/// `i % images` of epoch `i / images`, at the place that a permutation keyed by (seed, epoch) gives
/// it, and is varied by the key (seed, i). Nothing is remembered between calls.
#[derive(Debug, Clone)]
pub struct ImageBatches {
    set: ImageSet,
    augment: Augment,
    size: usize,
    rows: usize,
    seed: u64,
}

impl ImageBatches {
    /// Batches of `rows` images of `size` by `size` pixels.
    ///
    /// # Errors
    /// [`Error::Value`] for no rows, and if the set has fewer images than one batch; as [`Augment::new`].
    pub fn new(
        set: ImageSet,
        augment: &AugmentConfig,
        size: usize,
        rows: usize,
        seed: u64,
    ) -> Result<Self> {
        if rows == 0 {
            return Err(Error::zero("rows"));
        }
        if set.len() < rows {
            let found = format!("{} training images", set.len());
            return Err(Error::value(found, format!("at least {rows}, a batch")));
        }
        let augment = Augment::new(augment, set.size(), set.channels(), size)?;
        Ok(Self { set, augment, size, rows, seed })
    }

    /// The images.
    pub fn set(&self) -> &ImageSet {
        &self.set
    }

    /// Images of a batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The batch of `rank` out of `world` at `step`, varied for training.
    ///
    /// # Errors
    /// As [`Augment::train`].
    pub fn at(&self, step: u64, rank: usize, world: usize) -> Result<ImageBatch> {
        self.rows_of(step.wrapping_mul(world as u64).wrapping_add(rank as u64), 0..self.rows)
    }

    /// The rows `rows` of the batch of a single rank at `step`.
    ///
    /// # Errors
    /// As [`at`](Self::at).
    pub fn part(&self, step: u64, rows: Range<usize>) -> Result<ImageBatch> {
        if !self.augment.mixes() {
            return self.rows_of(step, rows);
        }
        // Each of them may be mixed with any other of the batch.
        let mut batch = self.at(step, 0, 1)?;
        let cut = |values: &mut Vec<f32>| {
            let of_row = values.len() / self.rows;
            *values = values[rows.start * of_row..rows.end * of_row].to_vec();
        };
        cut(&mut batch.pixels);
        cut(&mut batch.weights);
        Ok(ImageBatch { rows: rows.len(), ..batch })
    }

    /// The rows `rows` of batch number `turn`, mixed among themselves.
    fn rows_of(&self, turn: u64, rows: Range<usize>) -> Result<ImageBatch> {
        let first = turn.wrapping_mul(self.rows as u64);
        let images = self.set.len() as u64;
        let showings: Vec<(usize, u64)> = rows
            .clone()
            .map(|row| {
                let showing = first.wrapping_add(row as u64);
                let order = Permutation::keyed(images, self.seed, "images", showing / images);
                (order.at(showing % images) as usize, showing)
            })
            .collect();
        let mut batch = self.batch(&showings, |pixels, out, showing| {
            self.augment.train(pixels, out, (self.seed, showing))
        })?;
        let labels: Vec<usize> = showings.iter().map(|(image, _)| self.set.label(*image)).collect();
        let classes = self.set.classes().len();
        batch.weights = self.augment.weights(&labels, classes)?;
        let key = (self.seed, turn);
        self.augment.mix(&mut batch.pixels, &mut batch.weights, rows.len(), classes, key)?;
        Ok(batch)
    }

    /// The images at these places as they are: for evaluation, with their labels alone.
    ///
    /// # Errors
    /// As [`Augment::eval`].
    pub fn plain(&self, places: &[usize]) -> Result<ImageBatch> {
        let showings: Vec<(usize, u64)> = places.iter().map(|place| (*place, 0)).collect();
        let mut batch = self.batch(&showings, |pixels, out, _| self.augment.eval(pixels, out))?;
        let classes = self.set.classes().len();
        batch.weights = vec![0.0; places.len() * classes];
        for (row, place) in places.iter().enumerate() {
            batch.weights[row * classes + self.set.label(*place)] = 1.0;
        }
        Ok(batch)
    }

    fn batch(
        &self,
        showings: &[(usize, u64)],
        vary: impl Fn(&[u8], &mut [f32], u64) -> Result<()> + Sync,
    ) -> Result<ImageBatch> {
        let values = self.set.channels() * self.size * self.size;
        let mut pixels = vec![0.0; showings.len() * values];
        pixels
            .par_chunks_mut(values)
            .zip(showings)
            .try_for_each(|(out, (image, showing))| vary(self.set.pixels(*image), out, *showing))?;
        Ok(ImageBatch { rows: showings.len(), pixels, weights: Vec::new() })
    }
}

/// Places of `count` images spread evenly over `len`, or all: the part of a set that is measured on.
pub fn spread(len: usize, count: usize) -> Vec<usize> {
    let count = count.min(len);
    (0..count).map(|i| (i as u128 * len as u128 / count as u128) as usize).collect()
}
