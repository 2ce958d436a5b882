//! `matformer elastify`

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    core::units::count,
    eval::{Estimate, Stages, report::Metric},
    run::{
        Kind, ModelFolder,
        cache::data_cache_of,
        kind,
        train::{Target, check},
    },
    run_file::{RunFile, visit},
    study::elastify::{self, Ordering, Plan, Studied, starting_from},
    train::RunLock,
};
use serde_json::json;

use super::{Context, print_json, show, table, train};
use crate::{
    args::ElastifyArgs,
    failure::INTERRUPTED,
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
    let plan = plan(args);
    let draft = elastify::draft::<K>(&plan, &args.data, &args.sets)?;
    let session = &context.session;
    let mut target = Target::<K>::new(draft, args.out.clone(), args.resume, &session.device)?;
    target.validate()?;
    elastify::check::<K>(&plan, &target.run)?;
    let planned = starting_from(&target.run, &plan.ordered())?;
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
    let kept = elastify::begin(&plan, &planned, args.resume)?;
    // Training takes it for itself.
    let lock = RunLock::take(&args.out)?;
    logging::open(&args.out)?;
    let mut studied = Studied::new(&plan, &run, &prepared)?;
    studied.order(session)?;
    if args.order_only {
        elastify::publish(&plan)?;
        return show(context.json, studied.stages(), print);
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
    show(context.json, studied.stages(), print)
}

/// What is made elastic, and how.
fn plan(args: &ElastifyArgs) -> Plan {
    Plan {
        model: args.model.clone(),
        out: args.out.clone(),
        order: args.order,
        calibration_rows: args.calibration_rows,
        calibration_tokens: args.calibration_tokens,
        tokens: args.tokens,
    }
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
fn print(stages: &Stages) -> Result<()> {
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
    out!("{}: an elastic model", stages.model)
}
