//! `matformer elastify`

mod plan;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::{Manifest, fs, units::count},
    eval::{Estimate, Stages, report::Metric},
    run::{
        Kind, ModelFolder,
        folder::data_cache_of,
        kind,
        train::{Target, check},
    },
    run_file::{self, RunFile, visit},
    study::elastify::{self, ORDERED, Ordering, Plan, Studied, starting_from},
    train::RunLock,
};
use serde_json::json;

use super::{Context, print_json, table, train};
use crate::{
    args::ElastifyArgs,
    failure::{INTERRUPTED, OrBadInput},
    interrupt::{Interrupts, Then},
    logging::{self, say},
    output::out,
    typed,
};

pub fn run(args: &ElastifyArgs, context: &Context) -> Result<ExitCode> {
    visit!(kind::of_folder(&args.model)?, run_kind(args, context))
}

fn run_kind<K: Kind>(args: &ElastifyArgs, context: &Context) -> Result<ExitCode> {
    let resume = typed::again(Some("--resume"));
    let interrupts = end_at_once(&resume)?;
    let draft = plan::draft::<K>(args)?;
    let session = &context.session;
    let mut target = Target::<K>::new(draft, args.out.clone(), args.resume, &session.device)?;
    target.validate()?;
    let plan = plan::of(args);
    elastify::check::<K>(&plan, &target.run)?;
    let planned = starting_from(&target.run, &args.out.join(ORDERED))?;
    target.run = starting_from(&target.run, &args.model)?;
    check(&target, session)?;
    if args.dry_run && args.order_only {
        return dry_run(&plan, &target.run, context);
    }
    if args.dry_run {
        return train::dry_run(&target, context);
    }
    let prepared = K::prepare(&target.run_with_own_files(), &data_cache_of(&args.out), session)?;
    K::say(&target.run.data, &prepared);
    target.check_data(&prepared)?;
    let run = target.run.with_shape(K::fitted(&target.run, &prepared)?);
    // Everything was checked: from here on files are written.
    let kept = begin(args, &planned)?;
    // Training takes it for itself.
    let lock = RunLock::take(&args.out)?;
    logging::open(&args.out)?;
    let mut studied = Studied::new(&plan, &run, &prepared)?;
    order(&plan, &mut studied, context)?;
    if args.order_only {
        elastify::publish(&args.out.join(ORDERED), &args.out)?;
        return print(studied.stages(), context);
    }
    drop(lock);
    let target = Target::<K>::of_run(&kept, args.out.clone(), &session.device)?;
    if !target.is_complete() {
        let outcome = train::train(&target, &interrupts, &resume, context)?.outcome;
        if outcome.interrupted {
            return Ok(ExitCode::from(INTERRUPTED));
        }
    }
    say_measured(&interrupts, &resume);
    let folder = ModelFolder::<K>::load(&args.out, session)?;
    studied.add("trained", folder.manifest.provenance.tokens, &folder)?;
    print(studied.stages(), context)
}

/// Makes the folder of the run with its run file, or checks that the one there is the same; the file's
/// path.
fn begin<K: Kind>(args: &ElastifyArgs, planned: &RunFile<K>) -> Result<PathBuf> {
    fs::create_dir_all(&args.out).bad_input()?;
    let kept = args.out.join(run_file::FILE);
    if kept.exists() {
        let there = RunFile::<K>::load(&kept, &[]).bad_input()?;
        there.check_same(&kept, planned).map_err(plan::differs).bad_input()?;
        return Ok(kept);
    }
    if args.resume {
        say!("{}: no run is there, a new one begins", args.out.display());
    }
    fs::write_atomic(&kept, planned.to_toml(&args.out)?.as_bytes())?;
    Ok(kept)
}

/// Orders the neurons, unless that was done before; measures each size before and after.
fn order<K: Kind>(plan: &Plan, studied: &mut Studied<'_, K>, context: &Context) -> Result<()> {
    let ordered = plan.out.join(ORDERED);
    let original = ModelFolder::<K>::load(&plan.model, &context.session)?;
    studied.check_begun(&original.manifest)?;
    studied.add("original", 0, &original)?;
    if ordered.join(Manifest::FILE).exists() {
        drop(original);
    } else {
        elastify::order(plan, studied.run, studied.prepared, original, &ordered)?;
    }
    let folder = ModelFolder::<K>::load(&ordered, &context.session)?;
    studied.add("ordered", elastify::tokens_of(&ordered), &folder)?;
    Ok(())
}

/// Until training begins a signal ends the process at once: little is lost.
fn end_at_once(resume: &str) -> Result<Interrupts> {
    let resume = resume.to_owned();
    Interrupts::install(move |signal| {
        say!("{}: interrupted; go on with: {resume}", signal.name);
        Then::End
    })
}

/// From here on the model is written, and only its measurement is lost.
fn say_measured(interrupts: &Interrupts, resume: &str) {
    let resume = resume.to_owned();
    interrupts.set(move |signal| {
        say!(
            "{}: interrupted while measuring, the model is complete; go on with: {resume}",
            signal.name
        );
        Then::End
    });
}

/// What the ordering would look at, as far as that is known before the data is read; nothing is written.
fn dry_run<K: Kind>(plan: &Plan, run: &RunFile<K>, context: &Context) -> Result<ExitCode> {
    let Ordering { rows, targets: about } = elastify::ordering(plan, run);
    if context.json {
        return print_json(&json!({
            "order": plan.order.to_string(),
            "calibration": about,
            "measured": plan.tokens,
        }));
    }
    let over = match rows {
        0 => String::new(),
        _ => format!(", over about {} {} of the training data", count(about as f64), K::TARGETS),
    };
    out!(
        "neurons ordered by {}{over}; each size measured on up to {} held-out {}, before and after; no training",
        plan.order,
        count(plan.tokens as f64),
        K::TARGETS
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The stages side by side.
fn print(stages: &Stages, context: &Context) -> Result<ExitCode> {
    if context.json {
        return print_json(stages);
    }
    let metric = match stages.stages[0].results[0].top1 {
        Some(_) => Metric::Top1,
        None => Metric::Loss,
    };
    table::print_data(&stages.data, metric)?;
    let mut shown = table::plain();
    let names = stages.stages.iter().map(|stage| stage.stage.clone());
    shown.set_header(["submodel".to_owned(), "params".to_owned()].into_iter().chain(names));
    for (i, size) in stages.stages[0].results.iter().enumerate() {
        let cells = stages.stages.iter().map(|stage| {
            let r = &stage.results[i];
            match r.top1 {
                Some(top1) => table::percent(top1),
                None => table::loss(Estimate { value: r.loss, stderr: r.stderr }),
            }
        });
        let name = [size.submodel.clone(), count(size.params as f64)];
        shown.add_row(name.into_iter().chain(cells));
    }
    out!("{shown}")?;
    out!("{}: an elastic model", stages.model)?;
    Ok(ExitCode::SUCCESS)
}
