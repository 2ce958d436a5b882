//! What a run is made of: a run file, the folder of a run, or data alone.

use std::path::{Path, PathBuf};

use anyhow::Result;
use matformer::{
    run::{Kind, starter},
    run_file::{self, Draft, RunKind, Starter},
};

use crate::{
    args::TrainArgs,
    failure::{Hinted, OrBadInput},
};

/// What a run is made of.
pub enum Origin<'a> {
    /// The folder of a run.
    Folder(&'a Path),
    /// A run file.
    File(&'a Path),
    /// Data, and the settings that fit it.
    Data(Box<Starter>),
}

impl<'a> Origin<'a> {
    /// What was typed.
    pub fn of(args: &'a TrainArgs) -> Result<Self> {
        let refuse = |message: String, hint: String| Err(Hinted { message, hint }).bad_input();
        match (&args.config, &args.data[..], &args.preset) {
            (Some(config), [], None) if config.is_dir() => Ok(Self::Folder(config)),
            (Some(config), [], None) => Ok(Self::File(config)),
            (Some(config), [], Some(preset)) => refuse(
                format!("--preset {preset}: {} names the model", config.display()),
                format!("--set model.preset={preset} names another"),
            ),
            (Some(config), [data, ..], _) => refuse(
                format!("--data {data}: {} names the data", config.display()),
                "give either a run file or --data; --set changes what a run file names".to_owned(),
            ),
            (None, [], Some(preset)) => refuse(
                format!("--preset {preset}: no data to train on"),
                "name it with --data".to_owned(),
            ),
            (None, [], None) => refuse(
                "nothing to train: expected a run file, the folder of a run, or --data".to_owned(),
                "`matformer init --data PATH` writes a run file for data of your own".to_owned(),
            ),
            (None, data, preset) => {
                if let Some(init) = &args.init {
                    return refuse(
                        format!("--init {init}: starting from a model needs a run file"),
                        format!("write one, or `matformer elastify {init} --data … --out …`"),
                    );
                }
                let starter = starter(data, None, preset.as_deref())?;
                Ok(Self::Data(Box::new(starter)))
            }
        }
    }

    /// Its kind of model. What is wrong with a path is said where it is read.
    pub fn kind(&self, args: &TrainArgs) -> RunKind {
        let of = |file: &Path| RunKind::of(file, &args.sets, args.init.as_deref());
        let found = match self {
            Self::Folder(dir) => of(&dir.join(run_file::FILE)),
            Self::File(file) => of(file),
            Self::Data(starter) => return starter.kind(),
        };
        found.unwrap_or_default()
    }

    /// The run file of a run that may be new, with what was set.
    pub fn draft<K: Kind>(&self, sets: &[String]) -> run_file::Result<Draft<K>> {
        match self {
            Self::Folder(path) | Self::File(path) => Draft::read(path, sets),
            Self::Data(starter) => Draft::of(vec![starter.table().clone()], sets),
        }
    }

    /// The run folder where no other is named.
    pub fn run_folder(&self) -> PathBuf {
        let runs = Path::new("runs");
        match self {
            Self::Folder(path) | Self::File(path) => {
                runs.join(path.file_stem().unwrap_or(path.as_os_str()))
            }
            Self::Data(starter) => runs.join(starter.name()),
        }
    }
}
