//! `config.json` of a Gemma 3n model: what it says of the layers, and the same for a slice.

use std::path::{Path, PathBuf};

use matformer_nn::{ConfigFile, Error, Result};
use serde_json::{Map, Value, json};

use super::{Gemma3nPlan, Gemma3nWidths, Run};

/// What the whole model, and its language model alone, are called.
pub(super) const MODEL_TYPES: [&str; 2] = ["gemma3n", "gemma3n_text"];
/// Where the whole model has the configuration of its language model.
const TEXT: &str = "text_config";
const LOCAL: &str = "sliding_attention";
const GLOBAL: &str = "full_attention";
/// More layers than any model has: nothing is allocated for a number that a file makes up.
const MAX_LAYERS: usize = 4096;
/// One layer of so many is global, where `layer_types` is not given.
const PATTERN: usize = 5;

/// A Gemma 3n model's `config.json`.
pub(super) struct Config {
    path: PathBuf,
    whole: Map<String, Value>,
    pub layers: Layers,
    /// `hidden_size`.
    pub hidden: usize,
    /// `hidden_size_per_layer_input`.
    pub per_layer: usize,
}

/// What it says of each layer.
pub(super) struct Layers {
    pub widths: Vec<usize>,
    pub types: Vec<String>,
    sparsity: Vec<Value>,
    /// The first of those that reuse keys and values; the number of layers if none does.
    first_shared: usize,
}

/// What a slice keeps.
pub(super) struct Kept {
    /// Layers, ascending.
    pub layers: Vec<usize>,
    /// The width of each.
    pub widths: Vec<usize>,
}

/// What the `config.json` in `dir` says that it is of.
pub(super) fn model_type(dir: &Path) -> Option<String> {
    Some(ConfigFile::read(dir).ok()?.text("model_type")?.to_owned())
}

impl Config {
    /// Reads the file in `dir`. Keys that are missing have the values that transformers takes then.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let file = ConfigFile::read(dir)?;
        let keys = text_of(&file)?;
        let n = number(&keys, "num_hidden_layers", 35)?;
        let shared = number(&keys, "num_kv_shared_layers", 15)?;
        if !(1..=MAX_LAYERS).contains(&n) {
            return Err(keys.wrong("num_hidden_layers", &format!("1 to {MAX_LAYERS}")));
        }
        if shared > n {
            return Err(keys.wrong("num_kv_shared_layers", &format!("at most {n}, all layers")));
        }
        if keys.get("per_layer_config").is_some() {
            return Err(keys.wrong("per_layer_config", "no such key in a model that is sliced"));
        }
        let widths = match keys.get("intermediate_size") {
            Some(Value::Array(_)) => each(&keys, "intermediate_size", n, |value| {
                let width = value.as_u64().and_then(|width| u32::try_from(width).ok())?;
                Some(width as usize)
            })?,
            _ => vec![number(&keys, "intermediate_size", 16_384)?; n],
        };
        let types = match keys.get("layer_types") {
            Some(_) => each(&keys, "layer_types", n, |value| value.as_str().map(str::to_owned))?,
            None => (0..n).map(|layer| by_pattern(layer).to_owned()).collect(),
        };
        let sparsity = match keys.get("activation_sparsity_pattern") {
            Some(_) => each(&keys, "activation_sparsity_pattern", n, |value| {
                value.is_number().then(|| value.clone())
            })?,
            None => {
                let sparse = if n > 10 { 10 } else { 0 };
                (0..n).map(|layer| json!(if layer < sparse { 0.95 } else { 0.0 })).collect()
            }
        };
        let (hidden, per_layer) = (
            number(&keys, "hidden_size", 2048)?,
            number(&keys, "hidden_size_per_layer_input", 256)?,
        );
        let layers = Layers { widths, types, sparsity, first_shared: n - shared };
        let (path, whole) = (file.path().to_owned(), file.parse()?);
        Ok(Self { path, whole, layers, hidden, per_layer })
    }

    /// The layers that a plan keeps, with their widths, if the plan fits the model.
    pub(super) fn keep(&self, plan: &Gemma3nPlan) -> Result<Kept> {
        let n = self.layers.widths.len();
        let wrong = |field: &str, found: String, expected: String| {
            Err(Error::Config { field: field.to_owned(), found, expected })
        };
        if let Some(layer) = plan.skipped.iter().find(|layer| **layer >= n) {
            let expected = format!("a layer of {}, 0 to {}", self.path.display(), n - 1);
            return wrong("skipped layers", layer.to_string(), expected);
        }
        let twice = |layer: &&usize| plan.skipped.iter().filter(|other| other == layer).count() > 1;
        if let Some(layer) = plan.skipped.iter().find(twice) {
            return wrong("skipped layers", format!("{layer} twice"), "each layer once".to_owned());
        }
        let reserved = self.layers.reserved();
        if let Some(layer) = plan.skipped.iter().find(|layer| reserved.contains(layer)) {
            let names: Vec<_> = reserved
                .iter()
                .map(|layer| format!("{layer} (the last `{}`)", self.layers.types[*layer]))
                .collect();
            let expected = format!(
                "to keep layers {}, whose keys and values layers {} to {} reuse",
                names.join(" and "),
                self.layers.first_shared,
                n - 1
            );
            return wrong("skipped layers", layer.to_string(), expected);
        }
        let layers: Vec<usize> = (0..n).filter(|layer| !plan.skipped.contains(layer)).collect();
        if layers.is_empty() {
            return wrong("skipped layers", format!("all {n}"), "to keep at least one".to_owned());
        }
        let widths = expand(&plan.widths, layers.len())?;
        for (layer, width) in layers.iter().zip(&widths) {
            let widest = self.layers.widths[*layer];
            if !(1..=widest).contains(width) {
                let found = format!("{width} in layer {layer}");
                return wrong("widths", found, format!("1 to {widest}, which it has"));
            }
        }
        Ok(Kept { layers, widths })
    }

    /// The `config.json` of the slice.
    pub(super) fn edited(&self, kept: &Kept) -> Value {
        let Layers { types, sparsity, first_shared, .. } = &self.layers;
        let shared = kept.layers.iter().filter(|layer| *layer >= first_shared).count();
        let types: Vec<_> = kept.layers.iter().map(|layer| &types[*layer]).collect();
        let sparsity: Vec<_> = kept.layers.iter().map(|layer| &sparsity[*layer]).collect();
        let mut whole = Value::Object(self.whole.clone());
        let text = match whole.get_mut(TEXT) {
            Some(text) => text,
            None => &mut whole,
        };
        text["num_hidden_layers"] = json!(kept.layers.len());
        text["intermediate_size"] = json!(kept.widths);
        text["num_kv_shared_layers"] = json!(shared);
        text["layer_types"] = json!(types);
        text["activation_sparsity_pattern"] = json!(sparsity);
        whole
    }

    /// What to know of a slice before it is used.
    pub(super) fn notes(&self, kept: &Kept) -> Vec<String> {
        let mut notes = Vec::new();
        let trained = |(layer, width): &(&usize, &usize)| {
            let widest = self.layers.widths[**layer];
            **width == widest || **width * 2 == widest
        };
        if let Some((layer, width)) =
            kept.layers.iter().zip(&kept.widths).find(|pair| !trained(pair))
        {
            notes.push(format!(
                "layer {layer} has width {width}: Gemma 3n was trained at the full and at half the width, \
                 others are extrapolation"
            ));
        }
        let pattern = |layers: &[usize]| {
            layers.iter().enumerate().all(|(new, old)| self.layers.types[*old] == by_pattern(new))
        };
        let all: Vec<usize> = (0..self.layers.types.len()).collect();
        if pattern(&all) && !pattern(&kept.layers) {
            notes.push(format!(
                "the layers that are left out shift the pattern of {} local layers and a global one: \
                 programs that do not read `layer_types` run the slice wrongly",
                PATTERN - 1
            ));
        }
        notes
    }

    /// The name of the model: that of its folder.
    pub(super) fn name(&self) -> String {
        let folder = self.path.parent().and_then(|dir| dir.canonicalize().ok());
        let name = folder.as_deref().and_then(Path::file_name).unwrap_or("gemma-3n".as_ref());
        name.to_string_lossy().into_owned()
    }
}

impl Layers {
    /// The layers whose keys and values the shared ones reuse: the last of each type before them.
    fn reserved(&self) -> Vec<usize> {
        let own = &self.types[..self.first_shared];
        if self.first_shared == self.types.len() {
            return Vec::new();
        }
        let last = |layer: &usize| !own[layer + 1..].contains(&own[*layer]);
        (0..own.len()).filter(last).collect()
    }
}

/// The type of a layer where `layer_types` is not given.
fn by_pattern(layer: usize) -> &'static str {
    if layer % PATTERN == PATTERN - 1 { GLOBAL } else { LOCAL }
}

/// A width for each of `n` layers.
fn expand(widths: &Gemma3nWidths, n: usize) -> Result<Vec<usize>> {
    match widths {
        Gemma3nWidths::Every(width) => Ok(vec![*width; n]),
        Gemma3nWidths::Runs(runs) => {
            // Counted before they are expanded: the number may be huge.
            let found = runs.iter().fold(0usize, |sum, run| sum.saturating_add(run.layers));
            if found != n {
                return Err(Error::Config {
                    field: "widths".to_owned(),
                    found: format!("{found} widths"),
                    expected: format!("{n}, one for each layer that is kept"),
                });
            }
            let run = |run: &Run| std::iter::repeat_n(run.width, run.layers);
            Ok(runs.iter().flat_map(run).collect())
        }
    }
}

/// The keys of the language model.
fn text_of(file: &ConfigFile) -> Result<ConfigFile> {
    match file.text("model_type") {
        Some("gemma3n") => file.section(TEXT, "the configuration of the language model"),
        Some("gemma3n_text") => Ok(file.clone()),
        _ => Err(file.wrong("model_type", "`gemma3n` or `gemma3n_text`")),
    }
}

/// A size that is `default` where it is missing.
fn number(file: &ConfigFile, key: &str, default: usize) -> Result<usize> {
    let number = file.optional(key)?.unwrap_or(default);
    // Products of two are no overflow.
    match u32::try_from(number) {
        Ok(_) => Ok(number),
        Err(_) => Err(file.wrong(key, &format!("at most {}", u32::MAX))),
    }
}

/// A list with an entry for each of `n` layers.
fn each<T>(
    file: &ConfigFile,
    key: &str,
    n: usize,
    of: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<T>> {
    let list = file.get(key).and_then(Value::as_array).filter(|list| list.len() == n);
    let list = list.and_then(|list| list.iter().map(of).collect());
    list.ok_or_else(|| file.wrong(key, &format!("an entry for each of {n} layers")))
}
