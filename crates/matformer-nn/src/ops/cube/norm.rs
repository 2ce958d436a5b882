//! Norms: a cube goes through a row, and what the rows add to a weight's gradient is summed in chunks of rows.

use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, Shape, Slice};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, ir::ElemType, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::{UNITS, cubes, empty, record, sum_of_cube, units_for};
use crate::ops::precision::stored_as;

/// Rows of one chunk, at least: so many gradients are added before anything is written.
const ROWS: usize = 64;
/// Chunks at most.
const CHUNKS: usize = 256;

/// `1/√(mean((x − level)²) + eps)` of the row that starts at `first`.
#[cube]
fn factor_of_row<F: Float>(
    x: &Tensor<F>,
    first: usize,
    level: f32,
    eps: f32,
    #[comptime] units: usize,
) -> f32 {
    let d = x.shape(1);
    let mut squares = 0f32;
    let mut i = UNIT_POS as usize;
    while i < d {
        let value = f32::cast_from(x[first + i]) - level;
        squares += value * value;
        i += units;
    }
    let mean = sum_of_cube(squares, units) / f32::cast_from(d);
    1f32 / (mean + eps).sqrt()
}

#[cube(launch)]
fn rms_forward_kernel<F: Float, W: Float>(
    x: &Tensor<F>,
    weight: &Tensor<W>,
    y: &mut Tensor<F>,
    scale: &mut Tensor<f32>,
    eps: f32,
    #[comptime] units: usize,
    #[define(F, W)] _kinds: [ElemType; 2],
) {
    let row = CUBE_POS;
    if row >= x.shape(0) {
        terminate!();
    }
    let d = x.shape(1);
    let first = row * d;
    let unit = UNIT_POS as usize;
    let factor = factor_of_row(x, first, 0f32, eps, units);
    let mut i = unit;
    while i < d {
        let value = f32::cast_from(x[first + i]) * factor * f32::cast_from(weight[i]);
        y[first + i] = F::cast_from(value);
        i += units;
    }
    if unit == 0 {
        scale[row] = factor;
    }
}

#[cube(launch)]
fn layer_forward_kernel<F: Float, W: Float, V: Float>(
    x: &Tensor<F>,
    weight: &Tensor<W>,
    bias: &Tensor<V>,
    y: &mut Tensor<F>,
    mean: &mut Tensor<f32>,
    scale: &mut Tensor<f32>,
    eps: f32,
    #[comptime] units: usize,
    #[define(F, W, V)] _kinds: [ElemType; 3],
) {
    let row = CUBE_POS;
    if row >= x.shape(0) {
        terminate!();
    }
    let d = x.shape(1);
    let first = row * d;
    let unit = UNIT_POS as usize;
    let mut sum = 0f32;
    let mut i = unit;
    while i < d {
        sum += f32::cast_from(x[first + i]);
        i += units;
    }
    let level = sum_of_cube(sum, units) / f32::cast_from(d);
    let factor = factor_of_row(x, first, level, eps, units);
    let mut i = unit;
    while i < d {
        let value = (f32::cast_from(x[first + i]) - level) * factor;
        let value = value * f32::cast_from(weight[i]) + f32::cast_from(bias[i]);
        y[first + i] = F::cast_from(value);
        i += units;
    }
    if unit == 0 {
        mean[row] = level;
        scale[row] = factor;
    }
}

/// Gradient of x: `scale·(g·w − n·mean(g·w·n))` with `n = x·scale`; of layer norm, whose n is centred, also
/// without `mean(g·w)`.
#[cube(launch)]
fn backward_kernel<F: Float, W: Float, G: Float>(
    x: &Tensor<F>,
    weight: &Tensor<W>,
    grad: &Tensor<G>,
    mean: &Tensor<f32>,
    scale: &Tensor<f32>,
    dx: &mut Tensor<F>,
    #[comptime] centred: bool,
    #[comptime] units: usize,
    #[define(F, W, G)] _kinds: [ElemType; 3],
) {
    let row = CUBE_POS;
    if row >= x.shape(0) {
        terminate!();
    }
    let d = x.shape(1);
    let count = f32::cast_from(d);
    let first = row * d;
    let unit = UNIT_POS as usize;
    let factor = scale[row];
    let mut level = 0f32;
    if comptime![centred] {
        level = mean[row];
    }
    let mut along = 0f32;
    let mut plain = 0f32;
    let mut i = unit;
    while i < d {
        let n = (f32::cast_from(x[first + i]) - level) * factor;
        let gw = f32::cast_from(grad[first + i]) * f32::cast_from(weight[i]);
        along += gw * n;
        plain += gw;
        i += units;
    }
    let along = sum_of_cube(along, units) / count;
    let mut shift = 0f32;
    if comptime![centred] {
        shift = sum_of_cube(plain, units) / count;
    }
    let mut i = unit;
    while i < d {
        let n = (f32::cast_from(x[first + i]) - level) * factor;
        let gw = f32::cast_from(grad[first + i]) * f32::cast_from(weight[i]);
        dx[first + i] = F::cast_from((gw - shift - n * along) * factor);
        i += units;
    }
}

/// What each chunk of rows adds to the gradient of weight, `[chunks, d]`, and of layer norm after it to that of
/// bias, `[chunks, 2·d]`; a unit goes down a column.
#[cube(launch)]
fn columns_kernel<F: Float, G: Float>(
    x: &Tensor<F>,
    grad: &Tensor<G>,
    mean: &Tensor<f32>,
    scale: &Tensor<f32>,
    sums: &mut Tensor<f32>,
    rows: usize,
    #[comptime] centred: bool,
    #[define(F, G)] _kinds: [ElemType; 2],
) {
    let d = x.shape(1);
    let column = ABSOLUTE_POS_X as usize;
    if column >= d {
        terminate!();
    }
    let chunk = CUBE_POS_Y as usize;
    let mut row = chunk * rows;
    let mut end = row + rows;
    if end > x.shape(0) {
        end = x.shape(0);
    }
    let mut of_weight = 0f32;
    let mut of_bias = 0f32;
    while row < end {
        let g = f32::cast_from(grad[row * d + column]);
        let mut value = f32::cast_from(x[row * d + column]);
        if comptime![centred] {
            value -= mean[row];
        }
        of_weight += g * value * scale[row];
        of_bias += g;
        row += 1;
    }
    let at = chunk * sums.shape(1) + column;
    sums[at] = of_weight;
    if comptime![centred] {
        sums[at + d] = of_bias;
    }
}

/// Rows, columns, and the units that share a row.
fn sizes(x: &CubeTensor) -> ([usize; 2], usize) {
    let [rows, d] = x.meta.shape().dims();
    ([rows, d], units_for(d))
}

pub(super) fn rms_forward(
    x: CubeTensor,
    weight: CubeTensor,
    eps: f64,
    kinds: [ElemType; 2],
) -> (CubeTensor, CubeTensor) {
    let [x, weight] = [x, weight].map(into_contiguous);
    let ([rows, d], units) = sizes(&x);
    let (y, scale) = (empty(&x, [rows, d], x.dtype), empty(&x, [rows, 1], DType::F32));
    record::ran("rms_forward");
    rms_forward_kernel::launch(
        &x.client.clone(),
        cubes(rows),
        CubeDim::new_1d(units as u32),
        x.into_tensor_arg(),
        weight.into_tensor_arg(),
        y.clone().into_tensor_arg(),
        scale.clone().into_tensor_arg(),
        eps as f32,
        units,
        kinds,
    );
    (y, scale)
}

pub(super) fn layer_forward(
    x: CubeTensor,
    weight: CubeTensor,
    bias: CubeTensor,
    eps: f64,
    kinds: [ElemType; 3],
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let [x, weight, bias] = [x, weight, bias].map(into_contiguous);
    let ([rows, d], units) = sizes(&x);
    let y = empty(&x, [rows, d], x.dtype);
    let [mean, scale] = [(); 2].map(|()| empty(&x, [rows, 1], DType::F32));
    record::ran("layer_forward");
    layer_forward_kernel::launch(
        &x.client.clone(),
        cubes(rows),
        CubeDim::new_1d(units as u32),
        x.into_tensor_arg(),
        weight.into_tensor_arg(),
        bias.into_tensor_arg(),
        y.clone().into_tensor_arg(),
        mean.clone().into_tensor_arg(),
        scale.clone().into_tensor_arg(),
        eps as f32,
        units,
        kinds,
    );
    (y, mean, scale)
}

pub(super) fn rms_backward(
    x: CubeTensor,
    weight: CubeTensor,
    scale: CubeTensor,
    grad: CubeTensor,
    kinds: [ElemType; 3],
) -> (CubeTensor, CubeTensor) {
    // Without a mean: what stands in its place is not read.
    backward(x, weight, [scale.clone(), scale], grad, false, kinds)
}

pub(super) fn layer_backward(
    x: CubeTensor,
    weight: CubeTensor,
    statistics: [CubeTensor; 2],
    grad: CubeTensor,
    kinds: [ElemType; 3],
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let [d] = weight.meta.shape().dims();
    let (dx, sums) = backward(x, weight, statistics, grad, true, kinds);
    let part = |from: usize| CubeBackend::float_slice(sums.clone(), &[Slice::from(from..from + d)]);
    (dx, part(0), part(d))
}

/// Gradients of x, and of weight and, if the norm is centred, bias, one after the other.
fn backward(
    x: CubeTensor,
    weight: CubeTensor,
    statistics: [CubeTensor; 2],
    grad: CubeTensor,
    centred: bool,
    kinds: [ElemType; 3],
) -> (CubeTensor, CubeTensor) {
    let [x, weight, grad] = [x, weight, grad].map(into_contiguous);
    let [mean, scale] = statistics.map(into_contiguous);
    let ([rows, d], units) = sizes(&x);
    let dtype = weight.dtype;
    let dx = empty(&x, [rows, d], x.dtype);
    let client = x.client.clone();
    record::ran("norm_backward");
    backward_kernel::launch(
        &client,
        cubes(rows),
        CubeDim::new_1d(units as u32),
        x.clone().into_tensor_arg(),
        weight.into_tensor_arg(),
        grad.clone().into_tensor_arg(),
        mean.clone().into_tensor_arg(),
        scale.clone().into_tensor_arg(),
        dx.clone().into_tensor_arg(),
        centred,
        units,
        kinds,
    );
    let chunk = ROWS.max(rows.div_ceil(CHUNKS));
    let chunks = rows.div_ceil(chunk).max(1);
    let columns = if centred { 2 * d } else { d };
    let sums = empty(&x, [chunks, columns], DType::F32);
    record::ran("norm_columns");
    columns_kernel::launch(
        &client,
        CubeCount::Static(d.div_ceil(UNITS) as u32, chunks as u32, 1),
        CubeDim::new_1d(UNITS as u32),
        x.into_tensor_arg(),
        grad.into_tensor_arg(),
        mean.into_tensor_arg(),
        scale.into_tensor_arg(),
        sums.clone().into_tensor_arg(),
        chunk,
        centred,
        [kinds[0], kinds[2]],
    );
    let sums = CubeBackend::float_sum_dim(sums, 0);
    let sums = CubeBackend::float_reshape(sums, Shape::new([columns]));
    (dx, stored_as::<CubeBackend>(sums, dtype))
}
