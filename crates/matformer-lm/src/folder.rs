//! A MatLM's folder: Hugging Face's `config.json` and tensor names.

use std::path::Path;

use burn::tensor::{Device, TensorData};
use matformer_core::{Granularities, Granularity, Manifest, Submodel, fs};
use matformer_nn::{Activation, Elastic, Error as NnError, Folder, folder::TensorName, params};
use serde_json::{Map, Value, json};

use crate::{Error, MatLm, MatLmConfig, Result};

/// Token that begins every document and ends it; id 0 of the tokenizers that we train.
const EOS: u32 = 0;

impl Folder for MatLm {
    const KIND: &'static str = "matlm";

    fn build(dir: &Path, manifest: &Manifest, device: &Device) -> matformer_nn::Result<Self> {
        let path = dir.join(matformer_nn::folder::CONFIG);
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
        let c = self.config();
        let config = to_hugging_face(c);
        let generation = json!({
            "bos_token_id": EOS,
            "eos_token_id": EOS,
            "pad_token_id": EOS,
            "max_length": c.context,
        });
        [("config.json", Value::Object(config)), ("generation_config.json", generation)]
            .map(|(name, value)| (name.to_owned(), format!("{value:#}\n")))
            .to_vec()
    }

    fn tensor_name(path: &str) -> TensorName {
        let stored = |name: String, transposed| TensorName { name, transposed };
        match path {
            "embed" => return stored("model.embed_tokens.weight".to_owned(), false),
            "head" => return stored("lm_head.weight".to_owned(), false),
            "norm.gamma" => return stored("model.norm.weight".to_owned(), false),
            _ => {}
        }
        // layers.N.part
        let mut parts = path.splitn(3, '.');
        let (_, layer, part) =
            (parts.next(), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let (name, transposed) = match part {
            "attention_norm.gamma" => ("input_layernorm", false),
            "ffn_norm.gamma" => ("post_attention_layernorm", false),
            "attention.q.weight" => ("self_attn.q_proj", true),
            "attention.k.weight" => ("self_attn.k_proj", true),
            "attention.v.weight" => ("self_attn.v_proj", true),
            "attention.o.weight" => ("self_attn.o_proj", true),
            "ffn.up" => ("mlp.up_proj", false),
            "ffn.gate" => ("mlp.gate_proj", false),
            "ffn.down" => ("mlp.down_proj", true),
            other => (other, false),
        };
        stored(format!("model.layers.{layer}.{name}.weight"), transposed)
    }
}

/// `config.json` of a model: a plain `llama` one for SwiGLU, so that transformers loads it
/// without code of ours; `matlm` for the paper's two-matrix form.
fn to_hugging_face(c: &MatLmConfig) -> Map<String, Value> {
    let gated = c.activation == Activation::SwiGlu;
    let (architecture, model_type, act) = match gated {
        true => ("LlamaForCausalLM", "llama", "silu"),
        false => ("MatLmForCausalLM", "matlm", "gelu"),
    };
    let config = json!({
        "architectures": [architecture],
        "model_type": model_type,
        "hidden_act": act,
        "vocab_size": c.vocab_size,
        "hidden_size": c.d_model,
        "intermediate_size": c.d_ff,
        "num_hidden_layers": c.n_layers,
        "num_attention_heads": c.n_heads,
        "num_key_value_heads": c.n_kv_heads,
        "head_dim": c.head_dim(),
        "max_position_embeddings": c.context,
        "rms_norm_eps": c.norm_eps,
        "rope_theta": c.rope_theta,
        "rope_parameters": { "rope_type": "default", "rope_theta": c.rope_theta },
        "tie_word_embeddings": c.tied_embeddings,
        "attention_bias": false,
        "mlp_bias": false,
        "bos_token_id": EOS,
        "eos_token_id": EOS,
        "pad_token_id": EOS,
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
        "n_kv_heads" => "num_key_value_heads",
        "d_ff" => "intermediate_size",
        "context" => "max_position_embeddings",
        "norm_eps" => "rms_norm_eps",
        same => same,
    }
}

/// The way back; widths and granularities come from the manifest.
///
/// The error is (what was found, what was expected).
fn from_hugging_face(
    value: &Value,
    manifest: &Manifest,
) -> std::result::Result<MatLmConfig, (String, String)> {
    let missing = |key: &str, expected: &str| {
        (format!("`{key}`: {}", value.get(key).unwrap_or(&Value::Null)), expected.to_owned())
    };
    let number = |key: &str| {
        let number = value.get(key).and_then(Value::as_u64);
        number.map(|n| n as usize).ok_or_else(|| missing(key, "a whole number"))
    };
    let optional = |key: &str| match value.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => number(key).map(Some),
    };
    let activation = match value.get("model_type").and_then(Value::as_str) {
        Some("llama") => Activation::SwiGlu,
        Some("matlm") => Activation::Gelu,
        _ => return Err(missing("model_type", "`llama` or `matlm`")),
    };
    for key in ["attention_bias", "mlp_bias"] {
        if value.get(key).and_then(Value::as_bool) == Some(true) {
            return Err(missing(key, "false: a MatLM has no biases"));
        }
    }
    let act = match activation {
        Activation::SwiGlu => "silu",
        Activation::Gelu => "gelu",
    };
    if value.get("hidden_act").and_then(Value::as_str).is_some_and(|found| found != act) {
        return Err(missing("hidden_act", &format!("`{act}`")));
    }
    for key in ["rope_parameters", "rope_scaling"] {
        let rope = value.get(key);
        let kind = rope.and_then(|r| r.get("rope_type").or_else(|| r.get("type")));
        if kind.and_then(Value::as_str).is_some_and(|kind| kind != "default") {
            return Err(missing(key, "rope type `default`"));
        }
    }
    let rope = value.get("rope_parameters");
    let rope_theta = rope
        .and_then(|r| r.get("rope_theta"))
        .or_else(|| value.get("rope_theta"))
        .and_then(Value::as_f64)
        .unwrap_or(10_000.0);
    let config = MatLmConfig {
        vocab_size: number("vocab_size")?,
        d_model: number("hidden_size")?,
        n_layers: number("num_hidden_layers")?,
        n_heads: number("num_attention_heads")?,
        n_kv_heads: match optional("num_key_value_heads")? {
            Some(n) => n,
            None => number("num_attention_heads")?,
        },
        head_dim: optional("head_dim")?,
        d_ff: number("intermediate_size")?,
        granularities: Some(manifest.granularities.widths()),
        width_multiple: manifest.multiple,
        context: number("max_position_embeddings")?,
        tied_embeddings: value.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false),
        activation,
        rope_theta,
        norm_eps: value.get("rms_norm_eps").and_then(Value::as_f64).unwrap_or(1e-6),
        layer_d_ff: None,
    };
    for (key, ours, theirs) in [
        ("intermediate_size", config.d_ff, manifest.d_ff),
        ("num_hidden_layers", config.n_layers, manifest.n_layers),
    ] {
        if ours != theirs {
            return Err(missing(key, &format!("{theirs}, as in `{}`", Manifest::FILE)));
        }
    }
    Ok(config)
}

/// The standalone model of one submodel: the same weights, cut by prefix, every layer exactly as
/// wide as the submodel. Granularities that are no wider than it keep their names in it; a width
/// that is none becomes the largest, named after itself: `w96`.
///
/// # Errors
/// When the submodel does not fit the model, or a tensor cannot be read from its device.
pub fn extract(model: &MatLm, submodel: &Submodel) -> Result<MatLm> {
    let space = model.space();
    space.check(submodel)?;
    let d_ff = submodel.max_width();
    let mut kept: Vec<Granularity> =
        space.granularities.iter().filter(|g| g.width <= d_ff).cloned().collect();
    if kept.last().is_none_or(|last| last.width < d_ff) {
        kept.push(Granularity { name: format!("w{d_ff}"), width: d_ff });
    }
    let granularities = Granularities::try_from(kept)?;
    let config = MatLmConfig {
        d_ff,
        granularities: Some(granularities.widths()),
        layer_d_ff: submodel.uniform_width().is_none().then(|| submodel.widths().to_vec()),
        ..model.config().clone()
    };
    let target = MatLm::zeros(&config, &model.device())?.with_granularities(granularities);
    refill(model, target)
}

/// The same weights in a model of another configuration, whose granularities, context and
/// constants may be others.
///
/// # Errors
/// [`Error::Config`] names the first key that other weights would be needed for.
pub fn with_config(model: &MatLm, config: &MatLmConfig) -> Result<MatLm> {
    match config.other_weights(model.config()) {
        None => {
            let mut target = MatLm::zeros(config, &model.device())?;
            // The same widths keep their names, which the configuration does not hold.
            let (ours, theirs) = (&model.space().granularities, &target.space().granularities);
            if ours.widths() == theirs.widths() {
                target = target.with_granularities(ours.clone());
            }
            refill(model, target)
        }
        Some((field, found, expected)) => {
            let expected = format!("{expected}, as in the weights");
            Err(Error::Config { field, found, expected })
        }
    }
}

/// Fills a model whose matrices are those of another, or prefixes of them.
fn refill(model: &MatLm, target: MatLm) -> Result<MatLm> {
    let mut values = std::collections::HashMap::new();
    params::read(model, |path, data| {
        values.insert(path.to_owned(), data);
        Ok(())
    })?;
    Ok(params::fill(target, |path, shape| {
        let data = values.remove(path).ok_or_else(|| missing(path, "no such parameter"))?;
        prefix(data, shape).ok_or_else(|| missing(path, "not a prefix"))
    })?)
}

fn missing(path: &str, message: &str) -> NnError {
    NnError::Read { tensor: path.to_owned(), message: message.to_owned() }
}

/// The first rows of row-major values: exactly `shape`.
fn prefix(data: TensorData, shape: &[usize]) -> Option<TensorData> {
    let n = shape.iter().product();
    let mut values: Vec<f32> = data.convert::<f32>().try_into_vec::<f32>().ok()?;
    (values.len() >= n).then(|| {
        values.truncate(n);
        TensorData::new(values, shape.to_vec())
    })
}
