//! A MatViT's folder: Hugging Face's `config.json` and tensor names.

use std::path::Path;

use burn::tensor::Device;
use matformer_core::{Manifest, fs};
use matformer_nn::{
    Error as NnError, Folder,
    folder::{CONFIG, TensorName},
};
use serde_json::{Map, Value, json};

use crate::{Error, MatVit, MatVitConfig, Pooling};

impl Folder for MatVit {
    const KIND: &'static str = "matvit";

    fn build(dir: &Path, manifest: &Manifest, device: &Device) -> matformer_nn::Result<Self> {
        let path = dir.join(CONFIG);
        let text = fs::read_to_string(&path)?;
        let malformed = |found: String, expected: &str| NnError::File {
            path: path.clone(),
            found,
            expected: expected.to_owned(),
        };
        let value: Value =
            serde_json::from_str(&text).map_err(|e| malformed(e.to_string(), "a JSON object"))?;
        let config = from_hugging_face(&value, manifest)
            .map_err(|(found, expected)| malformed(found, &expected))?;
        let model = Self::zeros(&config, device).map_err(|e| match e {
            Error::Nn(e) => e,
            Error::Config { field, found, expected } => {
                malformed(format!("`{}` is {found}", hugging_face_key(field)), &expected)
            }
            other => malformed(other.to_string(), "a configuration that makes a model"),
        })?;
        Ok(model.with_granularities(manifest.granularities.clone()))
    }

    fn config_files(&self) -> Vec<(String, String)> {
        let config = Value::Object(to_hugging_face(self.config()));
        vec![(CONFIG.to_owned(), format!("{config:#}\n"))]
    }

    fn tensor_name(path: &str) -> TensorName {
        let stored = |name: String, transposed| TensorName { name, transposed };
        let outer = match path {
            "patch" => "vit.embeddings.patch_embeddings.projection.weight",
            "patch_bias" => "vit.embeddings.patch_embeddings.projection.bias",
            "class_token" => "vit.embeddings.cls_token",
            "positions" => "vit.embeddings.position_embeddings",
            "norm.gamma" => "vit.layernorm.weight",
            "norm.beta" => "vit.layernorm.bias",
            "head.weight" => return stored("classifier.weight".to_owned(), true),
            "head.bias" => "classifier.bias",
            _ => "",
        };
        if !outer.is_empty() {
            return stored(outer.to_owned(), false);
        }
        // layers.N.part
        let mut parts = path.splitn(3, '.');
        let (_, layer, part) =
            (parts.next(), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let (name, transposed) = match part {
            "attention_norm.gamma" => ("layernorm_before.weight", false),
            "attention_norm.beta" => ("layernorm_before.bias", false),
            "ffn_norm.gamma" => ("layernorm_after.weight", false),
            "ffn_norm.beta" => ("layernorm_after.bias", false),
            "attention.q.weight" => ("attention.attention.query.weight", true),
            "attention.q.bias" => ("attention.attention.query.bias", false),
            "attention.k.weight" => ("attention.attention.key.weight", true),
            "attention.k.bias" => ("attention.attention.key.bias", false),
            "attention.v.weight" => ("attention.attention.value.weight", true),
            "attention.v.bias" => ("attention.attention.value.bias", false),
            "attention.o.weight" => ("attention.output.dense.weight", true),
            "attention.o.bias" => ("attention.output.dense.bias", false),
            "ffn.up" => ("intermediate.dense.weight", false),
            "ffn.up_bias" => ("intermediate.dense.bias", false),
            "ffn.down" => ("output.dense.weight", true),
            "ffn.down_bias" => ("output.dense.bias", false),
            other => (other, false),
        };
        stored(format!("vit.encoder.layer.{layer}.{name}"), transposed)
    }
}

/// `config.json` of a model: a plain `vit` one where a class token is what the head sees, so that
/// transformers loads it without code of ours; `matvit` with mean pooling, which has no place there.
fn to_hugging_face(c: &MatVitConfig) -> Map<String, Value> {
    let (architecture, model_type) = match c.pooling {
        Pooling::ClassToken => ("ViTForImageClassification", "vit"),
        Pooling::Mean => ("MatVitForImageClassification", "matvit"),
    };
    let label = |i: usize| format!("LABEL_{i}");
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

/// What `config.json` calls a field of ours.
fn hugging_face_key(field: &str) -> &str {
    match field {
        "d_model" => "hidden_size",
        "n_layers" => "num_hidden_layers",
        "n_heads" => "num_attention_heads",
        "d_ff" => "intermediate_size",
        "channels" => "num_channels",
        "classes" => "id2label",
        "norm_eps" => "layer_norm_eps",
        same => same,
    }
}

/// The way back; widths and granularities come from the manifest.
///
/// The error is (what was found, what was expected).
fn from_hugging_face(
    value: &Value,
    manifest: &Manifest,
) -> std::result::Result<MatVitConfig, (String, String)> {
    let wrong = |key: &str, expected: &str| {
        (format!("`{key}`: {}", value.get(key).unwrap_or(&Value::Null)), expected.to_owned())
    };
    let number = |key: &str| {
        let number = value.get(key).and_then(Value::as_u64);
        number.map(|n| n as usize).ok_or_else(|| wrong(key, "a whole number"))
    };
    let pooling = match value.get("model_type").and_then(Value::as_str) {
        Some("vit") => Pooling::ClassToken,
        Some("matvit") => Pooling::Mean,
        _ => return Err(wrong("model_type", "`vit` or `matvit`")),
    };
    if value.get("hidden_act").and_then(Value::as_str).is_some_and(|found| found != "gelu") {
        return Err(wrong("hidden_act", "`gelu`"));
    }
    if value.get("qkv_bias").and_then(Value::as_bool) == Some(false) {
        return Err(wrong("qkv_bias", "true: a MatViT has biases everywhere"));
    }
    let classes = value.get("id2label").and_then(Value::as_object).map(Map::len);
    let config = MatVitConfig {
        image_size: number("image_size")?,
        channels: number("num_channels")?,
        patch_size: number("patch_size")?,
        classes: classes.ok_or_else(|| wrong("id2label", "a label for each class"))?,
        d_model: number("hidden_size")?,
        n_layers: number("num_hidden_layers")?,
        n_heads: number("num_attention_heads")?,
        d_ff: number("intermediate_size")?,
        granularities: Some(manifest.granularities.widths()),
        width_multiple: manifest.multiple,
        pooling,
        norm_eps: value.get("layer_norm_eps").and_then(Value::as_f64).unwrap_or(1e-12),
        layer_d_ff: None,
    };
    for (key, ours, theirs) in [
        ("intermediate_size", config.d_ff, manifest.d_ff),
        ("num_hidden_layers", config.n_layers, manifest.n_layers),
    ] {
        if ours != theirs {
            return Err(wrong(key, &format!("{theirs}, as in `{}`", Manifest::FILE)));
        }
    }
    Ok(config)
}
