//! What families of decoders switch on, against transformers: outputs and every gradient. The
//! fixture and the script that makes it lie in `tests/fixtures`.

use std::collections::BTreeMap;

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use matformer_core::{Block, Spans};
use safetensors::SafeTensors;

use crate::{
    Activation, Attention, AttentionConfig, DeviceSpec, NestedFfnConfig, Pass, State,
    ops::{Mask, RopeRule, RopeTable},
    params,
};

const ROWS: usize = 2;
const SEQ: usize = 12;
const D_MODEL: usize = 32;

/// The tensors of the fixture, by name: shape and values.
struct Fixture(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Fixture {
    fn read() -> Self {
        let bytes = include_bytes!("../tests/fixtures/family_ops.safetensors");
        let file = SafeTensors::deserialize(bytes).unwrap();
        let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
            let floats =
                view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            (name, (view.shape().to_vec(), floats.collect()))
        };
        Self(file.tensors().into_iter().map(tensor).collect())
    }

    fn values(&self, name: &str) -> &[f32] {
        &self.0.get(name).unwrap_or_else(|| panic!("no `{name}` in the fixture")).1
    }

    /// A tensor as rows of its last dimension.
    fn rows(&self, name: &str, device: &Device) -> Tensor<2> {
        let (shape, values) = &self.0[name];
        let d = *shape.last().unwrap();
        Tensor::from_data(TensorData::new(values.clone(), [values.len() / d, d]), device)
    }

    /// A tensor of a case, or the one that all cases share.
    fn of(&self, case: &str, name: &str) -> &[f32] {
        let own = format!("{case}.{name}");
        if self.0.contains_key(&own) { self.values(&own) } else { self.values(name) }
    }
}

fn device() -> Device {
    DeviceSpec::from_env().and_then(DeviceSpec::resolve).unwrap().autodiff()
}

/// Largest difference, as a share of the largest magnitude.
fn worst(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    let off = found.iter().zip(expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    off / size.max(1e-6)
}

/// Compares the gradients of a module's parameters with those of a fixture, by path.
fn check_gradients<M: Module>(
    module: &M,
    grads: &burn::tensor::Gradients,
    expected: impl Fn(&str) -> Vec<f32>,
) {
    let mut n = 0;
    params::read_gradients(module, grads, |path, data| {
        let found: Vec<f32> = data.try_into_vec().unwrap();
        let off = worst(&found, &expected(path));
        assert!(off < 1e-4, "gradient of {path}: {off}");
        n += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(n, params::shapes(module).len(), "every parameter has a gradient");
}

/// `q.weight` → `q`, `q.bias` → `q_bias`.
fn stored(path: &str) -> String {
    path.trim_end_matches(".weight").replace(".bias", "_bias")
}

fn check_attention(case: &str, config: AttentionConfig) {
    let (fixture, device) = (Fixture::read(), device());
    let head_dim = config.head_dim;
    let attention: Attention = params::fill(config.init(&device), |path, shape| {
        let values = fixture.of(case, &stored(path)).to_vec();
        Ok::<_, std::convert::Infallible>(TensorData::new(values, shape.to_vec()))
    })
    .unwrap();
    let spans = Spans::equal(ROWS, SEQ);
    let frequencies = RopeRule::Default { theta: 10_000.0 }.frequencies(head_dim);
    let rope = RopeTable::new(&spans, &frequencies, &device);
    let x = fixture.rows("x", &device).require_grad();
    let (blocks, mut state) = ([], State::new());
    let pass =
        &mut Pass { layer: 0, blocks: &blocks, spans: &spans, context: &(), state: &mut state };
    let y = attention.forward(x.clone(), Some(&rope), pass);
    let found: Vec<f32> = y.clone().inner().try_into_vec_as().unwrap();
    let off = worst(&found, fixture.values(&format!("{case}.y")));
    assert!(off < 1e-5, "{case}: {off}");
    let grads = (y * fixture.rows("g", &device)).sum().backward();
    let gradient = |name: &str| fixture.values(&format!("{case}.grad.{name}")).to_vec();
    check_gradients(&attention, &grads, |path| gradient(&stored(path)));
    let dx: Vec<f32> = x.grad(&grads).unwrap().try_into_vec_as().unwrap();
    assert!(worst(&dx, &gradient("x")) < 1e-4, "{case}: gradient of x");
}

fn llama() -> AttentionConfig {
    AttentionConfig { kv_heads: 2, ..AttentionConfig::new(D_MODEL, 4, 8) }
}

#[test]
fn attention_with_grouped_heads_is_llamas() {
    check_attention("llama", llama());
}

#[test]
fn attention_with_biases_on_queries_keys_and_values_is_qwen2s() {
    check_attention("bias", AttentionConfig { qkv_bias: true, ..llama() });
}

#[test]
fn attention_with_norms_of_queries_and_keys_is_qwen3s() {
    check_attention("qk_norm", AttentionConfig { qk_norm: Some(1e-6), ..llama() });
}

#[test]
fn attention_in_a_window_is_mistrals() {
    check_attention("window", AttentionConfig { mask: Mask::Window { size: 5 }, ..llama() });
}

#[test]
fn attention_with_a_scale_of_its_own_is_gemmas() {
    check_attention("scale", AttentionConfig { scale: Some(24f64.powf(-0.5)), ..llama() });
}

#[test]
fn heads_may_have_any_size() {
    let config = AttentionConfig { kv_heads: 1, ..AttentionConfig::new(D_MODEL, 4, 16) };
    check_attention("head_dim", config);
}

#[test]
fn frequencies_of_every_rule_are_transformers() {
    let fixture = Fixture::read();
    let llama3 = RopeRule::Llama3 {
        theta: 500_000.0,
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 64.0,
    };
    for (name, rule) in [
        ("default", RopeRule::Default { theta: 10_000.0 }),
        ("linear", RopeRule::Linear { theta: 10_000.0, factor: 4.0 }),
        ("llama3", llama3),
    ] {
        for (head_dim, step) in [(8, 1), (64, 20)] {
            let of = |part: &str| fixture.values(&format!("rope.{name}.{head_dim}.{part}"));
            let frequencies = rule.frequencies(head_dim);
            for (found, expected) in frequencies.iter().zip(of("inv_freq")) {
                assert!((found / f64::from(*expected) - 1.0).abs() < 1e-6, "{name} {head_dim}");
            }
            let angles: Vec<f64> = (0..=100)
                .step_by(step)
                .flat_map(|position| frequencies.iter().map(move |f| f64::from(position) * f))
                .collect();
            for (part, f) in [("cos", f64::cos as fn(f64) -> f64), ("sin", f64::sin)] {
                let found: Vec<f32> = angles.iter().map(|angle| f(*angle) as f32).collect();
                assert!(worst(&found, of(part)) < 1e-5, "{name} {head_dim} {part}");
            }
        }
    }
}

#[test]
fn a_gate_with_gelu_is_gemmas_at_every_width() {
    let (fixture, device) = (Fixture::read(), device());
    let config =
        NestedFfnConfig { d_model: 16, d_ff: 24, activation: Activation::GeGlu, bias: false };
    let ffn = params::fill(config.init(&device), |path, shape| {
        let values = fixture.values(&format!("ffn.{path}")).to_vec();
        Ok::<_, std::convert::Infallible>(TensorData::new(values, shape.to_vec()))
    })
    .unwrap();
    for width in [24, 16, 8] {
        let x = fixture.rows("ffn.x", &device).require_grad();
        let y = ffn.forward(x.clone(), &[Block { start: 0, end: 10, width }]);
        let found: Vec<f32> = y.clone().inner().try_into_vec_as().unwrap();
        assert!(worst(&found, fixture.values(&format!("ffn.{width}.y"))) < 1e-5, "{width}");
        let grads = (y * fixture.rows("ffn.g", &device)).sum().backward();
        let gradient = |name: &str| fixture.values(&format!("ffn.{width}.grad.{name}")).to_vec();
        // What lies beyond the width has gradient zero.
        check_gradients(&ffn, &grads, |path| match path {
            "down" => {
                let row = |row: &[f32]| [row, &vec![0.0; 24 - width]].concat();
                gradient("down").chunks(width).flat_map(row).collect()
            }
            path => [gradient(path), vec![0.0; (24 - width) * 16]].concat(),
        });
        let dx: Vec<f32> = x.grad(&grads).unwrap().try_into_vec_as().unwrap();
        assert!(worst(&dx, &gradient("x")) < 1e-4, "{width}: gradient of x");
    }
}
