//! `matformer elastify`

mod ordering;
mod plan;
mod stages;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::{Manifest, fs},
    run_file::{self, Lm, RunFile, RunKind, Vit},
    train::RunLock,
};

use self::{ordering::ORDERED, stages::Studied};
use super::{
    Context,
    train::{self, Target},
};
use crate::{
    args::ElastifyArgs,
    failure::{INTERRUPTED, OrBadInput},
    folder::{ModelFolder, data_cache_of},
    interrupt::{Interrupts, Then},
    kind::{self, Kind},
    logging::{self, say},
    typed,
};

pub fn run(args: &ElastifyArgs, context: &Context) -> Result<ExitCode> {
    match kind::of_folder(&args.model)? {
        RunKind::Lm => run_kind::<Lm>(args, context),
        RunKind::Vit => run_kind::<Vit>(args, context),
    }
}

fn run_kind<K: Kind>(args: &ElastifyArgs, context: &Context) -> Result<ExitCode> {
    let resume = typed::again(Some("--resume"));
    let interrupts = end_at_once(&resume)?;
    let draft = plan::draft::<K>(args)?;
    let mut target = Target::<K>::new(draft, args.out.clone(), args.resume, &context.device)?;
    target.validate()?;
    plan::check::<K>(args, &target.run)?;
    let planned = plan::starting_from(&target.run, &args.out.join(ORDERED))?;
    target.run = plan::starting_from(&target.run, &args.model)?;
    train::check(&target, context)?;
    if args.dry_run && args.order_only {
        return ordering::dry_run(args, &target.run, context);
    }
    if args.dry_run {
        return train::dry_run(&target, context);
    }
    let prepared = K::prepare(&target.run_with_own_files(), &data_cache_of(&args.out))?;
    K::say(&target.run.data, &prepared);
    target.check_data(&prepared)?;
    let run = target.run.with_shape(K::fitted(&target.run, &prepared)?);
    // Everything was checked: from here on files are written.
    let kept = begin(args, &planned)?;
    // Training takes it for itself.
    let lock = RunLock::take(&args.out)?;
    logging::open(&args.out)?;
    let mut studied = Studied::new(args, &run, &prepared)?;
    order(args, &mut studied, context)?;
    if args.order_only {
        ordering::publish(&args.out.join(ORDERED), &args.out)?;
        return studied.print(context);
    }
    drop(lock);
    let target = Target::<K>::of_run(&kept, args.out.clone(), &context.device)?;
    if !target.is_complete() {
        let outcome = train::train(&target, &interrupts, &resume, context)?.outcome;
        if outcome.interrupted {
            return Ok(ExitCode::from(INTERRUPTED));
        }
    }
    say_measured(&interrupts, &resume);
    let folder = ModelFolder::<K>::load(&args.out, &context.device)?;
    studied.add("trained", folder.manifest.provenance.tokens, &folder)?;
    studied.print(context)
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
fn order<K: Kind>(
    args: &ElastifyArgs,
    studied: &mut Studied<'_, K>,
    context: &Context,
) -> Result<()> {
    let ordered = args.out.join(ORDERED);
    let original = ModelFolder::<K>::load(&args.model, &context.device)?;
    studied.check_begun(&original.manifest)?;
    studied.add("original", 0, &original)?;
    if ordered.join(Manifest::FILE).exists() {
        drop(original);
    } else {
        ordering::order(args, studied.run, studied.prepared, original, &ordered)?;
    }
    let folder = ModelFolder::<K>::load(&ordered, &context.device)?;
    studied.add("ordered", ordering::tokens_of(&ordered), &folder)
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
