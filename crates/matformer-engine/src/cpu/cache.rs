//! Keys and values of the tokens so far, in slots.

/// Keys and values of one layer, `[slots, capacity, kv_dim]` each.
#[derive(Clone, Debug, Default)]
struct OfLayer {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// A cache of so many slots of so many positions; a layer's memory is taken when it is first written to.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    capacity: usize,
    kv_dim: usize,
    lens: Vec<usize>,
    layers: Vec<OfLayer>,
}

impl Cache {
    pub(crate) fn new(n_layers: usize, slots: usize, capacity: usize, kv_dim: usize) -> Self {
        Self { capacity, kv_dim, lens: vec![0; slots], layers: vec![OfLayer::default(); n_layers] }
    }

    /// Positions that a slot holds.
    pub(crate) fn len(&self, slot: usize) -> usize {
        self.lens[slot]
    }

    /// Forgets the positions of a slot from `len` on.
    pub(crate) fn truncate(&mut self, slot: usize, len: usize) {
        self.lens[slot] = self.lens[slot].min(len);
    }

    /// After a step: a slot holds more tokens.
    pub(crate) fn extend(&mut self, slot: usize, tokens: usize) {
        self.lens[slot] += tokens;
    }

    fn at(&self, slot: usize, position: usize) -> usize {
        (slot * self.capacity + position) * self.kv_dim
    }

    pub(crate) fn write(
        &mut self,
        layer: usize,
        slot: usize,
        position: usize,
        k: &[f32],
        v: &[f32],
    ) {
        let (from, kv_dim) = (self.at(slot, position), self.kv_dim);
        let all = self.at(self.lens.len(), 0);
        let OfLayer { keys, values } = &mut self.layers[layer];
        for (held, new) in [(keys, k), (values, v)] {
            if held.is_empty() {
                // Memory that is zero already, and taken page by page as it is written to.
                *held = vec![0.0; all];
            }
            held[from..from + kv_dim].copy_from_slice(new);
        }
    }

    /// All positions of a slot, `[capacity, kv_dim]`.
    pub(crate) fn keys(&self, layer: usize, slot: usize) -> &[f32] {
        &self.layers[layer].keys[self.at(slot, 0)..self.at(slot + 1, 0)]
    }

    /// As the keys.
    pub(crate) fn values(&self, layer: usize, slot: usize) -> &[f32] {
        &self.layers[layer].values[self.at(slot, 0)..self.at(slot + 1, 0)]
    }
}
