//! One file per command: resolve what was typed, call the crates, print.

mod baselines;
mod bench;
mod compare;
mod completions;
mod doctor;
mod elastify;
mod embed;
mod eval;
mod fetch;
mod generate;
mod import;
mod info;
mod init;
mod keys;
mod list;
mod report;
mod retrieve;
mod scaling;
mod score;
mod search;
mod serve;
mod slice;
mod table;
mod tasks;
mod train;

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    exchange::Launch,
    nn::DeviceSpec,
    run::{self, Kind, ModelFolder, Session},
    study::team,
};
use serde::Serialize;

use crate::{
    args::{Args, Command},
    failure::{self, OrBadInput},
    interrupt::Interrupts,
    output::out,
    progress, ranks,
};

/// What every command knows.
pub struct Context {
    /// The device, and the bars that show progress.
    pub session: Session,
    /// What was asked for.
    pub spec: DeviceSpec,
    /// Whether standard output is for one JSON document.
    pub json: bool,
}

impl Context {
    /// What the device is called: `flex`, `cuda:0`.
    pub fn device_name(&self) -> String {
        DeviceSpec::of(&self.session.device).unwrap_or(self.spec).to_string()
    }
}

/// Calls `work` on the first rank with what `load` reads, and has the others help wherever it measures that.
/// The held-out data are those of `data`, or the model's own.
fn helped<K: Kind>(
    context: &Context,
    load: impl FnOnce(&Session) -> run::Result<ModelFolder<K>>,
    data: Option<&Path>,
    work: impl FnOnce(&ModelFolder<K>, &dyn Fn() -> run::Result<K::Prepared>) -> Result<ExitCode>,
) -> Result<ExitCode> {
    let session = context.session.helped();
    let folder = session.exchange.agree(load(&session).map_err(Into::into), failure::said)?;
    let data = || match data {
        Some(from) => folder.data_of(from),
        None => folder.own_data(DATA_HINT),
    };
    if session.exchange.is_first() {
        team::lead(&session, failure::said, || work(&folder, &data))
    } else {
        team::help(&folder, data)?;
        Ok(ExitCode::SUCCESS)
    }
}

pub fn run(args: Args, launch: Option<&Launch>) -> Result<ExitCode> {
    let json = args.json;
    let exchange = match ranks::open(launch, &args.command) {
        // The same on all ranks: the first says it.
        Err(error) if launch.is_some_and(|launch| launch.rank > 0) => {
            return Ok(ExitCode::from(failure::code(&error)));
        }
        opened => opened?,
    };
    let context = || -> Result<Context> {
        let spec = args.device.map_or_else(DeviceSpec::from_env, Ok).bad_input()?;
        let device = ranks::device(spec, launch)?;
        tracing::debug!("device {device:?}, {exchange:?}");
        let session = progress::watched(device).among(exchange.clone());
        Ok(Context { session, spec, json })
    };
    // The others end as the system has it, or, as `train` and `baselines`, once all is saved.
    match &args.command {
        Command::Eval(_) | Command::Report(_) | Command::Search(_) => {
            Interrupts::end("; what was measured is kept, and the same command goes on")?;
        }
        Command::Generate(_)
        | Command::Embed(_)
        | Command::Retrieve(_)
        | Command::Bench(_)
        | Command::Doctor(_) => {
            Interrupts::end("")?;
        }
        _ => {}
    }
    match args.command {
        Command::Init(args) => init::run(&args, json),
        Command::Keys(args) => keys::run(&args, json),
        Command::Train(args) => ranks::run(&exchange, || train::run(&args, &context()?)),
        Command::Elastify(args) => elastify::run(&args, &context()?),
        Command::Baselines(args) => baselines::run(&args, &context()?),
        Command::Eval(args) => ranks::run(&exchange, || eval::run(&args, &context()?)),
        Command::Score(args) => score::run(&args, &context()?),
        Command::Generate(args) => generate::run(&args, &context()?),
        Command::Serve(args) => serve::run(&args, &context()?),
        Command::Info(args) if args.preset.is_some() => info::preset(&args, json),
        Command::Info(args) => info::run(&args, &context()?),
        Command::Slice(args) => slice::run(&args, &context()?),
        Command::Import(args) => import::run(&args, &context()?),
        Command::Embed(args) => embed::run(&args, &context()?),
        Command::Retrieve(args) => retrieve::run(&args, &context()?),
        Command::Search(args) => ranks::run(&exchange, || search::run(&args, &context()?)),
        Command::Report(args) => report::run(&args, &context()?),
        Command::Bench(args) => bench::run(&args, &context()?),
        Command::Doctor(args) => doctor::run(&args, &context()?),
        Command::Fetch(args) => fetch::run(&args, json),
        Command::List(args) => list::run(&args, json),
        Command::Compare(args) => compare::run(&args, json),
        Command::Scaling(args) => scaling::run(&args, json),
        Command::Completions(args) => completions::run(&args, json),
        Command::Man(args) => completions::man(&args, json),
    }
}

/// What to do with a folder that names no data.
const DATA_HINT: &str = "name the data with --data RUN: a run file, or the folder of the run that \
                         this model comes from";

/// Prints a JSON document.
fn print_json(value: &impl Serialize) -> Result<ExitCode> {
    out!("{}", serde_json::to_string_pretty(value)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what a command found, as a JSON document or as text.
fn show<T: Serialize>(
    json: bool,
    found: &T,
    text: impl FnOnce(&T) -> Result<()>,
) -> Result<ExitCode> {
    if json {
        return print_json(found);
    }
    text(found)?;
    Ok(ExitCode::SUCCESS)
}
