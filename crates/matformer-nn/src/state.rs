//! State of a forward pass: the KV cache, in slots, the seed of its random draws, and a tap on its
//! feed-forward activations.

use burn::tensor::{FloatDType, Tensor};
use matformer_core::{Span, Spans};

use crate::{Error, Result, Tap};

/// State that a forward pass reads and writes. It comes in as an argument: models are `&self`.
#[derive(Clone, Debug, Default)]
pub struct State {
    cache: Option<KvCache>,
    noise: Option<Noise>,
    tap: Option<Tap>,
    compute: Option<FloatDType>,
}

/// Seed of drop-path (stochastic depth): one key per batch, so that all submodels of a forward pass drop
/// the same branches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noise {
    /// Seed of the run.
    pub seed: u64,
    /// Index of the batch.
    pub index: u64,
    /// Which rows of the batch the forward pass has, if not all.
    pub part: Option<BatchPart>,
}

/// Some rows of a batch, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPart {
    /// Place of the first in the batch.
    pub first: usize,
    /// Rows of the batch.
    pub of: usize,
}

impl State {
    /// No cache and no noise (evaluation): rows attend to their own tokens only.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a cache of `slots` rows of at most `capacity` positions each (generation).
    pub fn with_cache(slots: usize, capacity: usize) -> Self {
        Self { cache: Some(KvCache::new(slots, capacity)), ..Self::default() }
    }

    /// No cache, and noise for models that use it (training).
    pub fn with_noise(noise: Noise) -> Self {
        Self { noise: Some(noise), ..Self::default() }
    }

    /// With a tap that sums the activations of feed-forward neurons (their importance).
    pub fn with_tap(tap: Tap) -> Self {
        Self { tap: Some(tap), ..Self::default() }
    }

    /// The same, with the products of matrices computed in `dtype`. Weights, the residual stream and
    /// statistics stay in f32.
    pub fn computing_in(self, dtype: FloatDType) -> Self {
        Self { compute: Some(dtype), ..self }
    }

    /// What products of matrices are computed in.
    pub fn compute(&self) -> FloatDType {
        self.compute.unwrap_or(FloatDType::F32)
    }

    /// The tap, if there is one.
    pub fn tap_mut(&mut self) -> Option<&mut Tap> {
        self.tap.as_mut()
    }

    /// The tap with all that it has seen, if there is one.
    pub fn into_tap(self) -> Option<Tap> {
        self.tap
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
}

/// Keys and values of earlier tokens: per layer one tensor each, `[slots, capacity, kv_dim]`,
/// allocated at the first write, written and read in place.
///
/// A row of a batch names its slot ([`Span::slot`]). What a slot holds does not depend on FFN
/// widths: a row may change its submodel between two forward passes and keep its slot. A slot that
/// is [truncated](Self::truncate) to 0 is free for another row.
#[derive(Clone, Debug)]
pub struct KvCache {
    capacity: usize,
    lens: Vec<usize>, // per slot
    layers: Vec<Option<KeysValues>>,
}

/// Keys and values of one layer, `[slots, capacity, kv_dim]` each.
#[derive(Clone, Debug)]
struct KeysValues {
    keys: Tensor<3>,
    values: Tensor<3>,
}

impl KvCache {
    /// A cache that holds nothing yet.
    pub fn new(slots: usize, capacity: usize) -> Self {
        Self { capacity, lens: vec![0; slots], layers: Vec::new() }
    }

    /// Positions that each slot can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Positions that each slot holds.
    pub fn lens(&self) -> &[usize] {
        &self.lens
    }

    /// The next `len` tokens of a slot.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn span(&self, slot: usize, len: usize) -> Span {
        Span { slot: Some(slot), start: self.lens[slot], len }
    }

    /// Spans of a batch that appends `lens[i]` tokens to each slot `i`.
    ///
    /// # Panics
    /// If there are fewer slots.
    pub fn spans(&self, lens: &[usize]) -> Spans {
        Spans::new(lens.iter().enumerate().map(|(slot, len)| self.span(slot, *len)).collect())
    }

    /// Forgets the positions of a slot from `len` on: tokens that were tried and rejected, or all,
    /// to reuse the slot. A longer `len` than the slot holds, or an unknown slot, changes nothing.
    pub fn truncate(&mut self, slot: usize, len: usize) {
        if let Some(held) = self.lens.get_mut(slot) {
            *held = len.min(*held);
        }
    }

    /// Checks that a batch fits the cache: each row has its own slot, starts at or before the
    /// slot's current length (positions from there on are overwritten), and ends within the
    /// capacity.
    ///
    /// # Errors
    /// Names the first row or slot that does not fit.
    pub fn check(&self, spans: &Spans) -> Result<()> {
        let mut taken = vec![false; self.lens.len()];
        for (row, span) in spans.iter().enumerate() {
            let slot = span.slot.ok_or(Error::NoSlot { row })?;
            let Some(&held) = self.lens.get(slot) else {
                return Err(Error::UnknownSlot { slot, slots: self.lens.len() });
            };
            if std::mem::replace(&mut taken[slot], true) {
                return Err(Error::SlotTwice { slot });
            }
            if span.start > held {
                return Err(Error::SlotGap { slot, start: span.start, held });
            }
            let needed = span.start + span.len;
            if needed > self.capacity {
                return Err(Error::CacheFull { slot, capacity: self.capacity, needed });
            }
        }
        Ok(())
    }

    /// After a forward pass through all layers: each slot holds its row up to the row's last token.
    pub(crate) fn keep(&mut self, spans: &Spans) {
        for span in spans.iter() {
            if let Some(slot) = span.slot {
                self.lens[slot] = span.start + span.len;
            }
        }
    }

    /// Writes the new keys and values at the positions given by the spans, and returns all keys and
    /// values of the layer. No gradient goes through a cache.
    ///
    /// # Shapes
    /// - keys, values: `[tokens, kv_dim]`
    /// - output: `[slots·capacity, kv_dim]` twice, slot after slot
    pub(crate) fn write(
        &mut self,
        layer: usize,
        keys: Tensor<2>,
        values: Tensor<2>,
        spans: &Spans,
    ) -> (Tensor<2>, Tensor<2>) {
        let [_, kv_dim] = keys.dims();
        let (slots, capacity) = (self.lens.len(), self.capacity);
        if self.layers.len() <= layer {
            self.layers.resize(layer + 1, None);
        }
        let empty = |like: &Tensor<2>| {
            Tensor::zeros([slots, capacity, kv_dim], (&like.device(), like.dtype()))
        };
        // Taken out of the cache: tensors with a single owner are written in place.
        let held = self.layers[layer]
            .take()
            .unwrap_or_else(|| KeysValues { keys: empty(&keys), values: empty(&values) });
        let held = KeysValues {
            keys: assign(held.keys, keys.detach(), spans),
            values: assign(held.values, values.detach(), spans),
        };
        let flat = |t: &Tensor<3>| t.clone().reshape([slots * capacity, kv_dim]);
        let all = (flat(&held.keys), flat(&held.values));
        self.layers[layer] = Some(held);
        all
    }
}

/// Writes the rows of `new` (`[tokens, kv_dim]`) into `held` (`[slots, capacity, kv_dim]`): rows
/// that lie in neighbouring slots at the same positions in one go.
fn assign(held: Tensor<3>, new: Tensor<2>, spans: &Spans) -> Tensor<3> {
    let [_, kv_dim] = new.dims();
    let follows = |a: &Span, b: &Span, n: usize| {
        let next = a.slot.map(|slot| slot + n);
        b.slot == next && (b.start, b.len) == (a.start, a.len)
    };
    let (mut held, mut row) = (held, 0);
    while row < spans.rows() {
        let first = spans.row(row);
        let n = (1..spans.rows() - row)
            .find(|n| !follows(&first, &spans.row(row + n), *n))
            .unwrap_or(spans.rows() - row);
        let slot = first.slot.unwrap_or_else(|| unreachable!("the batch fits the cache"));
        let part = new.clone().slice([spans.tokens_of(row..row + n), 0..kv_dim]);
        let place = [slot..slot + n, first.start..first.start + first.len, 0..kv_dim];
        held = held.slice_assign(place, part.reshape([n, first.len, kv_dim]));
        row += n;
    }
    held
}
