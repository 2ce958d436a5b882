//! Gemma 3 (text): norms before and after both halves of a layer that multiply by 1 plus their
//! weight, norms of queries and keys, scaled embeddings, GeGLU, and layers with a sliding window
//! and a rotary base of their own between layers that see all positions.

use matformer_nn::{ConfigFile, Result};
use serde_json::{Map, Value, json};

use super::{
    Family, holds,
    keys::{self, Defaults},
    layers,
    rope::{self, Rope},
};
use crate::{MatLmConfig, Window};

pub(super) const FAMILY: Family =
    Family { model_type: "gemma3_text", has, read, write, tensor_name, files: &[] };

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

fn has(c: &MatLmConfig) -> bool {
    let needs = ["qk_norm", "post_norms", "norm_plus_one", "scale_embeddings"];
    let admits = [
        "ge_glu",
        "rope_scaling",
        "attention_bias",
        "query_pre_attn_scalar",
        "window",
        "window.layers",
        "window.rope_theta",
    ];
    // The layers with a window have parameters of their own, always unscaled here.
    let shared = c.window.as_ref().is_some_and(|window| window.rope_theta.is_none());
    keys::divides(c) && holds(c, &needs, &admits) && !(shared && c.rope_scaling.is_some())
}

fn read(file: &ConfigFile) -> Result<MatLmConfig> {
    let activation = match file.get("hidden_activation") {
        Some(_) => keys::read_gated(file, "hidden_activation")?,
        None => matformer_nn::Activation::GeGlu,
    };
    let defaults =
        Defaults { kv_heads: Some(4), head_dim: Some(256), tied: true, ..Defaults::LLAMA };
    let c = keys::read_attention_bias(file, keys::read_sizes(file, &defaults, activation)?)?;
    let rope = read_rope(file)?;
    Ok(MatLmConfig {
        rope_theta: rope.full.theta,
        rope_scaling: rope.full.scaling,
        window: read_window(file, c.n_layers, rope.sliding_theta)?,
        query_pre_attn_scalar: Some(file.optional("query_pre_attn_scalar")?.unwrap_or(256)),
        qk_norm: true,
        post_norms: true,
        norm_plus_one: true,
        scale_embeddings: true,
        ..c
    })
}

/// The window: of `layer_types`, or else of all layers but the last of every
/// `sliding_window_pattern`.
fn read_window(file: &ConfigFile, n_layers: usize, theta: f64) -> Result<Option<Window>> {
    const PATTERN: &str = "sliding_window_pattern";
    let pattern = file.optional(PATTERN)?.unwrap_or(6);
    if pattern == 0 {
        return Err(file.wrong(PATTERN, "at least 1"));
    }
    let size = layers::read_size(file, Some(4096))?;
    let slides = |layer: usize| !(layer + 1).is_multiple_of(pattern);
    let window = layers::read_window(file, n_layers, size, slides)?;
    Ok(window.map(|window| Window { rope_theta: Some(theta), ..window }))
}

/// Rotary parameters of both kinds of layers.
struct Ropes {
    full: Rope,
    sliding_theta: f64,
}

/// `rope_parameters` with a table for each kind of layer (transformers 5), or `rope_theta`,
/// `rope_scaling` and `rope_local_base_freq` (transformers 4).
fn read_rope(file: &ConfigFile) -> Result<Ropes> {
    const KEY: &str = "rope_parameters";
    let tables = file.get(KEY).cloned().unwrap_or_else(|| json!({}));
    let known = |key: &String| key == FULL || key == SLIDING;
    if !tables.as_object().is_some_and(|tables| tables.keys().all(known)) {
        return Err(file.wrong(KEY, &format!("a table for `{FULL}` and one for `{SLIDING}`")));
    }
    let table = |kind| tables.get(kind).filter(|table| !table.is_null()).cloned();
    let global = file.float("rope_theta")?.unwrap_or(1_000_000.0);
    let scaled = file.get("rope_scaling").filter(|scaling| **scaling != json!({}));
    let mut full = Rope { theta: global, scaling: None };
    if let Some(table) = table(FULL) {
        full = rope::read_table(file, &format!("{KEY}.{FULL}"), &table, full.theta)?;
    }
    if let Some(scaling) = scaled {
        full = rope::read_table(file, "rope_scaling", scaling, full.theta)?;
    }
    let local = file.float("rope_local_base_freq")?.unwrap_or(10_000.0);
    let sliding = table(SLIDING).unwrap_or_else(|| json!({}));
    let key = format!("{KEY}.{SLIDING}");
    let Rope { theta, scaling } = rope::read_table(file, &key, &sliding, local)?;
    match scaling {
        Some(_) => Err(file.wrong_value(&key, &sliding, "`rope_type` `default`")),
        None => Ok(Ropes { full, sliding_theta: theta }),
    }
}

fn write(c: &MatLmConfig) -> Map<String, Value> {
    let mut keys = keys::write_sizes(c, "Gemma3ForCausalLM", "gemma3_text");
    let local = c.window.as_ref().and_then(|window| window.rope_theta).unwrap_or(c.rope_theta);
    let (mut full, mut sliding) = (rope::table(c.rope_scaling), rope::table(None));
    if c.rope_scaling.is_some() {
        keys.insert("rope_scaling".to_owned(), full.clone());
    }
    full["rope_theta"] = json!(c.rope_theta);
    sliding["rope_theta"] = json!(local);
    layers::write_types(c, &mut keys);
    keys.extend(keys::object(json!({
        "hidden_activation": keys::hidden_act(c.activation),
        "query_pre_attn_scalar": c.query_pre_attn_scalar.unwrap_or(c.head_dim()),
        // transformers asks for a window even where no layer has one.
        "sliding_window": c.window.as_ref().map_or(4096, |window| window.size),
        "attention_bias": c.qkv_bias,
        "attn_logit_softcapping": null,
        "final_logit_softcapping": null,
        "rope_theta": c.rope_theta,
        "rope_local_base_freq": local,
        "rope_parameters": { FULL: full, SLIDING: sliding },
    })));
    keys
}

fn tensor_name(path: &str) -> String {
    let renamed = [
        ("attention_post_norm.gamma", "post_attention_layernorm.weight"),
        ("ffn_norm.gamma", "pre_feedforward_layernorm.weight"),
        ("ffn_post_norm.gamma", "post_feedforward_layernorm.weight"),
    ];
    let Some((layer, part)) = matformer_nn::params::in_layer(path) else {
        return keys::tensor_name(path);
    };
    match renamed.into_iter().find(|(ours, _)| *ours == part) {
        Some((_, name)) => format!("model.layers.{layer}.{name}"),
        None => keys::tensor_name(path),
    }
}
