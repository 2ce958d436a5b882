use matformer_lm::{MatLm, MatLmConfig, RopeScaling, Window};
use matformer_nn::{
    Activation, ConfigFile, Folder, ModelConfig, params,
    weights::{self, StoredTensor},
};
use serde_json::json;

use super::{container::Value as Meta, *};

/// A file as a folder of Hugging Face.
fn folder_of(gguf: &Gguf) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = serde_json::to_vec(gguf.config()).unwrap();
    fs::write_atomic(folder.path().join("config.json"), &config).unwrap();
    fs::write_files(folder.path(), gguf.files().unwrap()).unwrap();
    weights::write_folder(folder.path(), tensors(gguf), weights::SHARD_BYTES).unwrap();
    folder
}

/// The tensors of a file, to be written.
fn tensors(gguf: &Gguf) -> Vec<StoredTensor<'_>> {
    let tensor = |info: &'_ TensorInfo| {
        let TensorInfo { name, shape, dtype } = info.clone();
        StoredTensor::new(name.clone(), dtype, shape, move |out| gguf.write_tensor(&name, out))
    };
    gguf.tensors().iter().map(tensor).collect()
}

/// A model of this shape, without values.
fn model(config: &MatLmConfig) -> MatLm {
    let space = config.space().unwrap();
    <MatLm as Folder>::unset(config, space, &Default::default()).unwrap()
}

#[test]
fn a_file_as_a_folder_and_again_as_a_file_is_the_same() {
    for name in ["llama", "qwen2", "qwen3"] {
        let whole = open(name);
        let folder = folder_of(&whole);
        let config = MatLm::read_config(&ConfigFile::read(folder.path()).unwrap()).unwrap();
        let path = folder.path().join("again.gguf");
        let written = written_to(&path, &config, GgufDtype::F16, tensors(&whole)).unwrap();
        assert_eq!(written.architecture, name);
        let again = Gguf::open(&path).unwrap();
        assert_eq!(again.config(), whole.config());
        assert_eq!(again.files().unwrap(), whole.files().unwrap());
        let mut all = [again.tensors().to_vec(), whole.tensors().to_vec()];
        all.iter_mut().for_each(|list| list.sort_by(|a, b| a.name.cmp(&b.name)));
        assert_eq!(all[0], all[1]);
        for TensorInfo { name, .. } in whole.tensors() {
            assert_eq!(bytes(&again, name), bytes(&whole, name), "{name}");
        }
        check_tokens(&again.files().unwrap()[0].1, name);
    }
}

/// A small Llama whose vocabulary is that of the fixture `qwen2`.
fn config() -> MatLmConfig {
    MatLmConfig {
        vocab_size: open("qwen2").described.vocab_size,
        d_model: 8,
        n_layers: 2,
        n_heads: 2,
        n_kv_heads: 1,
        d_ff: 32,
        context: 64,
        width_multiple: 8,
        granularities: Some(vec![8, 32]),
        ..MatLmConfig::default()
    }
}

/// The tensors of a model of this shape, all of this value.
fn filled(config: &MatLmConfig, value: f32) -> Vec<StoredTensor<'static>> {
    let model = model(config);
    let tensor =
        |(path, shape): (String, Vec<usize>)| of_value(model.tensor_name(&path), shape, value);
    params::shapes(&model).into_iter().map(tensor).collect()
}

fn of_value(name: String, shape: Vec<usize>, value: f32) -> StoredTensor<'static> {
    let n = shape.iter().product();
    StoredTensor::new(name, Dtype::F32, shape, move |out| {
        weights::write_values(vec![value; n], Dtype::F32, out)
    })
}

/// Writes a file with the tokenizer that is in its folder.
fn written_to(
    path: &Path,
    config: &MatLmConfig,
    dtype: GgufDtype,
    tensors: Vec<StoredTensor<'_>>,
) -> Result<Written> {
    let (model, tokenizer_dir) = (model(config), path.parent().unwrap());
    let model = GgufModel {
        model: &model,
        name: "small",
        tokenizer_dir,
        tokenizer_config: None,
        facts: None,
    };
    write(path, &model, dtype, tensors)
}

/// Writes it into a folder with the tokenizer of the fixture `qwen2`.
fn written(
    config: &MatLmConfig,
    dtype: GgufDtype,
    tensors: Vec<StoredTensor<'_>>,
) -> Result<(Written, Container)> {
    let folder = folder_of(&open("qwen2"));
    let path = folder.path().join("small.gguf");
    let written = written_to(&path, config, dtype, tensors);
    assert_eq!(path.exists(), written.is_ok(), "whole or not at all");
    let written = written?;
    let bytes = fs::read(&path).unwrap();
    let container = Container::parse(&bytes, &path).unwrap();
    let list = |key: &str| match &container.metadata[key] {
        Meta::Array(array) => array.integers(&bytes).unwrap(),
        other => panic!("{key}: {other}"),
    };
    if written.architecture == "deci" {
        assert_eq!(list("deci.feed_forward_length"), [16, 32]);
        assert_eq!(list("deci.attention.head_count"), [2, 2]);
        assert_eq!(list("deci.attention.head_count_kv"), [1, 1]);
    }
    Ok((written, container))
}

#[test]
fn a_rule_that_its_factors_do_not_tell_comes_back() {
    let rule = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 2.0,
        high_freq_factor: 4.0,
        original_context: 32,
    };
    let base = MatLmConfig { head_dim: Some(16), rope_scaling: Some(rule), ..config() };
    let folder = folder_of(&open("qwen2"));
    let path = folder.path().join("small.gguf");
    written_to(&path, &base, GgufDtype::F32, filled(&base, 0.5)).unwrap();
    assert_eq!(Gguf::open(&path).unwrap().config()["rope_scaling"], rule.table());
    // Another rule than that of the factors is not believed.
    let mut bytes = fs::read(&path).unwrap();
    let stated = b"\"low_freq_factor\":2.0";
    let at = bytes.windows(stated.len()).position(|part| part == stated).unwrap();
    bytes[at + stated.len() - 3] = b'1';
    fs::write_atomic(&path, &bytes).unwrap();
    let error = Gguf::open(&path).unwrap_err().to_string();
    assert!(error.contains("factors of no rule that is known"), "{error}");
}

#[test]
fn unequal_widths_are_written_as_deci_with_a_list_per_layer() {
    let config = MatLmConfig { layer_d_ff: Some(vec![16, 32]), granularities: None, ..config() };
    let (written, container) = written(&config, GgufDtype::F32, filled(&config, 0.5)).unwrap();
    assert_eq!(written.architecture, "deci");
    let shape = |name: &str| &container.tensors.iter().find(|t| t.name == name).unwrap().shape;
    assert_eq!(shape("blk.0.ffn_up.weight"), &[16, 8]);
    assert_eq!(shape("blk.1.ffn_down.weight"), &[8, 32]);
}

#[test]
fn rows_that_q8_0_cannot_hold_are_f16_and_it_is_said() {
    let (written, container) = written(&config(), GgufDtype::Q8_0, filled(&config(), 0.5)).unwrap();
    let ggml = |name: &str| container.tensors.iter().find(|t| t.name == name).unwrap().ggml.name();
    assert_eq!(ggml("blk.0.ffn_down.weight"), "q8_0");
    assert_eq!(ggml("blk.0.ffn_up.weight"), "f16");
    assert_eq!(ggml("blk.0.attn_norm.weight"), "f32");
    let note = "`blk.0.ffn_up.weight` has rows of 8, no multiple of 32: it is stored as f16";
    assert!(written.notes.iter().any(|found| found == note), "{:?}", written.notes);
}

#[test]
fn what_llama_cpp_cannot_run_is_refused_by_name() {
    let window = |size, theta| Some(Window { size, layers: None, rope_theta: theta });
    let unequal = Some(vec![16, 32]);
    let llama3 = Some(RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 32,
    });
    let base = || MatLmConfig { granularities: None, n_layers: 2, ..config() };
    for (config, expected) in [
        (MatLmConfig { activation: Activation::Gelu, ..base() }, "`activation` is Gelu; expected"),
        (MatLmConfig { window: window(8, None), ..base() }, "`window` is set; expected"),
        (MatLmConfig { window: window(64, Some(1e4)), ..base() }, "`window` is set"),
        (MatLmConfig { post_norms: true, ..base() }, "`post_norms` is set"),
        (MatLmConfig { norm_plus_one: true, ..base() }, "`norm_plus_one` is set"),
        (MatLmConfig { scale_embeddings: true, ..base() }, "`scale_embeddings` is set"),
        (
            MatLmConfig { query_pre_attn_scalar: Some(9), ..base() },
            "`query_pre_attn_scalar` is set",
        ),
        (MatLmConfig { qk_norm: true, layer_d_ff: unequal.clone(), ..base() }, "`qk_norm` is set"),
        (MatLmConfig { qk_norm: true, rope_scaling: llama3, ..base() }, "`qk_norm` is set"),
        (MatLmConfig { nope_layers: Some(vec![0]), ..base() }, "`nope_layers` is set"),
    ] {
        let found = shape::Shape::of(&config).unwrap_err().to_string();
        assert!(
            found.starts_with(expected) && found.contains("a folder of safetensors"),
            "{found}"
        );
    }
    let arch = |config: MatLmConfig| shape::Shape::of(&config).unwrap().arch.name();
    assert_eq!(arch(MatLmConfig { window: window(64, None), ..base() }), "llama", "sees all");
    assert_eq!(arch(MatLmConfig { qkv_bias: true, ..base() }), "qwen2");
    assert_eq!(arch(MatLmConfig { qkv_bias: true, rope_scaling: llama3, ..base() }), "llama");
    assert_eq!(arch(MatLmConfig { qkv_bias: true, o_bias: true, ..base() }), "llama");
    assert_eq!(arch(MatLmConfig { qk_norm: true, ..base() }), "qwen3");
    assert_eq!(arch(MatLmConfig { layer_d_ff: unequal, qkv_bias: true, ..base() }), "deci");
    let nope = Some(vec![3, 7]);
    assert_eq!(arch(MatLmConfig { n_layers: 8, nope_layers: nope, ..base() }), "smollm3");
}

#[test]
fn tensors_that_do_not_fit_are_refused_by_name_and_leave_no_file() {
    // The bytes of one tensor, or its name and shape, are other than they should be.
    let fifth = |all: &[StoredTensor<'_>]| {
        let of = "model.layers.0.self_attn.v_proj.weight";
        all.iter().position(|tensor| tensor.name == of).unwrap()
    };
    let refused = |dtype, change: &dyn Fn(&mut Vec<StoredTensor<'static>>, usize)| {
        let mut tensors = filled(&config(), 0.5);
        let at = fifth(&tensors);
        change(&mut tensors, at);
        written(&config(), dtype, tensors).unwrap_err().to_string()
    };
    let check = |found: String, expected: &str| assert!(found.contains(expected), "{found}");
    let of = |value: f32| {
        move |all: &mut Vec<StoredTensor<'static>>, at: usize| {
            all[at] = of_value(all[at].name.clone(), all[at].shape.clone(), value);
        }
    };
    let name = "tensor `model.layers.0.self_attn.v_proj.weight`: ";
    check(
        refused(GgufDtype::F32, &of(f32::NAN)),
        &format!("{name}NaN; expected values of at most"),
    );
    check(
        refused(GgufDtype::F16, &of(1e5)),
        &format!("{name}100000; expected values of at most 65504"),
    );
    let short = |all: &mut Vec<StoredTensor<'static>>, at: usize| {
        let (name, shape) = (all[at].name.clone(), all[at].shape.clone());
        all[at] = StoredTensor::new(name, Dtype::F32, shape, |out| out.write_all(&[0; 4]));
    };
    check(refused(GgufDtype::F32, &short), "1 values; expected 32");
    check(
        refused(GgufDtype::F32, &|all, at| all[at].shape = vec![8, 4]),
        "shape [8, 4]; expected shape [4, 8]",
    );
    check(
        refused(GgufDtype::F32, &|all, at| drop(all.remove(at))),
        &format!("{name}nothing; expected each"),
    );
    check(
        refused(GgufDtype::F32, &|all, _| all.extend(filled(&config(), 0.5).pop())),
        "two of this name",
    );
    check(
        refused(GgufDtype::F32, &|all, at| {
            all[at].name = "model.layers.0.self_attn.q_norm.weight".into();
        }),
        "`model.layers.0.self_attn.q_norm.weight`: a tensor that llama.cpp does not have",
    );
    let failing = |all: &mut Vec<StoredTensor<'static>>, at: usize| {
        let (name, shape) = (all[at].name.clone(), all[at].shape.clone());
        let fail =
            |_: &mut dyn Write| Err(io::Error::other(Error::read("embed", "no such device")));
        all[at] = StoredTensor::new(name, Dtype::F32, shape, fail);
    };
    check(refused(GgufDtype::F32, &failing), "reading `embed` from the device: no such device");
}

/// The tokenizer in a folder, of a model that names no special tokens.
fn sources(dir: &Path) -> tokenizer::Sources<'_> {
    tokenizer::Sources { dir, config: None, bos: None, ends: Vec::new() }
}

#[test]
fn special_tokens_are_those_of_all_files() {
    let folder = folder_of(&open("qwen3"));
    let n = open("qwen3").described.vocab_size;
    fs::write_atomic(folder.path().join("tokenizer_config.json"), b"{}").unwrap();
    let metadata = |sources: tokenizer::Sources<'_>| {
        let written = tokenizer::metadata(&sources, n).unwrap();
        let id = |name: &str| {
            let key = format!("tokenizer.ggml.{name}_token_id");
            match written.metadata.iter().find(|(known, _)| *known == key) {
                Some((_, output::Value::Unsigned(id))) => Some(*id),
                _ => None,
            }
        };
        (["bos", "eos", "eot", "eom"].map(id), written.notes)
    };
    let (ids, notes) = metadata(sources(folder.path()));
    assert_eq!(ids, [Some(0), None, None, None], "which is put before a text");
    assert!(notes.iter().any(|note| note.contains("no token that ends a text")), "{notes:?}");
    // What the model says, and what stands for the file in the folder.
    let ends = vec![3, 4, 5, 6];
    let (ids, notes) =
        metadata(tokenizer::Sources { bos: Some(2), ends, ..sources(folder.path()) });
    assert_eq!(ids, [Some(0), Some(3), Some(4), Some(5)]);
    assert!(notes.iter().any(|note| note.contains("also ends with the tokens [6]")), "{notes:?}");
    // The end of a message is known by its text.
    let path = folder.path().join("tokenizer.json");
    let text = fs::read_to_string(&path).unwrap().replace("<|user|>", "<|eom_id|>");
    fs::write_atomic(&path, text.as_bytes()).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let eom = json["model"]["vocab"]["<|eom_id|>"].as_u64().unwrap() as u32;
    let (ids, _) = metadata(tokenizer::Sources { ends: vec![3, eom, 4], ..sources(folder.path()) });
    assert_eq!(ids[1..], [Some(3), Some(4), Some(eom)]);
    let config = json!({ "eos_token": "<|eom_id|>" }).to_string();
    let (ids, _) = metadata(tokenizer::Sources { config: Some(&config), ..sources(folder.path()) });
    assert!(ids[1].is_some(), "{ids:?}");
    fs::write_atomic(folder.path().join("chat_template.json"), b"{\"chat_template\": \"x\"}")
        .unwrap();
    let written = tokenizer::metadata(&sources(folder.path()), n).unwrap();
    let template = ("tokenizer.chat_template".to_owned(), output::Value::Text("x".to_owned()));
    assert!(written.metadata.contains(&template));
    let others = folder.path().join("additional_chat_templates");
    fs::create_dir_all(&others).unwrap();
    fs::write_atomic(others.join("rag.jinja"), b"y").unwrap();
    let written = tokenizer::metadata(&sources(folder.path()), n).unwrap();
    let rag = ("tokenizer.chat_template.rag".to_owned(), output::Value::Text("y".to_owned()));
    let names = output::Value::Texts(vec!["rag".to_owned()]);
    for kept in [template, rag, ("tokenizer.chat_templates".to_owned(), names)] {
        assert!(written.metadata.contains(&kept), "{kept:?}");
    }
    fs::write_atomic(others.join("default.jinja"), b"z").unwrap();
    let written = tokenizer::metadata(&sources(folder.path()), n).unwrap();
    let defaults = written.metadata.iter().filter(|(key, _)| key == "tokenizer.chat_template");
    assert_eq!(
        defaults.map(|(_, value)| value.clone()).collect::<Vec<_>>(),
        [output::Value::Text("z".to_owned())]
    );
}

/// What is said about the tokenizer of a fixture after a change.
fn tokenizer_with(name: &str, change: impl Fn(&mut Value)) -> Result<Vec<String>, String> {
    let folder = folder_of(&open(name));
    let path = folder.path().join("tokenizer.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write_atomic(&path, &serde_json::to_vec(&json).unwrap()).unwrap();
    let vocab_size = open(name).described.vocab_size;
    let found = tokenizer::metadata(&sources(folder.path()), vocab_size);
    found.map(|written| written.notes).map_err(|error| error.to_string())
}

#[test]
fn tokenizers_that_llama_cpp_does_not_have_are_refused_by_name() {
    let refused = |name: &str, key: &str, value: Value, expected: &str| {
        let found = tokenizer_with(name, |json| *json.pointer_mut(key).unwrap() = value.clone());
        let found = found.unwrap_err();
        assert!(found.contains("tokenizer.json") && found.contains(expected), "{found}");
    };
    let unigram = json!({ "type": "Unigram", "vocab": [["a", 0.0]] });
    refused("qwen3", "/model", unigram, "`model` of type \"Unigram\"; expected a BPE tokenizer");
    refused("qwen3", "/model/type", json!("WordPiece"), "expected type `BPE`, byte-level or");
    refused("qwen3", "/model/dropout", json!(0.1), "`model.dropout` is 0.1");
    refused("qwen3", "/model/ignore_merges", json!(true), "`model.ignore_merges` false, as");
    refused(
        "qwen3",
        "/pre_tokenizer",
        json!({ "type": "Whitespace" }),
        "`pre_tokenizer` {\"type\":",
    );
    refused(
        "qwen3",
        "/pre_tokenizer/pretokenizers/1/add_prefix_space",
        json!(true),
        "a rule to split",
    );
    refused("qwen3", "/normalizer", json!({ "type": "Lowercase" }), "`normalizer` {\"type\":");
    refused("qwen3", "/model/merges/0", json!("ab"), "merge \"ab\"; expected two tokens");
    refused("qwen3", "/model/vocab/a", json!(9999), "token `a` with id 9999; expected an id below");
    refused("qwen3", "/model/vocab/a", json!(70), "with id 70; expected one token per id");
    let token = |name: &str| json!({ "SpecialToken": { "id": name, "type_id": 0 } });
    let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    for single in [
        json!([token("<|user|>"), token("<|user|>"), text]),
        json!([text, token("<|user|>"), token("<|user|>")]),
        json!([token("<|user|>"), token("<|user|>")]),
    ] {
        let template = json!({ "type": "TemplateProcessing", "single": single });
        refused("qwen3", "/post_processor", template, "at most a token on each side");
    }
    let bert = json!({ "type": "BertProcessing" });
    refused("qwen3", "/post_processor", bert, "expected ByteLevel or TemplateProcessing");
    refused("llama", "/normalizer", json!({ "type": "NFKC" }), "spaces that are written `▁`");
    refused(
        "llama",
        "/model/vocab",
        json!({ "<unk>": 0, "<s>": 1, "</s>": 2 }),
        "no token `<0x00>`; expected a token for each",
    );
    let found = tokenizer_with("llama", |json| {
        json["model"]["merges"].as_array_mut().unwrap().pop();
    });
    assert!(found.unwrap_err().contains("expected every such merge"));
}

#[test]
fn what_llama_cpp_does_otherwise_with_a_text_is_said() {
    let notes = tokenizer_with("qwen2", |_| {}).unwrap();
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains("form C"), "{notes:?}");
    assert!(tokenizer_with("qwen3", |_| {}).unwrap().is_empty());
    assert!(tokenizer_with("llama", |_| {}).unwrap().is_empty());
    let notes = tokenizer_with("qwen3", |json| json["added_tokens"][1]["lstrip"] = json!(true));
    assert!(notes.unwrap()[0].contains("takes spaces around `<|user|>`"));
}
