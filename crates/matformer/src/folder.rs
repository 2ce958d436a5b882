//! A model folder as the commands use it: model, manifest, tokenizer, data.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Result;
use burn::tensor::Device;
use indicatif::{ProgressBar, ProgressStyle};
use matformer::{
    core::{Costs, Draw, Manifest, Space, Submodel, SubmodelSpec, fs},
    data::{DataConfig, Prepared, Stage, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, Tokenizer},
    lm::{MatLm, costs},
    nn::{Elastic, folder},
    run_file::{self, RunFile},
};

use crate::{
    failure::{Hinted, OrBadInput},
    logging::{quiet, say},
};

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
        let started = Instant::now();
        let (model, manifest) = folder::load::<MatLm>(dir, device).bad_input()?;
        let costs = costs(model.config());
        tracing::info!(
            "{}: {} layers of d_ff {}, weights {}, read in {:.2?}",
            dir.display(),
            manifest.n_layers,
            manifest.d_ff,
            manifest.weights_sha256.get(..16).unwrap_or_default(),
            started.elapsed()
        );
        Ok(Self { dir: dir.to_owned(), model, manifest, costs })
    }

    pub fn space(&self) -> &Space {
        self.model.space()
    }

    /// The submodel that a person asked for; the largest granularity that was trained if none.
    pub fn submodel(&self, spec: Option<&SubmodelSpec>) -> Result<Submodel> {
        let Some(spec) = spec else {
            return Ok(self.only_trained().unwrap_or_else(|| self.space().largest()));
        };
        let submodel = spec.resolve(self.space(), &self.costs).bad_input()?;
        let trained = match self.only_trained() {
            Some(only) => submodel == only,
            None => self.space().is_trained(&submodel),
        };
        if !trained {
            let label = self.space().label(&submodel);
            say!("note: `{label}` has widths that training never saw");
        }
        Ok(submodel)
    }

    /// The granularities that were trained, from the narrowest to the widest.
    pub fn trained(&self) -> Vec<Submodel> {
        self.only_trained().map_or_else(|| self.space().uniforms(), |only| vec![only])
    }

    /// The granularity of a model that was trained at one alone.
    pub fn only_trained(&self) -> Option<Submodel> {
        match &self.manifest.objective {
            Draw::Baseline { granularity } => self.space().uniform(granularity).ok(),
            _ => None,
        }
    }

    /// The tokenizer, which must be the one that the manifest names, if it names one.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let path = self.dir.join(TOKENIZER_FILE);
        let tokenizer = Tokenizer::load(&path).bad_input()?;
        let found = tokenizer.hash().to_string();
        match &self.manifest.tokenizer_sha256 {
            Some(expected) if *expected != found => Err(matformer::nn::Error::Changed {
                path,
                found,
                expected: expected.clone(),
                key: "tokenizer_sha256",
            })
            .bad_input(),
            _ => Ok(tokenizer),
        }
    }

    /// The tokenizer's files, as (name, bytes), for a folder that is made from this one.
    pub fn tokenizer_files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        [TOKENIZER_FILE, TOKENIZER_CONFIG_FILE]
            .iter()
            .map(|name| Ok(((*name).to_owned(), fs::read(self.dir.join(name)).bad_input()?)))
            .collect()
    }

    /// The corpus that the model's own run names, also that of a checkpoint; `hint` says what to do
    /// where there is no run.
    pub fn own_data(&self, hint: &str) -> Result<Prepared> {
        let path = self.dir.join(run_file::FILE);
        let of_run = self.dir.join("../..").join(run_file::FILE);
        let in_run =
            self.dir.parent().and_then(Path::file_name).is_some_and(|n| n == "checkpoints");
        let path = if !path.exists() && in_run { of_run } else { path };
        if !path.exists() {
            return Err(Hinted {
                message: format!("{}: no such file", path.display()),
                hint: hint.to_owned(),
            })
            .bad_input();
        }
        let config = RunFile::load(&path, &[]).bad_input()?.data;
        let prepared = prepare(&config)?;
        // A text that has changed since has another tokenizer, whose tokens mean nothing here.
        match prepared.summary.tokenizer_hash == self.tokenizer()?.hash() {
            true => Ok(prepared),
            false => self.prepare(config),
        }
    }

    /// The corpus of the run file or run folder `from`, with this model's tokenizer.
    pub fn data_of(&self, from: &Path) -> Result<Prepared> {
        let path = match from.is_dir() {
            true => from.join(run_file::FILE),
            false => from.to_owned(),
        };
        self.prepare(RunFile::load(&path, &[]).bad_input()?.data)
    }

    fn prepare(&self, config: DataConfig) -> Result<Prepared> {
        let tokenizer = Some(self.tokenizer()?.path().to_owned().into());
        prepare(&DataConfig { tokenizer, ..config })
    }
}

/// A clear word where a folder is not one, or not yet one.
pub fn check_is_model(dir: &Path) -> Result<(), Hinted> {
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
    let bar = match quiet() {
        true => ProgressBar::hidden(),
        false => ProgressBar::new(0),
    }
    .with_message(message);
    if let Ok(style) = ProgressStyle::with_template("{msg:22} {bar:30} {percent:>3} % {eta} left") {
        bar.set_style(style);
    }
    bar
}

/// Prepares a corpus, or finds it prepared, with a progress bar on a terminal.
pub fn prepare(config: &DataConfig) -> Result<Prepared> {
    prepare_into(config, &data_cache())
}

/// The same, into `folder`: the cache of prepared corpora stays as it is.
pub fn prepare_into(config: &DataConfig, folder: &Path) -> Result<Prepared> {
    let bar = progress_bar("");
    let mut stage: Option<Stage> = None;
    let prepared = matformer::data::prepare_into(config, &data_cache(), folder, &mut |p| {
        if stage != Some(p.stage) {
            stage = Some(p.stage);
            bar.set_message(p.stage.to_string());
            if bar.is_hidden() {
                say!("{}", p.stage);
            }
        }
        bar.set_length(p.total as u64);
        bar.set_position(p.done as u64);
    });
    bar.finish_and_clear();
    let prepared = match prepared {
        Err(error) if error.may_pass() => return Err(error.into()),
        prepared => prepared.bad_input()?,
    };
    tracing::info!("data {} in {}", prepared.data_hash().short(), prepared.dir().display());
    Ok(prepared)
}
