//! `matformer train`

mod dry_run;
mod fit;
mod init;
mod interrupt;
mod outcome;
mod target;

use std::{io::IsTerminal, process::ExitCode, sync::Arc};

use anyhow::Result;
use matformer::{
    core::{Manifest, Provenance, fs},
    data::{DataConfig, Dropped, Prepared},
    lm::MatLm,
    nn::{Elastic, Folder},
    run_file::{self, RunFile},
    text::TextBatches,
    train::{Checkpoints, Interrupter, Progress, RunLock, RunOptions, learning_rate},
};

use self::{fit::Need, init::Init, interrupt::Interrupts, target::Target};
use super::{Context, count, documents};
use crate::{
    args::TrainArgs,
    failure::OrBadInput,
    folder::prepare,
    logging::{self, quiet, say},
};

pub fn run(args: &TrainArgs, context: &Context) -> Result<ExitCode> {
    let interrupts = Interrupts::install()?;
    let target = Target::resolve(args, &context.device)?;
    target.validate()?;
    if target.is_complete() {
        say!("{}: complete, nothing to do", target.dir.display());
        return outcome::complete(context, &target);
    }
    // Before a tokenizer of that size is trained; the text says how large it really is.
    Need::of(&target.run, target.run.data.vocab_size, context)?.check(&target.run)?;
    if args.dry_run {
        return dry_run::run(&target, context);
    }
    // Of a run that is there: its text may take long to read.
    let begun = target.dir.join(run_file::FILE).exists();
    let lock = begun.then(|| RunLock::take(&target.dir)).transpose()?;
    let prepared = prepare(&target.run.data)?;
    say_data(&target.run.data, &prepared);
    target.check_data(&prepared)?;
    let run = with_vocabulary(&target.run, &prepared);
    Need::of(&run, run.model.lm.vocab_size, context)?.check(&run)?;
    let batches = batches(&run, &prepared)?;
    let model = model(&run, target.init.as_ref(), context)?;

    // Everything was checked: from here on files are written.
    fs::create_dir_all(&target.dir).bad_input()?;
    let lock = match lock {
        Some(lock) => lock,
        None => RunLock::take(&target.dir)?,
    };
    target.check_folder().bad_input()?;
    let kept = target.dir.join(run_file::FILE);
    if !kept.exists() {
        fs::write_atomic(&kept, target.run.to_toml()?.as_bytes())?;
    }
    logging::open(&target.dir)?;
    say_begin(&target, begun);
    let options = options(&target, &run, &model, &prepared, lock, context)?;
    interrupts.save_with(&options.interrupter);
    let outcome = matformer::train::run(model, Arc::new(batches), options)?;
    outcome::say(&outcome, &target.dir);
    outcome::done(context, &target, &outcome)
}

/// The run with the tokenizer's vocabulary as the model's.
fn with_vocabulary(run: &RunFile, prepared: &Prepared) -> RunFile {
    let mut run = run.clone();
    run.model.lm.vocab_size = prepared.summary.vocab_size;
    run
}

/// A run's batches, as its run file has them.
fn batches(run: &RunFile, prepared: &Prepared) -> Result<TextBatches> {
    let (lm, train) = (&run.model.lm, &run.train);
    let rows = train.rows(lm.context).bad_input()?;
    let batches =
        TextBatches::new(prepared, rows, lm.context, train.eval_tokens, train.seed).bad_input()?;
    match train.overfit.filter(|n| *n > batches.distinct()) {
        None => Ok(batches),
        Some(found) => Err(matformer::train::Error::Config {
            field: "overfit",
            found: found.to_string(),
            expected: format!(
                "at most {}: the training text has no more batches",
                batches.distinct()
            ),
        })
        .bad_input(),
    }
}

/// The model at step 0, on the device with gradients.
fn model(run: &RunFile, init: Option<&Init>, context: &Context) -> Result<MatLm> {
    let device = context.device.clone().autodiff();
    match init {
        None => MatLm::new(&run.model.lm, run.train.seed, &device).bad_input(),
        Some(init) => init.model(&run.model.lm, &device),
    }
}

fn options(
    target: &Target,
    run: &RunFile,
    model: &MatLm,
    prepared: &Prepared,
    lock: RunLock,
    context: &Context,
) -> Result<RunOptions> {
    let provenance = Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: run.train.seed,
        steps: 0,
        tokens: 0,
        data_hash: prepared.data_hash().to_string(),
        parent: target.parent(),
    };
    let manifest = Manifest::new(MatLm::KIND, model.space(), run.train.draw.clone(), provenance)
        .with_tokenizer(prepared.summary.tokenizer_hash);
    let files = [prepared.tokenizer_path(), prepared.tokenizer_config_path()]
        .into_iter()
        .filter(|path| path.exists())
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok((name, fs::read(&path)?))
        })
        .collect::<Result<_>>()?;
    let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    Ok(RunOptions {
        dir: target.dir.clone(),
        config: run.train.clone(),
        manifest,
        files,
        progress: match terminal && !context.json && !quiet() {
            true => Progress::Dashboard,
            false => Progress::Lines,
        },
        interrupter: Interrupter::new(),
        configured: serde_json::to_value(&target.run)?,
        lock: Some(lock),
    })
}

/// Where a resumed run stands, as far as training does not say it itself.
fn say_begin(target: &Target, begun: bool) {
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

/// Held-out documents below which a standard error over them means little.
const FEW: usize = 10;

fn say_data(data: &DataConfig, prepared: &Prepared) {
    let s = &prepared.summary;
    say!(
        "data {}: {} training tokens of {}, {} held-out tokens of {}{}{}",
        prepared.data_hash().short(),
        count(s.train.tokens as f64),
        documents(s.train.documents),
        count(s.held_out.tokens as f64),
        s.held_out.documents,
        match s.dropped == Dropped::default() {
            true => String::new(),
            false => format!("; left out: {}", s.dropped),
        },
        if prepared.reused { " (prepared before)" } else { "" },
    );
    if data.tokenizer.is_none() && s.vocab_size < data.vocab_size {
        say!(
            "note: the text gives a vocabulary of {}, fewer than `data.vocab_size`, which is {}",
            s.vocab_size,
            data.vocab_size
        );
    }
    if s.held_out.documents < FEW {
        say!(
            "note: {} held out: a held-out loss of so few is known roughly; \
             `data.held_out` sets their share",
            documents(s.held_out.documents)
        );
    }
}
