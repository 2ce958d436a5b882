//! Whether a device computes what another one does: every op and its gradients, on small inputs of odd
//! sizes.

use burn::tensor::{Device, FloatDType, Gradients, Int, Tensor, TensorData};
use matformer_core::{Block, Spans, rng};

use crate::{
    Error, Result, Weight,
    ops::{
        AdamWStep, AttentionSpec, Direction, DistillationWeights, Divergence, FfnWeights, Gate,
        Headed, Mask, RopeRule, RopeTable, adamw, attention, cross_entropy, distillation,
        divergence, layer_norm, linear, nested_ffn, rms_norm, sum_of_squares,
    },
};

/// How one op on a device compares with the same op on a reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// The op's name.
    pub op: &'static str,
    /// ‖ours − reference‖ / ‖reference‖ of the output or of a gradient, whichever is largest; infinite if one of them
    /// is NaN.
    pub error: f64,
}

/// An op: its name, and what it makes of inputs that are the same on every device.
#[derive(Clone, Copy)]
pub struct Op {
    /// Its name.
    pub name: &'static str,
    run: fn(&On) -> Result<Values>,
}

/// The output of an op and the gradients of its inputs, on the host.
type Values = Vec<Vec<f32>>;

impl Op {
    /// All ops of [`crate::ops`].
    pub const ALL: [Self; 16] = [
        Self { name: "linear", run: of_linear },
        Self { name: "rms_norm", run: of_rms_norm },
        Self { name: "layer_norm", run: of_layer_norm },
        Self { name: "rope", run: of_rope },
        Self { name: "attention, causal", run: |on| of_attention(on, Mask::Causal) },
        Self { name: "attention, full", run: |on| of_attention(on, Mask::Full) },
        Self { name: "attention, window", run: |on| of_attention(on, Mask::Window { size: 20 }) },
        Self { name: "nested_ffn, SiLU", run: |on| of_ffn(on, Some(Gate::Silu)) },
        Self { name: "nested_ffn, GELU gate", run: |on| of_ffn(on, Some(Gate::GeluTanh)) },
        Self { name: "nested_ffn, plain", run: |on| of_ffn(on, None) },
        Self { name: "cross_entropy", run: of_cross_entropy },
        Self { name: "divergence", run: |on| of_divergence(on, Direction::Forward) },
        Self { name: "divergence, reverse", run: |on| of_divergence(on, Direction::Reverse) },
        Self { name: "distillation", run: of_distillation },
        Self { name: "adamw", run: of_adamw },
        Self { name: "sum_of_squares", run: of_sum_of_squares },
    ];

    /// Runs the op on both devices, which are without gradients, and compares.
    ///
    /// # Errors
    /// When a result cannot be read from its device.
    pub fn compare(&self, ours: &Device, reference: &Device) -> Result<Agreement> {
        self.compare_in(FloatDType::F32, ours, reference)
    }

    /// The same with inputs of a lower precision on `ours` alone: the reference has f32. The device must
    /// support the dtype.
    ///
    /// # Errors
    /// When a result cannot be read from its device.
    pub fn compare_in(
        &self,
        dtype: FloatDType,
        ours: &Device,
        reference: &Device,
    ) -> Result<Agreement> {
        let on = |device: &Device, dtype| On { device: device.clone().autodiff(), dtype };
        let ours = (self.run)(&on(ours, dtype))?;
        let theirs = (self.run)(&on(reference, FloatDType::F32))?;
        let errors = ours.iter().zip(&theirs).map(|(a, b)| relative_error(a, b));
        Ok(Agreement { op: self.name, error: errors.fold(0.0, f64::max) })
    }
}

/// Where an op runs, and with what precision its inputs come.
struct On {
    device: Device,
    dtype: FloatDType,
}

impl On {
    /// A leaf in f32.
    fn random<const D: usize>(&self, shape: [usize; D], seed: u64) -> Tensor<D> {
        random(shape, seed, &self.device)
    }

    /// The leaf as the op gets it.
    fn low<const D: usize>(&self, leaf: &Tensor<D>) -> Tensor<D> {
        leaf.clone().cast(self.dtype)
    }
}

/// ‖a − b‖ / ‖b‖; infinite where a number is not finite.
pub(crate) fn relative_error(a: &[f32], b: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let off = norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    let size = norm(&mut b.iter().map(|b| f64::from(*b)));
    let error = off / size.max(1e-6);
    if a.len() == b.len() && error.is_finite() { error } else { f64::INFINITY }
}

/// Values from −1 to 1 that depend on the seed only, with a gradient on a device that has them.
pub(crate) fn random<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let mut rng = rng::keyed(seed, "test", D as u64);
    let values: Vec<f32> =
        (0..shape.iter().product()).map(|_| (rng::unit(&mut rng) * 2.0 - 1.0) as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), device).require_grad()
}

/// An input whose gradient is compared.
trait Input {
    fn gradient(&self, gradients: &Gradients) -> Result<Vec<f32>>;
}

impl<const D: usize> Input for Tensor<D> {
    fn gradient(&self, gradients: &Gradients) -> Result<Vec<f32>> {
        match self.grad(gradients) {
            Some(gradient) => host(gradient),
            None => Err(Error::read("a gradient", "there is none")),
        }
    }
}

fn host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.try_into_vec_as().map_err(|error| Error::read("the result of an op", error))
}

/// An output and the gradients of `inputs`; elements weigh unevenly in what is derived, so that a transposed
/// or shifted gradient shows.
fn with_gradients<const D: usize>(out: Tensor<D>, inputs: &[&dyn Input]) -> Result<Values> {
    let out = out.cast(FloatDType::F32);
    let weights = random(out.dims(), 99, &out.device()).detach();
    let mut values = vec![host(out.clone().inner())?];
    let gradients = (out * weights).sum().backward();
    for input in inputs {
        values.push(input.gradient(&gradients)?);
    }
    Ok(values)
}

fn of_linear(on: &On) -> Result<Values> {
    let (x, weight) = (on.random([37, 129], 1), on.random([70, 129], 2));
    with_gradients(linear(on.low(&x), &on.low(&weight).into()), &[&x, &weight])
}

fn of_rms_norm(on: &On) -> Result<Values> {
    let (x, weight) = (on.random([65, 40], 1), on.random([40], 2));
    with_gradients(rms_norm(on.low(&x), weight.clone(), 1e-5), &[&x, &weight])
}

fn of_layer_norm(on: &On) -> Result<Values> {
    let x = on.random([65, 40], 1);
    let [weight, bias] = [2, 3].map(|seed| on.random([40], seed));
    let y = layer_norm(on.low(&x), weight.clone(), bias.clone(), 1e-5);
    with_gradients(y, &[&x, &weight, &bias])
}

fn of_rope(on: &On) -> Result<Values> {
    let frequencies = RopeRule::Default { theta: 1e4 }.frequencies(8);
    let table = RopeTable::new(&Spans::equal(3, 17), &frequencies, &on.device);
    let x = on.random([51, 24], 1);
    with_gradients(table.rotate(on.low(&x)), &[&x])
}

fn of_attention(on: &On, mask: Mask) -> Result<Values> {
    let (kv_heads, group, head_dim) = (2, 3, 8);
    let heads = kv_heads * group;
    let spans = Spans::equal(2, 77);
    let q = on.random([spans.tokens(), heads * head_dim], 1);
    let [k, v] = [2, 3].map(|seed| on.random([spans.tokens(), kv_heads * head_dim], seed));
    let scale = 1.0 / (head_dim as f64).sqrt();
    let spec = AttentionSpec { spans, capacity: None, heads, kv_heads, head_dim, scale, mask };
    with_gradients(attention(on.low(&q), on.low(&k), on.low(&v), spec), &[&q, &k, &v])
}

/// Three widths, of which two share rows.
fn of_ffn(on: &On, gate: Option<Gate>) -> Result<Values> {
    let (rows, d_model, d_ff) = (33, 24, 96);
    let x = on.random([rows, d_model], 1);
    let [up, inner] = [2, 3].map(|seed| on.random([d_ff, d_model], seed));
    let (down, bias) = (on.random([d_model, d_ff], 4), on.random([d_ff], 5));
    let block = |start, end, width| Block { start, end, width };
    let blocks = [block(0, 20, 32), block(0, 20, 96), block(20, rows, 50)];
    let [w_up, w_inner, w_down] = [&up, &inner, &down].map(|leaf| Weight::from(on.low(leaf)));
    let low_bias = on.low(&bias);
    let (weights, inner): (_, &dyn Input) = match gate {
        Some(act) => (FfnWeights::Gated { up: &w_up, gate: &w_inner, down: &w_down, act }, &inner),
        None => (FfnWeights::Plain { up: &w_up, bias: Some(&low_bias), down: &w_down }, &bias),
    };
    with_gradients(nested_ffn(on.low(&x), weights, &blocks), &[&x, &up, inner, &down])
}

/// Hidden states and an output embedding.
fn head(on: &On, seed: u64) -> [Tensor<2>; 2] {
    [on.random([ROWS, 24], seed), on.random([VOCAB, 24], seed + 1)]
}

const ROWS: usize = 45;
const VOCAB: usize = 301;

fn targets(on: &On) -> Tensor<1, Int> {
    let ids: Vec<i32> = (0..ROWS).map(|i| (i * 7 % VOCAB) as i32).collect();
    Tensor::from_data(TensorData::new(ids, [ROWS]), &on.device)
}

/// A student's leaves, it, and its teacher.
fn student_and_teacher(on: &On) -> ([Tensor<2>; 2], [Headed; 2]) {
    let [hidden, weight] = head(on, 1);
    let [teacher, teacher_weight] = head(on, 5);
    let student = Headed { hidden: on.low(&hidden), weight: on.low(&weight) };
    let teacher =
        Headed { hidden: on.low(&teacher).detach(), weight: on.low(&teacher_weight).detach() };
    ([hidden, weight], [student, teacher])
}

fn of_cross_entropy(on: &On) -> Result<Values> {
    let [hidden, weight] = head(on, 1);
    let nats = cross_entropy(on.low(&hidden), on.low(&weight), targets(on));
    with_gradients(nats, &[&hidden, &weight])
}

fn of_divergence(on: &On, direction: Direction) -> Result<Values> {
    let ([hidden, weight], [student, teacher]) = student_and_teacher(on);
    let rule = Divergence { temperature: 2.0, direction };
    with_gradients(divergence(student, teacher, rule), &[&hidden, &weight])
}

fn of_distillation(on: &On) -> Result<Values> {
    let ([hidden, weight], [student, teacher]) = student_and_teacher(on);
    let weights = DistillationWeights { cross_entropy: 0.7, divergence: 0.6 };
    let all = distillation(student, teacher, targets(on), weights);
    with_gradients(all.total, &[&hidden, &weight])
}

/// A step that is not the first.
pub(crate) const STEP: AdamWStep = AdamWStep {
    scale: 0.5,
    betas: [0.9, 0.95],
    eps: 1e-3,
    learning_rate: 0.1,
    weight_decay: 0.2,
    steps: 3,
};

/// Weights and moments are f32 always.
fn of_adamw(on: &On) -> Result<Values> {
    let [values, gradient, first, second] = [1, 2, 3, 4].map(|i| on.random([1037], i).inner());
    adamw(values, gradient, first, second.square(), STEP).into_iter().map(host).collect()
}

fn of_sum_of_squares(on: &On) -> Result<Values> {
    Ok(vec![host(sum_of_squares(on.random([1037], 1).inner()))?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "flex")]
    fn every_op_agrees_with_flex() {
        use crate::DeviceSpec;
        let ours = DeviceSpec::from_env().and_then(DeviceSpec::resolve).unwrap();
        let flex = "flex".parse::<crate::DeviceSpec>().unwrap().resolve().unwrap();
        for op in Op::ALL {
            let found = op.compare(&ours, &flex).unwrap();
            // Tensor cores round the factors of f32 products to TF32.
            assert!(found.error < 2e-3, "{found:?}");
            assert!(ours != flex || found.error == 0.0, "the same device: {found:?}");
        }
    }

    /// Products of bfloat16 with statistics in f32.
    #[test]
    #[cfg(feature = "flex")]
    fn every_op_in_bfloat16_follows_f32() {
        let flex = "flex".parse::<crate::DeviceSpec>().unwrap().resolve().unwrap();
        for op in Op::ALL {
            let found = op.compare_in(FloatDType::BF16, &flex, &flex).unwrap();
            let exact = ["adamw", "sum_of_squares"].contains(&op.name);
            assert!(found.error < 2e-2 && (found.error == 0.0) == exact, "{found:?}");
        }
    }

    #[test]
    fn errors_are_relative_and_what_is_no_number_is_infinite() {
        assert_eq!(relative_error(&[3.0, 4.0], &[3.0, 4.0]), 0.0);
        assert!((relative_error(&[3.0, 5.0], &[3.0, 4.0]) - 0.2).abs() < 1e-6);
        assert_eq!(relative_error(&[f32::NAN], &[1.0]), f64::INFINITY);
        assert_eq!(relative_error(&[1.0], &[f32::INFINITY]), f64::INFINITY);
        assert_eq!(relative_error(&[1.0], &[1.0, 2.0]), f64::INFINITY);
    }
}
