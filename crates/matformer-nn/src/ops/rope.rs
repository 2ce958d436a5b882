//! Rotary position embedding, half-split as in Hugging Face's Llama.

use burn::tensor::{Device, Tensor, TensorData};

/// Cosines and sines of the positions of a batch, for one forward walk.
#[derive(Clone, Debug)]
pub struct RopeTable {
    cos: Tensor<4>, // [rows or 1, seq, 1, head_dim / 2]
    sin: Tensor<4>,
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
            Tensor::from_data(TensorData::new(values, [starts.len(), seq, 1, half]), device)
        };
        Self { cos: table(f64::cos), sin: table(f64::sin) }
    }

    /// Rotates every head of x by its token's position.
    ///
    /// # Shapes
    /// - x: `[rows·seq, heads·head_dim]`, where rows is a multiple of the table's rows: rows of
    ///   the table repeat
    /// - output: as x
    pub fn rotate(&self, x: Tensor<2>, heads: usize) -> Tensor<2> {
        let [n, d] = x.dims();
        let [table_rows, seq, _, half] = self.cos.dims();
        let rows = n / seq;
        let x = x.reshape([rows, seq, heads, 2 * half]);
        let a = x.clone().narrow(3, 0, half);
        let b = x.narrow(3, half, half);
        let (mut cos, mut sin) = (self.cos.clone(), self.sin.clone());
        if table_rows > 1 && rows > table_rows {
            cos = cos.repeat_dim(0, rows / table_rows);
            sin = sin.repeat_dim(0, rows / table_rows);
        }
        let left = a.clone() * cos.clone() - b.clone() * sin.clone();
        let right = b * cos + a * sin;
        Tensor::cat(vec![left, right], 3).reshape([n, d])
    }
}
