//! Muon: momentum, orthogonalised (Jordan et al. 2024, <https://kellerjordan.github.io/posts/muon/>).

use burn::tensor::Tensor;
use matformer_nn::ops::AdamWStep;

/// Decay of the momentum.
const MOMENTUM: f64 = 0.95;
/// Steps of the Newton-Schulz iteration, and its coefficients: they take singular values between about 0.001 and 1 to
/// between 0.7 and 1.2.
const STEPS: usize = 5;
const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// Root mean square of an update, per unit of learning rate: about AdamW's (Liu et al. 2025, arXiv 2502.16982).
const RMS: f64 = 0.2;

/// New values and momentum of a matrix, or of the part of one that was drawn.
///
/// # Shapes
/// - all: `[rows, cols]`
pub(crate) fn step(p: Tensor<2>, g: Tensor<2>, m: Tensor<2>, rate: &AdamWStep) -> [Tensor<2>; 2] {
    let g = g * rate.scale;
    let m = m * MOMENTUM + g.clone();
    let ahead = g + m.clone() * MOMENTUM; // Nesterov
    let [rows, cols] = p.dims();
    let size = RMS * (rows.max(cols) as f64).sqrt();
    let update = orthogonal(ahead) * (rate.learning_rate * size);
    [p * (1.0 - rate.learning_rate * rate.weight_decay) - update, m]
}

/// The matrix with all singular values near 1.
fn orthogonal(x: Tensor<2>) -> Tensor<2> {
    let [rows, cols] = x.dims();
    let mut x = if rows > cols { x.transpose() } else { x };
    let norm = x.clone().square().sum().sqrt().reshape([1, 1]) + 1e-7;
    x = x / norm;
    let [a, b, c] = COEFFICIENTS;
    for _ in 0..STEPS {
        let gram = x.clone().matmul(x.clone().transpose());
        let both = gram.clone() * b + gram.clone().matmul(gram) * c;
        x = x.clone() * a + both.matmul(x);
    }
    if rows > cols { x.transpose() } else { x }
}
