//! Every family against transformers, from fixtures made by `fixtures/make_families.py`; and what
//! is read of a family is written again.

use std::path::{Path, PathBuf};

use matformer_core::{Manifest, Plan, Resource, Submodel, fs};
use matformer_lm::{MatLm, MatLmConfig, SpecialTokens, costs};
use matformer_nn::{Elastic, Folder, ModelConfig, State, extract, folder, params, walk};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::{
    compare::{device, floats, values, worst},
    support::{edit, load, manifest, one, read_json},
};

const FAMILIES: [&str; 6] = ["llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma3"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families").join(name)
}

/// A model folder out of a family's fixture.
fn folder_of(family: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        std::fs::copy(fixture(&format!("{family}{from}")), dir.path().join(to)).unwrap();
    };
    copy(".safetensors", folder::WEIGHTS);
    copy("_config.json", folder::CONFIG);
    let config = MatLmConfig {
        n_layers: 4,
        d_ff: 32,
        granularities: Some(vec![8, 16, 32]),
        width_multiple: 8,
        ..MatLmConfig::default()
    };
    let weights_sha256 = fs::sha256_file(dir.path().join(folder::WEIGHTS)).unwrap();
    Manifest { weights_sha256, ..manifest(&config) }.save(dir.path()).unwrap();
    dir
}

fn model_of(family: &str) -> MatLm {
    load(folder_of(family).path()).unwrap()
}

/// The submodels of the golden values.
fn mixed() -> Submodel {
    Submodel::new(vec![32, 8, 24, 16])
}

/// Token ids and logits of transformers.
struct Golden {
    rows: usize,
    ids: Vec<u32>,
    xl: Vec<f32>,
    mixed: Vec<f32>,
}

fn golden(family: &str) -> Golden {
    let bytes = std::fs::read(fixture(&format!("{family}_golden.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let ids = file.tensor("ids").unwrap();
    let id = |b: &[u8]| i64::from_le_bytes(b.try_into().unwrap()) as u32;
    Golden {
        rows: ids.shape()[0],
        ids: ids.data().chunks_exact(8).map(id).collect(),
        xl: floats(&file, "XL"),
        mixed: floats(&file, "MIXED"),
    }
}

/// A model's configuration without the ids for other programs.
fn shape(model: &MatLm) -> MatLmConfig {
    MatLmConfig { special_tokens: SpecialTokens::default(), ..model.config().clone() }
}

/// Largest difference of two lists of logits.
fn off(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs()))
}

/// What a model's `config.json` says its family is.
fn model_type(dir: &Path) -> String {
    read_json(dir, folder::CONFIG)["model_type"].as_str().unwrap().to_owned()
}

#[test]
fn logits_of_every_family_are_transformers_at_full_and_unequal_widths() {
    for family in FAMILIES {
        let (model, golden) = (model_of(family), golden(family));
        for (submodel, expected) in
            [(model.space().largest(), &golden.xl), (mixed(), &golden.mixed)]
        {
            let off = off(&one(&model, &submodel, golden.rows, &golden.ids), expected);
            assert!(off < 1e-4, "{family} {submodel}: {off}");
        }
    }
}

#[test]
fn what_is_read_is_written_again() {
    for family in FAMILIES {
        let (dir, again) = (folder_of(family), tempfile::tempdir().unwrap());
        let (model, manifest): (MatLm, _) = folder::load(dir.path(), &device()).unwrap();
        folder::save(&model, &manifest, again.path()).unwrap();
        let bytes = |dir: &Path| std::fs::read(dir.join(folder::WEIGHTS)).unwrap();
        let (a, b) = (bytes(dir.path()), bytes(again.path()));
        let (a, b) = (SafeTensors::deserialize(&a).unwrap(), SafeTensors::deserialize(&b).unwrap());
        assert_eq!(a.len(), b.len());
        assert!(a.iter().all(|(name, view)| b.tensor(name).unwrap() == view), "{family}");
        // Every key of transformers that we write has its value, and what we read back is the same.
        let (theirs, ours) =
            (read_json(dir.path(), folder::CONFIG), read_json(again.path(), folder::CONFIG));
        for (key, value) in theirs.as_object().unwrap() {
            // `layer_types` goes before this key, which is made to fit it.
            let follows = key == "max_window_layers";
            if let Some(found) = ours.get(key).filter(|_| !follows) {
                assert_eq!(found, value, "{family}: `{key}`");
            }
        }
        assert_eq!(ours["model_type"], theirs["model_type"]);
        assert_eq!(shape(&load(again.path()).unwrap()), shape(&model), "{family}");
    }
}

#[test]
fn layers_of_unequal_widths_are_read_back() {
    for family in FAMILIES {
        let (dir, again) = (folder_of(family), tempfile::tempdir().unwrap());
        let (model, manifest): (MatLm, _) = folder::load(dir.path(), &device()).unwrap();
        let slim = extract(&model, &mixed()).unwrap();
        folder::save(&slim, &manifest, again.path()).unwrap();
        let expected = match family {
            "llama" => "nemotron-nas",
            _ => "matlm",
        };
        assert_eq!(model_type(again.path()), expected, "{family}");
        let (found, golden) = (load(again.path()).unwrap(), golden(family));
        assert_eq!(shape(&found), shape(&slim), "{family}");
        let off = off(&one(&found, &mixed(), golden.rows, &golden.ids), &golden.mixed);
        assert!(off < 1e-4, "{family}: {off}");
    }
}

#[test]
fn costs_of_every_family_are_counted_elements() {
    for family in FAMILIES {
        let model = model_of(family);
        let slim = extract(&model, &mixed()).unwrap();
        let counted = |keep: &dyn Fn(&str) -> bool| -> usize {
            let shapes = params::shapes(&slim).into_iter().filter(|(path, _)| keep(path));
            shapes.map(|(_, shape)| shape.iter().product::<usize>()).sum()
        };
        let costs = costs(model.config());
        let cost = |resource| costs.get(resource).unwrap().cost(&mixed()).unwrap();
        assert_eq!(cost(Resource::Params), counted(&|_| true) as f64, "{family}");
        let inner = counted(&|path| path != "embed" && path != "head");
        assert_eq!(cost(Resource::NonEmbedding), inner as f64, "{family}");
    }
}

#[test]
fn decoding_with_the_cache_equals_the_full_walk_in_every_family() {
    for family in FAMILIES {
        let (model, golden) = (model_of(family), golden(family));
        let text = &golden.ids[..golden.ids.len() / golden.rows];
        for submodel in [model.space().largest(), mixed()] {
            let full = one(&model, &submodel, 1, text);
            let mut state = State::with_cache(1, text.len());
            // A prompt longer than the window, a chunk, then token by token.
            let parts = [&text[..9], &text[9..12]].into_iter().chain(text[12..].chunks(1));
            let found: Vec<f32> = parts
                .flat_map(|part| {
                    let spans = state.cache().unwrap().spans(&[part.len()]);
                    let tokens = model.tokens_of(&spans, part).unwrap();
                    let walked = walk(&model, &tokens, &Plan::one(&submodel), &mut state);
                    values(model.head(&walked.unwrap().all()))
                })
                .collect();
            assert!(worst(&found, &full) < 1e-5, "{family} {submodel}");
        }
    }
}

#[test]
fn a_new_model_of_every_family_starts_near_uniform_and_has_all_gradients() {
    for family in FAMILIES {
        let config = model_of(family).config().clone();
        let model = MatLm::new(&config, 1, &device().autodiff()).unwrap();
        let text = golden(family).ids;
        let (input, target) =
            (model.tokens(2, &text).unwrap(), model.targets(2, &text, None).unwrap());
        let plan = Plan::one(&model.space().largest());
        let walked = walk(&model, &input, &plan, &mut State::new()).unwrap();
        let nats = matformer_nn::row_losses(&model, &walked, &target).remove(0).nats.sum();
        let mean = nats.clone().inner().into_scalar::<f32>() / text.len() as f32;
        assert!((mean - 64f32.ln()).abs() < 0.5, "{family}: {mean}");
        let found = crate::compare::gradients(&model, &nats.backward());
        assert_eq!(found.len(), params::shapes(&model).len(), "{family}");
    }
}

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
    MatLm::read_config(&matformer_nn::ConfigFile::read(dir.path()).unwrap()).unwrap()
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
    assert_eq!(gemma3.activation, matformer_nn::Activation::GeGlu);
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

#[test]
fn a_folder_of_unequal_widths_names_its_code_and_what_it_cannot_hold() {
    let (dir, again) = (folder_of("llama"), tempfile::tempdir().unwrap());
    let (model, manifest): (MatLm, _) = folder::load(dir.path(), &device()).unwrap();
    let slim = extract(&model, &mixed()).unwrap();
    folder::save(&slim, &manifest, again.path()).unwrap();
    let config = read_json(again.path(), folder::CONFIG);
    assert_eq!(config["architectures"], json!(["DeciLMForCausalLM"]));
    for (kind, class) in config["auto_map"].as_object().unwrap() {
        let (module, class) = class.as_str().unwrap().split_once('.').unwrap();
        let code = std::fs::read_to_string(again.path().join(format!("{module}.py"))).unwrap();
        assert!(code.contains(&format!("class {class}(")), "{kind}");
    }
    let ffn = |layer: usize| config["block_configs"][layer]["ffn"].clone();
    assert_eq!(ffn(1)["intermediate_size"], 8);
    assert_eq!(ffn(1)["ffn_mult"], 0.5);
    let changed = |path: &str, value: Value| {
        let mut changed = config.clone();
        *changed.pointer_mut(path).unwrap() = value;
        std::fs::write(again.path().join(folder::CONFIG), changed.to_string()).unwrap();
        load(again.path()).err().unwrap_or_else(|| panic!("{path} is taken"))
    };
    for (path, value, expected) in [
        ("/block_configs/2/ffn/no_op", json!(true), "`block_configs[2]`"),
        ("/block_configs/1/attention/no_op", json!(true), "`block_configs[1]`"),
        ("/block_configs/0/attention/n_heads_in_group", json!(4), "`n_heads_in_group` 2"),
        ("/block_configs/0/ffn/intermediate_size", json!(33), "4 widths from 1 to `d_ff` 32"),
        ("/block_configs/0", json!(7), "`intermediate_size` or `ffn_mult`"),
        ("/block_configs", json!([]), "a list of 4 objects"),
    ] {
        let message = changed(path, value);
        assert!(message.contains("config.json") && message.contains(expected), "{message}");
    }
    let obstacles = |family: &str| model_of(family).config().unequal_obstacles().join(" ");
    let found = FAMILIES.map(|family| format!("{family}: {}", obstacles(family)));
    let expected = [
        "llama: ",
        "mistral: window",
        "qwen2: window window.layers",
        "qwen3: window window.layers qk_norm",
        "smollm3: nope_layers window window.layers",
        "gemma3: ge_glu window window.layers window.rope_theta qk_norm query_pre_attn_scalar \
         post_norms norm_plus_one scale_embeddings",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_family_that_does_not_follow_from_the_options_is_kept() {
    let (dir, again) = (folder_of("mistral"), tempfile::tempdir().unwrap());
    let config = std::fs::read_to_string(dir.path().join(folder::CONFIG)).unwrap();
    let config = config.replace("\"sliding_window\": 6", "\"sliding_window\": null");
    std::fs::write(dir.path().join(folder::CONFIG), config).unwrap();
    let (model, manifest): (MatLm, _) = folder::load(dir.path(), &device()).unwrap();
    assert_eq!((&model.config().window, model.config().model_type), (&None, Some("mistral")));
    folder::save(&model, &manifest, again.path()).unwrap();
    assert_eq!(model_type(again.path()), "mistral");
    let slim = extract(&model, &mixed()).unwrap();
    folder::save(&slim, &manifest, again.path()).unwrap();
    assert_eq!(model_type(again.path()), "nemotron-nas", "which mistral cannot hold");
    assert_eq!(load(again.path()).unwrap().config().nested(), slim.config().nested());
}
