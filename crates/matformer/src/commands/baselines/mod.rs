//! `matformer baselines`: every granularity of a run trained alone, and what that shows.

mod cost;

use std::{
    path::Path,
    process::{Command, ExitCode, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result};
use matformer::{
    core::{Draw, fs},
    nn::ModelConfig,
    run_file::{self, Lm, RunFile, RunKind, Vit},
    train::{TrainConfig, passes},
};
use serde::Serialize;

use super::{
    Context,
    alone::{self, Alone, alone},
    measured::measured,
    print_json, table,
};
use crate::{
    args::{BaselinesArgs, Budget},
    failure::{Hinted, INTERRUPTED, OrBadInput},
    folder::ModelFolder,
    kind::{self, Kind},
    logging::{quiet, say},
};
use cost::Cost;

pub fn run(args: &BaselinesArgs, context: &Context) -> Result<ExitCode> {
    match kind::of_folder(&args.run)? {
        RunKind::Lm => run_kind::<Lm>(args, context),
        RunKind::Vit => run_kind::<Vit>(args, context),
    }
}

/// What `baselines --json` prints.
#[derive(Serialize)]
struct Baselines {
    run: String,
    /// One entry per number: of the elastic run's sizes and of those trained alone.
    results: Vec<Number>,
    costs: Vec<Cost>,
}

/// A measured number.
#[derive(Serialize)]
struct Number {
    size: String,
    /// `elastic`, `per-width` or `total`.
    budget: &'static str,
    seed: u64,
    /// Targets that it is over.
    n: usize,
    metric: &'static str,
    value: f64,
    stderr: Option<f64>,
}

fn run_kind<K: Kind>(args: &BaselinesArgs, context: &Context) -> Result<ExitCode> {
    let file = args.run.join(run_file::FILE);
    if !file.exists() {
        return Err(Hinted {
            message: format!("{}: no such file", file.display()),
            hint: "baselines need the folder of a run that `matformer train` made".to_owned(),
        })
        .bad_input();
    }
    let elastic = RunFile::<K>::load(&file, &[]).bad_input()?;
    if let Draw::Baseline { granularity } = &elastic.train.draw {
        return Err(Hinted {
            message: format!("{}: a run of {granularity} alone", args.run.display()),
            hint: "baselines are those of an elastic run".to_owned(),
        })
        .bad_input();
    }
    // A terminal's Ctrl-C reaches the run that is under way too, which saves and ends; what was sent
    // to this process alone is heard when that run has ended.
    static STOP: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed))?;
    let space = elastic.shape().space().bad_input()?;
    let names = space.granularities.names();
    for (i, name) in names.iter().enumerate() {
        let run = baseline(&elastic, name, args.budget)?;
        say!(
            "baseline {name} alone ({} of {}): {}",
            i + 1,
            names.len(),
            super::train::steps(run.train.steps)
        );
        let dir = alone::dir(&args.run, args.budget, name);
        let code = match train(&run, &dir, context)? {
            0 if STOP.load(Ordering::Relaxed) => INTERRUPTED,
            code => code,
        };
        if code == INTERRUPTED {
            say!("interrupted; go on with all with: matformer baselines {}", args.run.display());
        }
        if code != 0 {
            return Ok(ExitCode::from(code));
        }
    }
    let folder = ModelFolder::<K>::load(&args.run, &context.device)?;
    let elastic_measured = measured(&folder, None)?;
    let found = alone(&folder, &elastic_measured, None, context)?;
    let costs = cost::of(&args.run, &elastic, args.budget)?;
    if context.json {
        let results = numbers(&elastic_measured.results, &found, elastic.train.seed);
        let run = args.run.display().to_string();
        return print_json(&Baselines { run, results, costs });
    }
    table::print(&elastic_measured.results, &[])?;
    alone::print(&found)?;
    cost::print(&costs)?;
    Ok(ExitCode::SUCCESS)
}

/// The run that trains one granularity alone: the same data, schedule and seed.
fn baseline<K: Kind>(elastic: &RunFile<K>, name: &str, budget: Budget) -> Result<RunFile<K>> {
    let train = &elastic.train;
    let steps = match budget {
        Budget::Total => train.steps,
        Budget::PerWidth => share(train, &elastic.shape().space()?),
    };
    // Warm-up is the same share of the steps.
    let warmup = (train.warmup as u128 * steps as u128 / train.steps.max(1) as u128) as u64;
    let train = TrainConfig {
        steps,
        warmup,
        draw: Draw::Baseline { granularity: name.to_owned() },
        distill: None,
        ..train.clone()
    };
    Ok(RunFile { train, ..elastic.clone() })
}

/// Steps whose batches together are as many as the elastic run gave to one granularity.
fn share(train: &TrainConfig, space: &matformer::core::Space) -> u64 {
    const SAMPLES: u64 = 4096;
    let samples = train.steps.min(SAMPLES);
    let terms: usize = (0..samples)
        .map(|step| passes(train, space, step).iter().map(Vec::len).sum::<usize>())
        .sum();
    let per_step = terms as f64 / samples.max(1) as f64;
    ((train.steps as f64 * per_step / space.granularities.len() as f64).round() as u64).max(1)
}

/// Trains a baseline in a process of its own, so that what it takes is its own; goes on where it
/// stopped. Gives its exit code.
fn train<K: Kind>(run: &RunFile<K>, dir: &Path, context: &Context) -> Result<u8> {
    let file = dir.with_extension("toml");
    let above = file.parent().unwrap_or(dir);
    fs::create_dir_all(above).bad_input()?;
    let text = run.to_toml(above)?;
    if fs::read_to_string(&file).ok().as_deref() != Some(&text) {
        fs::write_atomic(&file, text.as_bytes()).bad_input()?;
    }
    let program = std::env::current_exe().context("this program")?;
    let mut command = Command::new(program);
    command.args(["--device", &context.spec.to_string(), "train"]);
    command.arg(&file).arg("--out").arg(dir).arg("--resume");
    if quiet() {
        command.arg("--quiet");
    }
    if context.json {
        command.arg("--json").stdout(Stdio::null());
    }
    let status = command.status().context("this program")?;
    // Ended by a signal: there is no code.
    Ok(status.code().map_or(1, |code| code.clamp(0, 255) as u8))
}

fn numbers(elastic: &matformer::eval::EvalResults, alone: &[Alone], seed: u64) -> Vec<Number> {
    let n = elastic.data.tokens;
    let elastic = elastic.results.iter().map(|result| ("elastic", result));
    let alone = alone.iter().map(|alone| (alone.budget.name(), &alone.result));
    elastic
        .chain(alone)
        .flat_map(|(budget, r)| {
            let of = |metric, value, stderr| Number {
                size: r.submodel.clone(),
                budget,
                seed,
                n,
                metric,
                value,
                stderr,
            };
            let top = |metric, top: Option<matformer::eval::Estimate>| {
                top.map(|top| of(metric, top.value, top.stderr))
            };
            let loss = of("loss", r.loss, r.stderr);
            [Some(loss), top("top1", r.top1), top("top5", r.top5)].into_iter().flatten()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use matformer::core::{Granularities, Space};

    use super::*;

    #[test]
    fn a_baseline_sees_as_many_batches_as_the_draw_gave_to_its_width() {
        let space = Space::new(2, 64, 8, Granularities::default_for(64).unwrap()).unwrap();
        let steps = |draw: &str| {
            let draw = draw.parse().unwrap();
            share(&TrainConfig { steps: 1200, draw, ..TrainConfig::default() }, &space)
        };
        // One of four widths a step, or all of them, or S, XL and one between.
        assert_eq!((steps("sampled"), steps("joint"), steps("sandwich:1")), (300, 1200, 900));
        // Never none.
        let one = TrainConfig { steps: 1, ..TrainConfig::default() };
        assert_eq!(share(&one, &space), 1);
    }
}
