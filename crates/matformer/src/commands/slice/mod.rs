//! `matformer slice`

mod card;
mod gemma3n;

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::{
        Dtype, Manifest, Measurement, Measurements, Provenance, SliceFacts, Space, Submodel, fs,
    },
    formats::{CARD, license},
    nn::{
        Elastic, Folder, ModelConfig, Slice, SliceOptions, folder, slice,
        weights::{SHARD_BYTES, WeightFiles},
    },
    run_file::{Lm, RunKind, Vit},
};
use serde_json::json;

use super::{Context, check_is_new, count, print_json, written};
use crate::{
    args::{Format, SliceArgs, SliceDtype},
    failure::{Hinted, OrBadInput},
    folder::ModelFolder,
    kind::{self, GgufOut, Kind},
    logging::say,
    output::out,
};

pub fn run(args: &SliceArgs, context: &Context) -> Result<ExitCode> {
    if gemma3n::is_meant(args) {
        return gemma3n::run_gemma3n(args, context.json);
    }
    match kind::of_folder(&args.model)? {
        RunKind::Lm => run_kind::<Lm>(args, context),
        RunKind::Vit => run_kind::<Vit>(args, context),
    }
}

fn run_kind<K: Kind>(args: &SliceArgs, context: &Context) -> Result<ExitCode> {
    let Some(spec) = &args.submodel else {
        return Err(Hinted {
            message: "no --submodel".to_owned(),
            hint: "name what to cut out, such as `--submodel S` (or `60%`, `128`, `64x1+128x4`); `matformer info \
                   MODEL` lists sizes"
                .to_owned(),
        })
        .bad_input();
    };
    let files = WeightFiles::open(&args.model).bad_input()?;
    let tensors = files.tensors().bad_input()?;
    let source = ModelFolder::<K>::load_unset(&args.model, &tensors, &context.device)?;
    let submodel = source.submodel(Some(spec))?;
    let label = source.space().label(&submodel);
    check_target::<K>(args, &submodel, &label).bad_input()?;
    check_is_new(&args.out).bad_input()?;
    let options = SliceOptions {
        submodel: submodel.clone(),
        pad: args.pad,
        dtype: args.dtype.and_then(stored_dtype),
    };
    let slim = slice(&source.model, &tensors, &options).bad_input()?;
    let facts = SliceFacts {
        submodel: label,
        widths: submodel.widths().to_vec(),
        trained: Some(trained(&source, &submodel, slim.model.space())),
        measured: measured(&source, &submodel)?,
    };
    let job = Job::<K> {
        args,
        shape: slim.model.config().clone(),
        params: slim.params(),
        dtype: slim.dtype(),
        facts,
        source,
    };
    match args.format {
        Format::Gguf => {
            let gguf = GgufOut {
                path: &args.out,
                dtype: args.dtype,
                facts: &job.facts,
                license: license(&args.model),
            };
            K::write_gguf(&job.source, slim, &gguf)?;
        }
        Format::Hf | Format::Timm => job.write_folder(slim)?,
    }
    job.print(context)
}

/// Refuses what a format cannot hold, with the one that can.
fn check_target<K: Kind>(args: &SliceArgs, submodel: &Submodel, label: &str) -> Result<(), Hinted> {
    K::check_format(args.format, &args.model)?;
    if args.dtype == Some(SliceDtype::Q8_0) && args.format != Format::Gguf {
        return Err(Hinted {
            message: "--dtype q8_0: only GGUF files have it".to_owned(),
            hint: "--format gguf writes one; other formats take f32, bf16 or f16".to_owned(),
        });
    }
    if args.shard_size.is_some() && args.format != Format::Hf {
        return Err(Hinted {
            message: "--shard-size: only folders of --format hf have several weights files"
                .to_owned(),
            hint: "leave it out: the weights are written as one file".to_owned(),
        });
    }
    if args.format == Format::Timm && submodel.uniform_width().is_none() && !args.pad {
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
    args: &'a SliceArgs,
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
        let scratch = fs::scratch_dir(&self.args.out).bad_input()?;
        let dir = scratch.path();
        match self.args.format {
            Format::Timm => K::write_timm(&self.source, slim, dir)?,
            _ => self.write_model_folder(slim, dir)?,
        }
        fs::write_atomic(dir.join(CARD), card::of(self, dir)?.as_bytes())?;
        fs::publish_dir(dir, &self.args.out)?;
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
        let shard_bytes = self.args.shard_size.unwrap_or(SHARD_BYTES);
        folder::save_as(&model, tensors, shard_bytes, &manifest, dir).bad_input()?;
        Ok(())
    }

    fn print(&self, context: &Context) -> Result<ExitCode> {
        let Self { args, facts, .. } = self;
        if context.json {
            let files = written(&args.out)?;
            return print_json(&json!({
                "model": args.out.display().to_string(),
                "submodel": facts.submodel,
                "widths": facts.widths,
                "params": self.params,
                "format": format_name(args.format),
                "dtype": match args.dtype {
                    Some(SliceDtype::Q8_0) => "q8_0",
                    _ => self.dtype.name(),
                },
                "padded": args.pad,
                "bytes": files.bytes(),
                "files": files,
                "measured": facts.measured,
            }));
        }
        if args.format == Format::Hf && !self.loads_in_transformers() {
            say!("note: no other program loads a folder like this; every command here does");
            if self.shape.nested().layer_d_ff.is_some() {
                say!("--pad makes its layers equally wide, with the same numbers");
            }
        }
        let params = count(self.params as f64);
        out!("{}: submodel {}, {params} parameters", args.out.display(), facts.submodel)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Whether transformers loads a model of this shape.
    fn loads_in_transformers(&self) -> bool {
        K::exports(&self.shape).contains(&"transformers")
    }
}

fn format_name(format: Format) -> &'static str {
    match format {
        Format::Hf => "hf",
        Format::Gguf => "gguf",
        Format::Timm => "timm",
    }
}
