//! A MatViT's folder: Hugging Face's `config.json` and tensor names.

use burn::tensor::Device;
use matformer_core::{Dtype, Space};
use matformer_nn::{
    ConfigFile, Folder, Result,
    folder::{CONFIG, TensorName},
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

    fn config_files(&self, dtype: Dtype) -> Vec<(&'static str, Value)> {
        vec![(CONFIG, Value::Object(hugging_face::write(self.config(), dtype)))]
    }

    fn tensor_name(&self, path: &str) -> TensorName {
        let stored = |name: String, transposed| TensorName { name, transposed };
        let outer = match path {
            "patch" => "vit.embeddings.patch_embeddings.projection.weight",
            "patch_bias" => "vit.embeddings.patch_embeddings.projection.bias",
            "class_token" => "vit.embeddings.cls_token",
            "distillation_token" => "vit.embeddings.distillation_token",
            "positions" => "vit.embeddings.position_embeddings",
            "norm.gamma" => "vit.layernorm.weight",
            "norm.beta" => "vit.layernorm.bias",
            "head.weight" => return stored("classifier.weight".to_owned(), true),
            "head.bias" => "classifier.bias",
            "distillation_head.weight" => {
                return stored("distillation_classifier.weight".to_owned(), true);
            }
            "distillation_head.bias" => "distillation_classifier.bias",
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
