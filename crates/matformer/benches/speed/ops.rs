//! The time of each operation of a training step alone, at the sizes that it has in the step.

use anyhow::Result;
use burn::tensor::{Device, Int, Tensor, TensorData};
use matformer::{
    bench::timing::{median, millis},
    core::{Block, Spans, rng},
    lm::{MatLm, MatLmConfig},
    nn::{
        Elastic, Weight,
        ops::{
            AdamWStep, AttentionSpec, FfnWeights, Gate, Mask, RopeRule, RopeTable, adamw,
            attention, cross_entropy, linear, nested_ffn, rms_norm, sum_of_squares,
        },
    },
};
use serde::Serialize;

/// The time of one operation.
#[derive(Debug, Serialize)]
pub struct OpRow {
    shape: &'static str,
    width: String,
    op: &'static str,
    /// Calls in one step.
    calls: usize,
    /// Forward passes of all calls.
    forward_ms: f64,
    /// Backward passes of all calls.
    backward_ms: f64,
}

/// An operation on tensors that require gradients.
struct Op {
    name: &'static str,
    calls: usize,
    forward: Box<dyn Fn() -> Option<Tensor<2>>>,
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let mut rng = rng::keyed(0, "bench op", D as u64);
    let values: Vec<f32> =
        (0..shape.iter().product()).map(|_| rng::unit(&mut rng) as f32 - 0.5).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Times every operation of a step at one width; `device` is without autodiff.
pub fn measure(
    shape: &'static str,
    config: &MatLmConfig,
    rows: usize,
    width: &str,
    rounds: usize,
    device: &Device,
) -> Result<Vec<OpRow>> {
    let model = MatLm::new(config, 0, &device.clone().autodiff())?;
    let submodel = model.space().uniform(width)?;
    let ops = ops(config, rows, submodel.widths()[0], device);
    Ok(ops
        .iter()
        .map(|op| {
            let (mut forward, mut backward) = (Vec::new(), Vec::new());
            for _ in 0..=rounds {
                let mut out = None;
                forward.push(millis(|| {
                    out = (op.forward)();
                    let _ = device.sync();
                }));
                // The gradient of a sum is one everywhere, and cheap to compute.
                let loss = out.take().map(|out| out.sum());
                backward.push(millis(|| {
                    let _gradients = loss.map(|loss| loss.backward());
                    let _ = device.sync();
                }));
            }
            let all = |times: Vec<f64>| median(times) * op.calls as f64;
            OpRow {
                shape,
                width: width.to_owned(),
                op: op.name,
                calls: op.calls,
                forward_ms: all(forward),
                backward_ms: all(backward),
            }
        })
        .collect())
}

fn ops(c: &MatLmConfig, rows: usize, width: usize, device: &Device) -> Vec<Op> {
    let (d, layers, tokens) = (c.d_model, c.n_layers, rows * c.context);
    let autodiff = device.clone().autodiff();
    let matrix = |a, b| random([a, b], &autodiff).require_grad();
    let x = matrix(tokens, d);
    let op = |name, calls, forward: Box<dyn Fn() -> Option<Tensor<2>>>| Op { name, calls, forward };
    let mut list = Vec::new();

    let (input, weight) = (x.clone(), random([d], &autodiff).require_grad());
    list.push(op(
        "rms norm",
        2 * layers + 1,
        Box::new(move || Some(rms_norm(input.clone(), weight.clone(), 1e-5))),
    ));
    let (input, weight) = (x.clone(), Weight::from(matrix(d, d)));
    list.push(op(
        "projections",
        4 * layers,
        Box::new(move || Some(linear(input.clone(), &weight))),
    ));
    let spans = Spans::equal(rows, c.context);
    let frequencies = RopeRule::Default { theta: c.rope_theta }.frequencies(c.head_dim());
    let table = RopeTable::new(&spans, &frequencies, &autodiff);
    let input = x.clone();
    list.push(op("rope", 2 * layers, Box::new(move || Some(table.rotate(input.clone())))));
    let spec = AttentionSpec {
        spans,
        capacity: None,
        heads: c.n_heads,
        kv_heads: c.n_kv_heads,
        head_dim: c.head_dim(),
        scale: 1.0 / (c.head_dim() as f64).sqrt(),
        mask: Mask::Causal,
    };
    let [q, k, v] = [(); 3].map(|()| matrix(tokens, d));
    list.push(op(
        "attention",
        layers,
        Box::new(move || Some(attention(q.clone(), k.clone(), v.clone(), spec.clone()))),
    ));
    let [up, gate] = [(); 2].map(|()| Weight::from(matrix(c.d_ff, d)));
    let (input, down) = (x.clone(), Weight::from(matrix(d, c.d_ff)));
    let blocks = [Block { start: 0, end: tokens, width }];
    list.push(op(
        "ffn",
        layers,
        Box::new(move || {
            let weights = FfnWeights::Gated { up: &up, gate: &gate, down: &down, act: Gate::Silu };
            Some(nested_ffn(input.clone(), weights, &blocks))
        }),
    ));
    let (input, other) = (x.clone(), matrix(tokens, d));
    list.push(op(
        "residual sums",
        2 * layers,
        Box::new(move || Some(input.clone() + other.clone())),
    ));
    let ids: Vec<i32> = (0..tokens).map(|i| (i * 31 % c.vocab_size) as i32).collect();
    let targets = Tensor::<1, Int>::from_data(TensorData::new(ids, [tokens]), &autodiff);
    let (input, weight) = (x, matrix(c.vocab_size, d));
    list.push(op(
        "cross-entropy",
        1,
        Box::new(move || {
            let nats = cross_entropy(input.clone(), weight.clone(), targets.clone());
            Some(nats.unsqueeze())
        }),
    ));

    let n = c.vocab_size * d + layers * (4 * d * d + 3 * c.d_ff * d);
    let [p, g, m, v] = [(); 4].map(|()| random([n], device));
    let held = std::cell::RefCell::new(Some((p, m, v)));
    list.push(op(
        "clip and AdamW",
        1,
        Box::new(move || {
            let norm = sum_of_squares(g.clone()).into_scalar::<f32>();
            let step = AdamWStep {
                scale: 1.0 / f64::from(norm.max(1.0)),
                betas: [0.9, 0.95],
                eps: 1e-8,
                learning_rate: 1e-3,
                weight_decay: 0.1,
                steps: 1,
            };
            let mut held = held.borrow_mut();
            if let Some((p, m, v)) = held.take() {
                let [p, m, v] = adamw(p, g.clone(), m, v, step);
                *held = Some((p, m, v));
            }
            None
        }),
    ));
    list
}

/// Prints the rows as a table.
pub fn print(rows: &[OpRow]) {
    if rows.is_empty() {
        return;
    }
    println!("\neach operation alone: all its calls in a step, in ms\n");
    println!("shape width operation       calls  forward backward");
    for r in rows {
        println!(
            "{:5} {:5} {:15} {:5} {:8.1} {:8.1}",
            r.shape, r.width, r.op, r.calls, r.forward_ms, r.backward_ms
        );
    }
}
