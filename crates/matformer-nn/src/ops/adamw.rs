//! One step of AdamW, and the norm that gradients are clipped by. Neither has a gradient.

use burn::backend::{Backend, Dispatch, tensor::FloatTensor};
use burn::tensor::Tensor;

use super::StepBackend;

/// Hyperparameters of one AdamW step (Loshchilov and Hutter 2019).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// Factor on the gradient from clipping (1 if not clipped).
    pub scale: f64,
    /// Decay rates of the moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Decoupled weight decay, which the learning rate multiplies.
    pub weight_decay: f64,
    /// Number of steps these elements have taken, this one included; used for bias correction.
    pub steps: u64,
}

impl AdamWStep {
    /// Factor on the parameter from weight decay: `1 − learning_rate·weight_decay`.
    pub(super) fn keep(&self) -> f64 {
        1.0 - self.learning_rate * self.weight_decay
    }

    /// `1 − betaⁿ`
    fn correction(&self, beta: f64) -> f64 {
        1.0 - beta.powf(self.steps as f64)
    }

    /// Factor on first moment over root.
    pub(super) fn rate(&self) -> f64 {
        self.learning_rate / self.correction(self.betas[0])
    }

    /// Factor on the second moment under its root.
    pub(super) fn spread(&self) -> f64 {
        1.0 / self.correction(self.betas[1])
    }
}

/// New values, first and second moments of a flat parameter. What is given is updated in place
/// where nobody else holds it.
///
/// # Shapes
/// - values, grad, first, second: `[n]`, without gradients
/// - output: `[n]` each
pub fn adamw(
    values: Tensor<1>,
    grad: Tensor<1>,
    first: Tensor<1>,
    second: Tensor<1>,
    step: AdamWStep,
) -> [Tensor<1>; 3] {
    let (values, first, second) = <Dispatch as StepBackend>::adamw(
        values.into_dispatch(),
        grad.into_dispatch(),
        first.into_dispatch(),
        second.into_dispatch(),
        step,
    );
    [values, first, second].map(Tensor::from_dispatch)
}

/// Sum of squares, `[1]`.
///
/// # Shapes
/// - x: any, without gradients
pub fn sum_of_squares<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    Tensor::from_dispatch(<Dispatch as StepBackend>::sum_of_squares(x.into_dispatch()))
}

pub(super) fn composed_step<B: Backend>(
    values: FloatTensor<B>,
    grad: FloatTensor<B>,
    first: FloatTensor<B>,
    second: FloatTensor<B>,
    s: &AdamWStep,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let times = |t: FloatTensor<B>, factor: f64| B::float_mul_scalar(t, factor.into());
    let [beta1, beta2] = s.betas;
    let grad = times(grad, s.scale);
    let square = B::float_mul(grad.clone(), grad.clone());
    let first = B::float_add(times(first, beta1), times(grad, 1.0 - beta1));
    let second = B::float_add(times(second, beta2), times(square, 1.0 - beta2));
    let root = B::float_sqrt(times(second.clone(), s.spread()));
    let root = B::float_add_scalar(root, s.eps.into());
    let move_by = times(B::float_div(first.clone(), root), s.rate());
    (B::float_sub(times(values, s.keep()), move_by), first, second)
}

pub(super) fn composed_sum_of_squares<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_sum(B::float_mul(x.clone(), x))
}
