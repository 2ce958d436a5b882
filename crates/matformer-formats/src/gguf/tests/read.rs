use serde_json::json;

use super::*;

#[test]
fn values_of_every_type_are_those_of_the_package_with_the_rows_of_hugging_face() {
    let mut types = std::collections::BTreeSet::new();
    for name in ["types", "llama", "qwen2", "qwen3"] {
        let (gguf, golden) = (open(name), golden(name));
        types.extend(gguf.container.tensors.iter().map(|tensor| tensor.ggml.name()));
        assert_eq!(gguf.tensors().len(), golden.as_object().unwrap().len());
        for info in gguf.tensors() {
            let expected = &golden[&info.name];
            assert_eq!(json!(info.shape), expected["shape"], "{name}: {}", info.name);
            let values = values(&gguf, info);
            let first: Vec<f64> = values[..4].iter().map(|value| f64::from(*value)).collect();
            assert_eq!(json!(first), expected["first"], "{name}: {}", info.name);
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(
                json!(fs::sha256_bytes(&bytes)),
                expected["sha256"],
                "{name}: {}",
                info.name
            );
        }
    }
    let all = "bf16 f16 f32 q2_K q3_K q4_0 q4_1 q4_K q5_0 q5_1 q5_K q6_K q8_0";
    assert_eq!(types.into_iter().collect::<Vec<_>>().join(" "), all);
}

#[test]
fn the_configuration_has_the_keys_of_hugging_face() {
    let llama = Value::Object(open("llama").config().clone());
    let expected = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": llama["vocab_size"],
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": true,
        "torch_dtype": "float16",
        "attention_bias": true,
        "mlp_bias": false,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
        "bos_token_id": 1,
        "eos_token_id": 2,
    });
    assert_eq!(llama, expected);
    let qwen2 = open("qwen2");
    assert_eq!(qwen2.config()["architectures"], json!(["Qwen2ForCausalLM"]));
    assert_eq!(qwen2.config().get("attention_bias"), None);
    let qwen3 = open("qwen3");
    assert_eq!(qwen3.config()["model_type"], "qwen3");
    assert_eq!(qwen3.config()["attention_bias"], false);
    let types = open("types");
    assert_eq!(types.config()["tie_word_embeddings"], false);
    assert_eq!(types.config()["torch_dtype"], "float32");
    assert!(types.files().unwrap().is_empty(), "a file without a tokenizer");
}

#[test]
fn the_tokenizer_gives_the_tokens_of_llama_cpp() {
    for name in ["qwen2", "qwen3", "llama"] {
        let gguf = open(name);
        let files = gguf.files().unwrap();
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        let expected = ["tokenizer.json", "tokenizer_config.json", "generation_config.json"];
        assert_eq!(names, expected);
        check_tokens(&files[0].1, name);
    }
}

#[test]
fn special_tokens_and_the_chat_template_are_in_the_files() {
    let parsed = |name: &str, index: usize| -> Value {
        serde_json::from_slice(&open(name).files().unwrap()[index].1).unwrap()
    };
    let template =
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% endfor %}";
    let expected = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": true,
        "add_eos_token": false,
        "clean_up_tokenization_spaces": false,
        "model_max_length": 64,
        "bos_token": "<|end|>",
        "eos_token": "<|end|>",
        "chat_template": template,
    });
    assert_eq!(parsed("qwen2", 1), expected);
    assert_eq!(parsed("qwen2", 2), json!({ "bos_token_id": 0, "eos_token_id": [0, 1] }));
    let config = parsed("llama", 1);
    assert_eq!((&config["unk_token"], &config["bos_token"]), (&json!("<unk>"), &json!("<s>")));
    assert_eq!(config["add_bos_token"], true, "llama.cpp adds it where the file does not say it");
    let added = &parsed("qwen2", 0)["added_tokens"];
    let found: Vec<_> =
        added.as_array().unwrap().iter().map(|t| (&t["content"], &t["special"])).collect();
    let (yes, no) = (json!(true), json!(false));
    let names = ["<|end|>", "<|user|>", "<think>"].map(|name| json!(name));
    assert_eq!(found, [(&names[0], &yes), (&names[1], &yes), (&names[2], &no)]);
}
