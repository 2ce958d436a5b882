//! `matformer train`

mod dry_run;
mod fit;
mod init;
mod origin;
mod outcome;
mod target;

use std::{ffi::OsString, io::IsTerminal, path::Path, process::ExitCode};

use anyhow::{Context as _, Result};
use matformer::{
    core::{Manifest, Provenance, fs},
    formats::companions,
    nn::{DeviceSpec, Elastic, Folder, ModelConfig, folder},
    run_file::{self, Lm, RunFile, RunKind, Vit},
    train::{Checkpoints, Interrupter, Outcome, Progress, RunLock, RunOptions, learning_rate},
};

pub use dry_run::run as dry_run;
pub use fit::{Need, bytes};
pub use outcome::{peak_bytes, steps};

pub use self::target::Target;
use self::{init::Init, origin::Origin};
use super::Context;
use crate::{
    args::TrainArgs,
    failure::OrBadInput,
    folder::{check_is_model, data_cache_of},
    interrupt::{Interrupts, Then},
    kind::{Kind, Source},
    logging::{self, quiet, say},
    terminal, typed,
};

pub fn run(args: &TrainArgs, context: &Context) -> Result<ExitCode> {
    let origin = Origin::of(args)?;
    match origin.kind(args) {
        RunKind::Lm => run_kind::<Lm>(args, &origin, context),
        RunKind::Vit => run_kind::<Vit>(args, &origin, context),
    }
}

fn run_kind<K: Kind>(args: &TrainArgs, origin: &Origin<'_>, context: &Context) -> Result<ExitCode> {
    let interrupts = Interrupts::install(|signal| {
        say!("{}: interrupted before training began: nothing was lost", signal.name);
        Then::End
    })?;
    let target = Target::<K>::resolve(args, origin, &context.device)?;
    target.validate()?;
    if target.is_complete() {
        say!("{}: complete, nothing to do", target.dir.display());
        return outcome::complete(context, &target);
    }
    check(&target, context)?;
    if args.dry_run {
        return dry_run::run(&target, context);
    }
    let mut arguments: Vec<OsString> =
        vec!["train".into(), target.dir.clone().into(), "--resume".into()];
    if DeviceSpec::from_env().ok() != Some(context.spec) {
        arguments.extend(["--device".into(), context.spec.to_string().into()]);
    }
    let resume = typed::command(arguments);
    let Ended { outcome, prepared } = train(&target, &interrupts, &resume, context)?;
    let measures = K::MEASURED_AT_END && !outcome.interrupted && outcome.overfit.is_none();
    let measured = if measures {
        say_complete(&interrupts, &target.dir);
        Some(outcome::measure::<K>(context, &target.dir, &prepared)?)
    } else {
        None
    };
    outcome::done(context, &target, &outcome, measured)
}

/// Says what is unusual about a run, and checks that it fits the memory as far as that is known before
/// its data is read.
pub fn check<K: Kind>(target: &Target<K>, context: &Context) -> Result<()> {
    target.check_freeze(&context.device)?;
    target.check_device(&context.device)?;
    for note in target.run.train.notes(&target.run.shape().space()?) {
        say!("note: {note}");
    }
    // The data, and a tokenizer that is trained, then say how large all really is.
    let expected = target.run.with_shape(target.expected());
    Need::of(&expected, context)?.check(&expected)?;
    Ok(())
}

/// A run that was trained to its end, or was interrupted.
pub struct Ended<K: Kind> {
    pub outcome: Outcome,
    pub prepared: K::Prepared,
}

/// Trains a run from where it stands to its end; `resume` is the command that goes on with it.
pub fn train<K: Kind>(
    target: &Target<K>,
    interrupts: &Interrupts,
    resume: &str,
    context: &Context,
) -> Result<Ended<K>> {
    // Of a run that is there: its data may take long to read.
    let begun = target.dir.join(run_file::FILE).exists();
    let lock = begun.then(|| RunLock::take(&target.dir)).transpose()?;
    let prepared = K::prepare(&target.run_with_own_files(), &data_cache_of(&target.dir))?;
    let run = fitted(target, &prepared)?;
    let need = Need::of(&run, context)?;
    if let Some(close) = need.check(&run)? {
        say!("note: {close}");
    }
    let batches = source(&run, &prepared)?.batches;
    let model = model(&run, target.init.as_ref(), context)?;
    let teacher = teacher(&run, &prepared, context)?;

    // Everything was checked: from here on files are written.
    fs::create_dir_all(&target.dir).bad_input()?;
    let lock = match lock {
        Some(lock) => lock,
        None => RunLock::take(&target.dir)?,
    };
    target.check_folder().bad_input()?;
    let kept = target.dir.join(run_file::FILE);
    if !kept.exists() {
        fs::write_atomic(&kept, target.run.to_toml(&target.dir)?.as_bytes())?;
    }
    logging::open(&target.dir)?;
    say_begin(target, begun);
    let options = options(target, &run, &model, &prepared, lock, context)?;
    save_first(interrupts, options.interrupter.clone());
    if options.progress == Progress::Dashboard {
        terminal::outlive();
    }
    let outcome = matformer::train::run_taught(model, teacher, batches, options)?;
    outcome::say(&outcome, interrupts.received(), &target.dir, resume);
    outcome::keep_peak(&target.dir);
    Ok(Ended { outcome, prepared })
}

/// From here on the first signal saves a checkpoint and ends, and the second ends at once.
fn save_first(interrupts: &Interrupts, interrupter: Interrupter) {
    interrupts.set(move |signal| {
        if interrupter.should_stop() {
            say!("{}: ended at once: what came after the last checkpoint is lost", signal.name);
            return Then::End;
        }
        interrupter.stop(Some(signal.name));
        Then::GoOn
    });
}

/// From here on the model is written, and only its measurement is lost.
fn say_complete(interrupts: &Interrupts, dir: &Path) {
    let dir = dir.display().to_string();
    interrupts.set(move |signal| {
        let name = signal.name;
        say!("{name}: ended while measuring; the model is complete: matformer eval {dir}");
        Then::End
    });
}

/// The run as its data makes it, once a person was told of the data and it was checked.
fn fitted<K: Kind>(target: &Target<K>, prepared: &K::Prepared) -> Result<RunFile<K>> {
    K::say(&target.run.data, prepared);
    target.check_data(prepared)?;
    Ok(target.run.with_shape(K::fitted(&target.run, prepared)?))
}

/// A run's batches, as its run file has them.
pub fn source<K: Kind>(run: &RunFile<K>, prepared: &K::Prepared) -> Result<Source<K>> {
    let train = &run.train;
    let rows = train.rows(K::targets_per_row(&run.shape_in_training())).bad_input()?;
    let source = K::batches(run, prepared, rows)?;
    match train.overfit.filter(|n| *n > source.distinct) {
        None => Ok(source),
        Some(found) => Err(matformer::train::Error::Config {
            field: "overfit",
            found: found.to_string(),
            expected: format!("at most {}: the training data has no more batches", source.distinct),
        })
        .bad_input(),
    }
}

/// The model at step 0, on the device with gradients.
fn model<K: Kind>(run: &RunFile<K>, init: Option<&Init<K>>, context: &Context) -> Result<K::Net> {
    let device = context.device.clone().autodiff();
    match init {
        None => K::create(run.shape(), run.train.seed, &device),
        Some(init) => init.model(run.shape(), &device),
    }
}

/// The model that `train.distill.teacher` names, if it names one.
fn teacher<K: Kind>(
    run: &RunFile<K>,
    prepared: &K::Prepared,
    context: &Context,
) -> Result<Option<K::Net>> {
    let Some(dir) = run.train.distill.as_ref().and_then(|distill| distill.folder()) else {
        return Ok(None);
    };
    check_is_model(dir).context("`train.distill.teacher`").bad_input()?;
    K::check_adopted(dir, prepared).context("`train.distill.teacher`")?;
    let (model, _) = folder::load::<K::Net>(dir, &context.device.clone().autodiff()).bad_input()?;
    let alike = K::like(run.shape(), model.config());
    match alike.other_weights(run.shape()) {
        None => K::start(&model, &K::like(model.config(), run.shape())).map(Some),
        Some((key, found, expected)) => Err(matformer::train::Error::Config {
            field: "distill.teacher",
            found: format!("{}, whose `{key}` is {found}", dir.display()),
            expected: format!("a model whose `{key}` is {expected}, as this run's"),
        })
        .bad_input(),
    }
}

fn options<K: Kind>(
    target: &Target<K>,
    run: &RunFile<K>,
    model: &K::Net,
    prepared: &K::Prepared,
    lock: RunLock,
    context: &Context,
) -> Result<RunOptions> {
    let facts = K::facts(prepared);
    let provenance = Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: run.train.seed,
        steps: 0,
        tokens: 0,
        data_hash: facts.hash.to_string(),
        parent: target.parent(),
    };
    let mut manifest =
        Manifest::new(K::Net::KIND, model.space(), run.train.draw.clone(), provenance);
    if let Some(tokenizer) = facts.tokenizer {
        manifest = manifest.with_tokenizer(tokenizer);
    }
    let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    Ok(RunOptions {
        dir: target.dir.clone(),
        config: run.train.clone(),
        manifest,
        files: files(target, run, prepared)?,
        targets: K::TARGETS,
        progress: match terminal && !context.json && !quiet() {
            true => Progress::Dashboard,
            false => Progress::Lines,
        },
        interrupter: Interrupter::new(),
        configured: target.run.to_kept(&target.dir)?,
        lock: Some(lock),
    })
}

/// The small files of the run's model folders: those of its data, and what lies beside the weights that it
/// started from (chat template, license), or in its own newest checkpoint where that is gone.
fn files<K: Kind>(
    target: &Target<K>,
    run: &RunFile<K>,
    prepared: &K::Prepared,
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = K::files(run, prepared)?;
    let latest = || Some(Checkpoints::of(&target.dir).latest().ok()??.dir);
    let init = run.train.init.clone().filter(|dir| dir.is_dir());
    if let Some(dir) = init.or_else(latest) {
        for (name, bytes) in companions(&dir).bad_input()? {
            if files.iter().all(|(other, _)| *other != name) {
                files.push((name, bytes));
            }
        }
    }
    Ok(files)
}

/// Where a resumed run stands, as far as training does not say it itself.
fn say_begin<K: Kind>(target: &Target<K>, begun: bool) {
    let latest = Checkpoints::of(&target.dir).latest().ok().flatten();
    match (&latest, target.resume) {
        (None, true) if !begun => {
            say!("{}: no run is there, a new one begins", target.dir.display());
        }
        (None, true) => say!("{}: no checkpoint, starting at step 0", target.dir.display()),
        (Some(latest), _) => {
            if let Some(was) = target.longer_than() {
                let now = &target.run.train;
                let rate = |steps| {
                    learning_rate(
                        &matformer::train::TrainConfig { steps, ..now.clone() },
                        latest.step,
                    )
                };
                say!(
                    "{was} steps became {}: the learning rate goes on at {:.2e}, not {:.2e}",
                    now.steps,
                    rate(now.steps),
                    rate(was)
                );
            }
        }
        (None, false) => {}
    }
}
