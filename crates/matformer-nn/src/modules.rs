//! The two halves of a layer that models share: nested feed-forward block and attention.

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor},
};
use matformer_core::Block;
use serde::{Deserialize, Serialize};

use crate::{
    State, Weight,
    ops::{AttentionSpec, FfnWeights, Gate, RopeTable, attention, linear, nested_ffn},
    params,
};

/// What a feed-forward block does between its matrices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Three matrices: `down(silu(gate(x)) · up(x))`, as in Llama.
    #[default]
    SwiGlu,
    /// Three matrices: `down(gelu(gate(x)) · up(x))`, GELU in its tanh form, as in Gemma.
    GeGlu,
    /// Two matrices: `down(gelu(up(x)))`, exact GELU, the paper's form.
    Gelu,
}

impl Activation {
    /// What the gate's product goes through; `None` in the form without a gate.
    pub fn gate(self) -> Option<Gate> {
        match self {
            Self::SwiGlu => Some(Gate::Silu),
            Self::GeGlu => Some(Gate::GeluTanh),
            Self::Gelu => None,
        }
    }
}

/// A product with a matrix, and a bias where there is one.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Weight,
    /// `[out]`
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// The module with parameters that wait for [`init`](crate::init::init) or a file; else zero.
    pub fn unset(n_in: usize, n_out: usize, bias: bool, device: &Device) -> Self {
        Self {
            weight: Weight::unset([n_out, n_in], device),
            bias: bias.then(|| params::unset([n_out], device)),
        }
    }
}

/// Configuration of a [`NestedFfn`].
#[derive(Clone, Debug)]
pub struct NestedFfnConfig {
    /// Size of the hidden state.
    pub d_model: usize,
    /// Widest width.
    pub d_ff: usize,
    /// Gated or plain.
    pub activation: Activation,
    /// Biases on both matrices (plain form only; the second is whole at every width).
    pub bias: bool,
}

/// A feed-forward block of which every width is a prefix of the same hidden units: a width is the
/// first rows of up, gate and the bias of up, and the first columns of down.
#[derive(Module, Debug)]
pub struct NestedFfn {
    /// `[d_ff, d_model]`
    pub up: Weight,
    /// `[d_ff, d_model]`, gated form only
    pub gate: Option<Weight>,
    /// `[d_model, d_ff]`
    pub down: Weight,
    /// `[d_ff]`
    pub up_bias: Option<Param<Tensor<1>>>,
    /// `[d_model]`
    pub down_bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    activation: Activation,
}

impl NestedFfnConfig {
    /// The block with parameters that wait for [`init`](crate::init::init) or a file; else zero.
    pub fn init(&self, device: &Device) -> NestedFfn {
        let rows = || Weight::unset([self.d_ff, self.d_model], device);
        let bias = |n| self.bias.then(|| params::unset([n], device));
        NestedFfn {
            up: rows(),
            gate: self.activation.gate().map(|_| rows()),
            down: Weight::unset([self.d_model, self.d_ff], device),
            up_bias: bias(self.d_ff),
            down_bias: bias(self.d_model),
            activation: self.activation,
        }
    }
}

impl NestedFfn {
    /// Widest width.
    pub fn d_ff(&self) -> usize {
        self.up.shape()[0]
    }

    /// Each block's rows of x at the block's width, without a residual.
    ///
    /// # Shapes
    /// - x: `[rows, d_model]`
    /// - output: `[Σ block rows, d_model]`, stacked in the order of the blocks
    pub fn forward(&self, x: Tensor<2>, blocks: &[Block]) -> Tensor<2> {
        let (up, down) = (&self.up, &self.down);
        let bias = self.up_bias.as_ref().map(Param::val);
        let weights = match (&self.gate, self.activation.gate()) {
            (Some(gate), Some(act)) => FfnWeights::Gated { up, gate, down, act },
            _ => FfnWeights::Plain { up, bias: bias.as_ref(), down },
        };
        let y = nested_ffn(x, weights, blocks);
        match &self.down_bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        }
    }
}

/// Configuration of an [`Attention`].
#[derive(Clone, Debug)]
pub struct AttentionConfig {
    /// Size of the hidden state.
    pub d_model: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; `heads` is a multiple of it.
    pub kv_heads: usize,
    /// Size of a head.
    pub head_dim: usize,
    /// Biases on all four projections.
    pub bias: bool,
    /// Whether a query sees only the keys up to its own position.
    pub causal: bool,
}

/// Grouped-query attention over a per-row cache.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[heads·head_dim, d_model]`
    pub q: Linear,
    /// `[kv_heads·head_dim, d_model]`
    pub k: Linear,
    /// `[kv_heads·head_dim, d_model]`
    pub v: Linear,
    /// `[d_model, heads·head_dim]`
    pub o: Linear,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    kv_heads: usize,
    #[module(skip)]
    causal: bool,
}

/// Where the tokens of one walk stand: the same for all layers.
#[derive(Clone, Debug)]
pub struct Positions {
    /// Position of the first token of each row; one entry if it is the same for all.
    pub starts: Vec<usize>,
    /// Tokens of each row.
    pub seq: usize,
    /// Rotary embedding of these positions, if the model has one.
    pub rope: Option<RopeTable>,
}

impl AttentionConfig {
    /// The module with weights to be filled by [`init`](crate::init::init) or from a file.
    pub fn init(&self, device: &Device) -> Attention {
        let linear = |n_in, n_out| Linear::unset(n_in, n_out, self.bias, device);
        let (q_dim, kv_dim) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        Attention {
            q: linear(self.d_model, q_dim),
            k: linear(self.d_model, kv_dim),
            v: linear(self.d_model, kv_dim),
            o: linear(q_dim, self.d_model),
            heads: self.heads,
            kv_heads: self.kv_heads,
            causal: self.causal,
        }
    }
}

impl Attention {
    /// Attention of one layer, without a residual. With a cache in `state`, the new keys and
    /// values go behind those of the layer's earlier tokens.
    ///
    /// # Shapes
    /// - x: `[rows·seq, d_model]`, rows a multiple of the batch's rows
    /// - output: as x
    pub fn forward(
        &self,
        layer: usize,
        x: Tensor<2>,
        positions: &Positions,
        state: &mut State,
    ) -> Tensor<2> {
        let seq = positions.seq;
        let mut q = project(&self.q, x.clone()); // [rows·seq, heads·head_dim]
        let mut k = project(&self.k, x.clone()); // [rows·seq, kv_heads·head_dim]
        let v = project(&self.v, x);
        if let Some(rope) = &positions.rope {
            q = rope.rotate(q);
            k = rope.rotate(k);
        }
        let [n, q_dim] = q.dims();
        let rows = n / seq;
        let (k, v, kv_len) = match state.cache_mut() {
            Some(cache) => cache.append(layer, k, v, seq),
            None => (k, v, seq),
        };
        let spec = AttentionSpec {
            rows,
            q_len: seq,
            kv_len,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: q_dim / self.heads,
            causal: self.causal.then(|| repeat_starts(&positions.starts, rows)),
        };
        project(&self.o, attention(q, k, v, spec))
    }
}

/// `x · weightᵀ + bias`.
///
/// # Shapes
/// - x: `[rows, in]`; output: `[rows, out]`
pub fn project(layer: &Linear, x: Tensor<2>) -> Tensor<2> {
    let y = linear(x, &layer.weight);
    match &layer.bias {
        Some(bias) => y + bias.val().unsqueeze(),
        None => y,
    }
}

/// One entry for all rows, or one per row: a merged plan holds the batch several times.
fn repeat_starts(starts: &[usize], rows: usize) -> Vec<usize> {
    match starts.len() {
        1 => starts.to_vec(),
        n => (0..rows).map(|row| starts[row % n]).collect(),
    }
}
