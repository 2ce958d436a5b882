//! A MatViT's folder: Hugging Face's `config.json` and tensor names.

use std::path::Path;

use burn::tensor::Device;
use matformer_core::{Granularities, Manifest};
use matformer_nn::{ConfigFile, Configured, Folder, Result, folder::CONFIG};
use serde_json::Value;

use crate::{MatVit, MatVitConfig, Pooling, hugging_face};

impl Folder for MatVit {
    const KIND: &'static str = "matvit";

    fn build(dir: &Path, manifest: &Manifest, device: &Device) -> Result<Self> {
        matformer_nn::build(dir, manifest, device)
    }

    fn config_files(&self) -> Vec<(String, String)> {
        let config = Value::Object(hugging_face::write(self.config()));
        vec![(CONFIG.to_owned(), format!("{config:#}\n"))]
    }

    fn tensor_name(path: &str) -> String {
        let outer = match path {
            "patch" => "vit.embeddings.patch_embeddings.projection.weight",
            "patch_bias" => "vit.embeddings.patch_embeddings.projection.bias",
            "class_token" => "vit.embeddings.cls_token",
            "distillation_token" => "vit.embeddings.distillation_token",
            "positions" => "vit.embeddings.position_embeddings",
            "norm.gamma" => "vit.layernorm.weight",
            "norm.beta" => "vit.layernorm.bias",
            "head.weight" => "classifier.weight",
            "head.bias" => "classifier.bias",
            "distillation_head.weight" => "distillation_classifier.weight",
            "distillation_head.bias" => "distillation_classifier.bias",
            _ => "",
        };
        if !outer.is_empty() {
            return outer.to_owned();
        }
        // layers.N.part
        let mut parts = path.splitn(3, '.');
        let (_, layer, part) =
            (parts.next(), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let name = match part {
            "attention_norm.gamma" => "layernorm_before.weight",
            "attention_norm.beta" => "layernorm_before.bias",
            "ffn_norm.gamma" => "layernorm_after.weight",
            "ffn_norm.beta" => "layernorm_after.bias",
            "attention.q.weight" => "attention.attention.query.weight",
            "attention.q.bias" => "attention.attention.query.bias",
            "attention.k.weight" => "attention.attention.key.weight",
            "attention.k.bias" => "attention.attention.key.bias",
            "attention.v.weight" => "attention.attention.value.weight",
            "attention.v.bias" => "attention.attention.value.bias",
            "attention.o.weight" => "attention.output.dense.weight",
            "attention.o.bias" => "attention.output.dense.bias",
            "ffn.up" => "intermediate.dense.weight",
            "ffn.up_bias" => "intermediate.dense.bias",
            "ffn.down" => "output.dense.weight",
            "ffn.down_bias" => "output.dense.bias",
            other => other,
        };
        format!("vit.encoder.layer.{layer}.{name}")
    }
}

impl Configured for MatVit {
    type Config = MatVitConfig;

    fn config(&self) -> &MatVitConfig {
        Self::config(self)
    }

    fn unset(config: &MatVitConfig, device: &Device) -> Result<Self> {
        Self::zeros(config, device)
    }

    fn with_granularities(self, granularities: Granularities) -> Self {
        Self::with_granularities(self, granularities)
    }

    fn read_config(file: &ConfigFile, manifest: &Manifest) -> Result<MatVitConfig> {
        let pooling = match (file.text("model_type"), file.text("pooling")) {
            (Some("vit"), _) | (Some("matvit"), Some("class_token")) => Pooling::ClassToken,
            (Some("matvit"), None | Some("mean")) => Pooling::Mean,
            (Some("matvit"), _) => return Err(file.wrong("pooling", "`class_token` or `mean`")),
            _ => return Err(file.wrong("model_type", "`vit` or `matvit`")),
        };
        let shape = hugging_face::shape(file, file.number("intermediate_size")?)?;
        let labels = file.get("id2label").and_then(Value::as_object);
        let labels = labels.ok_or_else(|| file.wrong("id2label", "a label for each class"))?;
        Ok(MatVitConfig {
            classes: labels.len(),
            granularities: Some(manifest.granularities.widths()),
            width_multiple: manifest.multiple,
            pooling,
            distillation_token: file.get("distillation_token") == Some(&Value::Bool(true)),
            class_names: hugging_face::class_names(file),
            ..shape
        })
    }

    fn config_key(field: &str) -> &str {
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
}
