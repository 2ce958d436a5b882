//! Kinds of models. Text and images differ in what these traits list, and in nothing else: [`Model`] is the
//! model, [`Data`] its data, [`Measure`] how good it is, [`Export`] what other programs make of it, and
//! [`Words`] what things are called. What is generic over all of it asks for a [`Kind`].

mod image_data;
mod images;
mod text;

use std::{path::Path, sync::Arc};

use crate::synthetic::OneBatch;
use burn::tensor::Device;
use matformer_core::{Costs, Manifest, Resource, SliceFacts, Submodel};
use matformer_data::{Half, Hash};
use matformer_eval::{
    DocumentLoss, EvalResults, Reference, Store, Studied, Unit, Walks, report::Sample,
};
use matformer_nn::{Elastic, Folder, ModelConfig, Slice};
use matformer_runfile::{RunFile, RunKind, Tables};
use matformer_train::{Batches, Dims};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use text::ends;

use crate::{
    Session,
    error::{Hinted, OrBadInput, Result},
    folder::{ModelFolder, check_is_model},
    slice::{Format, SliceDtype},
};

/// Which held-out data to measure on, and how much memory that may take.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Part {
    /// One half of the held-out data; all of it if none.
    pub half: Option<Half>,
    /// About how many targets of that; all if none.
    pub targets: Option<usize>,
    /// Bytes for a forward pass's states, of a sweep of many submodels.
    pub memory: Option<usize>,
}

impl Part {
    /// How a sweep is cut up whose rows have so many positions; nothing where it is no sweep.
    fn walks(&self, positions: usize, d_model: usize, d_ff: usize) -> Option<Walks> {
        self.memory.map(|bytes| Walks::within(bytes, positions, d_model, d_ff))
    }
}

/// What submodels are compared with, and on which text.
#[derive(Debug)]
pub struct Against<'a, M> {
    /// The reference.
    pub reference: Reference<'a, M>,
    /// On texts that continue the beginnings of held-out documents, not on the held-out data itself.
    pub continued: bool,
}

/// What things are called, for a person.
pub trait Words: Tables {
    /// What rows of a batch are called: `rows`, `images`.
    const ROWS: &'static str;
    /// One of them.
    const ROW: &'static str;
    /// What else a smaller model may have less of.
    const SMALLER: &'static str;
    /// What is held out or not: `document`, `image`.
    const DOCUMENT: &'static str;
    /// What targets are: `tokens`, `images`.
    const TARGETS: &'static str;
    /// What costs are counted by: `token`, `image`.
    const TARGET: &'static str;
}

/// The model: its shape, its weights, what it costs.
pub trait Model: Tables {
    /// The model.
    type Net: Folder<Config = Self::Shape>
        + Elastic<Input: Send + Sync, Target: Send + Sync>
        + 'static;

    /// Targets of a row.
    fn targets_per_row(shape: &Self::Shape) -> usize;

    /// Sizes that decide how much memory training takes, of rows as long as the shape's context.
    fn dims(shape: &Self::Shape) -> Result<Dims>;

    /// A model with weights drawn from `seed`.
    fn create(shape: &Self::Shape, seed: u64, device: &Device) -> Result<Self::Net>;

    /// What its submodels cost.
    fn costs(shape: &Self::Shape) -> Costs;

    /// The other programs that run a standalone model of this shape.
    fn exports(shape: &Self::Shape) -> Vec<&'static str>;

    /// The shape in a few words.
    fn describe(shape: &Self::Shape) -> String;

    /// `shape` with what follows the data as `of` has it.
    fn like(shape: &Self::Shape, of: &Self::Shape) -> Self::Shape;

    /// A model of this shape that starts from the weights of another.
    fn start(model: &Self::Net, shape: &Self::Shape) -> Result<Self::Net>;

    /// What `ms` of a budget are milliseconds of: a workload of `matformer bench layers`.
    const MILLIS_OF: &'static str;

    /// A prompt and the token behind it, in slot 0 of a cache, for a kind that generates.
    fn prompt_and_next(model: &Self::Net) -> Result<Option<[<Self::Net as Elastic>::Input; 2]>>;

    /// `rows` rows of nothing in particular, as long as those of `shape`.
    fn synthetic(
        model: &Self::Net,
        shape: &Self::Shape,
        rows: usize,
    ) -> Result<OneBatch<Self::Net>>;
}

/// The data of runs and models: how it is prepared, and what it makes of a run.
pub trait Data: Model {
    /// Its data, read and kept.
    type Prepared;

    /// Checks the `[data]` table, as far as it can be judged without reading a file.
    fn check_data(run: &RunFile<Self>) -> Result<()>;

    /// The run's model as it will be by its `[data]` table, before the data is read.
    fn expected(run: &RunFile<Self>) -> Self::Shape;

    /// Prepares the run's data in `cache`, or finds it there.
    fn prepare(run: &RunFile<Self>, cache: &Path, session: &Session) -> Result<Self::Prepared>;

    /// The run's data where it is in `cache`; nothing where it would have to be downloaded or prepared.
    fn prepared(
        run: &RunFile<Self>,
        cache: &Path,
        session: &Session,
    ) -> Result<Option<Self::Prepared>>;

    /// What is not known of a run before its data is prepared, in a sentence.
    fn not_prepared(run: &RunFile<Self>) -> String;

    /// Prepares a run's data as the model in `folder` reads it, or finds it.
    fn prepare_for(folder: &ModelFolder<Self>, run: &RunFile<Self>) -> Result<Self::Prepared>;

    /// The run's model once its data is known.
    fn fitted(run: &RunFile<Self>, prepared: &Self::Prepared) -> Result<Self::Shape>;

    /// The data in numbers.
    fn facts(prepared: &Self::Prepared) -> Facts;

    /// Tells a person what was read.
    fn say(data: &Self::Data, prepared: &Self::Prepared);

    /// Files of every folder of a model that is trained on this data, as (name, bytes).
    fn files(run: &RunFile<Self>, prepared: &Self::Prepared) -> Result<Vec<(String, Vec<u8>)>>;

    /// The same, of a folder that is made from another.
    fn files_of(folder: &ModelFolder<Self>) -> Result<Vec<(String, Vec<u8>)>>;

    /// Hash of the tokenizer of a folder, where the kind has one: it is checked.
    fn tokenizer_of(folder: &ModelFolder<Self>) -> Result<Option<Hash>>;

    /// The batches of a run whose model is [`fitted`](Self::fitted), of `rows` rows.
    fn batches(run: &RunFile<Self>, prepared: &Self::Prepared, rows: usize)
    -> Result<Source<Self>>;

    /// Fills in keys that are absent from a `[data]` table from another one of the same run.
    fn take_open(data: &mut Self::Data, of: &Self::Data);

    /// Reads from the run's own checkpoint what `data` names and is no longer there.
    fn take_own_files(data: &mut Self::Data, checkpoint: &Path);

    /// A run that starts from the folder `dir` takes from it what its run file leaves open, and is
    /// refused where that does not fit.
    fn adopt(dir: &Path, run: &mut RunFile<Self>) -> Result<()>;

    /// Checks that data can be read with what the run took from the folder `dir`.
    fn check_adopted(dir: &Path, prepared: &Self::Prepared) -> Result<()>;
}

/// How good a model is on held-out data.
pub trait Measure: Data {
    /// What the same held-out data gives without a model.
    type Floor: Clone + Serialize + DeserializeOwned;

    /// Whether training ends with a measurement on all held-out data, which then takes little.
    const MEASURED_AT_END: bool;

    /// The documents of a part of the held-out data, or beginnings of some, each with its loss before it is read.
    fn units(prepared: &Self::Prepared, part: &Part) -> Result<Vec<(Unit, DocumentLoss)>>;

    /// Losses of submodels on a part of the held-out data: what `store` has, the rest measured now.
    fn evaluate(
        folder: &ModelFolder<Self>,
        prepared: &Self::Prepared,
        store: &mut Store,
        submodels: &[Submodel],
        part: &Part,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Studied>;

    /// Submodels beside a reference on a part of the held-out data: what `store` has, the rest measured now. `None`
    /// where the kind has no such text.
    fn beside(
        folder: &ModelFolder<Self>,
        prepared: &Self::Prepared,
        store: &mut Store,
        submodels: &[Submodel],
        part: &Part,
        against: Against<'_, Self::Net>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<Studied>>;

    /// What the same held-out data gives without a model.
    fn floor(
        prepared: &Self::Prepared,
        targets: Option<usize>,
        session: &Session,
    ) -> Result<Self::Floor>;

    /// What that says beside the results, for a page.
    fn compare(floor: &Self::Floor, results: &EvalResults) -> String;

    /// The same for a terminal.
    fn say_floor(floor: &Self::Floor, results: &EvalResults) -> String;

    /// Something to look at on a report, where the kind has it.
    fn sample(
        folder: &ModelFolder<Self>,
        prepared: &Self::Prepared,
        targets: Option<usize>,
    ) -> Result<Option<Sample>>;
}

/// Slices in the formats of other programs.
pub trait Export: Data {
    /// The task that the Hub's model cards name.
    const TASK: &'static str;
    /// The class of transformers that loads a folder of its.
    const AUTO_CLASS: &'static str;
    /// The transformers class that prepares the model's input (tokenizer or image processor).
    const PROCESSOR: Processor;

    /// Refuses a format that the kind does not have, for the model in `dir`.
    fn check_format(format: Format, dir: &Path) -> Result<(), Hinted>;

    /// Writes a slice of a folder as timm has it.
    fn write_timm(folder: &ModelFolder<Self>, slim: Slice<'_, Self::Net>, dir: &Path)
    -> Result<()>;

    /// Writes a slice of a folder as a GGUF file.
    fn write_gguf(
        folder: &ModelFolder<Self>,
        slim: Slice<'_, Self::Net>,
        gguf: &GgufOut<'_>,
    ) -> Result<()>;
}

/// A kind of model, from its data to its report: all in which text and images differ.
pub trait Kind: Words + Measure + Export {}

impl<T: Words + Measure + Export> Kind for T {}

/// A GGUF file that is to be written.
#[cfg_attr(not(feature = "gguf"), allow(dead_code, reason = "the writer of GGUF files reads it"))]
pub struct GgufOut<'a> {
    /// The file.
    pub path: &'a Path,
    /// How numbers are stored; as they are in the model if absent.
    pub dtype: Option<SliceDtype>,
    /// What the slice is of its parent.
    pub facts: &'a SliceFacts,
    /// The license that its parent's card names.
    pub license: Option<String>,
}

/// What makes the input of a model in transformers.
pub struct Processor {
    /// Its class.
    pub class: &'static str,
    /// What examples call one.
    pub variable: &'static str,
    /// The file that it is read from.
    pub file: &'static str,
}

/// Data in numbers.
pub struct Facts {
    /// Hash of all of it.
    pub hash: Hash,
    /// Hash of the tokenizer, where it is text.
    pub tokenizer: Option<Hash>,
    /// Targets of the training part.
    pub train: usize,
    /// Targets of the held-out part.
    pub held_out: usize,
}

/// A run's batches.
pub struct Source<K: Model> {
    /// The batches.
    pub batches: Arc<dyn Batches<K::Net>>,
    /// How many of them share no row: an epoch's.
    pub distinct: u64,
}

/// Parameters of the widest submodel.
fn params<K: Model>(shape: &K::Shape) -> Result<f64> {
    let widest = shape.space()?.largest();
    Ok(K::costs(shape).get(Resource::Params)?.cost(&widest)?)
}

/// Refuses a folder of a model that is of another kind than a command needs.
pub fn check_is(dir: &Path, expected: RunKind, command: &str) -> Result<()> {
    let found = of_folder(dir)?;
    if found == expected {
        return Ok(());
    }
    Err(Hinted {
        message: format!("{}: {}", dir.display(), found.called().model),
        hint: format!(
            "{command} needs {}; `eval` and `report` take every kind",
            expected.called().model
        ),
    })
    .bad_input()
}

/// Which kind the model in a folder is.
pub fn of_folder(dir: &Path) -> Result<RunKind> {
    check_is_model(dir).bad_input()?;
    let kind = Manifest::load(dir).bad_input()?.kind;
    RunKind::named(&kind)
        .ok_or_else(|| Hinted {
            message: format!("{}: kind `{kind}`", dir.join(Manifest::FILE).display()),
            hint: format!("expected {}: this program knows no other", RunKind::manifests()),
        })
        .bad_input()
}
