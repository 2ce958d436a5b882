//! A kind of model that no crate here knows, trained, measured, saved and loaded by all of them:
//! `cargo run -p matformer-train --example custom_model`.
//!
//! It reads bytes and has no attention: the mixing half of a layer takes an exponentially
//! weighted average over the positions up to its own. Its feed-forward half, a [`NestedFfn`], makes
//! it elastic. `docs/adding-a-model.md` walks through this file.

use std::{error::Error, sync::Arc};

use burn::{
    module::{Module, Param},
    tensor::{Device, Int, Tensor, TensorData},
};
use matformer_core::{Costs, Draw, Manifest, Plan, Provenance, Space, Spans, SubmodelSpec, rng};
use matformer_nn::{
    Activation, DeviceSpec, Elastic, Folder, Hidden, ModelConfig, NestedFfn, NestedFfnConfig,
    Output, Pass, Result, RowLoss, State,
    config::Nested,
    folder,
    init::{self, Init},
    ops::{cross_entropy, rms_norm, stack_rows},
    params, row_losses, sum_by_row, walk,
};
use matformer_train::{Batch, Batches, BoxError, RunOptions, TrainConfig};
use serde::{Deserialize, Serialize};

const ROWS: usize = 8;
const SEQ: usize = 64;
const EPS: f64 = 1e-5;

/// Its shape, and its `config.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Config {
    d_model: usize,
    #[serde(flatten)]
    nested: Nested, // layers and feed-forward widths
}

impl ModelConfig for Config {
    const WEIGHT_KEYS: &'static [&'static str] = &["d_model", "n_layers", "d_ff", "layer_d_ff"];

    fn nested(&self) -> Nested {
        self.nested.clone()
    }

    fn with_nested(&self, nested: Nested) -> Self {
        Self { nested, ..self.clone() }
    }
}

/// Bytes in, next bytes out.
#[derive(Module, Debug)]
struct MeanMixer {
    embed: Param<Tensor<2>>, // [256, d_model], input and output
    layers: Vec<Layer>,
    norm: Param<Tensor<1>>, // [d_model]
    #[module(skip)]
    config: Config,
    #[module(skip)]
    space: Space,
}

/// Its place under `layers` tells the optimizer which rows a step has drawn: `layers.0.ffn.up`.
#[derive(Module, Debug)]
struct Layer {
    mix: Param<Tensor<2>>,      // [d_model, d_model]
    ffn_norm: Param<Tensor<1>>, // [d_model]
    ffn: NestedFfn,
}

impl Elastic for MeanMixer {
    type Input = Tensor<2, Int>; // [rows, seq]: bytes
    type Target = Tensor<2, Int>; // [rows, seq]: the byte after each
    type Context = Tensor<2>; // [seq, seq]: what each position takes of each

    fn space(&self) -> &Space {
        &self.space
    }

    fn d_ff(&self, layer: usize) -> usize {
        self.layers[layer].ffn.d_ff()
    }

    fn device(&self) -> Device {
        self.embed.lazy_device()
    }

    fn stem(&self, input: &Tensor<2, Int>, _: &State) -> Result<(Hidden, Tensor<2>)> {
        let [rows, seq] = input.dims();
        let x = self.embed.val().select(0, input.clone().reshape([rows * seq]));
        let share = |i: usize, j: usize| if j > i { 0.0 } else { 0.5f32.powi((i - j + 1) as i32) };
        let shares: Vec<f32> = (0..seq * seq).map(|at| share(at / seq, at % seq)).collect();
        let mean = Tensor::from_data(TensorData::new(shares, [seq, seq]), &x.device());
        Ok((Hidden { x, spans: Spans::equal(rows, seq) }, mean))
    }

    fn mix(&self, x: Tensor<2>, pass: &mut Pass<'_, Tensor<2>>) -> Tensor<2> {
        let ([n, d_model], [seq, _]) = (x.dims(), pass.context.dims());
        let rows = x.clone().reshape([n / seq, seq, d_model]);
        let past = pass.context.clone().unsqueeze::<3>().matmul(rows).reshape([n, d_model]);
        past.matmul(self.layers[pass.layer].mix.val()) + x
    }

    fn ffn(&self, x: Tensor<2>, pass: &mut Pass<'_, Tensor<2>>) -> Tensor<2> {
        let l = &self.layers[pass.layer];
        let normed = rms_norm(x.clone(), l.ffn_norm.val(), EPS);
        l.ffn.forward_in(normed, pass) + stack_rows(x, pass.blocks)
    }

    fn loss(&self, output: &Output, target: &Tensor<2, Int>) -> RowLoss {
        let [rows, seq] = target.dims();
        let normed = rms_norm(output.hidden.clone(), self.norm.val(), EPS);
        let nats = cross_entropy(normed, self.embed.val(), target.clone().reshape([rows * seq]));
        RowLoss { nats: sum_by_row(nats, &output.spans), counts: vec![seq; rows] }
    }

    fn head(&self, output: &Output) -> Tensor<2> {
        let normed = rms_norm(output.hidden.clone(), self.norm.val(), EPS);
        normed.matmul(self.embed.val().transpose())
    }
}

impl Folder for MeanMixer {
    const KIND: &'static str = "mean-mixer";
    type Config = Config;

    fn config(&self) -> &Config {
        &self.config
    }

    fn unset(config: &Config, space: Space, device: &Device) -> Result<Self> {
        let d_model = config.d_model;
        let vector = || params::unset([d_model], device);
        let matrix = |rows| params::unset([rows, d_model], device);
        let layer = |i| {
            let (d_ff, activation) = (config.nested.d_ff_of(i), Activation::SwiGlu);
            let ffn = NestedFfnConfig { d_model, d_ff, activation, bias: false };
            Layer { mix: matrix(d_model), ffn_norm: vector(), ffn: ffn.init(device) }
        };
        let layers = (0..space.n_layers).map(layer).collect();
        Ok(Self { embed: matrix(256), layers, norm: vector(), config: config.clone(), space })
    }
}

/// Learns from the trainer's own source, and is measured on this file.
struct Sources;

const TRAIN: &str =
    concat!(include_str!("../src/run/steps.rs"), include_str!("../src/optimizer.rs"));
const HELD_OUT: &str = include_str!("custom_model.rs");

/// The rows of `text` that begin at `starts`.
fn batch(text: &str, starts: &[usize], device: &Device) -> Batch<MeanMixer> {
    let rows = |shift: usize| -> Tensor<2, Int> {
        let row = |start: &usize| &text.as_bytes()[start + shift..start + shift + SEQ];
        let bytes: Vec<i32> = starts.iter().flat_map(row).map(|byte| i32::from(*byte)).collect();
        Tensor::from_data(TensorData::new(bytes, [starts.len(), SEQ]), device)
    };
    Batch { input: rows(0), target: rows(1) }
}

impl Batches<MeanMixer> for Sources {
    fn train(&self, model: &MeanMixer, index: u64) -> Result<Batch<MeanMixer>, BoxError> {
        let mut rng = rng::keyed(0, "rows", index); // a pure function of the index
        let starts = [(); ROWS].map(|()| rng::index(&mut rng, TRAIN.len() - SEQ));
        Ok(batch(TRAIN, &starts, &model.device()))
    }

    fn targets_per_batch(&self) -> usize {
        ROWS * SEQ
    }

    fn held_out_len(&self) -> usize {
        (HELD_OUT.len() - 1) / (ROWS * SEQ)
    }

    fn held_out(&self, model: &MeanMixer, index: usize) -> Result<Batch<MeanMixer>, BoxError> {
        let starts: Vec<usize> = (0..ROWS).map(|row| (index * ROWS + row) * SEQ).collect();
        Ok(batch(HELD_OUT, &starts, &model.device()))
    }
}

/// Trains it, and measures a size that was not trained.
///
/// # Errors
/// When a file cannot be written.
pub fn main() -> Result<(), Box<dyn Error>> {
    let _ = tracing_subscriber::fmt().try_init(); // shows how the run goes
    let device = DeviceSpec::from_env()?.resolve()?;
    let shape = Config { d_model: 64, nested: Nested::new(2, 256, 32) };
    let space = shape.space()?;
    let unset = MeanMixer::unset(&shape, space.clone(), &device.clone().autodiff())?;
    let model = init::init(unset, 0, |_, shape| match shape.len() {
        1 => Init::Ones,
        _ => Init::Normal(0.05),
    });
    let config = TrainConfig {
        steps: 80,
        tokens_per_step: ROWS * SEQ,
        draw: Draw::Joint,
        learning_rate: 1e-2,
        warmup: 10,
        eval_every: 40,
        checkpoint_every: 40,
        ..TrainConfig::default()
    };
    let dir = tempfile::tempdir()?;
    let provenance = Provenance::default();
    let manifest = Manifest::new(MeanMixer::KIND, &space, config.draw.clone(), provenance);
    let options = RunOptions::new(dir.path(), config, manifest);
    let outcome = matformer_train::run(model, Arc::new(Sources), options)?;
    let losses = outcome.held_out.ok_or("nothing was measured")?.held_out;
    println!("nats per byte of text that was held out; 5.55 before the first step");
    for name in space.granularities.names() {
        println!("{name:>12} {:.3}", losses[name]);
    }

    // The run folder is a model folder, and any width per layer is a model.
    let (model, _) = folder::load::<MeanMixer>(dir.path(), &device)?;
    let mixed = "128x1+256x1".parse::<SubmodelSpec>()?.resolve(&space, &Costs::default())?;
    let starts: Vec<usize> = (0..Sources.held_out_len() * ROWS).map(|row| row * SEQ).collect();
    let Batch { input, target } = batch(HELD_OUT, &starts, &device);
    let walked = walk(&model, &input, &Plan::one(&mixed), &mut State::new())?;
    let nats: f32 = row_losses(&model, &walked, &target)[0].nats.clone().sum().into_scalar();
    println!("{:>12} {:.3}", mixed.to_string(), nats / (starts.len() * SEQ) as f32);
    Ok(())
}
