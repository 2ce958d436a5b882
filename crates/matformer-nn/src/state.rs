//! What a walk remembers, keys and values of earlier tokens per row, and what it draws.

use burn::tensor::Tensor;

use crate::{Error, Result};

/// State that a walk reads and writes. It comes in as an argument: models are `&self`.
#[derive(Clone, Debug, Default)]
pub struct State {
    cache: Option<KvCache>,
    noise: Option<Noise>,
}

/// What drop-path draws from: one key per batch, so that all submodels of a walk lose the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noise {
    /// Seed of the run.
    pub seed: u64,
    /// Index of the batch.
    pub index: u64,
}

impl State {
    /// No memory: every walk starts at position 0 (training, evaluation).
    pub fn new() -> Self {
        Self::default()
    }

    /// With a memory of at most `capacity` positions in each of `rows` rows (generation).
    pub fn with_cache(rows: usize, capacity: usize) -> Self {
        Self { cache: Some(KvCache::new(rows, capacity)), noise: None }
    }

    /// No memory, and noise where the model has a use for it (training).
    pub fn with_noise(noise: Noise) -> Self {
        Self { cache: None, noise: Some(noise) }
    }

    /// The noise, if there is some.
    pub fn noise(&self) -> Option<Noise> {
        self.noise
    }

    /// The cache, if there is one.
    pub fn cache(&self) -> Option<&KvCache> {
        self.cache.as_ref()
    }

    /// The cache, if there is one.
    pub fn cache_mut(&mut self) -> Option<&mut KvCache> {
        self.cache.as_mut()
    }

    /// Position of the first new token of each row; one entry if it is the same for all.
    pub fn starts(&self) -> Vec<usize> {
        match &self.cache {
            None => vec![0],
            Some(cache) if cache.is_even() => vec![cache.lens[0]],
            Some(cache) => cache.lens.clone(),
        }
    }
}

/// Keys and values of a batch, each row with a length of its own. Memory grows with what is held.
///
/// Its content does not depend on FFN widths' shapes: a row may change its submodel between two
/// walks and go on with the same cache.
#[derive(Clone, Debug)]
pub struct KvCache {
    capacity: usize,
    lens: Vec<usize>,
    layers: Vec<Option<[Tensor<3>; 2]>>, // keys, values: [rows, room, kv_heads·head_dim]
}

/// Positions that there is room for at first, beyond the prompt's.
const FIRST_ROOM: usize = 256;

impl KvCache {
    fn new(rows: usize, capacity: usize) -> Self {
        Self { capacity, lens: vec![0; rows.max(1)], layers: Vec::new() }
    }

    /// Positions that each row can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Positions that each row holds.
    pub fn lens(&self) -> &[usize] {
        &self.lens
    }

    /// Forgets the positions of a row from `len` on: after padding, or after tokens that were
    /// tried and rejected. A longer `len` than the row holds changes nothing.
    pub fn truncate(&mut self, row: usize, len: usize) {
        if let Some(l) = self.lens.get_mut(row) {
            *l = len.min(*l);
        }
    }

    fn is_even(&self) -> bool {
        self.lens.iter().all(|l| *l == self.lens[0])
    }

    /// # Errors
    /// [`Error::CacheFull`] if `seq` more positions do not fit.
    pub(crate) fn check(&self, seq: usize) -> Result<()> {
        let needed = self.lens.iter().max().copied().unwrap_or(0) + seq;
        match needed <= self.capacity {
            true => Ok(()),
            false => Err(Error::CacheFull { capacity: self.capacity, needed }),
        }
    }

    /// After a walk of `seq` tokens through all layers.
    pub(crate) fn advance(&mut self, seq: usize) {
        self.lens.iter_mut().for_each(|l| *l += seq);
    }

    /// Writes `seq` new keys and values of a layer behind what each row holds, and returns all
    /// of them up to the longest row.
    ///
    /// # Shapes
    /// - k, v: `[rows·seq, d]`, rows a multiple of the cache's rows (a merged plan holds several
    ///   copies of the batch; lengths repeat)
    /// - output: `[rows·kv_len, d]` twice, and kv_len
    pub(crate) fn append(
        &mut self,
        layer: usize,
        k: Tensor<2>,
        v: Tensor<2>,
        seq: usize,
    ) -> (Tensor<2>, Tensor<2>, usize) {
        let [n, d] = k.dims();
        let rows = n / seq;
        if self.layers.len() <= layer {
            self.layers.resize(layer + 1, None);
        }
        let kv_len = self.lens.iter().max().copied().unwrap_or(0) + seq;
        let empty = |room: usize| Tensor::zeros([rows, room, d], (&k.device(), k.dtype()));
        let held = match self.layers[layer].take() {
            None => {
                let room = (kv_len + FIRST_ROOM).min(self.capacity);
                [empty(room), empty(room)]
            }
            Some(held) => held.map(|old| {
                let [_, room, _] = old.dims();
                match kv_len <= room {
                    true => old,
                    false => empty((2 * kv_len).min(self.capacity))
                        .slice_assign([0..rows, 0..room, 0..d], old),
                }
            }),
        };
        let new = [k, v].map(|t| t.reshape([rows, seq, d]));
        let mut pairs = held.into_iter().zip(new);
        let held = [(); 2].map(|()| match pairs.next() {
            Some((held, new)) => self.write(held, new, rows, seq),
            None => unreachable!("two of each"),
        });
        let all = held.clone().map(|t| t.narrow(1, 0, kv_len).reshape([rows * kv_len, d]));
        self.layers[layer] = Some(held);
        let [k, v] = all;
        (k, v, kv_len)
    }

    fn write(&self, held: Tensor<3>, new: Tensor<3>, rows: usize, seq: usize) -> Tensor<3> {
        let [_, _, d] = new.dims();
        if self.is_even() {
            let at = self.lens[0];
            return held.slice_assign([0..rows, at..at + seq, 0..d], new);
        }
        (0..rows).fold(held, |held, row| {
            let at = self.lens[row % self.lens.len()];
            let part = new.clone().narrow(0, row, 1);
            held.slice_assign([row..row + 1, at..at + seq, 0..d], part)
        })
    }
}
