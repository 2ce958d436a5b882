//! `matformer baselines`: every granularity of a run trained alone, and what that shows.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result};
use matformer::{
    core::{Draw, Resource, fs},
    nn::ModelConfig,
    run_file::{self, Lm, RunFile, RunKind, Vit},
    train::{TrainConfig, passes, run_flops},
};
use serde::Serialize;

use super::{Context, count, eval, print_json};
use crate::{
    args::{BaselinesArgs, Budget},
    failure::{Hinted, INTERRUPTED, OrBadInput},
    kind::{self, Kind},
    logging::{quiet, say},
    measure::{self, Measured},
    output::out,
    spent::Spent,
};

pub fn run(args: &BaselinesArgs, context: &Context) -> Result<ExitCode> {
    match kind::of_folder(&args.run)? {
        RunKind::Lm => run_kind::<Lm>(args, context),
        RunKind::Vit => run_kind::<Vit>(args, context),
    }
}

/// A granularity trained alone.
struct Baseline<K: Kind> {
    name: String,
    run: RunFile<K>,
    dir: PathBuf,
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
    let baselines = of(&elastic, args)?;
    // Ctrl-C reaches the run that is under way, which saves and ends: then so does this.
    ctrlc::set_handler(|| {})?;
    for (i, baseline) in baselines.iter().enumerate() {
        say!(
            "baseline {} ({} of {}), {}",
            baseline.name,
            i + 1,
            baselines.len(),
            super::train::steps(baseline.run.train.steps)
        );
        if let Some(code) = train(baseline, context)? {
            return Ok(code);
        }
    }
    let found = measured(args, context)?;
    match context.json {
        true => print_json(&found),
        false => print(&found, &elastic, &baselines, args),
    }
}
