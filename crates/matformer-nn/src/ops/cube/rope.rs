//! Rotary embedding: a unit turns a pair.

use burn_cubecl::{
    cubecl::{self, ir::ElemType, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::{elementwise, empty, record};

#[cube(launch)]
fn rope_kernel<F: Float>(
    x: &Tensor<F>,
    cos: &Tensor<f32>,
    sin: &Tensor<f32>,
    y: &mut Tensor<F>,
    #[comptime] back: bool,
    #[define(F)] _kind: ElemType,
) {
    let half = cos.shape(1);
    let pairs = x.shape(1) / 2;
    let pair = ABSOLUTE_POS;
    if pair >= x.shape(0) * pairs {
        terminate!();
    }
    let row = pair / pairs;
    let within = pair % pairs;
    let angle = (row % cos.shape(0)) * half + within % half;
    // Heads are halves of `half` values, one after the other.
    let left = row * x.shape(1) + (within / half) * 2 * half + within % half;
    let right = left + half;
    let c = cos[angle];
    let mut s = sin[angle];
    if comptime![back] {
        s = -s;
    }
    let a = f32::cast_from(x[left]);
    let b = f32::cast_from(x[right]);
    y[left] = F::cast_from(a * c - b * s);
    y[right] = F::cast_from(b * c + a * s);
}

pub(super) fn rotate(
    x: CubeTensor,
    tables: [CubeTensor; 2],
    back: bool,
    kind: ElemType,
) -> CubeTensor {
    let x = into_contiguous(x);
    let [cos, sin] = tables.map(into_contiguous);
    let [rows, d] = x.meta.shape().dims();
    let y = empty(&x, [rows, d], x.dtype);
    let (count, dim) = elementwise(rows * d / 2);
    record::ran("rope");
    rope_kernel::launch(
        &x.client.clone(),
        count,
        dim,
        x.into_tensor_arg(),
        cos.into_tensor_arg(),
        sin.into_tensor_arg(),
        y.clone().into_tensor_arg(),
        back,
        kind,
    );
    y
}
