//! Rotary position embedding, half-split as in Hugging Face's Llama.

use burn::backend::{Backend, Dispatch, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{Device, Shape, Slice, Tensor, TensorData};

use super::NnBackend;

/// Cosines and sines of the positions of a batch, for one forward walk.
#[derive(Clone, Debug)]
pub struct RopeTable {
    cos: Tensor<2>, // [rows or 1 · seq, head_dim / 2]
    sin: Tensor<2>,
}

impl RopeTable {
    /// The table for rows whose first positions are `starts` (one entry if all rows start
    /// alike), each `seq` long.
    ///
    /// Angle of position p and pair i: `p · theta^(−2i/head_dim)` (Su et al. 2021, RoFormer).
    pub fn new(starts: &[usize], seq: usize, head_dim: usize, theta: f64, device: &Device) -> Self {
        let half = head_dim / 2;
        let angles: Vec<f64> = starts
            .iter()
            .flat_map(|start| (0..seq).map(move |i| (start + i) as f64))
            .flat_map(|p| (0..half).map(move |i| p * theta.powf(-2.0 * i as f64 / head_dim as f64)))
            .collect();
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|a| f(*a) as f32).collect();
            Tensor::from_data(TensorData::new(values, [starts.len() * seq, half]), device)
        };
        Self { cos: table(f64::cos), sin: table(f64::sin) }
    }

    /// Rotates every head of x by its token's position.
    ///
    /// # Shapes
    /// - x: `[rows·seq, heads·head_dim]`, where rows is a multiple of the table's rows: rows of
    ///   the table repeat
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
    B::float_reshape(B::float_cat(vec![left, right], 3), Shape::new([n, d]))
}
