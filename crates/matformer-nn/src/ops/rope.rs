//! Rotary position embedding, half-split as in Hugging Face's Llama.

use burn::backend::{Backend, Dispatch, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{Device, Shape, Slice, Tensor, TensorData};
use matformer_core::Spans;

use super::{
    NnBackend,
    precision::{stored_as, wide},
};

/// How the rotation frequencies of the rotary embedding are computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeRule {
    /// Pair i turns by `theta^(−2i/head_dim)` per position (Su et al. 2021, RoFormer).
    Default {
        /// Base of the frequencies.
        theta: f64,
    },
    /// The default frequencies divided by `factor`, for a longer context (`rope_type` `linear`).
    Linear {
        /// Base of the frequencies.
        theta: f64,
        /// What all frequencies are divided by.
        factor: f64,
    },
    /// Low frequencies divided by `factor`, high ones kept, smoothly in between (`rope_type`
    /// `llama3`).
    Llama3 {
        /// Base of the frequencies.
        theta: f64,
        /// What low frequencies are divided by.
        factor: f64,
        /// Frequencies that turn at most this often in the original context are low.
        low_freq_factor: f64,
        /// Frequencies that turn at least this often in the original context are high.
        high_freq_factor: f64,
        /// `original_max_position_embeddings`: the context before it was extended.
        original_context: f64,
    },
}

impl RopeRule {
    /// Angle per position of each pair, `head_dim / 2` of them.
    pub fn frequencies(&self, head_dim: usize) -> Vec<f64> {
        let (Self::Default { theta } | Self::Linear { theta, .. } | Self::Llama3 { theta, .. }) =
            *self;
        let default = |i: usize| theta.powf(-2.0 * i as f64 / head_dim as f64);
        let scaled = |frequency: f64| match *self {
            Self::Default { .. } => frequency,
            Self::Linear { factor, .. } => frequency / factor,
            Self::Llama3 {
                factor, low_freq_factor, high_freq_factor, original_context, ..
            } => {
                let turns = original_context * frequency / std::f64::consts::TAU;
                let smooth = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                let kept = smooth.clamp(0.0, 1.0);
                frequency * (kept + (1.0 - kept) / factor)
            }
        };
        (0..head_dim / 2).map(default).map(scaled).collect()
    }
}

/// Cosines and sines of the positions of a batch, for one forward pass.
#[derive(Clone, Debug)]
pub struct RopeTable {
    /// `[table rows, head_dim / 2]`: a table row per token of the batch, or of its first row only
    /// if all rows have the same start and length.
    cos: Tensor<2>,
    /// As `cos`.
    sin: Tensor<2>,
}

impl RopeTable {
    /// The table of a batch; `frequencies` are those of [`RopeRule::frequencies`].
    pub fn new(spans: &Spans, frequencies: &[f64], device: &Device) -> Self {
        let alike = spans.common_len().is_some() && spans.common_start().is_some();
        let rows = if alike { 1 } else { spans.rows() };
        let positions = spans.iter().take(rows).flat_map(|span| span.start..span.start + span.len);
        let angles: Vec<f64> =
            positions.flat_map(|p| frequencies.iter().map(move |f| p as f64 * f)).collect();
        let half = frequencies.len();
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|a| f(*a) as f32).collect();
            let shape = [values.len() / half.max(1), half];
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        Self { cos: table(f64::cos), sin: table(f64::sin) }
    }

    /// Rotates every head of x by its token's position.
    ///
    /// # Shapes
    /// - x: `[copies·tokens, heads·head_dim]`: the table repeats
    /// - output: as x
    pub fn rotate(&self, x: Tensor<2>) -> Tensor<2> {
        let [cos, sin] = [&self.cos, &self.sin].map(|t| t.clone().into_dispatch());
        Tensor::from_dispatch(<Dispatch as NnBackend>::rope(x.into_dispatch(), cos, sin, false))
    }
}

pub(super) fn rotate<B: Backend>(
    x: FloatTensor<B>,
    cos: FloatTensor<B>,
    sin: FloatTensor<B>,
    back: bool,
) -> FloatTensor<B> {
    let ([n, d], [table, half]) = (x.shape().dims(), cos.shape().dims());
    let heads = d / (2 * half);
    let (dtype, x) = (x.dtype(), wide::<B>(x));
    let x = B::float_reshape(x, Shape::new([n / table, table, heads, 2 * half]));
    let part = |from: usize| {
        let all = |len: usize| Slice::from(0..len);
        let slices = [all(n / table), all(table), all(heads), Slice::from(from..from + half)];
        B::float_slice(x.clone(), &slices)
    };
    let [cos, sin] = [cos, sin].map(|t| B::float_reshape(t, Shape::new([1, table, 1, half])));
    let sin = if back { B::float_neg(sin) } else { sin };
    let (a, b) = (part(0), part(half));
    let product = |x: &FloatTensor<B>, t: &FloatTensor<B>| B::float_mul(x.clone(), t.clone());
    let left = B::float_sub(product(&a, &cos), product(&b, &sin));
    let right = B::float_add(product(&b, &cos), product(&a, &sin));
    let rotated = B::float_reshape(B::float_cat(vec![left, right], 3), Shape::new([n, d]));
    stored_as::<B>(rotated, dtype)
}
