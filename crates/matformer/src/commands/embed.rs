//! `matformer embed`

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use matformer::{
    core::{Submodel, fs},
    data::{ImageBatches, ImageSet, PreparedImages, spread},
    eval::retrieval::{Vectors, embed_images},
    run_file::{RunKind, Vit},
};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::json;

use super::{Context, check_is_new, print_json};
use crate::{
    args::{EmbedArgs, Part},
    failure::{Hinted, OrBadInput},
    folder::{ModelFolder, normalization, progress_bar},
    kind::{self, Kind},
    logging::say,
    output::out,
};

/// What to do with a folder that names no data.
pub const DATA_HINT: &str = "name the images with --data: a run file, or the folder of a run";

pub fn run(args: &EmbedArgs, context: &Context) -> Result<ExitCode> {
    let form = Form::of(&args.out).bad_input()?;
    form.paths(&args.out).iter().try_for_each(|path| check_is_new(path)).bad_input()?;
    kind::check_is(&args.model, RunKind::Vit, "embed")?;
    let folder = ModelFolder::<Vit>::load(&args.model, &context.device)?;
    let submodel = folder.submodel(args.submodel.as_ref())?;
    // Before the work, not behind it.
    if let Some(above) = args.out.parent() {
        fs::create_dir_all(above).bad_input()?;
    }
    let prepared = data(&folder, args.data.as_deref())?;
    let (set, names) = match args.part {
        Part::Train => (prepared.train(), prepared.train_names()),
        Part::HeldOut => (prepared.held_out(), prepared.held_out_names()),
    };
    let (set, names) = (set.bad_input()?, names.bad_input()?);
    let places = spread(set.len(), args.images.unwrap_or(usize::MAX));
    let vectors = embed(&folder, set.clone(), &places, std::slice::from_ref(&submodel))?.remove(0);
    let described = Described {
        names: places.iter().map(|place| names[*place].clone()).collect(),
        labels: places.iter().map(|place| set.label(*place) as i64).collect(),
        classes: set.classes().to_vec(),
        submodel: folder.space().label(&submodel),
        weights: folder.manifest.weights_sha256.clone(),
        data: Vit::facts(&prepared).hash.to_string(),
    };
    let files = form.write(&args.out, &vectors, &described)?;
    if context.json {
        return print_json(&json!({
            "files": files, "n": vectors.len(), "d": vectors.d, "submodel": described.submodel,
        }));
    }
    let label = &described.submodel;
    out!("{}: {} vectors of {} by {label}", files.join(", "), vectors.len(), vectors.d)?;
    Ok(ExitCode::SUCCESS)
}

/// The images that were asked for, or those of the model's own run.
pub fn data(folder: &ModelFolder<Vit>, from: Option<&Path>) -> Result<PreparedImages> {
    let prepared = match from {
        Some(from) => folder.data_of(from)?,
        None => folder.own_data(DATA_HINT)?,
    };
    if Vit::facts(&prepared).hash.to_string() != folder.manifest.provenance.data_hash {
        say!("note: other data than the model was trained on");
    }
    Ok(prepared)
}

/// Embeds images of a set, as the folder's pixels are scaled.
pub fn embed(
    folder: &ModelFolder<Vit>,
    set: ImageSet,
    places: &[usize],
    submodels: &[Submodel],
) -> Result<Vec<Vectors>> {
    let size = folder.model.config().image_size;
    let augment = normalization(folder.preprocessor()?);
    let images = ImageBatches::new(set, &augment, size, 1, 0).bad_input()?;
    let bar = progress_bar("embedding");
    let vectors = embed_images(&folder.model, &images, places, submodels, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    vectors.bad_input()
}

/// What vectors are of.
struct Described {
    names: Vec<String>,
    labels: Vec<i64>,
    classes: Vec<String>,
    submodel: String,
    weights: String,
    data: String,
}

/// A form of file.
enum Form {
    /// NumPy's, and the rest as JSON beside it.
    Npy,
    /// With labels as a tensor, and the rest as metadata.
    Safetensors,
}

impl Form {
    fn of(path: &Path) -> Result<Self, Hinted> {
        match path.extension().and_then(|suffix| suffix.to_str()) {
            Some("npy") => Ok(Self::Npy),
            Some("safetensors") => Ok(Self::Safetensors),
            _ => Err(Hinted {
                message: format!("--out {}: of no known form", path.display()),
                hint: "expected a name that ends in .npy or .safetensors".to_owned(),
            }),
        }
    }

    /// The files that it writes.
    fn paths(&self, path: &Path) -> Vec<PathBuf> {
        match self {
            Self::Npy => vec![path.to_owned(), path.with_extension("json")],
            Self::Safetensors => vec![path.to_owned()],
        }
    }

    /// Writes the files, and names them.
    fn write(&self, path: &Path, vectors: &Vectors, of: &Described) -> Result<Vec<String>> {
        let values: Vec<u8> = vectors.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let shape = vec![vectors.len(), vectors.d];
        let shown = |path: &PathBuf| path.display().to_string();
        match self {
            Self::Npy => {
                let beside = path.with_extension("json");
                let text = json!({
                    "submodel": of.submodel, "weights": of.weights, "data": of.data,
                    "classes": of.classes, "labels": of.labels, "names": of.names,
                });
                fs::write_atomic(path, &[npy_header(shape[0], shape[1]), values].concat())?;
                fs::write_atomic(&beside, format!("{text}\n").as_bytes())?;
                Ok([path.to_owned(), beside].iter().map(shown).collect())
            }
            Self::Safetensors => {
                let labels: Vec<u8> = of.labels.iter().flat_map(|v| v.to_le_bytes()).collect();
                let tensors = [
                    ("embeddings", TensorView::new(Dtype::F32, shape.clone(), &values)?),
                    ("labels", TensorView::new(Dtype::I64, vec![shape[0]], &labels)?),
                ];
                let list = |list: &[String]| json!(list).to_string();
                let metadata: HashMap<String, String> = [
                    ("submodel", of.submodel.clone()),
                    ("weights", of.weights.clone()),
                    ("data", of.data.clone()),
                    ("classes", list(&of.classes)),
                    ("names", list(&of.names)),
                ]
                .map(|(key, value)| (key.to_owned(), value))
                .into();
                fs::write_atomic(path, &safetensors::serialize(tensors, Some(metadata))?)?;
                Ok(vec![shown(&path.to_owned())])
            }
        }
    }
}

/// The first bytes of a NumPy file of `[rows, columns]` f32, version 1.0: a multiple of 64.
fn npy_header(rows: usize, columns: usize) -> Vec<u8> {
    let mut text =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    // Magic, version and length take 10 bytes, the line end one.
    let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text = format!("{text:<width$}\n", width = length - 1);
    [b"\x93NUMPY\x01\x00".as_slice(), &(length as u16).to_le_bytes(), text.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::npy_header;

    #[test]
    fn numpy_headers_are_whole_lines_of_64() {
        for (rows, columns) in [(0, 1), (10_000, 96), (1_000_000_000, 1024)] {
            let header = npy_header(rows, columns);
            assert_eq!((header.len() % 64, header.last()), (0, Some(&b'\n')));
            let length = u16::from_le_bytes([header[8], header[9]]) as usize;
            assert_eq!(10 + length, header.len());
        }
    }
}
