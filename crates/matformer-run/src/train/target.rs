//! What is trained and where: a run file with its overrides, or a run to go on with.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use matformer_core::{Manifest, fs};
use matformer_nn::{Folder, ModelConfig};
use matformer_runfile::{self as run_file, Draft, RunFile};
use matformer_train::{Checkpoints, RunLock};

use super::init::Init;
use crate::{
    error::{Error, Hinted, OrBadInput, Result},
    kind::Kind,
    typed,
};
use matformer_core::units::short;

/// A run and where it goes.
pub struct Target<K: Kind> {
    /// What is trained, on what and how.
    pub run: RunFile<K>,
    /// The folder of the run.
    pub dir: PathBuf,
    /// Whether a run that is there goes on.
    pub resume: bool,
    /// Source of the initial weights (step 0); `None` when resuming from a checkpoint.
    pub init: Option<Init<K>>,
    /// What the run's checkpoints were trained with.
    configured: Option<RunFile<K>>,
}

impl<K: Kind> Target<K> {
    /// A run that goes on in `dir`, whose run file is `kept`: refused unless `draft` describes the same
    /// run.
    ///
    /// # Errors
    /// When the two differ, or one of them cannot be read.
    pub fn resumed(
        mut draft: Draft<K>,
        kept: &Path,
        dir: PathBuf,
        device: &Device,
    ) -> Result<Self> {
        let there = Self::of_run(kept, dir, device)?;
        // Where the run started from a folder, its run file took shape and tokenizer from it.
        let from_folder = draft.init().is_some();
        if from_folder {
            draft.lay_below(there.run.shape());
        }
        let mut run = draft.resolve().bad_input()?;
        if from_folder {
            K::take_open(&mut run.data, &there.run.data);
        }
        there.run.check_same(kept, &run).bad_input()?;
        Ok(there)
    }

    /// A run that has not begun.
    pub fn new(mut draft: Draft<K>, dir: PathBuf, resume: bool, device: &Device) -> Result<Self> {
        if dir.exists() && !dir.is_dir() {
            return Err(Hinted {
                message: format!("{}: a file is there; expected a folder", dir.display()),
                hint: "train into another folder (--out)".to_owned(),
            })
            .bad_input();
        }
        let init = Init::open(&mut draft, device)?;
        let mut run = draft.resolve().bad_input()?;
        if let Some(init) = &init {
            init.check(&mut run)?;
        }
        let target = Self { run, dir, resume, init, configured: None };
        target.check_folder().bad_input()?;
        Ok(target)
    }

    /// The run whose file is `kept`.
    pub fn of_run(kept: &Path, dir: PathBuf, device: &Device) -> Result<Self> {
        let mut draft: Draft<K> = Draft::read(kept, &[]).bad_input()?;
        let checkpoints = Checkpoints::of(&dir);
        let init = match checkpoints.all()?.is_empty() {
            true => Init::open(&mut draft, device)?,
            false => None,
        };
        let mut run = draft.resolve().bad_input()?;
        if let Some(init) = &init {
            init.check(&mut run)?;
        }
        // What a newer version wrote cannot be compared; the shape of the weights is, later.
        let configured = checkpoints.configured()?.and_then(|v| RunFile::of_kept(v, &dir));
        if let Some(configured) = &configured {
            run.check_goes_on(kept, configured).bad_input()?;
        }
        Ok(Self { run, dir, resume: true, init, configured })
    }

    /// The run's model as far as it is known before its data is read.
    pub fn expected(&self) -> K::Shape {
        match &self.init {
            // It has the vocabulary, or the classes, of the folder.
            Some(_) => self.run.shape().clone(),
            None => K::expected(&self.run),
        }
    }

    /// Checks all that can be judged before the text is read.
    pub fn validate(&self) -> Result<()> {
        let run = &self.run;
        K::check_data(run)?;
        let shape = run.shape();
        shape.validate().map_err(|e| Error::refused(e).at(format!("`model.{}`", K::NAME)))?;
        check_widths::<K>(shape).bad_input()?;
        let space = shape.space()?;
        let fits = run.train.validate(&space);
        fits.and_then(|()| run.train.validate_seq_len(K::context(shape)))
            .and_then(|()| run.train.rows(K::targets_per_row(&run.shape_in_training())))
            .map_err(as_typed::<K>)
            .bad_input()?;
        Ok(())
    }

    /// Checks that the device can compute as the run wants it.
    pub fn check_device(&self, device: &Device) -> Result<()> {
        self.run.train.validate_device(device).map_err(as_typed::<K>).bad_input()
    }

    /// Checks what a run leaves as it is against the parts of its model, on the device that trains it.
    pub fn check_freeze(&self, device: &Device) -> Result<()> {
        let shape = self.run.shape();
        let unset = <K::Net as Folder>::unset(shape, shape.space()?, device)?;
        self.run.train.validate_freeze(&unset).map_err(as_typed::<K>).bad_input()
    }

    /// Whether the folder holds the model of the last step.
    pub fn is_complete(&self) -> bool {
        let made = || Some(Manifest::load(&self.dir).ok()?.provenance.steps);
        self.resume && made().is_some_and(|made| made >= self.run.train.steps)
    }

    /// A run has a folder of its own.
    pub fn check_folder(&self) -> Result<(), Hinted> {
        let dir = &self.dir;
        let hinted = |message: String, hint: &str| Err(Hinted { message, hint: hint.to_owned() });
        if dir.join(run_file::FILE).exists() {
            return match self.resume {
                true => Ok(()),
                false => hinted(
                    format!("{}: a run is there already", dir.display()),
                    &format!(
                        "go on with it ({}), or train into another folder (--out)",
                        typed::command(["train", &dir.display().to_string(), "--resume"])
                    ),
                ),
            };
        }
        let elsewhere = "train into another folder (--out)";
        if dir.join(Manifest::FILE).exists() {
            return hinted(format!("{}: a model of no run is there", dir.display()), elsewhere);
        }
        let others = match dir.exists() {
            true => fs::read_dir(dir).unwrap_or_default(),
            false => Vec::new(),
        };
        // A run that was killed before it wrote its first file left these.
        let ours = |name: &str| name == RunLock::FILE || name.starts_with(fs::SCRATCH);
        let names = others.iter().filter_map(|path| path.file_name()?.to_str());
        match names.into_iter().find(|name| !ours(name)) {
            None => Ok(()),
            Some(name) => hinted(
                format!(
                    "{}: `{name}` is there, and no `{}`; expected a new folder, an empty one or a \
                     run's",
                    dir.display(),
                    run_file::FILE
                ),
                elsewhere,
            ),
        }
    }

    /// A run goes on with the text that it began with: another text has another tokenizer.
    pub fn check_data(&self, prepared: &K::Prepared) -> Result<()> {
        if let Some(init) = &self.init {
            init.check_data(prepared)?;
        }
        let Some((dir, began_with)) = self.trained_on() else {
            return Ok(());
        };
        let now = K::facts(prepared).hash.to_string();
        if began_with == now {
            return Ok(());
        }
        // A key that was changed says more than two hashes.
        if let Some(configured) = &self.configured {
            let path = self.dir.join(run_file::FILE);
            self.run.check_same_data(&path, configured).bad_input()?;
        }
        Err(Hinted {
            message: format!(
                "{}: trained on data {}, the run's text is now data {}",
                dir.display(),
                short(&began_with),
                short(&now)
            ),
            hint: "bring the old text back, or train into another folder (--out)".to_owned(),
        })
        .bad_input()
    }

    /// The newest checkpoint that can be read, and the hash of its data.
    fn trained_on(&self) -> Option<(PathBuf, String)> {
        let all = Checkpoints::of(&self.dir).all().ok()?;
        all.into_iter().rev().find_map(|checkpoint| {
            let manifest = Manifest::load(&checkpoint.dir).ok()?;
            Some((checkpoint.dir, manifest.provenance.data_hash))
        })
    }

    /// The run, with what its own checkpoints hold in place of what has moved since.
    pub fn run_with_own_files(&self) -> RunFile<K> {
        let mut run = self.run.clone();
        if let Some((checkpoint, _)) = self.trained_on() {
            K::take_own_files(&mut run.data, &checkpoint);
        }
        run
    }

    /// Hash of the weights that the run started from.
    pub fn parent(&self) -> Option<String> {
        let all = Checkpoints::of(&self.dir).all().unwrap_or_default();
        let kept = all.iter().rev().find_map(|c| Manifest::load(&c.dir).ok());
        match (&self.init, kept) {
            (Some(init), _) => Some(init.weights().to_owned()),
            (None, Some(manifest)) => manifest.provenance.parent,
            (None, None) => None,
        }
    }

    /// How many steps the run was to have before it was made longer.
    pub fn longer_than(&self) -> Option<u64> {
        let was = self.configured.as_ref()?.train.steps;
        (was < self.run.train.steps).then_some(was)
    }
}

/// A width that is trained is one that can be named and exported: a multiple.
fn check_widths<K: Kind>(shape: &K::Shape) -> Result<()> {
    let (multiple, widths) = (shape.nested().width_multiple, shape.space()?.granularities.widths());
    match widths.into_iter().find(|w| !w.is_multiple_of(multiple)) {
        None => Ok(()),
        Some(width) => Err(Hinted {
            message: format!(
                "`model.{0}.granularities`: width {width}, expected multiples of \
                 `model.{0}.width_multiple` {multiple}",
                K::NAME
            ),
            hint: "widths are d_ff/8, /4, /2 and /1 if none are given".to_owned(),
        }
        .into()),
    }
}

/// A setting under the name that a person gave it.
fn as_typed<K: Kind>(error: matformer_train::Error) -> matformer_train::Error {
    match error {
        matformer_train::Error::Config { field, found, expected } => {
            matformer_train::Error::Config { field: K::train_key(field), found, expected }
        }
        other => other,
    }
}
