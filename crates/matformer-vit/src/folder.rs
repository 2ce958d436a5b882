//! A MatViT's folder: Hugging Face's `config.json` and tensor names.

use burn::tensor::Device;
use matformer_core::{Dtype, Space};
use matformer_nn::{
    ConfigFile, Folder, Result,
    folder::{CONFIG, json_text},
    params,
};
use serde_json::Value;

use crate::{MatVit, MatVitConfig, hugging_face};

impl Folder for MatVit {
    const KIND: &'static str = "matvit";

    type Config = MatVitConfig;

    fn config(&self) -> &MatVitConfig {
        Self::config(self)
    }

    fn unset(config: &MatVitConfig, space: Space, device: &Device) -> Result<Self> {
        Ok(Self::unset(config, space, device))
    }

    fn read_config(file: &ConfigFile) -> Result<MatVitConfig> {
        hugging_face::read(file)
    }

    fn config_files(&self, dtype: Dtype) -> Vec<(&'static str, String)> {
        vec![(CONFIG, json_text(&Value::Object(hugging_face::write(self.config(), dtype))))]
    }

    fn tensor_name(&self, path: &str) -> String {
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
        let Some((layer, part)) = params::in_layer(path) else { return path.to_owned() };
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
