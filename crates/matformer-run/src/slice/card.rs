//! The model card of a slice: a `README.md` that begins with the keys of Hugging Face's Hub.

use std::{fmt::Write as _, path::Path};

use matformer_core::Measurement;
use matformer_formats::inherited;
use matformer_nn::{ConfigFile, ModelConfig};

use super::{Format, Job};
use crate::{
    error::Result,
    kind::{Kind, Processor},
};
use matformer_core::{units::count, units::short};

/// The card of a slice in `dir`, which has its `config.json` already.
pub(super) fn of<K: Kind>(job: &Job<'_, K>, dir: &Path) -> Result<String> {
    let parent = parent(&job.source.dir);
    let loads = Loads::of(job, dir)?;
    let mut card = front_matter::<K>(job, &loads)?;
    let out = job.order.out.file_name().unwrap_or_default().to_string_lossy();
    writeln!(
        card,
        "\n# {out}\n\nSubmodel `{}` of the elastic model `{parent}`, cut out of its weights: each \
         feed-forward block keeps the first neurons of its matrices, everything else is the \
         same.\n",
        job.facts.submodel
    )?;
    card += &facts(job)?;
    write!(card, "\n## How to load it\n\n{}", loads.text::<K>(&out, dir))?;
    card += &quality(job)?;
    Ok(card)
}

/// Name of the folder that a slice is cut out of.
fn parent(dir: &Path) -> String {
    let whole = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    whole.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn front_matter<K: Kind>(job: &Job<'_, K>, loads: &Loads) -> Result<String> {
    let mut text = format!("---\n{}", inherited(&job.source.dir));
    if let Some(library) = loads.library() {
        writeln!(text, "library_name: {library}")?;
    }
    writeln!(text, "pipeline_tag: {}\ntags:\n- matformer\n- elastic\n---", K::TASK)?;
    Ok(text)
}

fn facts<K: Kind>(job: &Job<'_, K>) -> Result<String> {
    let mut table = String::from("| | |\n|---|---|\n");
    let mut row = |key: &str, value: String| writeln!(table, "| {key} | {value} |");
    row("parameters", format!("{} ({})", job.params, count(job.params as f64)))?;
    row("feed-forward width of each layer", runs(&job.facts.widths))?;
    if job.order.pad {
        let width = job.shape.nested().d_ff;
        row("padded", format!("with zeros, to {width} in every layer"))?;
    }
    row("shape", K::describe(&job.shape))?;
    row("weights stored as", job.dtype.name().to_owned())?;
    row("SHA-256 of the parent's weights", format!("`{}`", job.source.manifest.weights_sha256))?;
    row("written by", format!("matformer {}", env!("CARGO_PKG_VERSION")))?;
    Ok(table)
}

/// Widths as `256, 256, 512`; where they are all equal as `256 in all 30 layers`.
fn runs(widths: &[usize]) -> String {
    match widths {
        [first, rest @ ..] if rest.iter().all(|width| width == first) => {
            format!("{first} in all {} layers", widths.len())
        }
        _ => widths.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// What was measured of the submodel, or that nothing was.
fn quality<K: Kind>(job: &Job<'_, K>) -> Result<String> {
    let mut text = "\n## Quality\n\n".to_owned();
    let Some(measured) = &job.facts.measured else {
        text += "Nothing was measured of this submodel before it was cut out.\n";
        return Ok(text);
    };
    text += "Measured of this submodel in its parent, which computes the same, on held-out data:\n\n\
             | metric | value | standard error | targets | windows | data (SHA-256) |\n\
             |---|---|---|---|---|---|\n";
    let trained_on = &job.source.manifest.provenance.data_hash;
    let mut own = false;
    for Measurement { metric, value, stderr, n, data, .. } in measured {
        let stderr = stderr.map_or("unknown".to_owned(), |stderr| format!("{stderr:.4}"));
        // A hash, then what part was read, then how long the windows of text were.
        let (data, window) = data.split_once('@').unwrap_or((data, ""));
        let hash = data.split([':', '/']).next().unwrap_or(data);
        own |= hash == trained_on;
        let mark = if hash == trained_on { "*" } else { "" };
        let hash = short(hash);
        writeln!(text, "| {metric} | {value:.4} | {stderr} | {n} | {window} | `{hash}`{mark} |")?;
    }
    text += "\n`loss` is in nats per token (of images, per image). Values are comparable on equal \
             data and windows only.";
    if own {
        text += " The data marked * is the held-out part of what the parent was trained on.";
    }
    text.push('\n');
    Ok(text)
}

/// What loads a slice.
enum Loads {
    /// transformers, as it is.
    Transformers,
    /// transformers, with the Python files in the folder.
    RemoteCode,
    Timm,
    /// The commands here alone.
    Matformer,
}

impl Loads {
    fn of<K: Kind>(job: &Job<'_, K>, dir: &Path) -> Result<Self> {
        if job.order.format == Format::Timm {
            return Ok(Self::Timm);
        }
        if ConfigFile::read(dir)?.get("auto_map").is_some() {
            return Ok(Self::RemoteCode);
        }
        if !job.loads_in_transformers() {
            return Ok(Self::Matformer);
        }
        Ok(Self::Transformers)
    }

    /// The Hub's name of the library.
    fn library(&self) -> Option<&'static str> {
        match self {
            Self::Transformers | Self::RemoteCode => Some("transformers"),
            Self::Timm => Some("timm"),
            Self::Matformer => None,
        }
    }

    fn text<K: Kind>(&self, out: &str, dir: &Path) -> String {
        match self {
            Self::Transformers => by_transformers::<K>(out, dir, ""),
            Self::RemoteCode => format!(
                "The layers differ in width, which the Python files in this folder add to \
                 transformers:\n\n{}",
                by_transformers::<K>(out, dir, ", trust_remote_code=True")
            ),
            Self::Timm => format!(
                "```python\nimport timm\n\n\
                 model = timm.create_model(\"local-dir:{out}\", pretrained=True)\n```\n"
            ),
            Self::Matformer => format!(
                "No other program has a model of this shape. The commands of matformer read it:\n\n\
                 ```sh\nmatformer info {out}\nmatformer eval {out} --data RUN\n```\n"
            ),
        }
    }
}

/// How transformers loads the model, and what reads its input if that is in the folder; `more` are further
/// arguments.
fn by_transformers<K: Kind>(out: &str, dir: &Path, more: &str) -> String {
    let Processor { class: processor, variable, file } = K::PROCESSOR;
    let (mut import, mut loaded) = (String::new(), String::new());
    if dir.join(file).exists() {
        import = format!(", {processor}");
        loaded = format!("{variable} = {processor}.from_pretrained(\"{out}\"{more})\n");
    }
    let class = K::AUTO_CLASS;
    format!(
        "```python\nfrom transformers import {class}{import}\n\n\
         model = {class}.from_pretrained(\"{out}\"{more})\n{loaded}```\n"
    )
}
