//! A model folder as the commands use it: model, manifest, tokenizer, data.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use burn::tensor::Device;
use matformer_core::{
    Costs, Draw, Granularity, Manifest, Names, Resource, Space, Submodel, SubmodelSpec, fs,
};
use matformer_data::{AugmentConfig, TOKENIZER_FILE, Tokenizer};
use matformer_engine::{EngineModel, Format};
use matformer_eval::{latency::Latency, latency::LayerTimes};
use matformer_formats::{Preprocessor, is_gemma3n};
use matformer_nn::machine;
use matformer_nn::{Elastic, Folder, folder, weights::Tensors};
use matformer_runfile::{self as run_file, Lm, RunFile, Vit};
use matformer_vit::MatVitConfig;

use crate::{
    Session,
    error::{Error, Hinted, OrBadInput, Result, chain},
    kind::{Data, Model},
};
use matformer_train::say;

/// A model, and what goes with it.
pub struct ModelFolder<K: Model> {
    /// The folder.
    pub dir: PathBuf,
    /// The model.
    pub model: K::Net,
    /// What is recorded of it.
    pub manifest: Manifest,
    /// What its submodels cost.
    pub costs: Costs,
    /// Device, ranks and progress display.
    pub session: Session,
    /// Why `latency.json` does not apply here, if it does not.
    no_millis: Option<String>,
    /// Length of the rows that it was trained on, or its context where that is not known.
    own_context: Option<usize>,
    /// Length of the windows that it is measured in, where it is not its own.
    other_context: Option<usize>,
}

impl<K: Model> ModelFolder<K> {
    /// Reads the model in `dir`.
    pub fn load(dir: &Path, session: &Session) -> Result<Self> {
        check_is_model(dir).bad_input()?;
        let started = Instant::now();
        let (model, manifest) = folder::load::<K::Net>(dir, &session.device).bad_input()?;
        tracing::info!(
            "{}: {} layers of d_ff {}, weights {}, read in {:.2?}",
            dir.display(),
            manifest.n_layers,
            manifest.d_ff,
            manifest.weights_sha256.get(..16).unwrap_or_default(),
            started.elapsed()
        );
        Ok(Self::new(dir, model, manifest, session))
    }

    /// The model in `dir` without its weights, which are in `tensors`: parameters are unset.
    pub fn load_unset(dir: &Path, tensors: &Tensors<'_>, session: &Session) -> Result<Self> {
        let (model, manifest) =
            folder::load_unset::<K::Net>(dir, tensors, &session.device).bad_input()?;
        Ok(Self::new(dir, model, manifest, session))
    }

    fn new(dir: &Path, model: K::Net, manifest: Manifest, session: &Session) -> Self {
        let costs = K::costs(model.config());
        let (costs, no_millis) = match latency::<K>(dir, &session.device, model.space()) {
            Ok(Some(times)) => (costs.with(times.table()), None),
            Ok(None) => (costs, None),
            Err(why) => (costs, Some(why)),
        };
        let run = run_file(dir).and_then(|path| RunFile::<K>::load(&path, &[]).ok());
        let trained_on = run.and_then(|run| run.seq_len());
        Self {
            dir: dir.to_owned(),
            manifest,
            costs,
            session: session.clone(),
            no_millis,
            own_context: trained_on.or_else(|| K::context(model.config())),
            other_context: None,
            model,
        }
    }

    /// The same model, to be measured in windows of `context` tokens.
    pub fn with_context(mut self, context: Option<usize>) -> Result<Self> {
        let Some(asked) = context else { return Ok(self) };
        match K::context(self.model.config()) {
            Some(most) if asked <= most => {
                self.other_context = Some(asked).filter(|_| context != self.own_context);
                Ok(self)
            }
            Some(most) => Err(Hinted {
                message: format!(
                    "--context {asked}: the context of {} is {most}",
                    self.dir.display()
                ),
                hint: format!("expected at most {most}"),
            })
            .bad_input(),
            None => Err(Hinted {
                message: format!("--context {asked}: {} is a vision model", self.dir.display()),
                hint: "only text is measured in windows".to_owned(),
            })
            .bad_input(),
        }
    }

    /// The same weights in another model of theirs, measured in windows of `context` tokens; what is
    /// measured is kept in `dir`.
    pub fn study_of(&self, model: K::Net, dir: &Path, context: Option<usize>) -> Self {
        Self {
            costs: K::costs(model.config()),
            session: self.session.clone(),
            model,
            dir: dir.to_owned(),
            manifest: self.manifest.clone(),
            no_millis: None,
            own_context: self.own_context,
            other_context: context,
        }
    }

    /// Length of the windows that held-out text is measured in.
    pub fn context(&self) -> Option<usize> {
        self.other_context.or(self.own_context)
    }

    /// The same, where it is not that of the model's training.
    pub fn other_context(&self) -> Option<usize> {
        self.other_context
    }

    /// The submodels that it can run.
    pub fn space(&self) -> &Space {
        self.model.space()
    }

    /// The submodel that a person asked for; the largest granularity that was trained if none.
    pub fn submodel(&self, spec: Option<&SubmodelSpec>) -> Result<Submodel> {
        let Some(spec) = spec else {
            return Ok(self.only_trained().unwrap_or_else(|| self.space().largest()));
        };
        let submodel = self.resolve(spec).map_err(|error| self.explained(error))?;
        if !self.is_trained(&submodel) {
            let label = self.space().label(&submodel);
            say!("note: `{label}` has widths that training never saw");
        }
        Ok(submodel)
    }

    /// The submodels that a person asked for; those that were [trained](Self::trained) if none.
    ///
    /// # Errors
    /// A submodel that the model does not have.
    pub fn submodels(&self, asked: Option<&[SubmodelSpec]>) -> Result<Vec<Submodel>> {
        match asked {
            None => Ok(self.trained()),
            Some(asked) => asked.iter().map(|spec| self.submodel(Some(spec))).collect(),
        }
    }

    /// Whether training saw the width of every layer.
    pub fn is_trained(&self, submodel: &Submodel) -> bool {
        let widths = self.trained_widths();
        let widest = widths.last().copied().unwrap_or_default();
        let saw = |layer: usize, width: usize| {
            // At a width beyond its own a layer is whole.
            widths.contains(&width) || width == self.space().d_ff_of(layer) && width <= widest
        };
        submodel.widths().iter().enumerate().all(|(layer, width)| saw(layer, *width))
    }

    /// The widths that training saw, ascending: for a slice, those that its manifest has.
    fn trained_widths(&self) -> Vec<usize> {
        let slice = self.manifest.slice.as_ref();
        if let Some(recorded) = slice.and_then(|slice| slice.trained.clone()) {
            return recorded;
        }
        let named = |granularity: &&Granularity| match &self.manifest.objective {
            Draw::Baseline { granularity: only } => granularity.name == *only,
            // A slice of another width has a name for it, whether training saw it or not.
            _ => slice.is_none() || granularity.name != format!("w{}", granularity.width),
        };
        self.space().granularities.iter().filter(named).map(|g| g.width).collect()
    }

    /// Bad input; where times are missing, with why those that were measured do not count.
    pub fn explained(&self, error: matformer_core::Error) -> Error {
        use matformer_core::Error::UnknownCost;
        match (&error, &self.no_millis) {
            (UnknownCost { resource: Resource::Millis, .. }, Some(why)) => Error::Input(Hinted {
                message: format!("{}: {why}", self.dir.join(Latency::FILE).display()),
                hint: "`matformer bench layers` measures it here".to_owned(),
            }),
            _ => Error::refused(error),
        }
    }

    /// What was typed: also a name that the folder gives, such as `best@60%`.
    pub fn resolve(&self, spec: &SubmodelSpec) -> matformer_core::Result<Submodel> {
        let space = self.space();
        if let SubmodelSpec::Name(name) = spec
            && space.granularities.get(name).is_none()
        {
            let names = Names::load(&self.dir)?;
            if let Some(named) = names.get(name, &self.manifest.weights_sha256)? {
                space.check(&named.widths)?;
                named.check(name, space, &self.costs)?;
                return Ok(named.widths.clone());
            }
            let known = space.granularities.names().into_iter().map(str::to_owned);
            return Err(matformer_core::Error::UnknownName {
                name: name.clone(),
                known: known.chain(names.iter().map(|(name, _)| name.to_owned())).collect(),
            });
        }
        spec.resolve(space, &self.costs)
    }

    /// What is measured where nothing is named, from the narrowest: the granularities that were trained, and
    /// the whole of a slice.
    pub fn trained(&self) -> Vec<Submodel> {
        let whole = self.space().largest();
        let mut all = self.space().uniforms();
        all.retain(|submodel| self.is_trained(submodel) || *submodel == whole && self.is_slice());
        if all.is_empty() { vec![whole] } else { all }
    }

    fn is_slice(&self) -> bool {
        self.manifest.slice.is_some()
    }

    /// The granularity of a model that was trained at one alone.
    pub fn only_trained(&self) -> Option<Submodel> {
        let mut trained = self.trained();
        let alone = matches!(self.manifest.objective, Draw::Baseline { .. }) && trained.len() == 1;
        alone.then(|| trained.remove(0))
    }
}

impl<K: Data> ModelFolder<K> {
    /// The data that the model's own run names, also that of a checkpoint; `hint` says what to do
    /// where there is no run.
    pub fn own_data(&self, hint: &str) -> Result<K::Prepared> {
        let Some(path) = run_file(&self.dir) else {
            return Err(Hinted {
                message: format!("{}: no such file", self.dir.join(run_file::FILE).display()),
                hint: hint.to_owned(),
            })
            .bad_input();
        };
        let run = RunFile::load(&path, &[]).bad_input()?;
        K::prepare_for(self, &run).or_else(|error| match error.is_nothing_there() {
            true => Err(Hinted {
                message: chain(&error),
                hint: format!(
                    "{} names the data; `matformer eval` measures with other data (--data)",
                    path.display()
                ),
            })
            .bad_input(),
            false => Err(error),
        })
    }

    /// The data of the run file or run folder `from`, read as this model does.
    pub fn data_of(&self, from: &Path) -> Result<K::Prepared> {
        let path = match from.is_dir() {
            true => from.join(run_file::FILE),
            false => from.to_owned(),
        };
        K::prepare_for(self, &RunFile::load(&path, &[]).bad_input()?)
    }
}

impl ModelFolder<Lm> {
    /// Reads the model in `dir` for engines; the folder's own model has no weights where engines read packed ones.
    pub fn open(dir: &Path, session: &Session, format: Format) -> Result<(Self, EngineModel)> {
        check_is_model(dir).bad_input()?;
        let opened = EngineModel::open(dir, &session.device, format).bad_input()?;
        Ok((Self::new(dir, opened.shape, opened.manifest, session), opened.model))
    }

    /// The tokenizer, which must be the one that the manifest names, if it names one.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let tokenizer = tokenizer_in(&self.dir)?;
        let found = tokenizer.hash().to_string();
        match &self.manifest.tokenizer_sha256 {
            Some(expected) if *expected != found => Err(matformer_nn::Error::Changed {
                path: self.dir.join(TOKENIZER_FILE),
                found,
                expected: expected.clone(),
                key: "tokenizer_sha256",
            })
            .bad_input(),
            _ => Ok(tokenizer),
        }
    }
}

/// The tokenizer in the folder of a model.
pub fn tokenizer_in(dir: &Path) -> Result<Tokenizer> {
    let path = dir.join(TOKENIZER_FILE);
    if path.exists() {
        return Tokenizer::load(&path).bad_input();
    }
    Err(Hinted {
        message: format!(
            "{}: no such file: text cannot be read without the tokenizer",
            path.display()
        ),
        hint: tokenizer_by_transformers("ORIGINAL", dir),
    })
    .bad_input()
}

/// How the tokenizer of the model `from` gets into the folder `to`.
pub fn tokenizer_by_transformers(from: &str, to: &Path) -> String {
    format!(
        "AutoTokenizer of transformers writes one with `AutoTokenizer.from_pretrained(\"{from}\")\
         .save_pretrained(\"{}\")`",
        to.display()
    )
}

/// The file of the run that the model in `dir` is of, if it is of one; also of a checkpoint.
fn run_file(dir: &Path) -> Option<PathBuf> {
    let own = dir.join(run_file::FILE);
    let of_checkpoint = dir.join("../..").join(run_file::FILE);
    let above = dir.parent().and_then(Path::file_name);
    let candidates = [Some(own), above.filter(|n| *n == "checkpoints").map(|_| of_checkpoint)];
    candidates.into_iter().flatten().find(|path| path.exists())
}

/// How the pixels of a model are normalised; nothing else is varied.
pub fn normalization(preprocessor: Option<Preprocessor>) -> AugmentConfig {
    let scale = preprocessor.map(|preprocessor| preprocessor.normalization);
    let (mean, std) = scale.map(|scale| (scale.mean, scale.std)).unzip();
    AugmentConfig { mean, std, ..AugmentConfig::default() }
}

impl ModelFolder<Vit> {
    /// How images become the model's input, as the folder says.
    pub fn preprocessor(&self) -> Result<Option<Preprocessor>> {
        let MatVitConfig { image_size, channels, .. } = *self.model.config();
        Preprocessor::read(&self.dir, image_size, channels).bad_input()
    }
}

/// The latency table of the model in `dir` for budgets in `ms`, if it was measured on this machine and device;
/// otherwise the reason why there is none.
fn latency<K: Model>(
    dir: &Path,
    device: &Device,
    space: &Space,
) -> Result<Option<LayerTimes>, String> {
    if !dir.join(Latency::FILE).exists() {
        return Ok(None);
    }
    let mut kept = Latency::load(dir).ok_or("cannot be understood")?;
    for (what, found, expected) in [
        ("machine", kept.machine, machine::describe()),
        ("device", kept.device, format!("{device:?}")),
        ("config", kept.config, fs::sha256_file(dir.join(folder::CONFIG)).unwrap_or_default()),
    ] {
        if found != expected {
            return Err(format!("measured for the {what} `{found}`, here is `{expected}`"));
        }
    }
    let times = kept.workloads.remove(K::MILLIS_OF).ok_or(format!("lacks `{}`", K::MILLIS_OF))?;
    let widths = space.granularities.widths();
    let whole = |row: &Vec<f64>| row.len() == widths.len() && row.iter().all(|ms| *ms >= 0.0);
    let sound = times.layers.len() == space.n_layers
        && times.widths == widths
        && times.layers.iter().all(whole)
        && times.constant >= 0.0;
    match sound {
        true => Ok(Some(times)),
        false => Err("lacks numbers, or has numbers below 0".to_owned()),
    }
}

/// A clear word where a folder is not one, or not yet one.
pub fn check_is_model(dir: &Path) -> Result<(), Hinted> {
    let manifest = dir.join(Manifest::FILE);
    if manifest.exists() {
        return Ok(());
    }
    let refuse = |message: String, hint: String| Err(Hinted { message, hint });
    let expected = "expected a model folder: what `matformer train`, `slice` or `import` writes";
    if matches!(dir.try_exists(), Ok(false)) {
        return refuse(format!("{}: no such folder", dir.display()), expected.to_owned());
    }
    if dir.is_file() {
        let hint = match is_gguf(dir) {
            true => format!(
                "`matformer import {} --out DIR` makes a model folder of a GGUF file",
                dir.display()
            ),
            false => expected.to_owned(),
        };
        return refuse(format!("{}: a file, not a model folder", dir.display()), hint);
    }
    let latest = matformer_train::Checkpoints::of(dir).latest().ok().flatten();
    let hint = match latest {
        Some(checkpoint) => format!(
            "this run has not ended: finish it with `matformer train {} --resume`, or name its \
             last checkpoint, {}",
            dir.display(),
            checkpoint.dir.display()
        ),
        None if is_gemma3n(dir) => GEMMA3N_HINT.to_owned(),
        None if dir.join(folder::CONFIG).exists() => {
            "`matformer import` makes a model folder of one of transformers or timm".to_owned()
        }
        None => expected.to_owned(),
    };
    refuse(format!("{}: no such file", manifest.display()), hint)
}

/// Refuses a folder or file to write that is there.
pub fn check_is_new(dir: &Path) -> Result<(), Hinted> {
    if dir.exists() {
        return Err(Hinted {
            message: format!("{}: exists", dir.display()),
            hint: "choose another --out, or remove it".to_owned(),
        });
    }
    Ok(())
}

/// What can be done with a Gemma 3n model.
pub const GEMMA3N_HINT: &str = "Gemma 3n is elastic as it comes: `matformer slice DIR --widths WIDTHS --out OUT` \
                                cuts a size out of it";

/// Whether a path is named as a GGUF file.
pub fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case("gguf"))
}
