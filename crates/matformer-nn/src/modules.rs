//! The two halves of a layer that models share: nested feed-forward block and attention.

use burn::{
    module::{Module, Param},
    tensor::{Device, FloatDType, Tensor, activation::gelu},
};
use matformer_core::Block;
use serde::{Deserialize, Serialize};

use crate::{
    Pass, Weight,
    ops::{
        AttentionSpec, FfnWeights, Gate, Mask, RopeTable, attention, gated, linear, nested_ffn,
        rms_norm,
    },
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
    /// Activation function applied to the gate; `None` for blocks without a gate.
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
    /// The module with uninitialized parameters, to be filled by [`init`](crate::init::init) or
    /// from a file; zero if they never are.
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
    /// Biases on `up` and `down`, for [`Activation::Gelu`] only: gated forms have none. The bias of
    /// `down` is used whole at every width.
    pub bias: bool,
}

/// A feed-forward block that can run at any width up to `d_ff`: at width `w` it uses the first `w`
/// rows of `up`, `gate` and `up_bias`, and the first `w` columns of `down`.
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
    /// The block with uninitialized parameters, to be filled by [`init`](crate::init::init) or from
    /// a file; zero if they never are.
    pub fn init(&self, device: &Device) -> NestedFfn {
        let rows = || Weight::unset([self.d_ff, self.d_model], device);
        let biased = self.bias && self.activation.gate().is_none();
        let bias = |n| biased.then(|| params::unset([n], device));
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

    /// Applies the feed-forward block to the rows of each of `blocks` at its width. The residual is
    /// not added.
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
        self.biased(nested_ffn(x, weights, blocks))
    }

    /// As [`forward`](Self::forward), in a layer's turn of a forward pass: at the widths of `pass.blocks`.
    /// A tap in its state sees what the block's neurons output at x, at full width.
    ///
    /// # Shapes
    /// - x: `[rows, d_model]`
    /// - output: `[Σ block rows, d_model]`
    pub fn forward_in<C>(&self, x: Tensor<2>, pass: &mut Pass<'_, C>) -> Tensor<2> {
        let Some(tap) = pass.state.tap_mut() else {
            return self.forward(x, pass.blocks);
        };
        let h = self.activations(x);
        tap.add(pass.layer, h.clone());
        let down = self.down.values(&h.device());
        let output = |block: &Block| {
            let h = h.clone().slice([block.start..block.end, 0..block.width]);
            h.matmul(down.clone().slice_dim(1, 0..block.width).transpose())
        };
        self.biased(Tensor::cat(pass.blocks.iter().map(output).collect(), 0))
    }

    /// What the neurons output: the input of `down`.
    ///
    /// # Shapes
    /// - x: `[rows, d_model]`; output: `[rows, d_ff]`
    fn activations(&self, x: Tensor<2>) -> Tensor<2> {
        let up = linear(x.clone(), &self.up);
        match (&self.gate, self.activation.gate()) {
            (Some(gate), Some(act)) => gated(linear(x, gate), up, act),
            _ => gelu(match &self.up_bias {
                Some(bias) => up + bias.val().unsqueeze(),
                None => up,
            }),
        }
    }

    /// The products with `down`, and its bias where there is one.
    fn biased(&self, y: Tensor<2>) -> Tensor<2> {
        match &self.down_bias {
            Some(bias) => plus(y, bias.val()),
            None => y,
        }
    }
}

/// Configuration of an [`Attention`]. [`new`](Self::new) gives the plain causal form; set what
/// differs.
#[derive(Clone, Debug)]
pub struct AttentionConfig {
    /// Size of the hidden state.
    pub d_model: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; `heads` is a multiple of it.
    pub kv_heads: usize,
    /// Size of a head; `heads·head_dim` need not be `d_model`.
    pub head_dim: usize,
    /// Biases on the projections to queries, keys and values (Qwen2).
    pub qkv_bias: bool,
    /// A bias on the output projection.
    pub o_bias: bool,
    /// RMS norm of each query and key head before the rotary embedding, with this epsilon (Qwen3).
    pub qk_norm: Option<f64>,
    /// Whether that norm multiplies by 1 plus its weight (Gemma), not by the weight.
    pub norm_plus_one: bool,
    /// Factor on the products of queries and keys; 1/√head_dim if absent.
    pub scale: Option<f64>,
    /// Which keys a query sees.
    pub mask: Mask,
}

/// Grouped-query attention. With a KV cache, each row reads and writes its own slot.
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
    /// `[head_dim]`
    pub q_norm: Option<Param<Tensor<1>>>,
    /// `[head_dim]`
    pub k_norm: Option<Param<Tensor<1>>>,
    #[module(skip)]
    shape: AttentionShape,
}

/// What the forward of an [`Attention`] needs to know beside its parameters.
#[derive(Clone, Copy, Debug)]
struct AttentionShape {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    norm_eps: f64,
    norm_plus_one: bool,
    scale: f64,
    mask: Mask,
}

impl AttentionConfig {
    /// Causal attention of `heads` heads, each with its own keys and values, without biases.
    pub fn new(d_model: usize, heads: usize, head_dim: usize) -> Self {
        Self {
            d_model,
            heads,
            kv_heads: heads,
            head_dim,
            qkv_bias: false,
            o_bias: false,
            qk_norm: None,
            norm_plus_one: false,
            scale: None,
            mask: Mask::Causal,
        }
    }

    /// The module with weights to be filled by [`init`](crate::init::init) or from a file.
    pub fn init(&self, device: &Device) -> Attention {
        let linear = |n_in, n_out, bias| Linear::unset(n_in, n_out, bias, device);
        let (q_dim, kv_dim) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let norm = || self.qk_norm.map(|_| params::unset([self.head_dim], device));
        Attention {
            q: linear(self.d_model, q_dim, self.qkv_bias),
            k: linear(self.d_model, kv_dim, self.qkv_bias),
            v: linear(self.d_model, kv_dim, self.qkv_bias),
            o: linear(q_dim, self.d_model, self.o_bias),
            q_norm: norm(),
            k_norm: norm(),
            shape: AttentionShape {
                heads: self.heads,
                kv_heads: self.kv_heads,
                head_dim: self.head_dim,
                norm_eps: self.qk_norm.unwrap_or_default(),
                norm_plus_one: self.norm_plus_one,
                scale: self.scale.unwrap_or(1.0 / (self.head_dim as f64).sqrt()),
                mask: self.mask,
            },
        }
    }
}

impl Attention {
    /// Attention of one layer, without a residual. With a cache in the pass's state, the new keys
    /// and values go into the rows' slots, and queries see what the slots hold.
    ///
    /// # Shapes
    /// - x: `[tokens, d_model]`, the tokens of `pass.spans`
    /// - output: as x
    pub fn forward<C>(
        &self,
        x: Tensor<2>,
        rope: Option<&RopeTable>,
        pass: &mut Pass<'_, C>,
    ) -> Tensor<2> {
        let s = self.shape;
        let mut q = self.normed(project(&self.q, x.clone()), &self.q_norm); // [tokens, q_dim]
        let mut k = self.normed(project(&self.k, x.clone()), &self.k_norm); // [tokens, kv_dim]
        let mut v = project(&self.v, x);
        if let Some(rope) = rope {
            q = rope.rotate(q);
            k = rope.rotate(k);
        }
        let mut capacity = None;
        if let Some(cache) = pass.state.cache_mut() {
            capacity = Some(cache.capacity());
            (k, v) = cache.write(pass.layer, k, v, pass.spans); // [slots·capacity, kv_dim]
        }
        let spec = AttentionSpec {
            spans: pass.spans.clone(),
            capacity,
            heads: s.heads,
            kv_heads: s.kv_heads,
            head_dim: s.head_dim,
            scale: s.scale,
            mask: s.mask,
        };
        project(&self.o, attention(q, k, v, spec))
    }

    /// Every head of x through its norm, if there is one.
    ///
    /// # Shapes
    /// - x: `[tokens, n·head_dim]`; output: as x
    fn normed(&self, x: Tensor<2>, weight: &Option<Param<Tensor<1>>>) -> Tensor<2> {
        let Some(weight) = weight else {
            return x;
        };
        let ([tokens, d], head_dim) = (x.dims(), self.shape.head_dim);
        let heads = x.reshape([tokens * d / head_dim, head_dim]);
        let weight = weight.val();
        let weight = if self.shape.norm_plus_one { weight + 1.0 } else { weight };
        rms_norm(heads, weight, self.shape.norm_eps).reshape([tokens, d])
    }
}

/// `x · weightᵀ + bias`.
///
/// # Shapes
/// - x: `[rows, in]`; output: `[rows, out]`
pub fn project(layer: &Linear, x: Tensor<2>) -> Tensor<2> {
    let y = linear(x, &layer.weight);
    match &layer.bias {
        Some(bias) => plus(y, bias.val()),
        None => y,
    }
}

/// Every row of y plus a bias, in the dtype of y.
///
/// # Shapes
/// - y: `[rows, out]`, bias: `[out]`; output: as y
fn plus(y: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    let dtype = FloatDType::from(y.dtype());
    y + bias.cast(dtype).unsqueeze()
}
