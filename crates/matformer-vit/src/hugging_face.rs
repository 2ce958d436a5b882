//! A vision transformer's `config.json`, as Hugging Face writes it.

use matformer_core::Dtype;
use matformer_nn::{ConfigFile, Result};
use serde_json::{Map, Value, json};

use crate::{MatVitConfig, Pooling};

/// Feed-forward width of each layer, where layers differ.
const WIDTHS: &str = "layer_d_ff";

/// The configuration in a `config.json` that [`write`] or transformers' ViT wrote.
pub(crate) fn read(file: &ConfigFile) -> Result<MatVitConfig> {
    let (pooling, layer_d_ff) = match file.text("model_type") {
        Some("vit") => (Pooling::ClassToken, None),
        Some("matvit") => (pooling(file)?, file.optional_list(WIDTHS)?),
        _ => return Err(file.wrong("model_type", "`vit` or `matvit`")),
    };
    let labels = file.get("id2label").and_then(Value::as_object);
    let labels = labels.ok_or_else(|| file.wrong("id2label", "a label for each class"))?;
    Ok(MatVitConfig {
        classes: labels.len(),
        pooling,
        distillation_token: file.flag("distillation_token")?,
        class_names: class_names(file),
        layer_d_ff,
        ..shape(file, file.number("intermediate_size")?)?
    })
}

fn pooling(file: &ConfigFile) -> Result<Pooling> {
    match file.text("pooling") {
        Some("class_token") => Ok(Pooling::ClassToken),
        Some("mean") => Ok(Pooling::Mean),
        None if file.get("pooling").is_none() => Ok(Pooling::Mean),
        _ => Err(file.wrong("pooling", "`class_token` or `mean`")),
    }
}

/// The sizes in the `config.json` of a ViT, DeiT or DINOv2, with feed-forward blocks of width
/// `d_ff`. Classes, tokens and granularities keep their defaults.
///
/// # Errors
/// When a size is missing, or a key asks for something that a MatViT does not have.
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
        drop_path: file.float("drop_path_rate")?.unwrap_or(0.0),
        // Where the key is missing, transformers takes these values.
        norm_eps: file.float("layer_norm_eps")?.unwrap_or(match file.text("model_type") {
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

/// `config.json` of a model. It is a plain `vit`, which transformers loads without any code of
/// ours, unless the model has something that `vit` does not: mean pooling, a distillation token or
/// layers of unequal widths.
pub(crate) fn write(c: &MatVitConfig, dtype: Dtype) -> Map<String, Value> {
    let is_vit =
        c.pooling == Pooling::ClassToken && !c.distillation_token && c.layer_d_ff.is_none();
    let (architecture, model_type) = if is_vit {
        ("ViTForImageClassification", "vit")
    } else {
        ("MatVitForImageClassification", "matvit")
    };
    let label = |i: usize| match &c.class_names {
        Some(names) => names[i].clone(),
        None => format!("LABEL_{i}"),
    };
    let id2label: Map<String, Value> =
        (0..c.classes).map(|i| (i.to_string(), label(i).into())).collect();
    let label2id: Map<String, Value> = (0..c.classes).map(|i| (label(i), i.into())).collect();
    let mut config = json!({
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
        "dtype": dtype.name(),
        "torch_dtype": dtype.name(),
    });
    if let Some(widths) = &c.layer_d_ff {
        config[WIDTHS] = json!(widths);
    }
    match config {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
