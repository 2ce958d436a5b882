//! Keys of `config.json` family by family: defaults, both forms, and what is refused.

use matformer_lm::{MatLm, MatLmConfig};
use matformer_nn::{Activation, ConfigFile, Folder, folder};
use serde_json::{Value, json};

use super::{
    families::{FAMILIES, folder_of},
    support::{edit, load},
};

/// The message with which a family refuses another value of a key.
fn refusal(family: &str, change: Value) -> String {
    let dir = folder_of(family);
    edit(dir.path(), folder::CONFIG, change.clone());
    load(dir.path()).err().unwrap_or_else(|| panic!("{family} takes {change}"))
}

#[test]
fn keys_that_change_the_computation_and_are_not_covered_are_refused_by_every_family() {
    let yarn =
        json!({ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32 });
    for family in FAMILIES {
        for (key, value) in [
            ("rope_scaling", yarn.clone()),
            ("rope_scaling", json!({ "type": "dynamic", "factor": 2.0 })),
            ("rope_scaling", json!({ "rope_type": "longrope", "short_factor": [1.0] })),
            ("rope_scaling", json!({ "rope_type": "linear" })),
            ("rope_scaling", json!({ "rope_type": "linear", "factor": 2.0, "beta_fast": 32 })),
            ("partial_rotary_factor", json!(0.5)),
            ("num_hidden_layers", json!(1_000_000_000_000_000u64)),
            ("mlp_bias", json!(true)),
            ("is_causal", json!(false)),
            ("attn_logit_softcapping", json!(50.0)),
            ("final_logit_softcapping", json!(30.0)),
            ("quantization_config", json!({ "quant_method": "fp8" })),
        ] {
            let message = refusal(family, json!({ key: value }));
            let expected = format!("config.json: `{key}`: {value}; expected");
            assert!(message.contains(&expected), "{family}: {message}");
        }
        let act = if family == "gemma3" { "hidden_activation" } else { "hidden_act" };
        let message = refusal(family, json!({ act: "gelu" }));
        let expected = "`: \"gelu\"; expected `silu` or `gelu_pytorch_tanh`";
        assert!(message.contains(expected), "{family}: {message}");
    }
}

#[test]
fn keys_that_a_family_does_not_have_are_refused() {
    let window = "`sliding_window`: 4096; expected none: each position attends to all before it";
    let full = ["full_attention"; 4];
    for (family, change, expected) in [
        ("llama", json!({ "sliding_window": 4096 }), window),
        ("mistral", json!({ "attention_bias": true }), "a Mistral has no biases"),
        ("qwen2", json!({ "use_sliding_window": false }), "no `sliding_window` is switched on"),
        (
            "qwen3",
            json!({ "layer_types": full[..3] }),
            "expected 4 of `full_attention` and `sliding_attention`",
        ),
        (
            "qwen3",
            json!({ "layer_types": vec!["chunked_attention"; 4] }),
            "expected 4 of `full_attention` and `sliding_attention`",
        ),
        (
            "llama",
            json!({ "rope_parameters": { "rope_type": "llama3", "factor": 8.0,
                "low_freq_factor": 4.0, "high_freq_factor": 1.0 } }),
            "`rope_scaling.high_freq_factor` is 1; expected a number above `low_freq_factor` 4",
        ),
        (
            "smollm3",
            json!({ "no_rope_layers": [1, 0] }),
            "`no_rope_layers`: [1,0]; expected 1 or 0 for each of 4 layers",
        ),
        (
            "gemma3",
            json!({ "rope_parameters": { "rope_theta": 1e4 } }),
            "expected a table for `full_attention` and one for `sliding_attention`",
        ),
        (
            "gemma3",
            json!({ "rope_parameters": { "sliding_attention": { "rope_type": "linear", "factor": 2.0 } } }),
            "expected `rope_type` `default`",
        ),
        (
            "mistral",
            json!({ "sliding_window": 0 }),
            "config.json: `sliding_window` is 0; expected from 1 to 16777216",
        ),
    ] {
        let message = refusal(family, change);
        assert!(message.contains(expected), "{message}");
    }
}

/// The configuration that is read after some keys were changed; `null` removes a key.
fn read_changed(family: &str, change: Value) -> MatLmConfig {
    let dir = folder_of(family);
    edit(dir.path(), folder::CONFIG, change);
    MatLm::read_config(&ConfigFile::read(dir.path()).unwrap()).unwrap()
}

#[test]
fn a_missing_key_has_the_default_of_transformers() {
    let gone = |keys: &[&str]| -> Value {
        let pairs = keys.iter().map(|key| ((*key).to_owned(), Value::Null));
        Value::Object(pairs.collect())
    };
    let common = [
        "num_key_value_heads",
        "head_dim",
        "rms_norm_eps",
        "tie_word_embeddings",
        "rope_parameters",
        "hidden_act",
        "attention_bias",
    ];
    let found =
        |family: &str, more: &[&str]| read_changed(family, gone(&[&common[..], more].concat()));
    let llama = found("llama", &[]);
    let numbers = |c: &MatLmConfig| (c.n_kv_heads, c.head_dim(), c.norm_eps, c.rope_theta);
    assert_eq!(numbers(&llama), (4, 6, 1e-6, 10_000.0));
    assert!(!llama.tied_embeddings && !llama.qkv_bias && llama.rope_scaling.is_none());
    let mistral = found("mistral", &["sliding_window"]);
    assert_eq!(numbers(&mistral), (8, 6, 1e-6, 10_000.0));
    assert_eq!(mistral.window.unwrap().size, 4096);
    let qwen2 = found("qwen2", &["layer_types", "sliding_window", "max_window_layers"]);
    assert_eq!(numbers(&qwen2), (32, 6, 1e-6, 10_000.0));
    assert_eq!((qwen2.window, qwen2.qkv_bias), (None, true), "from layer 28 on");
    let qwen3 = found("qwen3", &["layer_types", "use_sliding_window"]);
    assert_eq!(numbers(&qwen3), (32, 128, 1e-6, 10_000.0));
    assert_eq!(qwen3.window, None);
    let smollm3 = found("smollm3", &["layer_types", "sliding_window", "no_rope_layers"]);
    assert_eq!(numbers(&smollm3), (4, 6, 1e-6, 2_000_000.0));
    assert_eq!((smollm3.window, smollm3.nope_layers), (None, Some(vec![3])));
    assert!(smollm3.tied_embeddings);
    let gemma3 = found(
        "gemma3",
        &["layer_types", "sliding_window", "query_pre_attn_scalar", "hidden_activation"],
    );
    assert_eq!(numbers(&gemma3), (4, 256, 1e-6, 1_000_000.0));
    assert!(gemma3.tied_embeddings);
    assert_eq!(gemma3.activation, Activation::GeGlu);
    assert_eq!(gemma3.query_pre_attn_scalar, Some(256));
    let window = gemma3.window.unwrap();
    assert_eq!((window.size, window.layers, window.rope_theta), (4096, None, Some(10_000.0)));
}

#[test]
fn layers_without_a_rotary_embedding_follow_the_interval() {
    let nope = |interval: usize| {
        let change = json!({ "no_rope_layers": null, "no_rope_layer_interval": interval });
        read_changed("smollm3", change).nope_layers
    };
    assert_eq!((nope(2), nope(5)), (Some(vec![1, 3]), None));
}

#[test]
fn layers_with_a_window_follow_the_pattern_and_the_older_keys() {
    let old = json!({
        "layer_types": null, "sliding_window_pattern": 2, "rope_parameters": null,
        "rope_theta": 1000.0, "rope_scaling": { "rope_type": "linear", "factor": 4.0 },
        "rope_local_base_freq": 100.0,
    });
    let found = read_changed("gemma3", old);
    let mut expected = read_changed("gemma3", json!({}));
    expected.window.as_mut().unwrap().layers = Some(vec![0, 2]);
    assert_eq!(found, expected);
    let change = json!({ "layer_types": null, "max_window_layers": 1 });
    assert_eq!(read_changed("qwen2", change).window.unwrap().layers, Some(vec![1, 2, 3]));
    let change = json!({ "layer_types": null, "no_rope_layers": [0, 1, 1, 0] });
    assert_eq!(read_changed("smollm3", change).window.unwrap().layers, Some(vec![0, 3]));
}

#[test]
fn both_forms_of_rotary_parameters_are_read() {
    let table = json!({ "rope_type": "llama3", "factor": 8, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 32 });
    let here = read_changed("llama", json!({}));
    let old = json!({ "rope_parameters": null, "rope_scaling": table, "rope_theta": 100.0 });
    assert_eq!(read_changed("llama", old), here);
    let linear = |change: Value| {
        let c = read_changed("mistral", change);
        (c.rope_theta, serde_json::to_value(c.rope_scaling).unwrap())
    };
    let scaling = json!({ "type": "linear", "factor": 2.0 });
    let expected = (500.0, json!({ "type": "linear", "factor": 2.0 }));
    let change = json!({ "rope_parameters": null, "rope_scaling": scaling, "rope_theta": 500 });
    assert_eq!(linear(change), expected);
    let both = json!({ "rope_type": "linear", "factor": 2.0, "rope_theta": 500.0 });
    assert_eq!(linear(json!({ "rope_parameters": both, "rope_theta": 7.0 })), expected);
}
