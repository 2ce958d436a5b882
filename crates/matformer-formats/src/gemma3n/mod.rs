//! Gemma 3n, sliced: the procedure of the MatFormer Lab of Google, tensor by tensor.
//!
//! Gemma 3n E4B is a MatFormer: its feed-forward blocks also run at smaller widths, and whole layers may be
//! left out. A slice is a Gemma 3n model of its own, with a width for each layer that is kept. transformers
//! loads it; it is not one of our models.

mod card;
mod config;
mod table;
mod tensors;

use std::{fmt, path::Path, str::FromStr};

use matformer_core::{SubmodelSpec, fs};
use matformer_nn::{
    Error, Result,
    folder::CONFIG,
    weights::{self, StoredTensor, WeightFiles},
};

use crate::{
    CARD,
    companions::{TEMPLATES, templates},
    inherited,
};
use config::Config;
use tensors::Slice;

/// Endings of weights files, which are not copied into a slice.
const WEIGHTS: [&str; 9] =
    ["safetensors", "bin", "pt", "pth", "gguf", "onnx", "h5", "msgpack", "index.json"];

/// Which layers of a Gemma 3n model to keep, and how wide.
#[derive(Clone, Debug, PartialEq)]
pub struct Gemma3nPlan {
    /// Widths of the feed-forward blocks of the layers that are kept.
    pub widths: Gemma3nWidths,
    /// Layers to leave out, as the model counts them: from 0.
    pub skipped: Vec<usize>,
}

/// Widths of the layers that a slice keeps.
///
/// As text: `8192` for every layer, or runs and single widths, joined by `+` or `,`: `8192x20+16384x10`.
#[derive(Clone, Debug, PartialEq)]
pub enum Gemma3nWidths {
    /// The same for all of them.
    Every(usize),
    /// Runs from the first layer to the last.
    Runs(Vec<Run>),
}

/// Layers one after the other with the same width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// The width of each.
    pub width: usize,
    /// How many there are.
    pub layers: usize,
}

/// What a slice is.
#[derive(Clone, Debug, PartialEq)]
pub struct SlicedGemma3n {
    /// Its layers, by their numbers in the model that it was cut from.
    pub layers: Vec<usize>,
    /// Their widths.
    pub widths: Vec<usize>,
    /// Layers of the model that it was cut from.
    pub of_layers: usize,
    /// Parameters of the whole slice, vision and audio included.
    pub params: u64,
    /// Those of the language model without its embeddings, as Gemma 3n's sizes count them.
    pub effective_params: u64,
    /// SHA-256 of the weights files.
    pub weights_sha256: String,
    /// What to know before it is used, a sentence each.
    pub notes: Vec<String>,
}

/// Whether the folder `dir` holds a Gemma 3n model, by its `config.json`.
pub fn is_gemma3n(dir: &Path) -> bool {
    config::model_type(dir).is_some_and(|found| config::MODEL_TYPES.contains(&&found[..]))
}

/// Cuts a Gemma 3n model of transformers, in the folder `dir`, and writes the slice into the folder `out`,
/// which may be empty or new, as weights files of at most `shard_bytes` bytes. Weights keep their dtype and are streamed: only what the slice keeps is read.
///
/// # Errors
/// When the plan does not fit the model, `config.json` or a tensor is not what a Gemma 3n model has, or a
/// file cannot be read or written. The plan and all tensors are checked before anything is written.
pub fn slice_gemma3n(
    dir: &Path,
    plan: &Gemma3nPlan,
    out: &Path,
    shard_bytes: u64,
) -> Result<SlicedGemma3n> {
    let config = Config::read(dir)?;
    let kept = config.keep(plan)?;
    let files = WeightFiles::open(dir)?;
    let tensors = files.tensors()?;
    let slices = tensors::slices(&tensors, &config, &kept)?;
    let params = |slices: &mut dyn Iterator<Item = &Slice<'_>>| slices.map(Slice::params).sum();
    let mut sliced = SlicedGemma3n {
        params: params(&mut slices.iter()),
        effective_params: params(&mut slices.iter().filter(|slice| slice.effective)),
        notes: config.notes(&kept),
        of_layers: config.layers.widths.len(),
        layers: kept.layers.clone(),
        widths: kept.widths.clone(),
        weights_sha256: String::new(),
    };
    fs::create_dir_all(out)?;
    copy_others(dir, out)?;
    let edited = format!("{:#}\n", config.edited(&kept));
    fs::write_atomic(out.join(CONFIG), edited.as_bytes())?;
    let card = card::card(&config, &sliced, &inherited(dir));
    fs::write_atomic(out.join(CARD), card.as_bytes())?;
    let stored: Vec<StoredTensor<'_>> = slices.into_iter().map(Slice::stored).collect();
    sliced.weights_sha256 = weights::write_folder(out, stored, shard_bytes)?;
    Ok(sliced)
}

/// Copies what is neither weights, configuration nor model card: the tokenizer, processors, chat templates,
/// licences.
fn copy_others(dir: &Path, out: &Path) -> Result<()> {
    for path in fs::read_dir(dir)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let is_weights = WEIGHTS.iter().any(|end| name.strip_suffix(end).is_some_and(is_stem));
        if !path.is_file() || is_weights || [CONFIG, CARD].contains(&name) || is_hidden(name) {
            continue;
        }
        let target = out.join(name);
        std::fs::copy(&path, &target).map_err(fs::error(&target, "write"))?;
    }
    for name in templates(dir)? {
        let file = Path::new(TEMPLATES).join(format!("{name}.jinja"));
        fs::create_dir_all(out.join(TEMPLATES))?;
        fs::write_atomic(out.join(&file), &fs::read(dir.join(&file))?)?;
    }
    Ok(())
}

/// Whether an ending that was taken off began at a dot.
fn is_stem(rest: &str) -> bool {
    rest.ends_with('.')
}

fn is_hidden(name: &str) -> bool {
    name.starts_with('.')
}

impl FromStr for Gemma3nWidths {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::Config {
            field: "widths".to_owned(),
            found: format!("`{text}`"),
            expected: "`8192` for every layer that is kept, or runs: `8192x20+16384x10`".to_owned(),
        };
        let mut runs = Vec::new();
        let specs = text.split([',', '+']).map(|item| item.trim().parse());
        let specs = specs.collect::<Result<Vec<_>, _>>().map_err(|_| wrong())?;
        if let [SubmodelSpec::Uniform(width)] = specs[..] {
            return Ok(Self::Every(width));
        }
        for spec in specs {
            match spec {
                SubmodelSpec::Uniform(width) => runs.push(Run { width, layers: 1 }),
                SubmodelSpec::Widths(of) => {
                    runs.extend(of.into_iter().map(|(width, layers)| Run { width, layers }));
                }
                _ => return Err(wrong()),
            }
        }
        Ok(Self::Runs(runs))
    }
}

impl fmt::Display for Gemma3nWidths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(width) => write!(f, "{width}"),
            Self::Runs(runs) => {
                let runs: Vec<_> =
                    runs.iter().map(|run| format!("{}x{}", run.width, run.layers)).collect();
                f.write_str(&runs.join("+"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_read_as_runs_and_as_lists() {
        let widths = |text: &str| text.parse::<Gemma3nWidths>().unwrap();
        assert_eq!(widths("8192"), Gemma3nWidths::Every(8192));
        let runs = [(8192, 2), (16384, 1)].map(|(width, layers)| Run { width, layers });
        assert_eq!(widths("8192x2+16384x1"), Gemma3nWidths::Runs(runs.to_vec()));
        assert_eq!(widths("8192x2, 16384").to_string(), "8192x2+16384x1");
        assert_eq!(widths("8192,8192").to_string(), "8192x1+8192x1");
        for wrong in ["", "S", "60%", "0", "8192,", "8192x0", "8192x2+", "8192*2"] {
            let error = wrong.parse::<Gemma3nWidths>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`widths` is `{wrong}`; expected ")), "{error}");
        }
    }
}
