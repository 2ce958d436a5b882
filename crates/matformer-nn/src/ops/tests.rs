//! Every op against a plain composition of Burn's own ops, forward and gradient by gradient.

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use proptest::prelude::*;

use super::*;
use crate::DeviceSpec;
use crate::agreement::STEP;
pub(super) use crate::agreement::random;

pub(super) fn device() -> Device {
    DeviceSpec::from_env().and_then(DeviceSpec::resolve).unwrap().autodiff()
}

pub(super) fn values<const D: usize>(t: &Tensor<D>) -> Vec<f32> {
    t.clone().inner().try_into_vec_as().unwrap()
}

/// Whether ‖a − b‖ ≤ limit·‖b‖, with room for rounding where b vanishes (a softmax over one key
/// has no gradient).
pub(super) fn close(a: &[f32], b: &[f32], limit: f64) -> bool {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let off = norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    off <= limit * norm(&mut b.iter().map(|b| f64::from(*b))) + 1e-6
}

/// Compares two results and their gradients with respect to `inputs`; the loss weighs elements
/// unevenly, so that a transposed or shifted gradient shows.
pub(super) fn assert_same<const D: usize>(ours: Tensor<D>, theirs: Tensor<D>, inputs: &[Input]) {
    assert!(close(&values(&ours), &values(&theirs), 1e-5));
    let weights = random(ours.dims(), 99, &ours.device()).detach();
    let grads = |out: Tensor<D>| {
        let grads = (out * weights.clone()).sum().backward();
        inputs.iter().map(|input| input.grad(&grads)).collect::<Vec<_>>()
    };
    for (i, (a, b)) in grads(ours).iter().zip(grads(theirs)).enumerate() {
        assert!(close(a, &b, 1e-4), "gradient {i}: {a:?} against {b:?}");
    }
}

pub(super) enum Input {
    One(Tensor<1>),
    Two(Tensor<2>),
}

impl Input {
    pub(super) fn grad(&self, grads: &burn::tensor::Gradients) -> Vec<f32> {
        match self {
            Self::One(t) => t.grad(grads).unwrap().try_into_vec_as().unwrap(),
            Self::Two(t) => t.grad(grads).unwrap().try_into_vec_as().unwrap(),
        }
    }
}

/// The definition: all logits at once.
fn plain_cross_entropy(h: &Tensor<2>, w: &Tensor<2>, targets: &Tensor<1, Int>) -> Tensor<1> {
    let logits = h.clone().matmul(w.clone().transpose());
    -activation::log_softmax(logits, 1).gather(1, targets.clone().unsqueeze_dim(1)).squeeze_dim(1)
}

/// The definition, with an epsilon of 1e-5.
fn plain_layer_norm(x: &Tensor<2>, weight: &Tensor<1>, bias: &Tensor<1>) -> Tensor<2> {
    let centred = x.clone() - x.clone().mean_dim(1);
    let variance = centred.clone().square().mean_dim(1);
    centred / (variance + 1e-5).sqrt() * weight.clone().unsqueeze() + bias.clone().unsqueeze()
}

proptest! {
    // PROPTEST_CASES may ask for fewer: a GPU compiles kernels for every shape.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.min(24)))]

    #[test]
    fn cross_entropy_equals_its_definition(
        tokens in 1usize..40,
        vocab in 1usize..20,
        d_model in 1usize..6,
        seed in 0u64..1000,
    ) {
        let device = device();
        let hidden = random([tokens, d_model], seed, &device);
        let weight = random([vocab, d_model], seed + 1000, &device);
        let ids: Vec<i32> = (0..tokens).map(|i| ((i * 7 + seed as usize) % vocab) as i32).collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(ids, [tokens]), &device);
        // Relative errors of a sum that may be near 0 say nothing: compare with 1 added.
        let theirs = || plain_cross_entropy(&hidden, &weight, &targets) + 1.0;
        let inputs = [&hidden, &weight].map(|t| Input::Two(t.clone()));
        let ours = || cross_entropy(hidden.clone(), weight.clone(), targets.clone()) + 1.0;
        if vocab == 1 {
            assert!(close(&values(&ours()), &values(&theirs()), 1e-5));
        } else {
            // With another gradient for each token, and with one for all.
            assert_same(ours(), theirs(), &inputs);
            assert_same(ours().mean(), theirs().mean(), &inputs);
        }
    }
}

#[test]
fn rms_norm_equals_its_definition() {
    let device = device();
    for (rows, d) in [(1, 1), (3, 7), (150, 16), (65, 40)] {
        let (x, weight) = (random([rows, d], 1, &device), random([d], 2, &device));
        let mean = x.clone().square().mean_dim(1);
        let theirs = x.clone() / (mean + 1e-5).sqrt() * weight.clone().unsqueeze();
        let inputs = [Input::Two(x.clone()), Input::One(weight.clone())];
        assert_same(rms_norm(x, weight, 1e-5), theirs, &inputs);
    }
}

#[test]
fn layer_norm_equals_its_definition() {
    let device = device();
    for (rows, d) in [(1, 2), (3, 7), (150, 16), (65, 40)] {
        let x = random([rows, d], 1, &device);
        let [weight, bias] = [2, 3].map(|seed| random([d], seed, &device));
        let theirs = plain_layer_norm(&x, &weight, &bias);
        let inputs = [Input::Two(x.clone()), Input::One(weight.clone()), Input::One(bias.clone())];
        assert_same(layer_norm(x, weight, bias, 1e-5), theirs, &inputs);
    }
}

#[test]
fn linear_equals_its_definition() {
    let device = device();
    // Fewer and more rows and columns than one task writes.
    for [rows, d_in, d_out] in
        [[1, 3, 2], [3, 700, 600], [16, 1, 1], [40, 17, 300], [300, 5, 7], [129, 130, 129]]
    {
        let (x, weight) = (random([rows, d_in], 1, &device), random([d_out, d_in], 2, &device));
        let inputs = [&x, &weight].map(|t| Input::Two(t.clone()));
        let theirs = x.clone().matmul(weight.clone().transpose());
        assert_same(linear(x, &weight.into()), theirs, &inputs);
    }
}

#[test]
fn cross_entropy_in_several_chunks_is_that_in_one() {
    // 40 rows at this vocabulary are three chunks of at least 16.
    let (device, tokens, vocab) = (device(), 40, 200_000);
    let hidden = random([tokens, 2], 1, &device);
    let weight = random([vocab, 2], 2, &device);
    let ids: Vec<i32> = (0..tokens).map(|i| (i * 4999) as i32).collect();
    let targets = Tensor::<1, Int>::from_data(TensorData::new(ids, [tokens]), &device);
    let inputs = [&hidden, &weight].map(|t| Input::Two(t.clone()));
    let ours = || cross_entropy(hidden.clone(), weight.clone(), targets.clone());
    let theirs = || plain_cross_entropy(&hidden, &weight, &targets);
    assert_same(ours(), theirs(), &inputs);
    assert_same(ours().mean(), theirs().mean(), &inputs);
}

/// What each element is, apart from its value: a number, NaN, or which infinity.
#[cfg(feature = "flex")]
fn kinds(values: &[f32]) -> Vec<&'static str> {
    let kind = |v: &f32| match (v.is_nan(), *v == f32::INFINITY, *v == f32::NEG_INFINITY) {
        (true, ..) => "NaN",
        (_, true, _) => "+inf",
        (_, _, true) => "-inf",
        _ => "number",
    };
    values.iter().map(kind).collect()
}

/// Compares what is no number in two results and in their gradients.
#[cfg(feature = "flex")]
pub(super) fn assert_same_kinds<const D: usize>(
    ours: Tensor<D>,
    theirs: Tensor<D>,
    inputs: &[Input],
) {
    assert_eq!(kinds(&values(&ours)), kinds(&values(&theirs)));
    assert!(kinds(&values(&ours)).contains(&"NaN"), "something to come through");
    let grads = |out: Tensor<D>| {
        let grads = out.sum().backward();
        inputs.iter().map(|input| kinds(&input.grad(&grads))).collect::<Vec<_>>()
    };
    for (i, (a, b)) in grads(ours).into_iter().zip(grads(theirs)).enumerate() {
        assert!(a == b, "gradient {i}: {a:?} against {b:?}");
    }
}

/// Random values with NaN and infinity in one row each.
#[cfg(feature = "flex")]
pub(super) fn spoilt(rows: usize, d: usize, device: &Device) -> Tensor<2> {
    let mut values = values(&random([rows, d], 1, device));
    (values[2 * d], values[150 * d + 1]) = (f32::NAN, f32::INFINITY);
    Tensor::from_data(TensorData::new(values, [rows, d]), device).require_grad()
}

// Other devices may take all numbers for finite.
#[cfg(feature = "flex")]
#[test]
fn what_is_no_number_comes_through_as_in_the_definition() {
    let device = "flex".parse::<DeviceSpec>().unwrap().resolve().unwrap().autodiff();
    // Enough rows for the kernels.
    let (rows, d) = (300, 6);
    let x = spoilt(rows, d, &device);
    let two = |t: &Tensor<2>| Input::Two(t.clone());
    let [weight, bias] = [11, 12].map(|seed| random([d], seed, &device));
    assert_same_kinds(
        layer_norm(x.clone(), weight.clone(), bias.clone(), 1e-5),
        plain_layer_norm(&x, &weight, &bias),
        &[two(&x), Input::One(weight), Input::One(bias)],
    );

    let weight = random([5, d], 5, &device);
    assert_same_kinds(
        linear(x.clone(), &weight.clone().into()),
        x.clone().matmul(weight.clone().transpose()),
        &[&x, &weight].map(|t| Input::Two(t.clone())),
    );

    let weight = random([d], 6, &device);
    let mean = x.clone().square().mean_dim(1);
    assert_same_kinds(
        rms_norm(x.clone(), weight.clone(), 1e-5),
        x.clone() / (mean + 1e-5).sqrt() * weight.clone().unsqueeze(),
        &[Input::Two(x.clone()), Input::One(weight)],
    );

    let weight = random([7, d], 7, &device);
    let targets = Tensor::<1, Int>::zeros([rows], &device);
    assert_same_kinds(
        cross_entropy(x.clone(), weight.clone(), targets.clone()),
        plain_cross_entropy(&x, &weight, &targets),
        &[&x, &weight].map(|t| Input::Two(t.clone())),
    );
}

#[test]
fn a_step_of_adamw_is_its_definition_and_leaves_what_others_hold() {
    let device = device();
    for n in [1, 17, 40_000] {
        let [p, g, m, v] = [1, 2, 3, 4].map(|seed| random([n], seed, &device).inner());
        let v = v.square();
        let before = [&p, &g, &m, &v].map(|t| t.clone().try_into_vec_as::<f32>().unwrap());
        let ours = adamw(p.clone(), g.clone(), m.clone(), v.clone(), STEP);
        let ours = ours.map(|t| t.try_into_vec_as::<f32>().unwrap());
        let after = [&p, &g, &m, &v].map(|t| t.clone().try_into_vec_as::<f32>().unwrap());
        assert_eq!(before, after);
        let [p, g, m, v] = before;
        for i in 0..n {
            let [p, g, m, v] = [p[i], g[i] * 0.5, m[i], v[i]].map(f64::from);
            let (m, v) = (0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g);
            let root = (v / (1.0 - 0.95f64.powi(3))).sqrt() + 1e-3;
            let p = p * (1.0 - 0.1 * 0.2) - 0.1 / (1.0 - 0.9f64.powi(3)) * m / root;
            for (found, expected) in ours.iter().zip([p, m, v]) {
                let off = (f64::from(found[i]) - expected).abs();
                assert!(
                    off < 1e-5 * expected.abs().max(1.0),
                    "{n}, {i}: {} against {expected}",
                    found[i]
                );
            }
        }
        let sum: f64 = g.iter().map(|g| f64::from(*g).powi(2)).sum();
        let found: f32 = sum_of_squares(Tensor::<1>::from_data(
            TensorData::new(g, [n]),
            &device.clone().inner(),
        ))
        .into_scalar();
        assert!((f64::from(found) / sum - 1.0).abs() < 1e-5);
    }
}

/// A grid has at most 65,535 groups along one side: what has more rows, or more than 256 elements for each,
/// takes a second side.
#[test]
fn rows_and_elements_beyond_one_side_of_a_grid_are_computed_too() {
    let device = device();
    let (rows, eps) = (65_537, 1e-5);
    let (x, weight) = (random([rows, 2], 1, &device), random([2], 2, &device));
    let factors = random([rows, 2], 3, &device).detach();
    let y = rms_norm(x.clone(), weight.clone(), eps);
    let grads = (y.clone() * factors.clone()).sum().backward();
    // On the host: through Fusion, Burn's own sum over so many rows leaves out those after the 65,534th.
    let (mut of_y, mut of_weight) = (Vec::new(), [0.0; 2]);
    let of_weights = values(&weight);
    for (x, factor) in values(&x).chunks(2).zip(values(&factors).chunks(2)) {
        let [a, b] = [x[0], x[1]].map(f64::from);
        let scale = 1.0 / ((a * a + b * b) / 2.0 + eps).sqrt();
        for (i, value) in [a, b].into_iter().enumerate() {
            of_y.push((value * scale * f64::from(of_weights[i])) as f32);
            of_weight[i] += value * scale * f64::from(factor[i]);
        }
    }
    assert!(close(&values(&y), &of_y, 1e-5));
    let found = Input::One(weight).grad(&grads);
    assert!(close(&found, &of_weight.map(|v| v as f32), 1e-4), "{found:?} against {of_weight:?}");

    let same = |n: usize| {
        let ones = || Tensor::<1>::ones([n], &device.clone().inner());
        adamw(ones(), ones(), ones(), ones(), STEP)
    };
    let many = 65_536 * 256 + 1;
    for (one, all) in same(1).into_iter().zip(same(many)) {
        let one: f32 = one.into_scalar();
        let ends = [all.clone().min(), all.max()].map(|t| t.into_scalar::<f32>());
        assert_eq!(ends, [one; 2]);
    }
}
