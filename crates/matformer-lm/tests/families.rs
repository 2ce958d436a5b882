//! Every family against transformers, from fixtures made by `fixtures/make_families.py`; and what
//! is read of a family is written again. What is refused: `family_keys.rs`.

use std::path::{Path, PathBuf};

use matformer_core::{Manifest, Plan, Resource, Submodel, fs};
use matformer_lm::{MatLm, MatLmConfig, SpecialTokens, costs};
use matformer_nn::{Elastic, ModelConfig, State, extract, folder, params, walk};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::{
    compare::{device, floats, values, worst},
    support::{self, load, manifest, one, read_json},
};

pub const FAMILIES: [&str; 6] = ["llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma3"];

fn fixture(name: &str) -> PathBuf {
    support::fixture("families").join(name)
}

/// A model folder out of a family's fixture.
pub fn folder_of(family: &str) -> tempfile::TempDir {
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
        let found = super::compare::gradients(&model, &nats.backward());
        assert_eq!(found.len(), params::shapes(&model).len(), "{family}");
    }
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
        ("/block_configs/0/ffn/intermediate_size", json!(33), "a width from 1 to 32"),
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
fn a_family_that_wants_a_width_that_heads_divide_is_not_taken_for_another() {
    // transformers refuses it as a Llama; Mistral computes the same.
    let odd = |layer_d_ff| MatLmConfig {
        d_model: 100,
        n_heads: 3,
        n_kv_heads: 3,
        head_dim: Some(32),
        layer_d_ff,
        ..MatLmConfig::default()
    };
    assert_eq!(odd(None).family(), "mistral");
    let unequal = odd(Some(vec![64; 5]));
    assert_eq!((unequal.family(), unequal.unequal_obstacles()), ("matlm", vec!["head_dim"]));
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
