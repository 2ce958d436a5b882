//! A kind of model that no crate here knows, trained, measured, saved and loaded by all of them:
//! `cargo run -p matformer-train --example custom_model`.
//!
//! It reads bytes and has no attention: the mixing half of a layer takes the mean of what stands
//! before each position, fading with distance. What makes it elastic is its feed-forward half, a
//! [`NestedFfn`]. `docs/adding-a-model.md` walks through this file.

use std::{error::Error, path::Path, sync::Arc};

use burn::{
    module::{Module, Param},
    tensor::{Device, Int, Tensor, TensorData},
};
use matformer_core::{
    Block, Costs, Draw, Granularities, Manifest, Plan, Provenance, Space, SubmodelSpec, fs, rng,
};
use matformer_nn::{
    Activation, DeviceSpec, Elastic, Folder, Hidden, NestedFfn, NestedFfnConfig, Result, RowLoss,
    State, folder,
    init::{self, Init},
    ops::{cross_entropy, rms_norm, stack_rows},
    row_losses, walk,
};
use matformer_train::{Batch, Batches, BoxError, Interrupter, Progress, RunOptions, TrainConfig};

const ROWS: usize = 8;
const SEQ: usize = 64;
const EPS: f64 = 1e-5;

/// Bytes in, next bytes out.
#[derive(Module, Debug)]
struct MeanMixer {
    embed: Param<Tensor<2>>, // [256, d_model], input and output
    layers: Vec<Layer>,
    norm: Param<Tensor<1>>, // [d_model]
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

impl MeanMixer {
    /// A model whose weights wait to be drawn or read.
    fn zeros(d_model: usize, space: Space, device: &Device) -> Self {
        let vector = || Param::from_tensor(Tensor::zeros([d_model], device));
        let matrix = |rows| Param::from_tensor(Tensor::zeros([rows, d_model], device));
        let (d_ff, activation) = (space.d_ff, Activation::SwiGlu);
        let ffn = NestedFfnConfig { d_model, d_ff, activation, bias: false };
        let layer = |_| Layer { mix: matrix(d_model), ffn_norm: vector(), ffn: ffn.init(device) };
        let layers = (0..space.n_layers).map(layer).collect();
        Self { embed: matrix(256), layers, norm: vector(), space }
    }
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

    fn stem(&self, input: &Tensor<2, Int>, _: &State) -> Result<(Hidden, Tensor<2>)> {
        let [rows, seq] = input.dims();
        let x = self.embed.val().select(0, input.clone().reshape([rows * seq]));
        let share = |i: usize, j: usize| if j > i { 0.0 } else { 0.5f32.powi((i - j + 1) as i32) };
        let shares: Vec<f32> = (0..seq * seq).map(|at| share(at / seq, at % seq)).collect();
        let mean = Tensor::from_data(TensorData::new(shares, [seq, seq]), &x.device());
        Ok((Hidden { x, rows, seq }, mean))
    }

    fn mix(&self, layer: usize, x: Tensor<2>, mean: &Tensor<2>, _: &mut State) -> Tensor<2> {
        let ([n, d_model], [seq, _]) = (x.dims(), mean.dims());
        let rows = x.clone().reshape([n / seq, seq, d_model]);
        let past = mean.clone().unsqueeze::<3>().matmul(rows).reshape([n, d_model]);
        past.matmul(self.layers[layer].mix.val()) + x
    }

    fn ffn(&self, layer: usize, x: Tensor<2>, _: &Tensor<2>, blocks: &[Block]) -> Tensor<2> {
        let l = &self.layers[layer];
        let normed = rms_norm(x.clone(), l.ffn_norm.val(), EPS);
        l.ffn.forward(normed, blocks) + stack_rows(x, blocks)
    }

    fn loss(&self, hidden: Tensor<2>, target: &Tensor<2, Int>) -> RowLoss {
        let [rows, seq] = target.dims();
        let normed = rms_norm(hidden, self.norm.val(), EPS);
        let nats = cross_entropy(normed, self.embed.val(), target.clone().reshape([rows * seq]));
        let nats = nats.reshape([rows, seq]).sum_dim(1).reshape([rows]);
        RowLoss { nats, counts: vec![seq; rows] }
    }

    fn head(&self, hidden: Tensor<2>) -> Tensor<2> {
        rms_norm(hidden, self.norm.val(), EPS).matmul(self.embed.val().transpose())
    }
}

impl Folder for MeanMixer {
    const KIND: &'static str = "mean-mixer";

    fn build(dir: &Path, manifest: &Manifest, device: &Device) -> Result<Self> {
        let path = dir.join(folder::CONFIG);
        let found = fs::read_to_string(&path)?;
        let config: serde_json::Value = serde_json::from_str(&found).unwrap_or_default();
        match config["d_model"].as_u64() {
            Some(d_model) => Ok(Self::zeros(d_model as usize, manifest.space()?, device)),
            None => {
                let expected = "a number `d_model`".to_owned();
                Err(matformer_nn::Error::File { path, found, expected })
            }
        }
    }

    fn config_files(&self) -> Vec<(String, String)> {
        let [_, d_model] = self.embed.dims();
        vec![(folder::CONFIG.to_owned(), format!("{{ \"d_model\": {d_model} }}\n"))]
    }

    fn tensor_name(path: &str) -> String {
        path.to_owned()
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
    let space = Space::new(2, 256, 32, Granularities::default_for(256)?)?;
    let zeros = MeanMixer::zeros(64, space.clone(), &device.clone().autodiff());
    let model = init::init(zeros, 0, |_, shape| match shape.len() {
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
    let options = RunOptions {
        dir: dir.path().to_owned(),
        manifest: manifest(&space, &config),
        config,
        files: Vec::new(),
        targets: "bytes",
        progress: Progress::Lines,
        interrupter: Interrupter::new(),
        configured: serde_json::Value::Null,
        lock: None,
    };
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

/// What the run folder says of itself; steps, tokens and hash are filled in as they come.
fn manifest(space: &Space, config: &TrainConfig) -> Manifest {
    let provenance = Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: config.seed,
        steps: 0,
        tokens: 0,
        data_hash: "none".to_owned(),
        parent: None,
    };
    Manifest::new(MeanMixer::KIND, space, config.draw.clone(), provenance)
}
