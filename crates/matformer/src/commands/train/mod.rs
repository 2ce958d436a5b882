//! `matformer train`

mod dry_run;
mod origin;
mod outcome;

use std::{
    ffi::OsString,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use matformer::{
    nn::DeviceSpec,
    run::{
        Kind,
        train::{Ended, Ready, Target, check, keep_peak},
        typed,
    },
    run_file::{self, Draft, visit},
    train::{Interrupter, Progress},
};

pub use dry_run::run as dry_run;

use self::origin::Origin;
use super::Context;
use crate::{
    args::TrainArgs,
    failure::{Hinted, OrBadInput, said},
    interrupt::{Interrupts, Then},
    logging::{self, quiet, say},
    terminal,
};

pub fn run(args: &TrainArgs, context: &Context) -> Result<ExitCode> {
    let origin = Origin::of(args)?;
    visit!(origin.kind(args), run_kind(args, &origin, context))
}

fn run_kind<K: Kind>(args: &TrainArgs, origin: &Origin<'_>, context: &Context) -> Result<ExitCode> {
    let interrupts = Interrupts::install(|signal| {
        say!("{}: interrupted before training began: nothing was lost", signal.name);
        Then::End
    })?;
    let exchange = &context.session.exchange;
    let opened = || -> Result<_> {
        let target = target::<K>(args, origin, context)?;
        target.validate()?;
        Ok(target)
    };
    let target = exchange.agree(opened(), said)?;
    if target.is_complete() {
        if !exchange.is_first() {
            return Ok(ExitCode::SUCCESS);
        }
        say!("{}: complete, nothing to do", target.dir.display());
        return outcome::complete(context, &target);
    }
    exchange.agree(check(&target, &context.session).map_err(Into::into), said)?;
    if args.dry_run {
        if !exchange.is_first() {
            return Ok(ExitCode::SUCCESS);
        }
        return dry_run::run(&target, context);
    }
    let mut arguments: Vec<OsString> =
        vec!["train".into(), target.dir.clone().into(), "--resume".into()];
    if DeviceSpec::from_env().ok() != Some(context.spec) {
        arguments.extend(["--device".into(), context.spec.to_string().into()]);
    }
    let resume = typed::command(arguments);
    let Ended { outcome, prepared } = train(&target, &interrupts, &resume, context)?;
    if !exchange.is_first() {
        return Ok(outcome::code(&outcome));
    }
    let measures = K::MEASURED_AT_END && !outcome.interrupted && outcome.overfit.is_none();
    let measured = if measures {
        say_complete(&interrupts, &target.dir);
        Some(outcome::measure::<K>(context, &target.dir, &prepared)?)
    } else {
        None
    };
    outcome::done(context, &target, &outcome, measured)
}

/// What was typed, opened.
fn target<K: Kind>(args: &TrainArgs, origin: &Origin<'_>, context: &Context) -> Result<Target<K>> {
    if let Origin::Folder(dir) = origin {
        return of_folder(args, dir, context);
    }
    let device = &context.session.device;
    let dir: PathBuf = args.out.clone().unwrap_or_else(|| origin.run_folder());
    let kept = dir.join(run_file::FILE);
    let resumes = kept.exists() && args.resume;
    let mut draft = match origin {
        // What was not typed is as the run has it, however the data would be sized now.
        Origin::Data(starter) if resumes => {
            let run = Draft::<K>::read(&kept, &[]).bad_input()?.into_table();
            let model = args.preset.is_some();
            Draft::of(vec![starter.table_over(run, model)], &args.sets).bad_input()?
        }
        origin => origin.draft::<K>(&args.sets).bad_input()?,
    };
    if let Some(init) = &args.init {
        draft.set_init(init);
    }
    Ok(if resumes {
        Target::resumed(draft, &kept, dir, device)?
    } else {
        Target::new(draft, dir, args.resume, device)?
    })
}

/// `train RUN --resume`
fn of_folder<K: Kind>(args: &TrainArgs, run: &Path, context: &Context) -> Result<Target<K>> {
    let alone = args.out.is_none() && args.sets.is_empty() && args.init.is_none();
    if !args.resume || !alone {
        let dir = run.display();
        let hint = if args.resume && !args.sets.is_empty() {
            format!("change `{dir}/{}`, then resume with --resume alone", run_file::FILE)
        } else {
            "to go on with a run, give its folder and --resume alone".to_owned()
        };
        return Err(Hinted { message: format!("{dir}: a folder; expected a run file"), hint })
            .bad_input();
    }
    let kept = run.join(run_file::FILE);
    if !kept.exists() {
        return Err(Hinted {
            message: format!("{}: no such file", kept.display()),
            hint: "expected the folder of a run that `matformer train` began".to_owned(),
        })
        .bad_input();
    }
    Ok(Target::of_run(&kept, run.to_owned(), &context.session.device)?)
}

/// Trains a run from where it stands to its end; `resume` is the command that goes on with it.
pub fn train<K: Kind>(
    target: &Target<K>,
    interrupts: &Interrupts,
    resume: &str,
    context: &Context,
) -> Result<Ended<K>> {
    let ready = Ready::new(target, &context.session)?;
    let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    let dashboard = terminal && !context.json && !quiet();
    let progress = if dashboard { Progress::Dashboard } else { Progress::Lines };
    // Everything was checked: from here on files are written.
    let begun = ready.begin(progress)?;
    if context.session.exchange.is_first() {
        logging::open(&target.dir)?;
    }
    save_first(interrupts, begun.interrupter());
    if dashboard {
        terminal::outlive();
    }
    let ended = begun.run()?;
    outcome::say(&ended.outcome, interrupts.received(), &target.dir, resume);
    if context.session.exchange.is_first() {
        keep_peak(&target.dir);
    }
    Ok(ended)
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
