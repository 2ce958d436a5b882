//! A training step, part by part, beside the limit of the machine's matrix products and PyTorch.

use anyhow::{Result, ensure};
use burn::{
    module::Module,
    tensor::{Device, Distribution, Tensor},
};
use clap::Args;
use matformer::{
    core::{Costs, Draw, Plan, Resource, StepDraw},
    lm::{MatLm, MatLmConfig},
    nn::{DeviceSpec, Elastic, State, row_losses, walk},
    synthetic::{OneBatch, images, one_batch},
    timing::{self, median, millis},
    train::{TrainConfig, Trainer},
    vit::{MatVit, MatVitConfig},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{ops, peer::Peer};

/// The product whose rate the limit is taken from: m, n, k.
const PRODUCT: [usize; 3] = [2048, 2048, 512];

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Shapes, separated by commas: d256, d512, vit28 [default: all]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    shapes: Vec<String>,
    /// Widths, separated by commas: S, M, L, XL, joint [default: all]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    widths: Vec<String>,
    /// Times that everything is measured, in turn; medians are printed
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Python with torch: adds PyTorch's times
    #[arg(long, value_name = "PATH")]
    python: Option<String>,
    /// Leave `torch.compile` out
    #[arg(long)]
    no_compile: bool,
    /// Each operation of a step on its own too
    #[arg(long)]
    ops: bool,
    /// Device [default: MATFORMER_DEVICE, or the best there is]
    #[arg(long)]
    device: Option<DeviceSpec>,
}

/// A model and the rows of its batch.
pub struct Shape {
    /// What the tables call it.
    pub name: &'static str,
    /// Rows of the batch.
    pub rows: usize,
    /// The model.
    pub config: Config,
}

/// A model's shape.
pub enum Config {
    Lm(MatLmConfig),
    Vit(MatVitConfig),
}

fn shapes() -> Vec<Shape> {
    let vit = Shape { name: "vit28", rows: 256, config: Config::Vit(MatVitConfig::default()) };
    vec![
        Shape::new("d256", 256, 6, 4096, [8, 256]),
        Shape::new("d512", 512, 8, 8192, [4, 256]),
        vit,
    ]
}

impl Shape {
    /// A language model: heads of 32, d_ff of four times d_model, a batch of so many rows of so many
    /// tokens.
    pub fn new(
        name: &'static str,
        d_model: usize,
        n_layers: usize,
        vocab_size: usize,
        [rows, context]: [usize; 2],
    ) -> Self {
        let config = MatLmConfig {
            vocab_size,
            d_model,
            n_layers,
            n_heads: d_model / 32,
            n_kv_heads: d_model / 32,
            d_ff: 4 * d_model,
            context,
            tied_embeddings: true,
            ..MatLmConfig::default()
        };
        Self { name, rows, config: Config::Lm(config) }
    }

    /// A trainer at its first step, of one width or of all (`joint`).
    pub fn case(&self, width: &str, device: &Device) -> Result<Box<dyn Timed>> {
        let rows = self.rows;
        Ok(match &self.config {
            Config::Lm(c) => {
                let model = MatLm::new(c, 0, device)?;
                let request = json!({
                    "d_model": c.d_model, "n_layers": c.n_layers, "n_heads": c.n_heads,
                    "d_ff": c.d_ff, "vocab": c.vocab_size, "rows": rows, "seq": c.context,
                });
                let batch = one_batch(&model, rows)?;
                Box::new(Case::new(model, batch, &matformer::lm::costs(c), request, width)?)
            }
            Config::Vit(c) => {
                let model = MatVit::new(c, 0, device)?;
                let request = json!({
                    "d_model": c.d_model, "n_layers": c.n_layers, "n_heads": c.n_heads,
                    "d_ff": c.d_ff, "classes": c.classes, "rows": rows, "image": c.image_size,
                    "patch": c.patch_size, "channels": c.channels,
                });
                let batch = images(&model, rows)?;
                Box::new(Case::new(model, batch, &matformer::vit::costs(c), request, width)?)
            }
        })
    }
}

/// Medians of one width at one shape, in milliseconds.
#[derive(Debug, Serialize)]
pub struct Row {
    shape: &'static str,
    width: String,
    step_ms: f64,
    forward_ms: f64,
    backward_ms: f64,
    optimizer_ms: f64,
    tokens_per_second: f64,
    limit_ms: f64,
    torch_eager_ms: Option<f64>,
    torch_compile_ms: Option<f64>,
    vs_limit: f64,
    /// Against the faster of PyTorch's two.
    vs_torch: Option<f64>,
}

/// One width at one shape, ready to be timed.
pub trait Timed {
    /// One round of ours: the whole step, then forward and backward on their own.
    fn round(&mut self, keep: bool) -> Result<()>;

    /// The step that `matformer train` makes, waited for.
    fn step(&mut self) -> Result<()>;

    /// The same for the peer.
    fn request(&self) -> &Value;

    /// What the peer took.
    fn keep(&mut self, compiled: bool, millis: f64);

    /// Medians; `rate` is in FLOPs per millisecond.
    fn row(&self, shape: &'static str, rate: f64) -> Row;
}

struct Case<M: Elastic> {
    width: String,
    trainer: Trainer<M>,
    draw: StepDraw,
    batch: OneBatch<M>,
    /// FLOPs of the matrix products of a step.
    flops: f64,
    request: Value,
    times: Times,
}

#[derive(Default)]
struct Times {
    step: Vec<f64>,
    forward: Vec<f64>,
    backward: Vec<f64>,
    eager: Vec<f64>,
    compiled: Vec<f64>,
}

impl<M: Elastic + Module> Case<M> {
    fn new(
        model: M,
        batch: OneBatch<M>,
        costs: &Costs,
        mut request: Value,
        width: &str,
    ) -> Result<Self> {
        let space = model.space().clone();
        let draw: Draw = match width {
            "joint" => "joint".parse()?,
            name => format!("baseline:{name}").parse()?,
        };
        let train = TrainConfig {
            tokens_per_step: batch.targets,
            draw: draw.clone(),
            ..TrainConfig::default()
        };
        let draw = draw.at(&space, 0, 0);
        let submodels: Vec<_> = draw.terms.iter().map(|(s, _)| s.clone()).collect();
        let forward = costs.get(Resource::Flops)?.plan(&Plan::merged(&submodels)?)?;
        let widths: Vec<usize> = submodels.iter().map(|s| s.widths()[0]).collect();
        request["widths"] = widths.into();
        Ok(Self {
            width: width.to_owned(),
            trainer: Trainer::new(model, &train, 1),
            draw,
            flops: 3.0 * forward * batch.targets as f64,
            batch,
            request,
            times: Times::default(),
        })
    }
}

impl<M: Elastic + Module> Timed for Case<M>
where
    M::Input: Send + Sync,
    M::Target: Send + Sync,
{
    fn round(&mut self, keep: bool) -> Result<()> {
        let mut done = Ok(());
        let step = millis(|| done = self.step());
        done?;
        let model = self.trainer.model();
        let mut loss = None;
        let submodels: Vec<_> = self.draw.terms.iter().map(|(s, _)| s.clone()).collect();
        let plan = Plan::merged(&submodels)?;
        let forward = millis(|| {
            loss = walk(model, &self.batch.input, &plan, &mut State::new())
                .map(|walked| row_losses(model, &walked, &self.batch.target))
                .ok()
                .and_then(|losses| losses.into_iter().map(|l| l.nats.sum()).reduce(|a, b| a + b));
            let _ = model.device().sync();
        });
        let backward = millis(|| {
            let _gradients = loss.take().map(|loss| loss.backward());
            let _ = model.device().sync();
        });
        if keep {
            self.times.step.push(step);
            self.times.forward.push(forward);
            self.times.backward.push(backward);
        }
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        self.trainer.step(&self.batch)?;
        self.trainer.model().device().sync()?;
        Ok(())
    }

    fn request(&self) -> &Value {
        &self.request
    }

    fn keep(&mut self, compiled: bool, millis: f64) {
        let times = if compiled { &mut self.times.compiled } else { &mut self.times.eager };
        times.push(millis);
    }

    fn row(&self, shape: &'static str, rate: f64) -> Row {
        let targets = self.batch.targets as f64;
        let t = &self.times;
        let of = |times: &Vec<f64>| median(times.clone());
        let or_none = |times: &Vec<f64>| (!times.is_empty()).then(|| of(times));
        let (step, forward, backward) = (of(&t.step), of(&t.forward), of(&t.backward));
        let (eager, compiled) = (or_none(&t.eager), or_none(&t.compiled));
        let torch = [eager, compiled].into_iter().flatten().reduce(f64::min);
        let limit = self.flops / rate;
        Row {
            shape,
            width: self.width.clone(),
            step_ms: step,
            forward_ms: forward,
            backward_ms: backward,
            optimizer_ms: (step - forward - backward).max(0.0),
            tokens_per_second: targets / step * 1e3,
            limit_ms: limit,
            torch_eager_ms: eager,
            torch_compile_ms: compiled,
            vs_limit: step / limit,
            vs_torch: torch.map(|torch| step / torch),
        }
    }
}

pub fn run(args: &TrainArgs, as_json: bool) -> Result<()> {
    ensure!(args.rounds > 0, "--rounds 0: expected at least 1");
    let device = args.device.map_or_else(DeviceSpec::from_env, Ok)?.resolve()?.autodiff();
    let mut peer = args.python.as_deref().map(Peer::start).transpose()?;
    let mut rows = Vec::new();
    let mut breakdown = Vec::new();
    let known = shapes();
    let wanted = |list: &[String], name: &str| list.is_empty() || list.iter().any(|l| l == name);
    for shape in known.iter().filter(|shape| wanted(&args.shapes, shape.name)) {
        let names = ["S", "M", "L", "XL", "joint"].into_iter().filter(|w| wanted(&args.widths, w));
        let mut cases =
            names.map(|width| shape.case(width, &device)).collect::<Result<Vec<_>>>()?;
        let rate = rounds(args, &mut cases, &device, &mut peer)?;
        rows.extend(cases.iter().map(|case| case.row(shape.name, rate)));
        if let (true, Config::Lm(config)) = (args.ops, &shape.config) {
            for width in ["S", "XL"] {
                breakdown.extend(ops::measure(
                    shape.name,
                    config,
                    shape.rows,
                    width,
                    args.rounds,
                    &device.clone().inner(),
                )?);
            }
        }
    }
    ensure!(
        !rows.is_empty(),
        "--shapes, --widths: expected d256, d512 or vit28, and S, M, L, XL or joint"
    );
    let torch = peer.as_ref().map(|peer| peer.version.as_str());
    if as_json {
        let document = json!({
            "machine": timing::describe(), "torch": torch, "rounds": args.rounds, "rows": rows,
            "ops": breakdown,
        });
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        print(&rows, torch, args.rounds);
        ops::print(&breakdown);
    }
    Ok(())
}

/// All rounds, ours and PyTorch's in turn; the first warms up. Returns the rate of the product in
/// FLOPs per millisecond: the better of ours and PyTorch's.
fn rounds(
    args: &TrainArgs,
    cases: &mut [Box<dyn Timed>],
    device: &Device,
    peer: &mut Option<Peer>,
) -> Result<f64> {
    let [m, n, k] = PRODUCT;
    let inner = device.clone().inner();
    let random = |a, b| Tensor::<2>::random([a, b], Distribution::Default, &inner);
    let (a, b) = (random(m, k), random(k, n));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=args.rounds {
        for case in &mut *cases {
            case.round(round > 0)?;
            if let Some(peer) = peer {
                ask(peer, case.as_mut(), args, round > 0);
            }
        }
        for _ in 0..3 {
            ours.push(millis(|| {
                let _product = a.clone().matmul(b.clone());
                let _ = inner.sync();
            }));
            if let Some(peer) = peer {
                let answer = peer.ask(&json!({ "product": PRODUCT }))?;
                theirs.extend(answer["product"].as_f64());
            }
        }
    }
    let best = match theirs.is_empty() {
        true => median(ours),
        false => median(ours).min(median(theirs)),
    };
    Ok(2.0 * (m * n * k) as f64 / best)
}

fn ask(peer: &mut Peer, case: &mut dyn Timed, args: &TrainArgs, keep: bool) {
    let compiled = if args.no_compile { &[false][..] } else { &[false, true] };
    for &compile in compiled {
        let mut request = case.request().clone();
        request["compile"] = compile.into();
        match peer.ask(&request) {
            Ok(answer) if keep => {
                let part = |name: &str| answer[name].as_f64().unwrap_or(f64::NAN);
                let step = part("forward") + part("backward") + part("optimizer");
                case.keep(compile, step);
            }
            Ok(_) => {}
            Err(error) => eprintln!("torch, {request}: {error}"),
        }
    }
}

fn print(rows: &[Row], torch: Option<&str>, rounds: usize) {
    println!("{}", timing::describe());
    println!(
        "training step in ms, median of {rounds} rounds; limit: its matrix products at the rate of \
         one of {PRODUCT:?}; peer: {}\n",
        torch.unwrap_or("none (--python names a Python with torch)")
    );
    println!(
        "shape width   step  forward backward optimizer  targets/s   limit  /limit   eager compile  /torch"
    );
    let ms = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{v:.0}"));
    for r in rows {
        println!(
            "{:5} {:5} {:6.0} {:8.0} {:8.0} {:9.0} {:10.0} {:7.0} {:7.2} {:>7} {:>7} {:>7}",
            r.shape,
            r.width,
            r.step_ms,
            r.forward_ms,
            r.backward_ms,
            r.optimizer_ms,
            r.tokens_per_second,
            r.limit_ms,
            r.vs_limit,
            ms(r.torch_eager_ms),
            ms(r.torch_compile_ms),
            r.vs_torch.map_or("-".to_owned(), |v| format!("{v:.2}")),
        );
    }
}
