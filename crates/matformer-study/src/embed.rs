//! Embeddings of images, and files of them for an index of one's own.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use matformer_core::{Submodel, fs};
use matformer_data::{ImageBatches, ImageSet, PreparedImages, spread};
use matformer_eval::retrieval::{Vectors, embed_images};
use matformer_run::{Data, Error, Hinted, ModelFolder, OrBadInput, Result, folder::normalization};
use matformer_runfile::Vit;
use matformer_train::say;
use safetensors::{Dtype, tensor::TensorView};
use serde::Serialize;
use serde_json::json;

/// What to do with a folder that names no data.
const DATA_HINT: &str = "name the images with --data: a run file, or the folder of a run";

/// A part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What is trained on.
    Train,
    /// What is held out.
    HeldOut,
}

/// Files of vectors that were written. Its JSON is stable.
#[derive(Debug, Serialize)]
pub struct Written {
    /// The files.
    pub files: Vec<String>,
    /// Number of vectors.
    pub n: usize,
    /// Values of each.
    pub d: usize,
    /// The submodel that embedded them.
    pub submodel: String,
}

/// Writes embeddings of `images` images of a part of the data, spread evenly, by a submodel.
///
/// # Errors
/// When an image or file cannot be read or written.
pub fn write(
    folder: &ModelFolder<Vit>,
    (prepared, part, images): (&PreparedImages, Part, Option<usize>),
    submodel: &Submodel,
    (form, out): (&Form, &Path),
) -> Result<Written> {
    let (set, names) = match part {
        Part::Train => (prepared.train(), prepared.train_names()),
        Part::HeldOut => (prepared.held_out(), prepared.held_out_names()),
    };
    let (set, names) = (set.bad_input()?, names.bad_input()?);
    let places = spread(set.len(), images.unwrap_or(usize::MAX));
    let vectors = embed(folder, set.clone(), &places, std::slice::from_ref(submodel))?.remove(0);
    let described = Described {
        names: places.iter().map(|place| names[*place].clone()).collect(),
        labels: places.iter().map(|place| set.label(*place) as i64).collect(),
        classes: set.classes().to_vec(),
        submodel: folder.space().label(submodel),
        weights: folder.manifest.weights_sha256.clone(),
        data: Vit::facts(prepared).hash.to_string(),
    };
    let files = form.write(out, &vectors, &described)?;
    Ok(Written { files, n: vectors.len(), d: vectors.d, submodel: described.submodel })
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
    let mut bar = folder.session.bar("embedding");
    let vectors = embed_images(&folder.model, &images, places, submodels, &mut |done, total| {
        bar.at(done as u64, total as u64);
    });
    drop(bar);
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// NumPy's, and the rest as JSON beside it.
    Npy,
    /// With labels as a tensor, and the rest as metadata.
    Safetensors,
}

impl Form {
    /// The form of a file with this name.
    ///
    /// # Errors
    /// When no form has such a name.
    pub fn of(path: &Path) -> Result<Self, Hinted> {
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
    pub fn paths(&self, path: &Path) -> Vec<PathBuf> {
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
                    (
                        "embeddings",
                        TensorView::new(Dtype::F32, shape.clone(), &values)
                            .map_err(Error::failed)?,
                    ),
                    (
                        "labels",
                        TensorView::new(Dtype::I64, vec![shape[0]], &labels)
                            .map_err(Error::failed)?,
                    ),
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
                let bytes =
                    safetensors::serialize(tensors, Some(metadata)).map_err(Error::failed)?;
                fs::write_atomic(path, &bytes)?;
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
