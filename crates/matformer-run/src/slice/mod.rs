//! Slices: submodels that are cut out of a model folder, as folders and files of their own.

mod card;

use std::path::{Path, PathBuf};

use matformer_core::{
    Dtype, Manifest, Measurement, Measurements, Provenance, SliceFacts, Space, Submodel,
    SubmodelSpec, fs,
};
use matformer_formats::{CARD, license};
use matformer_nn::{
    Elastic, Folder, ModelConfig, Slice, SliceOptions, folder, slice,
    weights::{SHARD_BYTES, WeightFiles},
};

use crate::{
    Session,
    error::{Hinted, OrBadInput, Result},
    folder::{ModelFolder, check_is_new},
    kind::{GgufOut, Kind},
};

/// How the weights of a slice are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SliceDtype {
    /// 32 bits.
    F32,
    /// 16 bits, bfloat16.
    Bf16,
    /// 16 bits, IEEE half precision.
    F16,
    /// 8 bits in blocks of 32, of GGUF.
    Q8_0,
}

/// Format of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A model folder, in the form of Hugging Face.
    Hf,
    /// A GGUF file of a language model.
    Gguf,
    /// A folder in the form of timm, of a vision model.
    Timm,
}

/// What to cut out, and what to write.
#[derive(Clone, Debug)]
pub struct Order {
    /// The model folder.
    pub model: PathBuf,
    /// The submodel.
    pub submodel: SubmodelSpec,
    /// The folder or file to write, which must not be there.
    pub out: PathBuf,
    /// Its format.
    pub format: Format,
    /// Whether narrower layers are padded with zeros to the widest.
    pub pad: bool,
    /// How weights are stored; as they are in the model if absent.
    pub dtype: Option<SliceDtype>,
    /// Size above which the weights of a folder are written as several files.
    pub shard_bytes: Option<u64>,
}

/// A slice that was written.
#[derive(Debug)]
pub struct Written {
    /// What it is of its model.
    pub facts: SliceFacts,
    /// Its parameters.
    pub params: usize,
    /// How its weights are stored.
    pub dtype: &'static str,
    /// Whether transformers loads a model of this shape.
    pub loads_in_transformers: bool,
    /// Whether its layers differ in width.
    pub is_unequal: bool,
}

/// Cuts a submodel out of a model folder.
///
/// # Errors
/// When the format cannot hold the submodel, or a file cannot be read or written.
pub fn write<K: Kind>(order: &Order, session: &Session) -> Result<Written> {
    let files = WeightFiles::open(&order.model).bad_input()?;
    let tensors = files.tensors().bad_input()?;
    let source = ModelFolder::<K>::load_unset(&order.model, &tensors, session)?;
    let submodel = source.submodel(Some(&order.submodel))?;
    let label = source.space().label(&submodel);
    check_target::<K>(order, &submodel, &label).bad_input()?;
    check_is_new(&order.out).bad_input()?;
    let options = SliceOptions {
        submodel: submodel.clone(),
        pad: order.pad,
        dtype: order.dtype.and_then(stored_dtype),
    };
    let slim = slice(&source.model, &tensors, &options).bad_input()?;
    let facts = SliceFacts {
        submodel: label,
        widths: submodel.widths().to_vec(),
        trained: Some(trained(&source, &submodel, slim.model.space())),
        measured: measured(&source, &submodel)?,
    };
    let job = Job::<K> {
        order,
        shape: slim.model.config().clone(),
        params: slim.params(),
        dtype: slim.dtype(),
        facts,
        source,
    };
    match order.format {
        Format::Gguf => {
            let gguf = GgufOut {
                path: &order.out,
                dtype: order.dtype,
                facts: &job.facts,
                license: license(&order.model),
            };
            K::write_gguf(&job.source, slim, &gguf)?;
        }
        Format::Hf | Format::Timm => job.write_folder(slim)?,
    }
    Ok(job.written())
}

/// Refuses what a format cannot hold, with the one that can.
fn check_target<K: Kind>(order: &Order, submodel: &Submodel, label: &str) -> Result<(), Hinted> {
    K::check_format(order.format, &order.model)?;
    if order.dtype == Some(SliceDtype::Q8_0) && order.format != Format::Gguf {
        return Err(Hinted {
            message: "--dtype q8_0: only GGUF files have it".to_owned(),
            hint: "--format gguf writes one; other formats take f32, bf16 or f16".to_owned(),
        });
    }
    if order.shard_bytes.is_some() && order.format != Format::Hf {
        return Err(Hinted {
            message: "--shard-size: only folders of --format hf have several weights files"
                .to_owned(),
            hint: "leave it out: the weights are written as one file".to_owned(),
        });
    }
    if order.format == Format::Timm && submodel.uniform_width().is_none() && !order.pad {
        return Err(Hinted {
            message: format!("submodel `{label}` has unequal widths: timm has one for all layers"),
            hint: "--pad pads narrower layers with zeros to the widest; --format hf keeps the \
                   widths, for the commands here"
                .to_owned(),
        });
    }
    Ok(())
}

/// The dtype of safetensors files; none for what the GGUF writer makes itself.
fn stored_dtype(dtype: SliceDtype) -> Option<Dtype> {
    match dtype {
        SliceDtype::F32 => Some(Dtype::F32),
        SliceDtype::Bf16 => Some(Dtype::Bf16),
        SliceDtype::F16 => Some(Dtype::F16),
        SliceDtype::Q8_0 => None,
    }
}

/// The widths for which training saw the slice with no layer wider than that. In a padded slice a width means at
/// most so many units of each layer before it was padded, too.
fn trained<K: Kind>(source: &ModelFolder<K>, submodel: &Submodel, space: &Space) -> Vec<usize> {
    let mut widths = space.granularities.widths();
    widths.retain(|width| source.is_trained(&submodel.capped(*width)));
    widths
}

/// What was measured of a submodel with these weights: the last of each metric and data.
fn measured<K: Kind>(
    source: &ModelFolder<K>,
    submodel: &Submodel,
) -> Result<Option<Vec<Measurement>>> {
    let mut last: Vec<Measurement> = Vec::new();
    for entry in Measurements::read_all(&source.dir).bad_input()?.entries {
        if entry.weights == source.manifest.weights_sha256 && entry.widths == submodel.widths() {
            last.retain(|kept| (&kept.metric, &kept.data) != (&entry.metric, &entry.data));
            last.push(entry);
        }
    }
    Ok(Some(last).filter(|last| !last.is_empty()))
}

/// A slice that is written.
struct Job<'a, K: Kind> {
    order: &'a Order,
    source: ModelFolder<K>,
    /// Shape of the slice.
    shape: K::Shape,
    params: usize,
    dtype: Dtype,
    facts: SliceFacts,
}

impl<K: Kind> Job<'_, K> {
    /// Writes the slice as a folder, which appears whole.
    fn write_folder(&self, slim: Slice<'_, K::Net>) -> Result<()> {
        let scratch = fs::scratch_dir(&self.order.out).bad_input()?;
        let dir = scratch.path();
        match self.order.format {
            Format::Timm => K::write_timm(&self.source, slim, dir)?,
            _ => self.write_model_folder(slim, dir)?,
        }
        fs::write_atomic(dir.join(CARD), card::of(self, dir)?.as_bytes())?;
        fs::publish_dir(dir, &self.order.out)?;
        Ok(())
    }

    /// Writes the slice as a model folder, with all that belongs to its source.
    fn write_model_folder(&self, slim: Slice<'_, K::Net>, dir: &Path) -> Result<()> {
        let source = &self.source.manifest;
        let provenance = Provenance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            parent: Some(source.weights_sha256.clone()),
            ..source.provenance.clone()
        };
        let space = slim.model.space();
        let mut manifest = Manifest::new(K::Net::KIND, space, source.objective.clone(), provenance);
        manifest.dtype = self.dtype;
        manifest.slice = Some(self.facts.clone());
        if let Some(tokenizer) = K::tokenizer_of(&self.source)? {
            manifest = manifest.with_tokenizer(tokenizer);
        }
        fs::write_files(dir, &K::files_of(&self.source)?)?;
        let Slice { model, tensors } = slim;
        let shard_bytes = self.order.shard_bytes.unwrap_or(SHARD_BYTES);
        folder::save_as(&model, tensors, shard_bytes, &manifest, dir).bad_input()?;
        Ok(())
    }

    fn written(self) -> Written {
        Written {
            loads_in_transformers: self.loads_in_transformers(),
            is_unequal: self.shape.nested().layer_d_ff.is_some(),
            dtype: match self.order.dtype {
                Some(SliceDtype::Q8_0) => "q8_0",
                _ => self.dtype.name(),
            },
            params: self.params,
            facts: self.facts,
        }
    }

    /// Whether transformers loads a model of this shape.
    fn loads_in_transformers(&self) -> bool {
        K::exports(&self.shape).contains(&"transformers")
    }
}
