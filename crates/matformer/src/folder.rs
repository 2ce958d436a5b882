//! A model folder as the commands use it: model, manifest, tokenizer, data.

use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::Device;
use indicatif::{ProgressBar, ProgressStyle};
use matformer::{
    core::{Costs, Manifest, Space, Submodel, SubmodelSpec},
    data::{DataConfig, Prepared, Stage, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, Tokenizer},
    lm::{MatLm, costs},
    nn::{Elastic, folder},
    run_file::{self, RunFile},
};

use crate::failure::{Hinted, OrBadInput};

/// Where prepared corpora live: `MATFORMER_CACHE`, or `runs/.data` here.
pub fn data_cache() -> PathBuf {
    std::env::var_os("MATFORMER_CACHE").map_or_else(|| PathBuf::from("runs/.data"), PathBuf::from)
}

/// A model, and what goes with it.
pub struct ModelFolder {
    pub dir: PathBuf,
    pub model: MatLm,
    pub manifest: Manifest,
    pub costs: Costs,
}

impl ModelFolder {
    /// Reads the model in `dir`.
    pub fn load(dir: &Path, device: &Device) -> Result<Self> {
        check_is_model(dir).bad_input()?;
        let (model, manifest) = folder::load::<MatLm>(dir, device).bad_input()?;
        let costs = costs(model.config());
        Ok(Self { dir: dir.to_owned(), model, manifest, costs })
    }

    pub fn space(&self) -> &Space {
        self.model.space()
    }

    /// The submodel that a person asked for; the largest granularity if none.
    pub fn submodel(&self, spec: Option<&SubmodelSpec>) -> Result<Submodel> {
        match spec {
            Some(spec) => {
                let submodel = spec.resolve(self.space(), &self.costs).bad_input()?;
                if !self.space().is_trained(&submodel) {
                    eprintln!("note: `{submodel}` has widths that training never saw");
                }
                Ok(submodel)
            }
            None => Ok(self.space().largest()),
        }
    }

    pub fn tokenizer(&self) -> Result<Tokenizer> {
        Tokenizer::load(&self.dir.join(TOKENIZER_FILE)).bad_input()
    }

    /// The tokenizer's files, as (name, bytes), for a folder that is made from this one.
    pub fn tokenizer_files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        [TOKENIZER_FILE, TOKENIZER_CONFIG_FILE]
            .iter()
            .map(|name| Ok(((*name).to_owned(), matformer::core::fs::read(self.dir.join(name))?)))
            .collect()
    }

    /// The corpus of the run in `from` (default: this model's own), with this model's tokenizer.
    pub fn data(&self, from: Option<&Path>) -> Result<Prepared> {
        let path = match from {
            Some(path) if path.is_dir() => path.join(run_file::FILE),
            Some(path) => path.to_owned(),
            None => self.dir.join(run_file::FILE),
        };
        if from.is_none() && !path.exists() {
            return Err(Hinted {
                message: format!("{}: no such file", path.display()),
                hint: "name the data with --data RUN: a run file, or the folder of the run that \
                       this model comes from"
                    .to_owned(),
            })
            .bad_input();
        }
        let mut config = RunFile::load(&path, &[]).bad_input()?.data;
        if from.is_some() {
            config.tokenizer = Some(self.dir.join(TOKENIZER_FILE));
        }
        prepare(&config)
    }
}

/// A clear word where a folder is not one, or not yet one.
fn check_is_model(dir: &Path) -> Result<(), Hinted> {
    let manifest = dir.join(Manifest::FILE);
    if manifest.exists() {
        return Ok(());
    }
    let latest = matformer::train::Checkpoints::of(dir).latest().ok().flatten();
    let hint = match latest {
        Some(checkpoint) => format!(
            "this run has not ended: finish it with `matformer train {} --resume`, or name its \
             last checkpoint, {}",
            dir.display(),
            checkpoint.dir.display()
        ),
        None => {
            "expected a model folder: what `matformer train` or `matformer slice` writes".to_owned()
        }
    };
    Err(Hinted { message: format!("{}: no such file", manifest.display()), hint })
}

/// A progress bar on standard error; hidden where that is no terminal.
pub fn progress_bar(message: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(0).with_message(message);
    if let Ok(style) = ProgressStyle::with_template("{msg:22} {bar:30} {percent:>3} % {eta} left") {
        bar.set_style(style);
    }
    bar
}

/// Prepares a corpus, or finds it prepared, with a progress bar on a terminal.
pub fn prepare(config: &DataConfig) -> Result<Prepared> {
    let bar = progress_bar("");
    let mut stage: Option<Stage> = None;
    let prepared = matformer::data::prepare(config, &data_cache(), &mut |p| {
        if stage != Some(p.stage) {
            stage = Some(p.stage);
            bar.set_message(p.stage.to_string());
            if bar.is_hidden() {
                eprintln!("{}", p.stage);
            }
        }
        bar.set_length(p.total as u64);
        bar.set_position(p.done as u64);
    });
    bar.finish_and_clear();
    prepared.bad_input()
}
