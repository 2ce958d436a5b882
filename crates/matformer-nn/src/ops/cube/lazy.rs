//! Passes with kernels as operations of a lazy graph: Fusion records a call, and makes it when a result is asked
//! for.

use burn::backend::{
    Backend, backend_extension,
    fusion::{Fusion, FusionBackend},
    tensor::FloatTensor,
};
use burn_cubecl::{CubeBackend, tensor::CubeTensor};

use super::{elems, norm, spec};
use crate::ops::{self, NnBackend, NnKernels};

/// Passes of [`NnKernels`] that have a kernel.
#[backend_extension(Cube, Fusion)]
pub trait LazyKernels: Backend {
    /// [`NnKernels::rms_norm_forward`].
    #[fusion(meta = spec::rms_forward)]
    fn rms_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// [`NnKernels::rms_norm_backward`].
    #[fusion(meta = spec::rms_backward)]
    fn rms_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// [`NnKernels::standardize_forward`].
    #[fusion(meta = spec::layer_forward)]
    fn layer_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// [`NnKernels::standardize_backward`].
    #[fusion(meta = spec::layer_backward)]
    fn layer_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl LazyKernels for CubeBackend {
    fn rms_forward(x: CubeTensor, weight: CubeTensor, eps: f64) -> (CubeTensor, CubeTensor) {
        match elems([&x, &weight]) {
            Some(kinds) => norm::rms_forward(x, weight, eps, kinds),
            None => ops::rms_norm::forward::<Self>(x, weight, eps),
        }
    }

    fn rms_backward(
        x: CubeTensor,
        weight: CubeTensor,
        scale: CubeTensor,
        grad: CubeTensor,
    ) -> (CubeTensor, CubeTensor) {
        match elems([&x, &weight, &grad]) {
            Some(kinds) => norm::rms_backward(x, weight, scale, grad, kinds),
            None => ops::rms_norm::backward::<Self>(x, weight, scale, grad),
        }
    }

    fn layer_forward(
        x: CubeTensor,
        weight: CubeTensor,
        bias: CubeTensor,
        eps: f64,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        match elems([&x, &weight, &bias]) {
            Some(kinds) => norm::layer_forward(x, weight, bias, eps, kinds),
            None => ops::layer_norm::forward::<Self>(x, weight, bias, eps),
        }
    }

    fn layer_backward(
        x: CubeTensor,
        weight: CubeTensor,
        mean: CubeTensor,
        scale: CubeTensor,
        grad: CubeTensor,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        match elems([&x, &weight, &grad]) {
            Some(kinds) => norm::layer_backward(x, weight, [mean, scale], grad, kinds),
            None => ops::layer_norm::backward::<Self>(x, weight, mean, scale, grad),
        }
    }
}

impl<B: FusionBackend + NnBackend + LazyKernels> NnKernels for Fusion<B> {
    fn rms_norm_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        Self::rms_forward(x, weight, eps)
    }

    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        Self::rms_backward(x, weight, scale, grad)
    }

    fn standardize_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        Self::layer_forward(x, weight, bias, eps)
    }

    fn standardize_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        Self::layer_backward(x, weight, mean, scale, grad)
    }
}
