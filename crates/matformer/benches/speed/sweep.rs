//! A sweep over all submodels of a model computes once what they share. This checks that it saves the
//! time that the FLOPs predict.

use anyhow::{Result, ensure};
use clap::Args;
use matformer::{
    bench::timing::{self, median, millis},
    core::{Costs, Plan, Resource, Submodel},
    eval::{DocumentLoss, Documents, HeldOutBatch, Measured, Walks, measure},
    lm::{self, MatLm, Preset},
    nn::{DeviceSpec, Elastic},
    run::synthetic::{OneBatch, images, one_batch},
    search::Problem,
    vit::{self, MatVit},
};
use serde_json::json;

/// Smallest ratio of measured to predicted speed-up that is acceptable.
const LIMIT: f64 = 0.8;

#[derive(Debug, Args)]
pub struct SweepArgs {
    /// Preset of a language or vision model
    #[arg(long, default_value = "demo", value_name = "PRESET")]
    preset: String,
    /// Rows (windows of the full context, or images) that every submodel is measured on
    #[arg(long, default_value_t = 8)]
    held_out: usize,
    /// Megabytes for the hidden states of one forward pass
    #[arg(long, default_value_t = 256)]
    memory: usize,
    /// Number of rounds; each measures everything once, and medians are printed
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Batch sizes among which the fastest for a single submodel is chosen.
const ROWS: [usize; 5] = [1, 2, 4, 8, 32];

pub fn run(args: &SweepArgs, as_json: bool) -> Result<()> {
    ensure!(args.rounds > 0, "--rounds 0: expected at least 1");
    ensure!(args.held_out > 0, "--held-out 0: expected at least 1");
    let device = DeviceSpec::Flex.resolve()?;
    if let Some(config) = vit::preset(&args.preset) {
        let model = MatVit::new(&config, 0, &device)?;
        let walks = Walks::within(args.bytes(), config.tokens(), config.d_model, config.d_ff);
        let rows = |rows| Ok(images(&model, rows)?);
        return compare(args, as_json, &model, &vit::costs(&config), walks, &rows);
    }
    let config = args.preset.parse::<Preset>()?.config();
    let model = MatLm::new(&config, 0, &device)?;
    let walks = Walks::within(args.bytes(), config.context, config.d_model, config.d_ff);
    let rows = |rows| Ok(one_batch(&model, rows, model.config().context)?);
    compare(args, as_json, &model, &lm::costs(&config), walks, &rows)
}

impl SweepArgs {
    fn bytes(&self) -> usize {
        self.memory.saturating_mul(1 << 20)
    }
}

/// A batch whose rows all belong to one document.
struct Rows<M: Elastic> {
    batch: OneBatch<M>,
    documents: Vec<usize>,
}

impl<M: Measured> HeldOutBatch<M> for &Rows<M> {
    fn documents(&self) -> &[usize] {
        &self.documents
    }

    fn targets(&self) -> usize {
        self.batch.targets
    }

    fn on(&self, _: &M) -> matformer::eval::Result<(M::Input, M::Target)> {
        Ok((self.batch.input.clone(), self.batch.target.clone()))
    }
}

/// `held_out` rows in batches of at most `rows`.
fn batches<M: Elastic>(
    held_out: usize,
    rows: usize,
    make: &dyn Fn(usize) -> Result<OneBatch<M>>,
) -> Result<Vec<Rows<M>>> {
    let rows = rows.clamp(1, held_out);
    (0..held_out.div_ceil(rows))
        .map(|i| rows.min(held_out - i * rows))
        .map(|rows| Ok(Rows { batch: make(rows)?, documents: vec![0; rows] }))
        .collect()
}

fn losses<M: Measured>(
    model: &M,
    batches: &[Rows<M>],
    submodels: &[Submodel],
    per_walk: usize,
) -> Result<f64> {
    let targets = batches.iter().map(|rows| rows.batch.targets).sum();
    let documents = Documents {
        unread: vec![DocumentLoss::default()],
        name: &|_| "rows".to_owned(),
        whole: true,
        context: None,
    };
    let mut failed = None;
    let ms = millis(|| {
        let all = batches.iter().map(Ok);
        let found = measure(model, all, targets, &documents, submodels, per_walk, &mut |_, _| {});
        failed = found.err();
    });
    failed.map_or(Ok(ms), |error| Err(error.into()))
}

fn compare<M: Measured>(
    args: &SweepArgs,
    as_json: bool,
    model: &M,
    costs: &Costs,
    walks: Walks,
    make: &dyn Fn(usize) -> Result<OneBatch<M>>,
) -> Result<()> {
    let space = model.space();
    let all = Problem::new(space, Vec::new())?.all(1 << 16)?;
    let flops = costs.get(Resource::Flops)?;
    let separate = all.iter().map(|s| flops.cost(s)).sum::<matformer::core::Result<f64>>()?;
    let predicted = separate / flops.plan(&Plan::merged(&all)?)?;
    // Memory can be measured on Linux only, and is measured before anything else allocates some.
    let before = timing::reset_peak().ok().and_then(|()| timing::resident());
    let together = batches(args.held_out, walks.rows, make)?;
    losses(model, &together, &all, walks.submodels)?;
    let peak = before.and_then(|before| Some(timing::resident()?.peak - before.now));
    let best = best_rows(args, model, make)?;
    let alone = batches(args.held_out, best, make)?;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..args.rounds {
        times[0].push(losses(model, &together, &all, walks.submodels)?);
        let one_by_one = all.iter().map(|s| losses(model, &alone, std::slice::from_ref(s), 1));
        times[1].push(one_by_one.sum::<Result<f64>>()?);
    }
    let [sweep, one_by_one] = times.map(median);
    let measured = one_by_one / sweep;
    if as_json {
        let document = json!({
            "machine": timing::describe(), "preset": args.preset, "submodels": all.len(),
            "rows": args.held_out, "rounds": args.rounds,
            "walk": { "submodels": walks.submodels, "rows": walks.rows },
            "alone_rows": best, "sweep_ms": sweep, "one_by_one_ms": one_by_one,
            "measured": measured, "predicted": predicted,
            "measured_over_predicted": measured / predicted, "limit": LIMIT,
            "memory_bound_mb": args.memory, "memory_mb": peak,
        });
        println!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(());
    }
    println!("{}", timing::describe());
    println!(
        "preset {}, {} submodels on {} rows, median of {} rounds",
        args.preset,
        all.len(),
        args.held_out,
        args.rounds
    );
    println!(
        "   sweep, {} submodels and {} rows per walk: {sweep:.0} ms",
        walks.submodels, walks.rows
    );
    println!("   one by one, {best} rows per batch: {one_by_one:.0} ms");
    println!(
        "   speed-up: measured {measured:.2}, predicted from FLOPs {predicted:.2}; measured / predicted \
         {:.2} (at least {LIMIT})",
        measured / predicted
    );
    if let Some(peak) = peak {
        println!("   memory: {peak:.0} MB, limit {} MB", args.memory);
    }
    Ok(())
}

/// The batch size at which a single submodel is the fastest.
fn best_rows<M: Measured>(
    args: &SweepArgs,
    model: &M,
    make: &dyn Fn(usize) -> Result<OneBatch<M>>,
) -> Result<usize> {
    let middle = model.space().uniforms();
    let middle = std::slice::from_ref(&middle[middle.len() / 2]);
    let mut best = (f64::INFINITY, 1);
    for rows in ROWS.into_iter().filter(|rows| *rows <= args.held_out) {
        let batches = batches(args.held_out, rows, make)?;
        let times = (0..5).map(|_| losses(model, &batches, middle, 1));
        let ms = median(times.collect::<Result<_>>()?);
        if ms < best.0 {
            best = (ms, rows);
        }
    }
    Ok(best.1)
}
