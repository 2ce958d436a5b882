//! `train --init`: a run that starts from the weights of a model folder.

use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::Device;
use matformer::{
    core::Manifest,
    data::{Source, TOKENIZER_FILE, Tokenizer},
    lm::{MatLm, MatLmConfig, with_config},
    nn::{Folder, folder},
    run_file::{Draft, RunFile},
};

use crate::{
    failure::{Hinted, OrBadInput},
    folder::check_is_model,
};

/// The folder that a run starts from, its weights not yet read.
pub struct Init {
    dir: PathBuf,
    config: MatLmConfig,
    manifest: Manifest,
}

impl Init {
    /// What `train.init` names, if it names something; its shape goes below what the run file says
    /// of the model.
    pub fn open(draft: &mut Draft, device: &Device) -> Result<Option<Self>> {
        let Some(dir) = draft.init().map(Path::to_owned) else {
            return Ok(None);
        };
        check_is_model(&dir).bad_input()?;
        let manifest = Manifest::load(&dir).bad_input()?;
        // Takes no memory until its weights are read.
        let config = MatLm::build(&dir, &manifest, device).bad_input()?.config().clone();
        draft.lay_below(&config);
        Ok(Some(Self { dir, config, manifest }))
    }

    /// Checks that the folder's weights are of the run's shape and speak its tokenizer, which is the
    /// folder's where the run file names none.
    pub fn check(&self, run: &mut RunFile) -> Result<()> {
        // A run file's vocabulary follows the tokenizer.
        let typed = MatLmConfig { vocab_size: self.config.vocab_size, ..run.model.lm.clone() };
        if let Some((key, found, expected)) = typed.other_weights(&self.config) {
            return Err(Hinted {
                message: format!(
                    "`model.lm.{key}` is {found}; expected {expected}, as in `{}`",
                    self.dir.display()
                ),
                hint:
                    "leave it out of the run file: a run takes its shape from the folder that it \
                       starts from"
                        .to_owned(),
            })
            .bad_input();
        }
        let own = self.dir.join(TOKENIZER_FILE);
        let expected = Tokenizer::load(&own).bad_input()?.hash();
        let given = match &run.data.tokenizer {
            None => {
                run.data.tokenizer = Some(Source::Path(own));
                return Ok(());
            }
            Some(Source::Path(path)) if path.is_dir() => path.join(TOKENIZER_FILE),
            Some(Source::Path(path)) => path.clone(),
            // What must be fetched is compared once it is here.
            Some(_) => return Ok(()),
        };
        match given.is_file() && Tokenizer::load(&given).bad_input()?.hash() != expected {
            true => Err(self.other_tokenizer(&given.display().to_string())).bad_input(),
            false => Ok(()),
        }
    }

    /// The same of a tokenizer that had to be fetched first.
    pub fn check_tokenizer(&self, prepared: &matformer::data::Prepared) -> Result<()> {
        let own = Tokenizer::load(&self.dir.join(TOKENIZER_FILE)).bad_input()?;
        match prepared.summary.tokenizer_hash == own.hash() {
            true => Ok(()),
            false => Err(self.other_tokenizer("the run's tokenizer")).bad_input(),
        }
    }

    fn other_tokenizer(&self, given: &str) -> Hinted {
        Hinted {
            message: format!(
                "`data.tokenizer`: {given} is not the tokenizer of `{}`, whose weights know no other",
                self.dir.display()
            ),
            hint: "leave `data.tokenizer` out: a run takes it from the folder that it starts from"
                .to_owned(),
        }
    }

    /// The folder's weights in a model of the run's configuration.
    pub fn model(&self, config: &MatLmConfig, device: &Device) -> Result<MatLm> {
        let (model, _) = folder::load::<MatLm>(&self.dir, device).bad_input()?;
        with_config(&model, config).bad_input()
    }

    /// Hash of the folder's weights.
    pub fn weights(&self) -> &str {
        &self.manifest.weights_sha256
    }
}
