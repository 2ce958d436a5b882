//! Activations of the feed-forward block and their gradients, composed of a backend's own
//! operations.

use burn::backend::{Backend, Dispatch, tensor::FloatTensor};
use burn::tensor::Tensor;

use super::NnBackend;

/// Activation of a gated feed-forward block: applied to `gate(x)` before it is multiplied by
/// `up(x)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// SiLU: SwiGLU, as in Llama.
    Silu,
    /// GELU in its tanh form: GeGLU, as in Gemma.
    GeluTanh,
}

/// Both gates are `g·σ(t(g))`. For SiLU t is g itself; for GELU in its tanh form it is
/// `LINEAR·g + CUBIC·g³`, because `(1 + tanh z)/2 = σ(2z)`.
pub(super) const LINEAR: f32 = 1.595_769_2; // 2·√(2/π)
pub(super) const CUBIC: f32 = 0.044_715 * LINEAR;

impl Gate {
    /// `t(g)`
    fn exponent<B: Backend>(self, g: FloatTensor<B>) -> FloatTensor<B> {
        match self {
            Self::Silu => g,
            Self::GeluTanh => {
                let square = B::float_mul(g.clone(), g.clone());
                let factor = B::float_mul_scalar(square, CUBIC.into());
                B::float_mul(B::float_add_scalar(factor, LINEAR.into()), g)
            }
        }
    }

    /// `t'(g)`, where it is not 1.
    fn slope<B: Backend>(self, g: FloatTensor<B>) -> Option<FloatTensor<B>> {
        match self {
            Self::Silu => None,
            Self::GeluTanh => {
                let square = B::float_mul(g.clone(), g);
                let factor = B::float_mul_scalar(square, (3.0 * CUBIC).into());
                Some(B::float_add_scalar(factor, LINEAR.into()))
            }
        }
    }
}

/// `act(gate) · up`, elementwise.
///
/// # Shapes
/// - gate, up, output: the same `[rows, width]`
pub(crate) fn gated(gate: Tensor<2>, up: Tensor<2>, act: Gate) -> Tensor<2> {
    let (gate, up) = (gate.into_dispatch(), up.into_dispatch());
    Tensor::from_dispatch(<Dispatch as NnBackend>::glu(gate, up, act))
}

/// `act(gate) · up`
pub(super) fn glu<B: Backend>(
    gate: FloatTensor<B>,
    up: FloatTensor<B>,
    kind: Gate,
) -> FloatTensor<B> {
    let s = B::sigmoid(kind.exponent::<B>(gate.clone()));
    B::float_mul(B::float_mul(s, gate), up)
}

/// Gradients of gate and up, and the result itself.
pub(super) fn glu_backward<B: Backend>(
    gate: FloatTensor<B>,
    up: FloatTensor<B>,
    grad: FloatTensor<B>,
    kind: Gate,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let s = B::sigmoid(kind.exponent::<B>(gate.clone()));
    let act = B::float_mul(s.clone(), gate.clone());
    let h = B::float_mul(act.clone(), up.clone());
    // act'(g) = s + g·s·(1 − s)·t'(g) = s + (act − act·s)·t'(g)
    let product = B::float_mul(s.clone(), act.clone());
    let slope = match kind.slope::<B>(gate) {
        Some(inner) => B::float_add(B::float_mul(B::float_sub(act.clone(), product), inner), s),
        None => B::float_sub(B::float_add(act.clone(), s), product),
    };
    let d_gate = B::float_mul(B::float_mul(slope, up), grad.clone());
    (d_gate, B::float_mul(act, grad), h)
}

/// Φ(u), the standard normal's distribution function, of which exact GELU is `u·Φ(u)`.
fn normal_cdf<B: Backend>(u: FloatTensor<B>) -> FloatTensor<B> {
    let erf = B::float_erf(B::float_mul_scalar(u, std::f64::consts::FRAC_1_SQRT_2.into()));
    B::float_mul_scalar(B::float_add_scalar(erf, 1f32.into()), 0.5f32.into())
}

/// Exact GELU.
pub(super) fn gelu<B: Backend>(u: FloatTensor<B>) -> FloatTensor<B> {
    B::float_mul(normal_cdf::<B>(u.clone()), u)
}

/// Gradient of [`gelu`], and its result.
pub(super) fn gelu_backward<B: Backend>(
    u: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let cdf = normal_cdf::<B>(u.clone());
    let h = B::float_mul(cdf.clone(), u.clone());
    // gelu'(u) = Φ(u) + u·φ(u). Burn's own gelu_backward is that of the tanh approximation.
    let half_square = B::float_mul_scalar(B::float_mul(u.clone(), u.clone()), (-0.5f32).into());
    let density = B::float_exp(half_square);
    let density = B::float_mul_scalar(density, (1.0 / (2.0 * std::f64::consts::PI).sqrt()).into());
    let slope = B::float_add(B::float_mul(density, u), cdf);
    (B::float_mul(slope, grad), h)
}
