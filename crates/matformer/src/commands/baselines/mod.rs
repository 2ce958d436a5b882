//! `matformer baselines`: every granularity of a run trained alone, and what that shows.

mod twin;

use std::{process::ExitCode, sync::Arc};

use anyhow::Result;
use matformer::{
    core::{
        Draw, Manifest,
        units::{counted, duration, memory, operations},
    },
    eval::{Estimate, EvalResults},
    nn::ModelConfig,
    run::{Kind, ModelFolder, kind},
    run_file::{self, RunFile, visit},
    study::{
        Budget, Cost, Keep,
        alone::{self, Alone},
        baseline, costs, measured, unequal,
    },
};
use serde::Serialize;

use super::{Context, print_json, table};
use crate::{
    args::BaselinesArgs,
    failure::{Hinted, INTERRUPTED, OrBadInput},
    interrupt::{Interrupts, Then},
    logging::say,
    output::out,
    typed,
};
use twin::{Elastic, Running, Twin, pass_on};

pub fn run(args: &BaselinesArgs, context: &Context) -> Result<ExitCode> {
    visit!(kind::of_folder(&args.run)?, run_kind(args, context))
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
    let mut elastic = RunFile::<K>::load(&file, &[]).bad_input()?;
    K::take_own_files(&mut elastic.data, &args.run);
    if let Draw::Baseline { granularity } = &elastic.train.draw {
        return Err(Hinted {
            message: format!("{}: a run of {granularity} alone", args.run.display()),
            hint: "baselines are those of an elastic run".to_owned(),
        })
        .bad_input();
    }
    let manifest = Manifest::load(&args.run).bad_input()?;
    let elastic = Elastic { dir: &args.run, manifest, run: elastic };
    elastic.check_ended()?;
    let budget = args.budget.into();
    let running: Running = Arc::default();
    let interrupts = pass_on(&running)?;
    let resume = typed::again(None);
    let code = train_all(&elastic, budget, (&interrupts, &running), context)?;
    if code == INTERRUPTED {
        let by = interrupts.received().map_or(String::new(), |s| format!("{}: ", s.name));
        say!("{by}interrupted; go on with all with: {resume}");
    }
    if code != 0 {
        return Ok(ExitCode::from(code));
    }
    interrupts.set(move |signal| {
        let name = signal.name;
        say!("{name}: interrupted while measuring; all are trained, go on with: {resume}");
        Then::End
    });
    let folder = ModelFolder::<K>::load(&args.run, &context.session)?;
    let curve = measured(&folder, args.tokens, Keep::Must)?;
    let found = alone::alone(&folder, &alone::ended(&folder)?, &curve, args.tokens, Keep::Must)?;
    let costs = costs(&args.run, &elastic.run, budget)?;
    if context.json {
        let results = numbers(&curve.measured.results, &found, elastic.run.train.seed);
        let run = args.run.display().to_string();
        return print_json(&Baselines { run, results, costs });
    }
    table::print(&curve.measured.results, &[])?;
    table::print_alone(&found)?;
    print(&costs)?;
    Ok(ExitCode::SUCCESS)
}

/// Trains what is not trained yet, one after the other; gives the exit code of the last.
fn train_all<K: Kind>(
    elastic: &Elastic<'_, K>,
    budget: Budget,
    (interrupts, running): (&Interrupts, &Running),
    context: &Context,
) -> Result<u8> {
    if let Some(unequal) = unequal(&elastic.run, budget)? {
        say!("note: {unequal}");
    }
    let space = elastic.run.shape().space().bad_input()?;
    let names = space.granularities.names();
    let mut twins = Vec::new();
    for name in &names {
        let run = baseline(&elastic.run, name, budget)?;
        twins.push(Twin::new(run, alone::dir(elastic.dir, budget, name), elastic)?);
    }
    for (i, (name, twin)) in names.iter().zip(&twins).enumerate() {
        // Hours may have passed since the last one began.
        if i == 0 || !twin.is_complete() {
            elastic.check_data(&context.session)?;
        }
        let steps = counted(twin.run.train.steps as usize, "step");
        say!("baseline {name} alone ({} of {}): {steps}", i + 1, names.len());
        match (twin.train(context, running)?, interrupts.received()) {
            (0, Some(_)) => return Ok(INTERRUPTED),
            (0, None) => {}
            (code, _) => return Ok(code),
        }
    }
    Ok(0)
}

fn numbers(elastic: &EvalResults, alone: &[Alone], seed: u64) -> Vec<Number> {
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
            let top =
                |metric, top: Option<Estimate>| top.map(|top| of(metric, top.value, top.stderr));
            let loss = of("loss", r.loss, r.stderr);
            [Some(loss), top("top1", r.top1), top("top5", r.top5)].into_iter().flatten()
        })
        .collect()
}

/// What an elastic run and its baselines cost, as a table.
fn print(costs: &[Cost]) -> Result<()> {
    let mut table = table::plain();
    table.set_header(["", "steps", "FLOPs", "time of the steps", "peak memory"]);
    for cost in costs {
        table.add_row([
            cost.what.clone(),
            cost.steps.to_string(),
            operations(cost.flops),
            duration(cost.seconds),
            cost.peak_bytes.map_or("-".to_owned(), |bytes| memory(bytes as f64)),
        ]);
    }
    out!("{table}")
}
