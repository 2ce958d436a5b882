//! The kinds of models that a run file can describe.

mod lm;
mod vit;

use std::{fmt::Debug, path::Path};

use matformer_core::{Manifest, fs};
use matformer_data::Source;
use matformer_nn::ModelConfig;
use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

pub use lm::Lm;
pub use vit::Vit;

use super::{
    Error, Result, RunFile,
    first_run::FirstRun,
    malformed,
    paths::{self, Base},
    table,
};

/// What the tables of a run file hold for a kind of model.
pub trait Tables: Clone + Debug + Default + PartialEq + Send + Sync + 'static {
    /// The kind.
    const KIND: RunKind;
    /// What it is called.
    const CALLED: Called;
    /// The table below `model` that holds the shape.
    const NAME: &'static str = Self::CALLED.name;
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

    /// Whether the data at this place is of the kind. The default kind takes what no other does.
    ///
    /// # Errors
    /// When the place is not there or cannot be read.
    fn is_data(_: &Source) -> Result<bool> {
        Ok(false)
    }

    /// The same of a `[data]` table.
    fn is_table(_: &Table) -> bool {
        false
    }

    /// What a first run on these data sets, with this preset or one that fits.
    ///
    /// # Errors
    /// When the data cannot be read, or is too little to learn from.
    fn first_run(sources: &[Source], preset: Option<&str>) -> Result<FirstRun>;

    /// The text or images of `was`, sampled and augmented as `now` says: what no hash of the data knows.
    fn sampled_as(was: &Self::Data, now: &Self::Data) -> Self::Data;

    /// A key of the `[train]` table as a person writes it for this kind.
    fn train_key(key: &'static str) -> &'static str {
        key
    }
}

/// What a kind is called, for programs and for people.
#[derive(Clone, Copy, Debug)]
pub struct Called {
    /// The table below `model` that holds the shape: `lm`.
    pub name: &'static str,
    /// Its name in `matformer.json`.
    pub manifest: &'static str,
    /// Such a model: `a language model`.
    pub model: &'static str,
    /// Its data: `text`, `images`.
    pub data: &'static str,
    /// What its data is, and what for.
    pub data_for: &'static str,
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

/// Defines the `[model]` table of a kind, by its name and that of the table below it.
macro_rules! model_table {
    ($name:ident, $about:literal, $shape:ident: $config:ty) => {
        #[doc = $about]
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            /// A named shape, which the table below then overrides key by key.
            #[serde(skip_serializing_if = "Option::is_none")]
            preset: Option<String>,
            /// The shape.
            $shape: $config,
        }

        impl $crate::ModelTable for $name {
            type Shape = $config;

            fn of($shape: $config) -> Self {
                Self { preset: None, $shape }
            }

            fn shape(&self) -> &$config {
                &self.$shape
            }
        }
    };
}
use model_table;

/// The error for an unknown preset; a specific one if another kind of model has a preset of this name.
pub(super) fn no_preset<T: Tables>(found: &str) -> Error {
    if RunKind::with_preset(found).is_none() {
        return unknown_preset(found);
    }
    Error::Preset {
        path: None,
        found: found.to_owned(),
        known: format!("{} for `model.{}`", T::presets().join(", "), T::NAME),
    }
}

/// A preset that no kind has, as an error.
pub fn unknown_preset(found: &str) -> Error {
    let known: Vec<String> = RunKind::ALL.into_iter().flat_map(RunKind::presets).collect();
    Error::Preset { path: None, found: found.to_owned(), known: known.join(", ") }
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunKind {
    /// A MatLM: what data and run files are of that are of no other kind.
    #[default]
    Lm,
    /// A MatViT.
    Vit,
}

impl RunKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Lm, Self::Vit];

    /// What it is called.
    pub fn called(self) -> Called {
        fn of<T: Tables>() -> Called {
            T::CALLED
        }
        visit!(self, of())
    }

    /// The kind that `matformer.json` names, if it is one of them.
    pub fn named(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|own| own.called().manifest == kind)
    }

    /// What `matformer.json` can name, as an error says what is expected.
    pub fn manifests() -> String {
        Self::ALL.map(|kind| format!("`{}`", kind.called().manifest)).join(" or ")
    }

    fn presets(self) -> Vec<String> {
        fn of<T: Tables>() -> Vec<String> {
            T::presets()
        }
        visit!(self, of())
    }

    /// The kind that has a preset of this name.
    pub(super) fn with_preset(name: &str) -> Option<Self> {
        fn has<T: Tables>(name: &str) -> bool {
            T::preset(name).is_some()
        }
        Self::ALL.into_iter().find(|kind| visit!(kind, has(name)))
    }

    /// The kind of the data at a place.
    pub(super) fn of_data(source: &Source) -> Result<Self> {
        fn is<T: Tables>(source: &Source) -> Result<bool> {
            T::is_data(source)
        }
        for kind in Self::ALL {
            if visit!(kind, is(source))? {
                return Ok(kind);
            }
        }
        Ok(Self::default())
    }

    /// The kind of a run file with this `[data]` table.
    fn of_data_table(data: &Table) -> Self {
        fn is<T: Tables>(data: &Table) -> bool {
            T::is_table(data)
        }
        Self::ALL.into_iter().find(|kind| visit!(kind, is(data))).unwrap_or_default()
    }

    /// The kind of a run file with its `sets`, that starts from the folder `init`: that whose table its
    /// `[model]` has, or whose preset; a file that says nothing of a model is of the kind that it starts
    /// from, or that its `[data]` table is of.
    ///
    /// # Errors
    /// When the file is missing or no TOML.
    pub fn of(path: &Path, sets: &[String], init: Option<&str>) -> Result<Self> {
        let text = fs::read_to_string(path)?;
        let mut table: Table = text.parse().map_err(|e| malformed(path, &e))?;
        paths::read(&mut table, &Base::of(path));
        let named = |table: &Table| {
            let model = table.get("model")?.as_table()?;
            let with_table =
                Self::ALL.into_iter().find(|kind| model.contains_key(kind.called().name));
            with_table.or_else(|| Self::with_preset(model.get("preset")?.as_str()?))
        };
        // What is wrong with a set is said when the kind's own tables are read: also one of another kind.
        if let Some(kind) = named(&table) {
            return Ok(kind);
        }
        for set in sets {
            let _ = table::put(&mut table, set);
        }
        if let Some(kind) = named(&table) {
            return Ok(kind);
        }
        if table.get("model").is_some_and(|model| model.get("preset").is_some()) {
            return Ok(Self::default()); // which says that it has no such preset
        }
        // What it starts from, or learns from, says it where the model's tables do not.
        let init = init.or_else(|| table.get("train")?.get("init")?.as_str());
        let started = init.and_then(|dir| Self::named(&Manifest::load(Path::new(dir)).ok()?.kind));
        let of_data = || table.get("data").and_then(Value::as_table).map(Self::of_data_table);
        Ok(started.or_else(of_data).unwrap_or_default())
    }
}
