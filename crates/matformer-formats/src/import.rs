//! Vision transformers of other programs, as elastic models.

use std::{collections::HashMap, path::Path};

use burn::tensor::{Device, TensorData};
use matformer_core::Dtype;
use matformer_nn::{
    ConfigFile, Folder, ModelConfig, Result, params,
    weights::{Tensors, WeightFiles},
};
use matformer_vit::{MatVit, MatVitConfig};

use crate::{
    Preprocessor,
    describe::{Described, describe},
    names::Names,
    widths::named_widths,
};

/// A vision transformer that was read from another program's folder.
#[derive(Debug)]
pub struct ImportedVit {
    /// The model: its widest submodel is exactly that transformer.
    pub model: MatVit,
    /// Settings of the image processor, if the folder has them.
    pub preprocessor: Option<Preprocessor>,
    /// Tensors that have no part in what the model computes, by name.
    pub left_out: Vec<String>,
    /// Whether it has no head: the model got one of zeros, of one class.
    pub headless: bool,
    /// What it is: `a ViT of timm`.
    pub format: &'static str,
    /// How its weights are stored; f32 where a scale became part of them.
    pub dtype: Dtype,
    /// SHA-256 of its weights.
    pub weights_sha256: String,
}

/// Reads a folder of `config.json` and `model.safetensors` (or several with their index) that
/// transformers (ViT, DeiT with teacher, DINOv2) or timm (`vit_…`, `deit_…`, `deit3_…`) wrote. Queries,
/// keys and values in one are taken apart, a scale of a branch (LayerScale) becomes part of its last
/// matrix. `granularities` are the widths that get names, ascending; if absent d_ff/8, /4, /2, /1, or d_ff alone
/// where 8 does not divide it. Nothing is guessed: every tensor is either a parameter, or named in
/// [`left_out`](ImportedVit::left_out), or an error.
///
/// # Errors
/// When the folder is not one of these, or a tensor is missing, of another shape, not finite, or
/// unknown to the model.
pub fn import_vit(
    dir: &Path,
    granularities: Option<&[usize]>,
    device: &Device,
) -> Result<ImportedVit> {
    let file = ConfigFile::read(dir)?;
    let files = WeightFiles::open(dir)?;
    let mut tensors = files.tensors()?;
    let described = describe(&file, &tensors)?;
    let d_ff = described.config.d_ff;
    let whole = MatVitConfig {
        granularities: Some(vec![d_ff]),
        width_multiple: 1,
        ..described.config.clone()
    };
    if whole.n_layers > tensors.len() {
        let expected = format!("at most {}, the tensors of the weights", tensors.len());
        return Err(file.wrong("num_hidden_layers", &expected));
    }
    whole.validate().map_err(|error| match described.names {
        // Its sizes were read from its tensors.
        Names::Timm { .. } => file.blame(error, |field| field),
        _ => file.blame(error, MatVit::config_key),
    })?;
    let default = match d_ff.is_multiple_of(8) {
        true => [8, 4, 2, 1].map(|n| d_ff / n).to_vec(),
        false => vec![d_ff],
    };
    let (widths, width_multiple) = named_widths(granularities, d_ff, default)?;
    let config = MatVitConfig { granularities: Some(widths), width_multiple, ..whole };
    // An error here is about the widths that were asked for.
    config.validate()?;
    let model = <MatVit as Folder>::unset(&config, config.space()?, device)?;
    let names: HashMap<String, String> = params::shapes(&model)
        .into_iter()
        .map(|(path, _)| (path.clone(), model.tensor_name(&path)))
        .collect();
    let scaled = described.names.scale(0, 1).is_some_and(|scale| tensors.shape(&scale).is_some());
    let dtype = if scaled { Dtype::F32 } else { tensors.dtype() };
    let model = params::fill(model, |path, shape| {
        read(&described, &mut tensors, &names[path], path, shape)
    })?;
    let MatVitConfig { image_size, channels, .. } = config;
    let preprocessor = match Preprocessor::read(dir, image_size, channels)? {
        None if file.text("model_type").is_none() => {
            Preprocessor::of_timm(&file, image_size, channels)?
        }
        found => found,
    };
    let left_out: Vec<String> = tensors.unread().map(str::to_owned).collect();
    let n = tensors.len() - left_out.len();
    tensors.check_only(
        |name| described.names.is_spare(name) || !left_out.iter().any(|l| l == name),
        n,
    )?;
    Ok(ImportedVit {
        model,
        preprocessor,
        left_out,
        headless: !described.head,
        format: described.format,
        dtype,
        weights_sha256: files.hash(),
    })
}

/// Values of the parameter at `path`.
fn read(
    described: &Described,
    tensors: &mut Tensors<'_>,
    stored: &str,
    path: &str,
    shape: &[usize],
) -> Result<TensorData> {
    if !described.head && path.contains("head.") {
        return Ok(TensorData::zeros::<f32, _>(shape.to_vec()));
    }
    let place = described.names.place(stored);
    let mut values = match place.third {
        None if path == "positions" => positions(described, tensors, &place.name, shape)?,
        None => tensors.read(&place.name, shape)?,
        Some(third) => {
            let mut whole = shape.to_vec();
            whole[0] *= 3;
            let n: usize = shape.iter().product();
            let values = tensors.read(&place.name, &whole)?;
            values[third * n..][..n].to_vec()
        }
    };
    if let Some(scale) = scale_of(described, path)
        && tensors.shape(&scale).is_some()
    {
        let scale = tensors.read(&scale, &shape[..1])?;
        let per_row = values.len() / scale.len().max(1);
        for (row, scale) in values.chunks_mut(per_row).zip(scale) {
            row.iter_mut().for_each(|value| *value *= scale);
        }
    }
    Ok(TensorData::new(values, shape.to_vec()))
}

/// Positions of all tokens: nothing is added to the tokens in front where only patches have them.
fn positions(
    described: &Described,
    tensors: &mut Tensors<'_>,
    name: &str,
    shape: &[usize],
) -> Result<Vec<f32>> {
    let (c, patches) = (&described.config, described.config.patches());
    let only_patches = [1, patches, c.d_model];
    match tensors.shape(name) {
        Some(found) if found == only_patches && found != shape => {
            let mut values = vec![0.0; c.extra_tokens() * c.d_model];
            values.extend(tensors.read(name, &only_patches)?);
            Ok(values)
        }
        _ => tensors.read(name, shape),
    }
}

/// The tensor that scales what the parameter at `path` writes, if there may be one.
fn scale_of(described: &Described, path: &str) -> Option<String> {
    let (layer, part) = params::in_layer(path)?;
    match part {
        "attention.o.weight" | "attention.o.bias" => described.names.scale(layer, 1),
        "ffn.down" | "ffn.down_bias" => described.names.scale(layer, 2),
        _ => None,
    }
}
