//! The nested feed-forward block against plain tensor operations, and packed weights.

use burn::tensor::{Device, Tensor, activation};
use matformer_core::Block;
use proptest::prelude::*;

use super::{
    tests::{Input, assert_same, close, device, random, values},
    *,
};
use crate::{PackedFormat, Weight};

/// All forms of the block: SwiGLU, GeGLU, and without a gate.
const FORMS: [Option<Gate>; 3] = [Some(Gate::Silu), Some(Gate::GeluTanh), None];

/// A block of one form and its input, which want gradients.
struct Case {
    x: Tensor<2>,
    up: Tensor<2>,
    gate: Tensor<2>,
    bias: Tensor<1>,
    down: Tensor<2>,
    form: Option<Gate>,
}

impl Case {
    fn new(x: Tensor<2>, d_ff: usize, form: Option<Gate>, seed: u64) -> Self {
        let (device, [_, d_model]) = (x.device(), x.dims());
        let [up, gate] = [2, 3].map(|i| random([d_ff, d_model], seed + 1000 * i, &device));
        let down = random([d_model, d_ff], seed + 4000, &device);
        Self { x, up, gate, bias: random([d_ff], seed, &device), down, form }
    }

    fn inputs(&self) -> [Input; 4] {
        let two = |t: &Tensor<2>| Input::Two(t.clone());
        let inner = match self.form {
            Some(_) => two(&self.gate),
            None => Input::One(self.bias.clone()),
        };
        [two(&self.x), two(&self.up), inner, two(&self.down)]
    }

    fn ours(&self, blocks: &[Block]) -> Tensor<2> {
        let [up, gate, down] = [&self.up, &self.gate, &self.down].map(|t| Weight::from(t.clone()));
        self.with_weights([&up, &gate, &down], blocks)
    }

    fn with_weights(&self, [up, gate, down]: [&Weight; 3], blocks: &[Block]) -> Tensor<2> {
        let weights = match self.form {
            Some(act) => FfnWeights::Gated { up, gate, down, act },
            None => FfnWeights::Plain { up, bias: Some(&self.bias), down },
        };
        nested_ffn(self.x.clone(), weights, blocks)
    }

    /// The definition: every block on its own, by slicing the full matrices.
    fn theirs(&self, blocks: &[Block]) -> Tensor<2> {
        let parts = blocks.iter().map(|b| {
            let x = self.x.clone().narrow(0, b.start, b.end - b.start);
            let product =
                |t: &Tensor<2>| x.clone().matmul(t.clone().narrow(0, 0, b.width).transpose());
            let u = product(&self.up);
            let h = match self.form {
                Some(Gate::Silu) => activation::silu(product(&self.gate)) * u,
                Some(Gate::GeluTanh) => {
                    let g = product(&self.gate);
                    let z = (g.clone() + g.clone().powi_scalar(3) * 0.044715)
                        * (2.0 / std::f64::consts::PI).sqrt();
                    g * (z.tanh() + 1.0) / 2.0 * u
                }
                // Exact GELU; Burn's own has the tanh form's gradient.
                None => {
                    let u = u + self.bias.clone().narrow(0, 0, b.width).unsqueeze();
                    u.clone() * ((u / 2f64.sqrt()).erf() + 1.0) / 2.0
                }
            };
            h.matmul(self.down.clone().narrow(1, 0, b.width).transpose())
        });
        Tensor::cat(parts.collect(), 0)
    }
}

fn block(start: usize, end: usize, width: usize) -> Block {
    Block { start, end, width }
}

/// Blocks as plans make them: of one input, of shared inputs, of rows.
fn block_lists(rows: usize, d_ff: usize) -> impl Strategy<Value = Vec<Block>> {
    let one = (0..rows, 1..=rows, 1..=d_ff)
        .prop_map(move |(start, len, width)| block(start, (start + len).min(rows), width));
    prop::collection::vec(one, 1..5)
}

proptest! {
    // PROPTEST_CASES may ask for fewer: a GPU compiles kernels for every shape.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.min(24)))]

    #[test]
    fn nested_ffn_equals_its_definition(
        (rows, d_ff, blocks) in (1usize..7, 1usize..12)
            .prop_flat_map(|(rows, d_ff)| (Just(rows), Just(d_ff), block_lists(rows, d_ff))),
        d_model in 1usize..6,
        seed in 0u64..1000,
    ) {
        let device = device();
        for form in FORMS {
            let case = Case::new(random([rows, d_model], seed, &device), d_ff, form, seed);
            assert_same(case.ours(&blocks), case.theirs(&blocks), &case.inputs());
        }
    }
}

#[test]
fn the_block_in_pieces_is_that_in_one() {
    // More rows and width than a piece has; one block, one input for several, several inputs.
    let (device, rows, d_model, d_ff) = (device(), 300, 5, 600);
    for form in FORMS {
        let case = Case::new(random([rows, d_model], 1, &device), d_ff, form, 2);
        for blocks in [
            vec![block(0, 300, 600)],
            vec![block(0, 300, 70)],
            vec![block(0, 300, 600), block(0, 300, 30), block(0, 300, 300), block(0, 300, 300)],
            vec![block(0, 150, 300), block(150, 300, 513), block(100, 200, 40)],
        ] {
            assert_same(case.ours(&blocks), case.theirs(&blocks), &case.inputs());
        }
    }
}

// Other devices may take all numbers for finite.
#[cfg(feature = "flex")]
#[test]
fn what_is_no_number_comes_through_the_block_as_in_the_definition() {
    use super::tests::{assert_same_kinds, spoilt};

    let device = "flex".parse::<crate::DeviceSpec>().unwrap().resolve().unwrap().autodiff();
    let blocks = [4, 9].map(|width| block(0, 300, width));
    for form in FORMS {
        let case = Case::new(spoilt(300, 6, &device), 9, form, 2);
        assert_same_kinds(case.ours(&blocks), case.theirs(&blocks), &case.inputs());
    }
}

#[test]
fn units_beyond_the_widest_block_have_gradient_zero() {
    let device = device();
    for rows in [3, 300] {
        for form in FORMS {
            let case = Case::new(random([rows, 4], 1, &device), 8, form, 2);
            let grads = case.ours(&[block(0, rows, 2), block(0, rows, 5)]).sum().backward();
            let [_, up, inner, down] = case.inputs().map(|input| input.grad(&grads));
            let per_unit = inner.len() / 8;
            for (i, g) in up.iter().enumerate() {
                assert_eq!(*g != 0.0, i / 4 < 5, "up {i}");
            }
            for (i, g) in inner.iter().enumerate() {
                assert_eq!(*g != 0.0, i / per_unit < 5, "gate or bias {i}");
            }
            for (i, g) in down.iter().enumerate() {
                assert_eq!(*g != 0.0, i % 8 < 5, "down {i}");
            }
        }
    }
}

/// A weight as its packed form, and the values that it then has, as an f32 weight.
fn packed(t: &Tensor<2>, format: PackedFormat, device: &Device) -> (Weight, Weight) {
    let packed = Weight::from(t.clone()).packed(format).unwrap();
    assert!(matches!(&packed, Weight::Packed(p) if p.format() == format));
    let values = packed.values(device).into();
    (packed, values)
}

#[test]
fn a_packed_block_is_that_of_its_values_at_every_width() {
    let device = device();
    for (rows, widths) in [(3, 1..=64), (300, 31..=34)] {
        for (format, form) in
            [PackedFormat::Bf16, PackedFormat::Q8_0].into_iter().zip([FORMS[0], FORMS[2]])
        {
            let case = Case::new(random([rows, 32], 1, &device), 64, form, 2);
            let [up, gate, down] =
                [&case.up, &case.gate, &case.down].map(|t| packed(t, format, &device));
            for width in widths.clone() {
                let blocks = [block(0, rows, width), block(0, rows, width.div_ceil(2))];
                let ours = case.with_weights([&up.0, &gate.0, &down.0], &blocks);
                let theirs = case.with_weights([&up.1, &gate.1, &down.1], &blocks);
                assert!(close(&values(&ours), &values(&theirs), 1e-5), "{format:?} {width}");
                let grad = |y: Tensor<2>| Input::Two(case.x.clone()).grad(&y.sum().backward());
                assert!(close(&grad(ours), &grad(theirs), 1e-5), "{format:?} {width}");
            }
        }
    }
}

#[test]
fn a_product_with_a_packed_matrix_is_that_with_its_values() {
    let device = device();
    for rows in [1, 40] {
        for format in [PackedFormat::Bf16, PackedFormat::Q8_0] {
            let (x, weight) = (random([rows, 64], 1, &device), random([7, 64], 2, &device));
            let (packed, dense) = packed(&weight, format, &device);
            let (ours, theirs) = (linear(x.clone(), &packed), linear(x.clone(), &dense));
            assert!(close(&values(&ours), &values(&theirs), 1e-5), "{format:?}");
        }
    }
}
