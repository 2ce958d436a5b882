//! Language models of other programs, as elastic models: copied tensor by tensor, not loaded.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::Path,
};

use burn::tensor::Device;
use matformer_core::{Draw, Dtype, Manifest, Provenance, fs};
use matformer_lm::{MatLm, MatLmConfig};
use matformer_nn::{
    Elastic, Folder, ModelConfig, Result,
    config::Nested,
    folder, params,
    weights::{StoredTensor, common_dtype},
};

use crate::{
    checkpoint::{Checkpoint, wrong},
    widths::{default_widths, named_widths},
};

/// A language model that can be copied into a model folder. Everything but the values of its tensors is
/// checked.
pub struct LmImport<'a> {
    /// Its shape, with granularities.
    pub config: MatLmConfig,
    /// Number of parameters.
    pub params: usize,
    /// How all tensors are stored; f32 where they differ.
    pub dtype: Dtype,
    /// Tensors that are not copied, as they have no part in what the model computes.
    pub left_out: Vec<LeftOut>,
    /// The multiple to which the default granularities were rounded; `None` if they were given by the user or come from
    /// a slice.
    pub rounded_to: Option<usize>,
    source: &'a dyn Checkpoint,
    model: MatLm,
    tensors: Vec<StoredTensor<'a>>,
}

/// A tensor that was not copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name.
    pub name: String,
    /// Why not.
    pub why: &'static str,
}

impl<'a> LmImport<'a> {
    /// Reads the configuration and the names of a checkpoint. Every tensor is a parameter, or left out
    /// and named, or an error. `granularities` are the widths that get names, ascending, up to the
    /// model's own; if absent those that training saw of a slice, else a quarter, half, three quarters and all
    /// of it, rounded ([`default_widths`](crate::default_widths)).
    ///
    /// # Errors
    /// When a key of the configuration is missing, or changes what a MatLM computes and is not
    /// covered, or a tensor is missing, unknown, or of another shape or dtype.
    pub fn new(
        source: &'a dyn Checkpoint,
        granularities: Option<&[usize]>,
        device: &Device,
    ) -> Result<Self> {
        let (config, rounded_to) = config_of(source, granularities)?;
        let model = <MatLm as Folder>::unset(&config, config.space()?, device)?;
        let mut found = Found::new(source);
        let take =
            |(path, shape): (String, Vec<usize>)| found.take(model.tensor_name(&path), shape);
        let tensors: Vec<StoredTensor<'a>> =
            params::shapes(&model).into_iter().map(take).collect::<Result<_>>()?;
        let left_out = found.rest(&config, &model.tensor_name("embed"))?;
        let params = tensors.iter().map(|t| t.shape.iter().product::<usize>()).sum();
        let dtype = common_dtype(tensors.iter().map(|tensor| tensor.dtype));
        Ok(Self { config, params, dtype, left_out, rounded_to, source, model, tensors })
    }

    /// Writes the model folder into `dir`, but for the files that [`Checkpoint::files`] gives: its
    /// widest submodel is exactly the checkpoint's model, with the same bytes of each tensor, in weights
    /// files of up to `shard_bytes` bytes. The folder as a whole is not written atomically: publish it
    /// with [`matformer_core::fs::publish_dir`].
    ///
    /// # Errors
    /// When a value is NaN or infinite, or a file cannot be read or written.
    pub fn write(
        self,
        dir: &Path,
        shard_bytes: u64,
        tokenizer_sha256: Option<String>,
    ) -> Result<Manifest> {
        let space = self.model.space();
        // The one width that its training saw.
        let objective = Draw::Baseline { granularity: space.granularities.largest().name.clone() };
        let (slice, parent) = match self.source.slice() {
            Some((facts, parent)) => (Some(facts.clone()), parent.clone()),
            None => (None, self.source.hash()?),
        };
        let provenance = Provenance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            parent: Some(parent),
            ..Provenance::default()
        };
        let manifest = Manifest {
            tokenizer_sha256,
            slice,
            dtype: self.dtype,
            ..Manifest::new(MatLm::KIND, space, objective, provenance)
        };
        folder::save_as(&self.model, self.tensors, shard_bytes, &manifest, dir)
    }
}

/// The configuration with granularities, and what those are rounded to if they were not given.
fn config_of(
    source: &dyn Checkpoint,
    granularities: Option<&[usize]>,
) -> Result<(MatLmConfig, Option<usize>)> {
    let file = source.config()?;
    let read = MatLm::read_config(&file)?;
    let nested = read.nested();
    let d_ff = nested.d_ff;
    let with = |widths: Vec<usize>, width_multiple| {
        read.with_nested(Nested { granularities: Some(widths), width_multiple, ..nested.clone() })
    };
    // An error here is about the file, later ones are about the widths that were asked for.
    with(vec![d_ff], 1)
        .validate()
        .map_err(|error| file.blame(error, <MatLm as Folder>::config_key))?;
    if nested.n_layers > source.names().len() {
        let expected = format!("at most {}, the tensors of the weights", source.names().len());
        return Err(file.wrong("num_hidden_layers", &expected));
    }
    // A slice keeps the names of what training saw.
    let trained = source.slice().and_then(|(facts, _)| facts.trained.clone());
    let trained = trained.filter(|widths| !widths.is_empty()).map(|mut widths| {
        widths.retain(|width| *width < d_ff);
        widths.push(d_ff);
        widths
    });
    let default = default_widths(d_ff);
    let rounded_to = (granularities.is_none() && trained.is_none()).then_some(default.1);
    let (widths, width_multiple) = named_widths(granularities, d_ff, trained.unwrap_or(default.0))?;
    let config = with(widths, width_multiple);
    config.validate()?;
    Ok((config, rounded_to))
}

/// The tensors of a checkpoint, and which of them the model has.
struct Found<'a> {
    source: &'a dyn Checkpoint,
    /// Names without the `model.` that ours begin with: checkpoints of the bare decoder.
    bare: bool,
    left: BTreeSet<String>,
    taken: usize,
}

/// What the names of all tensors but the head begin with.
const BODY: &str = "model.";

impl<'a> Found<'a> {
    fn new(source: &'a dyn Checkpoint) -> Self {
        let left: BTreeSet<String> = source.names().into_iter().map(str::to_owned).collect();
        let bare = !left.iter().any(|name| name.starts_with(BODY));
        Self { source, bare, left, taken: 0 }
    }

    /// The name in the checkpoint of a tensor that ours call `name`.
    fn name(&self, name: &str) -> String {
        if self.bare { name.strip_prefix(BODY).unwrap_or(name) } else { name }.to_owned()
    }

    /// The tensor that becomes a parameter of this shape.
    fn take(&mut self, name: String, shape: Vec<usize>) -> Result<StoredTensor<'a>> {
        let (source, theirs) = (self.source, self.name(&name));
        let expected = || format!("shape {shape:?}");
        let Some(facts) = source.tensor(&theirs)? else {
            return Err(wrong(source, &theirs, "nothing", expected()));
        };
        if facts.shape != shape {
            return Err(wrong(source, &theirs, format!("shape {:?}", facts.shape), expected()));
        }
        self.left.remove(&theirs);
        self.taken += 1;
        Ok(StoredTensor::new(name, facts.dtype, shape, move |out| source.write(&theirs, out)))
    }

    /// The tensors that no parameter was made of, if a model can be without them; `embed` is our name
    /// of the embedding.
    fn rest(&self, config: &MatLmConfig, embed: &str) -> Result<Vec<LeftOut>> {
        let (source, embed) = (self.source, self.name(embed));
        let left_out = |name: &String| {
            let why = if config.tied_embeddings && name == HEAD {
                if !same(source, name, &embed)? {
                    let found = format!("other values than `{embed}`");
                    let expected = "the same, as `tie_word_embeddings` says";
                    return Err(wrong(source, name, found, expected));
                }
                "the embedding again"
            } else if BUFFERS.iter().any(|buffer| name.ends_with(buffer)) {
                "made from the configuration"
            } else {
                let expected = format!("the model's {} tensors only", self.taken);
                return Err(wrong(source, name, "a tensor that the model does not have", expected));
            };
            Ok(LeftOut { name: name.clone(), why })
        };
        self.left.iter().map(left_out).collect()
    }
}

/// The output embedding.
const HEAD: &str = "lm_head.weight";

/// Buffers that old versions of transformers saved. They follow from the configuration, and what they
/// hold is not read.
const BUFFERS: [&str; 3] =
    ["rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached"];

/// Whether two tensors are stored with the same bytes.
fn same(source: &dyn Checkpoint, a: &str, b: &str) -> Result<bool> {
    if source.tensor(a)? != source.tensor(b)? {
        return Ok(false);
    }
    Ok(hash(source, a)? == hash(source, b)?)
}

/// Hash of the values of a tensor.
fn hash(source: &dyn Checkpoint, name: &str) -> Result<String> {
    struct Hashing(fs::Hasher);
    impl Write for Hashing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hashing = Hashing(fs::Hasher::default());
    match source.write(name, &mut hashing) {
        Ok(()) => Ok(hashing.0.finish()),
        Err(error) => Err(match error.downcast() {
            Ok(error) => error,
            Err(error) => fs::error(source.path(), "read")(error).into(),
        }),
    }
}
