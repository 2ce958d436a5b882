//! A training step and its parts, compared with the limit of the machine's matrix products and with
//! PyTorch.

use anyhow::{Result, ensure};
use burn::{module::Module, tensor::Device};
use clap::Args;
use matformer::{
    bench::timing::{self, median, millis},
    core::{Draw, Plan, StepDraw},
    lm::MatLm,
    nn::{DeviceSpec, Elastic, State, device, row_losses, walk},
    run::synthetic::{OneBatch, images, one_batch},
    train::{Precision, TrainConfig, Trainer},
    vit::MatVit,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    ops,
    peer::{self, Peer},
    rates::{Rate, Rates},
    shapes::{self, Config, Shape},
};

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Shapes, separated by commas [default: d256,d512,vit28; on a graphics card 180m,850m]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    shapes: Vec<String>,
    /// Widths, separated by commas: S, M, L, XL, joint [default: all]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    widths: Vec<String>,
    /// Compute matrix products in bfloat16, here and in PyTorch
    #[arg(long)]
    bf16: bool,
    /// Number of rounds; each measures everything once, and medians are printed
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Python interpreter with torch, to measure PyTorch too
    #[arg(long, value_name = "PATH")]
    python: Option<String>,
    /// Do not measure `torch.compile`
    #[arg(long)]
    no_compile: bool,
    /// Also measure each operation of a step alone
    #[arg(long)]
    ops: bool,
    /// Device [default: MATFORMER_DEVICE, or the fastest available]
    #[arg(long)]
    device: Option<DeviceSpec>,
}

/// A trainer of a shape before its first step, at one width or at all of them (`joint`).
pub fn case(
    shape: &Shape,
    width: &str,
    dtype: Precision,
    device: &Device,
) -> Result<Box<dyn Timed>> {
    Ok(match &shape.config {
        Config::Lm(config) => {
            let model = MatLm::new(config, 0, device)?;
            let batch = one_batch(&model, shape.rows, model.config().context)?;
            Box::new(Case::new(shape, model, batch, width, dtype)?)
        }
        Config::Vit(config) => {
            let model = MatVit::new(config, 0, device)?;
            let batch = images(&model, shape.rows)?;
            Box::new(Case::new(shape, model, batch, width, dtype)?)
        }
    })
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
    /// Our step's time over the faster of PyTorch's two.
    vs_torch: Option<f64>,
}

/// What the limits of a shape's steps follow from.
#[derive(Debug, Serialize)]
struct Limit {
    shape: &'static str,
    /// The best rate of a product.
    best: Rate,
    /// The rates of all products.
    products: Vec<Rate>,
}

/// One width at one shape, ready to be timed.
pub trait Timed {
    /// Times our step as a whole, then its forward and its backward pass alone. `keep` says whether
    /// the times count.
    fn round(&mut self, keep: bool) -> Result<()>;

    /// One step as `matformer train` makes it, finished on the device when this returns.
    fn step(&mut self) -> Result<()>;

    /// The widths that a step trains.
    fn widths(&self) -> &[usize];

    /// The request for the same step to PyTorch.
    fn request(&self) -> &Value;

    /// Adds a time of PyTorch's step.
    fn keep(&mut self, compiled: bool, millis: f64);

    /// The medians, beside the limit that follows from the best rate of a product.
    fn row(&self, shape: &'static str, best: &Rate) -> Row;
}

struct Case<M: Elastic> {
    width: String,
    trainer: Trainer<M>,
    draw: StepDraw,
    batch: OneBatch<M>,
    /// FLOPs of the matrix products of a step.
    flops: f64,
    widths: Vec<usize>,
    dtype: Precision,
    request: Value,
    times: Times,
}

/// The request for a step to PyTorch, on the same kind of device.
fn request(shape: &Shape, widths: &[usize], dtype: Precision, device: &Device) -> Value {
    let mut request = shape.request(widths);
    request["bf16"] = (dtype == Precision::Bf16).into();
    request["device"] = peer::device(device).into();
    request
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
        shape: &Shape,
        model: M,
        batch: OneBatch<M>,
        width: &str,
        dtype: Precision,
    ) -> Result<Self> {
        let (space, device) = (model.space().clone(), model.device());
        let draw: Draw =
            if width == "joint" { width.parse()? } else { format!("baseline:{width}").parse()? };
        let train = TrainConfig {
            tokens_per_step: batch.targets,
            draw: draw.clone(),
            dtype,
            ..TrainConfig::default()
        };
        train.validate_device(&model.device())?;
        let draw = draw.at(&space, 0, 0);
        let submodels: Vec<_> = draw.terms.iter().map(|(s, _)| s.clone()).collect();
        let widths: Vec<usize> = submodels.iter().map(|s| s.widths()[0]).collect();
        Ok(Self {
            width: width.to_owned(),
            trainer: Trainer::new(model, &train, 1),
            draw,
            flops: shape.flops(&Plan::merged(&submodels)?)?,
            batch,
            request: request(shape, &widths, dtype, &device),
            dtype,
            widths,
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
            let mut state = State::new().computing_in(self.dtype.dtype());
            loss = walk(model, &self.batch.input, &plan, &mut state)
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

    fn widths(&self) -> &[usize] {
        &self.widths
    }

    fn request(&self) -> &Value {
        &self.request
    }

    fn keep(&mut self, compiled: bool, millis: f64) {
        let times = if compiled { &mut self.times.compiled } else { &mut self.times.eager };
        times.push(millis);
    }

    fn row(&self, shape: &'static str, best: &Rate) -> Row {
        let targets = self.batch.targets as f64;
        let t = &self.times;
        let of = |times: &Vec<f64>| median(times.clone());
        let or_none = |times: &Vec<f64>| (!times.is_empty()).then(|| of(times));
        let (step, forward, backward) = (of(&t.step), of(&t.forward), of(&t.backward));
        let (eager, compiled) = (or_none(&t.eager), or_none(&t.compiled));
        let torch = [eager, compiled].into_iter().flatten().reduce(f64::min);
        let limit = best.ms(self.flops);
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
    let (mut rows, mut limits, mut breakdown) = (Vec::new(), Vec::new(), Vec::new());
    let dtype = dtype(args);
    let shapes = wanted_shapes(&args.shapes, &device)?;
    let wanted = |width: &&str| args.widths.is_empty() || args.widths.iter().any(|w| w == width);
    for shape in &shapes {
        let names = ["S", "M", "L", "XL", "joint"].into_iter().filter(wanted);
        let mut cases =
            names.map(|width| case(shape, width, dtype, &device)).collect::<Result<Vec<_>>>()?;
        let products = rounds(args, shape, &mut cases, &device, &mut peer)?;
        let best = products.iter().max_by(|a, b| a.gflops.total_cmp(&b.gflops)).cloned();
        let Some(best) = best else { continue };
        rows.extend(cases.iter().map(|case| case.row(shape.name, &best)));
        limits.push(Limit { shape: shape.name, best, products });
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
    ensure!(!rows.is_empty(), "--widths: expected some of S, M, L, XL and joint");
    let torch = peer.as_ref().map(|peer| peer.version.as_str());
    if as_json {
        let document = json!({
            "machine": timing::describe(), "device": DeviceSpec::of(&device.clone().inner()).map(|spec| spec.to_string()), "dtype": dtype,
            "torch": torch, "rounds": args.rounds,
            "limits": limits, "rows": rows, "ops": breakdown,
        });
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        print_header(&limits, torch, args.rounds);
        print(&rows);
        ops::print(&breakdown);
    }
    Ok(())
}

fn dtype(args: &TrainArgs) -> Precision {
    if args.bf16 { Precision::Bf16 } else { Precision::F32 }
}

/// The shapes of these names; where there are none, those that suit the device.
fn wanted_shapes(names: &[String], device: &Device) -> Result<Vec<Shape>> {
    if !names.is_empty() {
        return names.iter().map(|name| shapes::named(name)).collect();
    }
    let suited =
        if device::in_host_memory(device) { &shapes::ON_CPU[..] } else { &shapes::ON_GPU[..] };
    suited.iter().map(|name| shapes::named(name)).collect()
}

/// Runs all rounds: in each, every step of ours and of PyTorch's in turn, then the products. The first
/// round warms up; the steps' times of it do not count. Returns the rates of the products.
fn rounds(
    args: &TrainArgs,
    shape: &Shape,
    cases: &mut [Box<dyn Timed>],
    device: &Device,
    peer: &mut Option<Peer>,
) -> Result<Vec<Rate>> {
    let inner = device.clone().inner();
    let widths = cases.iter().flat_map(|case| case.widths());
    let mut rates = Rates::new(widths.flat_map(|width| shape.products(*width)).collect());
    for round in 0..=args.rounds {
        for case in &mut *cases {
            case.round(round > 0)?;
            if let Some(peer) = peer {
                ask(peer, case.as_mut(), args, round > 0);
            }
        }
        rates.round(&inner, dtype(args), peer)?;
    }
    Ok(rates.all())
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

fn print_header(limits: &[Limit], torch: Option<&str>, rounds: usize) {
    println!("{}", timing::describe());
    println!("peer: {}", torch.unwrap_or("none (--python names an interpreter with torch)"));
    println!("training step in ms, median of {rounds} rounds");
    println!(
        "limit: FLOPs of the step's matrix products at the best rate that any product of the step's \
         shapes reached, by any library in this run"
    );
    for Limit { shape, best, .. } in limits {
        let [batch, m, n, k] = best.shape;
        let times = if batch == 1 { String::new() } else { format!("{batch} times ") };
        println!(
            "   {shape}: {:.1} GFLOP/s by {}, {}: {times}[{m}, {k}] by [{k}, {n}]",
            best.gflops, best.library, best.product
        );
    }
}

fn print(rows: &[Row]) {
    println!(
        "\nshape width   step  forward backward optimizer  targets/s   limit  /limit   eager compile  /torch"
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
