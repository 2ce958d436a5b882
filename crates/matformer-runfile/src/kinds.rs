//! The kinds of models that a run file can describe.

use std::{fmt::Debug, path::Path};

use matformer_core::{Manifest, fs};
use matformer_data::{DataConfig, ImageConfig};
use matformer_lm::{MatLm, MatLmConfig, Preset};
use matformer_nn::{Folder, ModelConfig};
use matformer_vit::{MatVit, MatVitConfig, PRESETS, preset};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use toml::{Table, Value};

use super::{
    Error, Result, RunFile, malformed,
    paths::{self, Base},
    table,
};

/// What the tables of a run file hold for a kind of model.
pub trait Tables: Clone + Debug + Default + PartialEq + Send + Sync + 'static {
    /// The kind.
    const KIND: RunKind;
    /// The table below `model` that holds the shape.
    const NAME: &'static str;
    /// Shape of the model.
    type Shape: ModelConfig + Debug + Default + PartialEq + DeserializeOwned + Send + Sync;
    /// The `[model]` table.
    type Model: ModelTable<Shape = Self::Shape>;
    /// The `[data]` table.
    type Data: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync;

    /// The shape of a preset; `None` if the kind has none of that name.
    fn preset(name: &str) -> Option<Self::Shape>;

    /// Names of the kind's presets.
    fn presets() -> Vec<String>;

    /// Whether a step is the same however its rows are split into passes.
    fn splits_freely(run: &RunFile<Self>) -> bool;

    /// Most tokens of a row, of a kind whose rows are tokens.
    fn context(shape: &Self::Shape) -> Option<usize>;

    /// The same shape with another context, of a kind that has one.
    fn with_context(shape: &Self::Shape, context: usize) -> Self::Shape;

    /// The `[data]` table of data at these places.
    fn data_at(places: &[String]) -> Table;

    /// The text or images of `was`, sampled and augmented as `now` says: what no hash of the data knows.
    fn sampled_as(was: &Self::Data, now: &Self::Data) -> Self::Data;

    /// A key of the `[train]` table as a person writes it for this kind.
    fn train_key(key: &'static str) -> &'static str {
        key
    }
}

/// A `[model]` table.
pub trait ModelTable:
    Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync
{
    /// Shape of the model.
    type Shape;

    /// The table of a shape.
    fn of(shape: Self::Shape) -> Self;

    /// The shape.
    fn shape(&self) -> &Self::Shape;
}

/// A run of a MatLM.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lm;

/// The `[model]` table of a MatLM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LmTable {
    /// A named shape, which `lm` then overrides key by key.
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<String>,
    /// Shape of a MatLM.
    lm: MatLmConfig,
}

impl ModelTable for LmTable {
    type Shape = MatLmConfig;

    fn of(lm: MatLmConfig) -> Self {
        Self { preset: None, lm }
    }

    fn shape(&self) -> &MatLmConfig {
        &self.lm
    }
}

impl Tables for Lm {
    const KIND: RunKind = RunKind::Lm;
    const NAME: &'static str = "lm";
    type Shape = MatLmConfig;
    type Model = LmTable;
    type Data = DataConfig;

    fn preset(name: &str) -> Option<MatLmConfig> {
        Some(name.parse::<Preset>().ok()?.config())
    }

    fn presets() -> Vec<String> {
        Preset::all().into_iter().map(|preset| preset.name()).collect()
    }

    fn splits_freely(_: &RunFile<Self>) -> bool {
        true
    }

    fn context(shape: &MatLmConfig) -> Option<usize> {
        Some(shape.context)
    }

    fn with_context(shape: &MatLmConfig, context: usize) -> MatLmConfig {
        MatLmConfig { context, ..shape.clone() }
    }

    fn data_at(places: &[String]) -> Table {
        [("paths".to_owned(), Value::from(places.to_vec()))].into_iter().collect()
    }

    fn sampled_as(was: &DataConfig, now: &DataConfig) -> DataConfig {
        let mut sampled = was.clone();
        if now.sources.len() == was.sources.len() {
            let both = sampled.sources.iter_mut().zip(&now.sources);
            both.for_each(|(was, now)| was.weight = now.weight);
        } else {
            sampled.sources.clone_from(&now.sources);
        }
        sampled
    }
}

/// A run of a MatViT.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vit;

/// The `[model]` table of a MatViT.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VitTable {
    /// A named shape, which `vit` then overrides key by key.
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<String>,
    /// Shape of a MatViT.
    vit: MatVitConfig,
}

impl ModelTable for VitTable {
    type Shape = MatVitConfig;

    fn of(vit: MatVitConfig) -> Self {
        Self { preset: None, vit }
    }

    fn shape(&self) -> &MatVitConfig {
        &self.vit
    }
}

impl Tables for Vit {
    const KIND: RunKind = RunKind::Vit;
    const NAME: &'static str = "vit";
    type Shape = MatVitConfig;
    type Model = VitTable;
    type Data = ImageConfig;

    fn preset(name: &str) -> Option<MatVitConfig> {
        preset(name)
    }

    fn presets() -> Vec<String> {
        PRESETS.map(str::to_owned).to_vec()
    }

    fn train_key(key: &'static str) -> &'static str {
        match key {
            "tokens_per_step" => "images_per_step",
            "eval_tokens" => "eval_images",
            same => same,
        }
    }

    fn context(_: &MatVitConfig) -> Option<usize> {
        None
    }

    fn with_context(shape: &MatVitConfig, _: usize) -> MatVitConfig {
        shape.clone()
    }

    fn data_at(places: &[String]) -> Table {
        let path = places.first().map(|first| ("path".to_owned(), Value::from(first.clone())));
        let also = places.get(1..).filter(|also| !also.is_empty());
        let also = also.map(|also| ("also".to_owned(), Value::from(also.to_vec())));
        path.into_iter().chain(also).collect()
    }

    fn sampled_as(was: &ImageConfig, now: &ImageConfig) -> ImageConfig {
        ImageConfig { augment: now.augment.clone(), ..was.clone() }
    }

    /// Mixing pairs the images of a pass, and drop-path draws for them in their order.
    fn splits_freely(run: &RunFile<Self>) -> bool {
        let augment = &run.data.augment;
        augment.mixup == 0.0 && augment.cutmix == 0.0 && run.shape().drop_path == 0.0
    }
}

/// The error for an unknown preset; a specific one if another kind of model has a preset of this name.
pub(super) fn no_preset<T: Tables>(found: &str) -> Error {
    match Lm::preset(found).is_some() || Vit::preset(found).is_some() {
        true => Error::Preset {
            path: None,
            found: found.to_owned(),
            known: format!("{} for `model.{}`", T::presets().join(", "), T::NAME),
        },
        false => unknown_preset(found),
    }
}

/// A preset that no kind has, as an error.
pub fn unknown_preset(found: &str) -> Error {
    let known = [Lm::presets(), Vit::presets()].concat().join(", ");
    Error::Preset { path: None, found: found.to_owned(), known }
}

/// Calls a function that is generic over the kind of model, for the kind that a [`RunKind`] names.
///
/// ```
/// use matformer_runfile::{RunKind, Tables, visit};
///
/// fn name<T: Tables>(sign: char) -> String {
///     format!("{sign}{}", T::NAME)
/// }
///
/// let kind = RunKind::Vit;
/// assert_eq!(visit!(kind, name('+')), "+vit");
/// ```
#[macro_export]
macro_rules! visit {
    ($kind:expr, $($function:ident)::+ ($($argument:expr),* $(,)?)) => {
        match $kind {
            $crate::RunKind::Lm => $($function)::+::<$crate::Lm>($($argument),*),
            $crate::RunKind::Vit => $($function)::+::<$crate::Vit>($($argument),*),
        }
    };
}

/// Which kind of model a run file or a model folder is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunKind {
    /// A MatLM.
    Lm,
    /// A MatViT.
    Vit,
}

impl RunKind {
    /// What its data is called: `text`, `images`.
    pub fn data(self) -> &'static str {
        match self {
            Self::Lm => "text",
            Self::Vit => "images",
        }
    }

    /// The kind of a run file with its `sets`, that starts from the folder `init`: what has a table
    /// `model.vit`, or a preset of a MatViT's, is one; a file that says nothing of a model is of the
    /// kind that it starts from, or a MatViT's if it has `data.path`, else a MatLM's.
    ///
    /// # Errors
    /// When the file is missing or no TOML.
    pub fn of(path: &Path, sets: &[String], init: Option<&str>) -> Result<Self> {
        let text = fs::read_to_string(path)?;
        let mut table: Table = text.parse().map_err(|e| malformed(path, &e))?;
        paths::read(&mut table, &Base::of(path));
        for set in sets {
            // What is wrong with one is said when the kind's own tables are read.
            let _ = table::put(&mut table, set);
        }
        let model = table.get("model");
        let preset = model.and_then(|m| m.get("preset")).and_then(Value::as_str);
        if model.is_some_and(|model| model.get(Vit::NAME).is_some()) {
            return Ok(Self::Vit);
        }
        if preset.is_some() || model.is_some_and(|model| model.get(Lm::NAME).is_some()) {
            let vit = preset.is_some_and(|name| Vit::preset(name).is_some());
            return Ok(if vit { Self::Vit } else { Self::Lm });
        }
        // What it starts from, or learns from, says it where the model's tables do not.
        let init = init.or_else(|| table.get("train")?.get("init")?.as_str());
        let started = init.and_then(|dir| Self::named(&Manifest::load(Path::new(dir)).ok()?.kind));
        let pictures = table.get("data").is_some_and(|data| data.get("path").is_some());
        Ok(started.unwrap_or(if pictures { Self::Vit } else { Self::Lm }))
    }

    /// The kind that `matformer.json` names, if it is one of them.
    pub fn named(kind: &str) -> Option<Self> {
        match kind {
            MatLm::KIND => Some(Self::Lm),
            MatVit::KIND => Some(Self::Vit),
            _ => None,
        }
    }
}
