//! `matformer train`

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use matformer::{
    core::{Manifest, Provenance, fs},
    data::Prepared,
    lm::MatLm,
    nn::{Elastic, Folder},
    run_file::{self, RunFile},
    text::TextBatches,
    train::{Checkpoint, Checkpoints, Interrupter, Outcome, Progress, RunOptions},
};
use serde_json::json;

use super::{Context, count, print_json};
use crate::{
    args::TrainArgs,
    failure::{Hinted, INTERRUPTED, OrBadInput},
    folder::prepare,
};

/// A run file and where its run goes.
struct Target {
    run: RunFile,
    dir: PathBuf,
    resume: bool,
}

pub fn run(args: &TrainArgs, context: &Context) -> Result<ExitCode> {
    let target = resolve(args)?;
    validate(&target.run)?;
    let checkpoints = Checkpoints::of(&target.dir);
    let latest = checkpoints.latest()?;
    let ended = target.resume && target.dir.join(Manifest::FILE).exists();
    if ended {
        eprintln!("{}: complete, nothing to do", target.dir.display());
        return done(context, &target.dir, target.run.train.steps, false);
    }
    let prepared = prepare(&target.run.data)?;
    say_data(&prepared);
    if let Some(checkpoint) = &latest {
        check_same_data(checkpoint, &prepared).bad_input()?;
    }
    let run = with_vocabulary(&target.run, &prepared)?;
    let device = context.device.clone().autodiff();
    let model = MatLm::new(&run.model.lm, run.train.seed, &device).bad_input()?;
    let options = options(&target, &run, &model, &prepared, context)?;
    let rows = run.train.rows(run.model.lm.context).bad_input()?;
    let batches = TextBatches::new(
        &prepared,
        rows,
        run.model.lm.context,
        run.train.eval_tokens,
        run.train.seed,
    )
    .bad_input()?;

    // Everything was checked: from here on files are written.
    fs::create_dir_all(&target.dir).bad_input()?;
    let kept = target.dir.join(run_file::FILE);
    if !kept.exists() {
        fs::write_atomic(&kept, target.run.to_toml().as_bytes())?;
    }
    match (&latest, target.resume) {
        (Some(c), _) => eprintln!("resuming at step {} from {}", c.step, c.dir.display()),
        (None, true) => eprintln!("{}: no checkpoint, starting at step 0", target.dir.display()),
        (None, false) => {}
    }
    stop_on_ctrl_c(&options.interrupter)?;
    let outcome = matformer::train::run(model, Arc::new(batches), options)?;
    say_outcome(&outcome, &target.dir);
    done(context, &target.dir, outcome.steps, outcome.interrupted)
}

/// What was typed, opened and checked: a run file with its overrides, or a run to go on with.
fn resolve(args: &TrainArgs) -> Result<Target> {
    if args.config.is_dir() {
        if !args.resume || args.out.is_some() || !args.sets.is_empty() {
            return Err(Hinted {
                message: format!("{}: a folder; expected a run file", args.config.display()),
                hint: "to go on with a run, give its folder and --resume alone".to_owned(),
            })
            .bad_input();
        }
        let kept = args.config.join(run_file::FILE);
        if !kept.exists() {
            return Err(Hinted {
                message: format!("{}: no such file", kept.display()),
                hint: "expected the folder of a run that `matformer train` began".to_owned(),
            })
            .bad_input();
        }
        let run = RunFile::load(&kept, &[]).bad_input()?;
        return Ok(Target { run, dir: args.config.clone(), resume: true });
    }
    let run = RunFile::load(&args.config, &args.sets).bad_input()?;
    let dir = args.out.clone().unwrap_or_else(|| {
        Path::new("runs").join(args.config.file_stem().unwrap_or(args.config.as_os_str()))
    });
    let kept = dir.join(run_file::FILE);
    if kept.exists() {
        if !args.resume {
            return Err(Hinted {
                message: format!("{}: a run is there already", dir.display()),
                hint: "go on with it (--resume), or train into another folder (--out)".to_owned(),
            })
            .bad_input();
        }
        let there = RunFile::load(&kept, &[]).bad_input()?;
        there.check_same(&kept, &run).bad_input()?;
    } else if dir.join(Manifest::FILE).exists() {
        return Err(Hinted {
            message: format!("{}: a model of no run is there", dir.display()),
            hint: "train into another folder (--out)".to_owned(),
        })
        .bad_input();
    }
    Ok(Target { run, dir, resume: args.resume })
}

/// Checks all that can be judged before the text is read.
fn validate(run: &RunFile) -> Result<()> {
    run.data.validate().bad_input()?;
    run.model.lm.validate().context("`model.lm`").bad_input()?;
    run.train.validate(&run.model.lm.space()?).bad_input()?;
    run.train.rows(run.model.lm.context).bad_input()?;
    Ok(())
}

/// A run goes on with the text that it began with: another text has another tokenizer.
fn check_same_data(checkpoint: &Checkpoint, prepared: &Prepared) -> Result<()> {
    let began_with = Manifest::load(&checkpoint.dir)?.provenance.data_hash;
    let now = prepared.data_hash().to_string();
    if began_with == now {
        return Ok(());
    }
    let short = |hash: &str| hash.get(..16).unwrap_or(hash).to_owned();
    Err(Hinted {
        message: format!(
            "{}: trained on data {}, the run's text is now data {}",
            checkpoint.dir.display(),
            short(&began_with),
            short(&now)
        ),
        hint: "bring the old text back, or train into another folder (--out)".to_owned(),
    }
    .into())
}

/// The run with the tokenizer's vocabulary as the model's.
fn with_vocabulary(run: &RunFile, prepared: &Prepared) -> Result<RunFile> {
    let mut run = run.clone();
    run.model.lm.vocab_size = prepared.tokenizer()?.vocab_size();
    Ok(run)
}

fn options(
    target: &Target,
    run: &RunFile,
    model: &MatLm,
    prepared: &Prepared,
    context: &Context,
) -> Result<RunOptions> {
    let provenance = Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: run.train.seed,
        steps: 0,
        tokens: 0,
        data_hash: prepared.data_hash().to_string(),
        parent: None,
    };
    let manifest = Manifest::new(MatLm::KIND, model.space(), run.train.draw.clone(), provenance);
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
        progress: match terminal && !context.json {
            true => Progress::Dashboard,
            false => Progress::Lines,
        },
        interrupter: Interrupter::new(),
    })
}

/// The first Ctrl-C saves and ends, the second ends at once.
fn stop_on_ctrl_c(interrupter: &Interrupter) -> Result<()> {
    let interrupter = interrupter.clone();
    ctrlc::set_handler(move || {
        if interrupter.should_stop() {
            std::process::exit(i32::from(INTERRUPTED));
        }
        interrupter.stop(Some("Ctrl-C"));
    })?;
    Ok(())
}

fn say_data(prepared: &Prepared) {
    let s = &prepared.summary;
    eprintln!(
        "data {}: {} training tokens of {} documents, {} held-out tokens of {}{}",
        prepared.data_hash().short(),
        count(s.train.tokens as f64),
        s.train.documents,
        count(s.held_out.tokens as f64),
        s.held_out.documents,
        if prepared.reused { " (prepared before)" } else { "" },
    );
}

fn say_outcome(outcome: &Outcome, dir: &Path) {
    match outcome.interrupted {
        true => eprintln!(
            "interrupted after step {}, saved; go on with: matformer train {} --resume",
            outcome.steps,
            dir.display()
        ),
        false => eprintln!("{}: trained {} steps", dir.display(), outcome.steps),
    }
}

fn done(context: &Context, dir: &Path, steps: u64, interrupted: bool) -> Result<ExitCode> {
    if context.json {
        print_json(&json!({ "run": dir, "steps": steps, "interrupted": interrupted }))?;
    }
    Ok(match interrupted {
        true => ExitCode::from(INTERRUPTED),
        false => ExitCode::SUCCESS,
    })
}
