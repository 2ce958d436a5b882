//! A MatLM's folder: a Hugging Face folder, with the names and keys of the model's family.

use burn::tensor::Device;
use matformer_core::{Dtype, Space};
use matformer_nn::{
    ConfigFile, Folder, Result,
    folder::{CONFIG, json_text},
};
use serde_json::Value;

use crate::{MatLm, MatLmConfig, SpecialTokens, families::Family};

impl Folder for MatLm {
    const KIND: &'static str = "matlm";

    type Config = MatLmConfig;

    fn config(&self) -> &MatLmConfig {
        Self::config(self)
    }

    fn unset(config: &MatLmConfig, space: Space, device: &Device) -> Result<Self> {
        Ok(Self::unset(config, space, device))
    }

    fn read_config(file: &ConfigFile) -> Result<MatLmConfig> {
        let config = Family::read_config(file)?;
        let special_tokens = SpecialTokens::read(file, config.vocab_size)?;
        Ok(MatLmConfig { special_tokens, ..config })
    }

    fn config_files(&self, dtype: Dtype) -> Vec<(&'static str, String)> {
        let c = self.config();
        let family = Family::of(c);
        let mut config = (family.write)(c);
        config.extend(c.special_tokens.ids().clone());
        for key in ["dtype", "torch_dtype"] {
            config.insert(key.to_owned(), dtype.name().into());
        }
        let (generation, said) = c.special_tokens.generation(c.context);
        let mut files =
            vec![(CONFIG, json_text(&Value::Object(config))), (generation, json_text(&said))];
        files.extend(family.files.iter().map(|(name, text)| (*name, (*text).to_owned())));
        files
    }

    fn tensor_name(&self, path: &str) -> String {
        (Family::of(self.config()).tensor_name)(path)
    }

    fn config_key(field: &str) -> &str {
        match field {
            "d_model" => "hidden_size",
            "n_layers" => "num_hidden_layers",
            "n_heads" => "num_attention_heads",
            "n_kv_heads" => "num_key_value_heads",
            "d_ff" => "intermediate_size",
            "context" => "max_position_embeddings",
            "norm_eps" => "rms_norm_eps",
            "window.size" => "sliding_window",
            "rope_scaling.original_context" => "original_max_position_embeddings",
            same => same,
        }
    }
}
