//! A vision transformer's `config.json`, as Hugging Face writes it.

use matformer_nn::{ConfigFile, Result};
use serde_json::{Map, Value, json};

use crate::{MatVitConfig, Pooling};

/// The sizes that a ViT's, DeiT's or DINOv2's `config.json` names, with feed-forward blocks of `d_ff`;
/// classes, tokens and granularities are left as they are by default.
///
/// # Errors
/// When a size is missing, or the transformer is none that a MatViT can be.
pub fn shape(file: &ConfigFile, d_ff: usize) -> Result<MatVitConfig> {
    file.check("hidden_act", "gelu", "")?;
    file.check("qkv_bias", true, ": a MatViT has biases everywhere")?;
    Ok(MatVitConfig {
        image_size: file.number("image_size")?,
        channels: file.number("num_channels")?,
        patch_size: file.number("patch_size")?,
        d_model: file.number("hidden_size")?,
        n_layers: file.number("num_hidden_layers")?,
        n_heads: file.number("num_attention_heads")?,
        d_ff,
        drop_path: file.float("drop_path_rate").unwrap_or(0.0),
        // What transformers takes where it is not said.
        norm_eps: file.float("layer_norm_eps").unwrap_or(match file.text("model_type") {
            Some("dinov2") => 1e-6,
            _ => 1e-12,
        }),
        ..MatVitConfig::default()
    })
}

/// The names of the classes in `id2label`, in their order; `None` where they are just numbered.
pub fn class_names(file: &ConfigFile) -> Option<Vec<String>> {
    let labels = file.get("id2label")?.as_object()?;
    let name = |i: usize| Some(labels.get(&i.to_string())?.as_str()?.to_owned());
    let names: Vec<String> = (0..labels.len()).map(name).collect::<Option<_>>()?;
    let numbered = |(i, name): (usize, &String)| *name == format!("LABEL_{i}");
    (!names.iter().enumerate().all(numbered)).then_some(names)
}

/// `config.json` of a model: a plain `vit` one where a class token is what the head sees, so that
/// transformers loads it without code of ours; `matvit` with mean pooling, which has no place there.
pub(crate) fn write(c: &MatVitConfig) -> Map<String, Value> {
    let (architecture, model_type) = match c.pooling {
        Pooling::ClassToken if !c.distillation_token => ("ViTForImageClassification", "vit"),
        _ => ("MatVitForImageClassification", "matvit"),
    };
    let label = |i: usize| match &c.class_names {
        Some(names) => names[i].clone(),
        None => format!("LABEL_{i}"),
    };
    let id2label: Map<String, Value> =
        (0..c.classes).map(|i| (i.to_string(), label(i).into())).collect();
    let label2id: Map<String, Value> = (0..c.classes).map(|i| (label(i), i.into())).collect();
    let config = json!({
        "architectures": [architecture],
        "model_type": model_type,
        "hidden_act": "gelu",
        "hidden_size": c.d_model,
        "intermediate_size": c.d_ff,
        "num_hidden_layers": c.n_layers,
        "num_attention_heads": c.n_heads,
        "image_size": c.image_size,
        "patch_size": c.patch_size,
        "num_channels": c.channels,
        "layer_norm_eps": c.norm_eps,
        "qkv_bias": true,
        "pooling": c.pooling,
        "distillation_token": c.distillation_token,
        "drop_path_rate": c.drop_path,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "id2label": id2label,
        "label2id": label2id,
        "dtype": "float32",
        "torch_dtype": "float32",
    });
    match config {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
