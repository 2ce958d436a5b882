//! timm's folders, written.

use std::{collections::BTreeMap, path::Path};

use matformer_core::{Dtype, fs};
use matformer_nn::{
    Elastic, Error, Folder, Result,
    folder::CONFIG,
    weights::{self, StoredTensor},
};
use matformer_vit::{MatVit, MatVitConfig, Pooling};
use serde_json::{Value, json};

use crate::{Preprocessor, names::Names};

/// What timm adds to the variance in the norms of a vision transformer.
pub const NORM_EPS: f64 = 1e-6;

/// Writes a model whose layers are equally wide into `dir` as timm writes one: `config.json` and
/// `model.safetensors`, which `timm.create_model("local-dir:DIR", pretrained=True)` loads. The folder
/// as a whole is not written atomically: publish it with [`matformer_core::fs::publish_dir`]. timm
/// adds 1e-6 ([`NORM_EPS`]) to the variance in norms, so a model with another `norm_eps` gives
/// slightly different numbers there.
///
/// # Errors
/// When layers differ in width, or a file cannot be written.
pub fn save_timm(model: &MatVit, preprocessor: &Preprocessor, dir: &Path) -> Result<()> {
    let tensors = weights::stored(model, Dtype::F32, |path| model.tensor_name(path));
    save_timm_as(model, tensors, preprocessor, dir)
}

/// The same for a model whose parameters may be unset: `tensors` are what is written of them, under
/// the names of the model's own folder.
///
/// # Errors
/// As [`save_timm`].
pub fn save_timm_as(
    model: &MatVit,
    tensors: Vec<StoredTensor<'_>>,
    preprocessor: &Preprocessor,
    dir: &Path,
) -> Result<()> {
    let config = model.config();
    if model.space().largest().uniform_width().is_none() || config.layer_d_ff.is_some() {
        return Err(Error::Config {
            field: "layer_d_ff".to_owned(),
            found: config.layer_d_ff.as_ref().map_or("absent".to_owned(), |w| format!("{w:?}")),
            expected: "one width for all layers: timm has no other".to_owned(),
        });
    }
    let norm = match config.pooling {
        Pooling::ClassToken => "norm",
        Pooling::Mean => "fc_norm",
    };
    fs::create_dir_all(dir)?;
    let text = format!("{:#}\n", description(config, preprocessor));
    fs::write_atomic(dir.join(CONFIG), text.as_bytes())?;
    let tensors = renamed(tensors, &Names::Timm { norm });
    weights::write_folder(dir, tensors, u64::MAX)?;
    Ok(())
}

/// The same tensors under timm's names: queries, keys and values in one, in this order.
fn renamed<'a>(tensors: Vec<StoredTensor<'a>>, names: &Names) -> Vec<StoredTensor<'a>> {
    let mut thirds: BTreeMap<String, BTreeMap<usize, StoredTensor<'a>>> = BTreeMap::new();
    let mut renamed = Vec::new();
    for mut tensor in tensors {
        let place = names.place(&tensor.name);
        tensor.name.clone_from(&place.name);
        match place.third {
            None => renamed.push(tensor),
            Some(third) => {
                thirds.entry(place.name).or_default().insert(third, tensor);
            }
        }
    }
    renamed.extend(thirds.into_values().filter_map(|thirds| {
        thirds.into_values().reduce(|mut whole, third| {
            whole.append(third);
            whole
        })
    }));
    renamed
}

/// timm's `config.json`: an architecture that it knows, with every size as an argument.
fn description(c: &MatVitConfig, preprocessor: &Preprocessor) -> Value {
    let architecture = match (c.distillation_token, c.d_model) {
        (true, _) => "deit_base_distilled_patch16_224",
        (false, 192) => "vit_tiny_patch16_224",
        (false, 384) => "vit_small_patch16_224",
        (false, 1024) => "vit_large_patch16_224",
        (false, _) => "vit_base_patch16_224",
    };
    let global_pool = match c.pooling {
        Pooling::ClassToken => "token",
        Pooling::Mean => "avg",
    };
    let size = [c.image_size, c.image_size];
    let mut description = json!({
        "architecture": architecture,
        "num_classes": c.classes,
        "num_features": c.d_model,
        "global_pool": global_pool,
        "model_args": {
            "img_size": size,
            "patch_size": c.patch_size,
            "in_chans": c.channels,
            "num_classes": c.classes,
            "global_pool": global_pool,
            "embed_dim": c.d_model,
            "depth": c.n_layers,
            "num_heads": c.n_heads,
            "mlp_ratio": ratio(c.d_ff, c.d_model),
            "class_token": c.pooling == Pooling::ClassToken,
        },
        "pretrained_cfg": {
            "custom_load": false,
            "input_size": [c.channels, c.image_size, c.image_size],
            "fixed_input_size": true,
            "interpolation": "bilinear",
            "crop_pct": preprocessor.crop_pct(c.image_size),
            "crop_mode": "center",
            "mean": preprocessor.normalization.mean,
            "std": preprocessor.normalization.std,
            "num_classes": c.classes,
            "pool_size": null,
            // Which weights timm may average over colors.
            "first_conv": matches!(c.channels, 1 | 3).then_some("patch_embed.proj"),
            "classifier": if c.distillation_token { json!(["head", "head_dist"]) } else { json!("head") },
        },
    });
    if let Some(names) = &c.class_names {
        description["label_names"] = json!(names);
    }
    description
}

/// A ratio r of which timm makes the width again, as `int(d_model * r)`.
fn ratio(d_ff: usize, d_model: usize) -> f64 {
    let ratio = d_ff as f64 / d_model as f64;
    if (d_model as f64 * ratio) as usize == d_ff {
        ratio
    } else {
        (d_ff as f64 + 0.5) / d_model as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_make_the_width_again() {
        for d_model in 1..400 {
            for d_ff in 1..800 {
                let made = (d_model as f64 * ratio(d_ff, d_model)) as usize;
                assert_eq!(made, d_ff, "{d_model}");
            }
        }
    }
}
