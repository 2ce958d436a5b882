//! `matformer baselines`: every granularity of a run trained alone, and what that shows.

use std::{
    process::{Command, ExitCode, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use matformer::{
    core::units::{counted, duration, memory, operations},
    run::{Kind, kind},
    run_file::visit,
    study::{
        Budget, Cost,
        baselines::{Baseline, Compared, ElasticRun},
    },
};

use super::{Context, show, table};
use crate::{
    args::BaselinesArgs,
    failure::INTERRUPTED,
    interrupt::{Interrupts, Then},
    logging::{quiet, say},
    output::out,
    typed,
};

pub fn run(args: &BaselinesArgs, context: &Context) -> Result<ExitCode> {
    visit!(kind::of_folder(&args.run)?, run_kind(args, context))
}

fn run_kind<K: Kind>(args: &BaselinesArgs, context: &Context) -> Result<ExitCode> {
    let elastic = ElasticRun::<K>::open(&args.run)?;
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
    let found = elastic.compared(budget, args.tokens, &context.session)?;
    show(context.json, &found, print)
}

/// The process that trains, while one does.
type Running = Arc<Mutex<Option<u32>>>;

/// Passes signals on to the run that is under way, which saves and ends; where none is, the process
/// ends.
fn pass_on(running: &Running) -> Result<Interrupts> {
    let running = running.clone();
    Interrupts::install(move |signal| {
        match *running.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(id) => {
                signal.send(id);
                Then::GoOn
            }
            None => {
                say!("{}: interrupted; the same command goes on", signal.name);
                Then::End
            }
        }
    })
}

/// Trains what is not trained yet, one after the other; gives the exit code of the last.
fn train_all<K: Kind>(
    elastic: &ElasticRun<K>,
    budget: Budget,
    (interrupts, running): (&Interrupts, &Running),
    context: &Context,
) -> Result<u8> {
    let baselines = elastic.baselines(budget)?;
    for (i, baseline) in baselines.iter().enumerate() {
        // Hours may have passed since the last one began.
        if i == 0 || !baseline.is_complete() {
            elastic.check_data(&context.session)?;
        }
        let steps = counted(baseline.run.train.steps as usize, "step");
        say!("baseline {} alone ({} of {}): {steps}", baseline.name, i + 1, baselines.len());
        match (train(baseline, context, running)?, interrupts.received()) {
            (0, Some(_)) => return Ok(INTERRUPTED),
            (0, None) => {}
            (code, _) => return Ok(code),
        }
    }
    Ok(0)
}

/// Trains a baseline in a process of its own, so that what it takes is its own; goes on where it stopped.
/// Gives its exit code.
fn train<K: Kind>(baseline: &Baseline<K>, context: &Context, running: &Running) -> Result<u8> {
    let program = std::env::current_exe().context("this program")?;
    let mut command = Command::new(program);
    let what = baseline.write()?;
    command.args(["--device", &context.spec.to_string(), "train"]).arg(&what);
    if what != baseline.dir {
        command.arg("--out").arg(&baseline.dir);
    }
    command.arg("--resume");
    if quiet() {
        command.arg("--quiet");
    }
    if context.json {
        command.arg("--json").stdout(Stdio::null());
    }
    let set = |id| *running.lock().unwrap_or_else(PoisonError::into_inner) = id;
    let mut child = command.spawn().context("this program")?;
    set(Some(child.id()));
    let status = child.wait();
    set(None);
    // Ended by a signal: there is no code.
    Ok(status.context("this program")?.code().map_or(1, |code| code.clamp(0, 255) as u8))
}

fn print(found: &Compared) -> Result<()> {
    table::print(&found.elastic, &[])?;
    table::print_alone(&found.alone)?;
    print_costs(&found.costs)
}

/// What an elastic run and its baselines cost, as a table.
fn print_costs(costs: &[Cost]) -> Result<()> {
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
