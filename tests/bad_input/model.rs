//! Files of a model folder that are missing, damaged, or of another model.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::support::Place;

/// What `score` says of the trained run after `change`, in which `@` stands for `run/`.
fn changed(change: impl FnOnce(&Place)) -> String {
    let place = Place::trained();
    change(&place);
    place.refused(&["score", "run", "--text", "a"])
}

/// The same where a text in a file of the run gives way to another.
fn replaced(name: &str, from: &str, to: &str) -> String {
    changed(|place| {
        let name = format!("run/{name}");
        let text = place.read(&name);
        assert!(text.contains(from), "{text}");
        place.write(name, text.replacen(from, to, 1));
    })
}

#[test]
fn config_json() {
    snapshot!(changed(|place| place.remove("run/config.json")), @"error: cannot read `run/config.json`: No such file or directory (os error 2)");
    snapshot!(changed(|place| place.write("run/config.json", "{")), @"error: run/config.json: EOF while parsing an object at line 1 column 1; expected a JSON object");
    snapshot!(replaced("config.json", "\"llama\"", "\"gpt2\""), @r#"error: run/config.json: `model_type`: "gpt2"; expected `llama`, `mistral`, `qwen2`, `qwen3`, `smollm3`, `gemma3_text`, `nemotron-nas`, `matlm`"#);
    snapshot!(replaced("config.json", "\"hidden_size\": 32", "\"hidden_size\": \"wide\""), @r#"error: run/config.json: `hidden_size`: "wide"; expected a whole number"#);
    snapshot!(replaced("config.json", "\"num_attention_heads\": 2", "\"num_attention_heads\": 3"), @"error: run/model.safetensors: tensor `model.layers.0.self_attn.q_proj.weight`: shape [32, 32]; expected shape [48, 32]");
    snapshot!(replaced("config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"), @"error: run/config.json: `num_hidden_layers`: 3; expected 2, as in `matformer.json`");
    snapshot!(replaced("config.json", "\"hidden_size\": 32", "\"hidden_size\": 64"), @"error: run/model.safetensors: tensor `model.embed_tokens.weight`: shape [300, 32]; expected shape [300, 64]");
}

/// Sizes that no weights file backs are refused before anything is allocated for them.
#[test]
fn absurd_sizes() {
    let config = |from: &str, to: &str| replaced("config.json", from, to);
    snapshot!(config("\"hidden_size\": 32", "\"hidden_size\": 1000000000000000"), @"error: run/config.json: `hidden_size` is 1000000000000000; expected at most 16777216");
    snapshot!(config("\"hidden_size\": 32", "\"hidden_size\": 4000000000"), @"error: run/config.json: `hidden_size` is 4000000000; expected at most 16777216");
    snapshot!(config("\"vocab_size\": 300", "\"vocab_size\": 4000000000"), @"error: run/config.json: `vocab_size` is 4000000000; expected at most 16777216");
    snapshot!(config("\"head_dim\": 16", "\"head_dim\": 4000000000"), @"error: run/config.json: `head_dim` is 4000000000; expected at most 16777216 in 2 heads together");
    snapshot!(config("\"max_position_embeddings\": 32", "\"max_position_embeddings\": 1000000000000"), @"error: run/config.json: `max_position_embeddings` is 1000000000000; expected at most 16777216");
    let layers = changed(|place| {
        for name in ["run/config.json", "run/matformer.json"] {
            let text = place.read(name);
            let text = text.replace("_layers\": 2", "_layers\": 4000000000");
            place.write(name, text);
        }
    });
    snapshot!(layers, @"error: run/matformer.json: `n_layers` is 4000000000; expected at most 20, the tensors of the weights");
    // A context has no weights: it costs what is generated.
    let place = Place::trained();
    let text = place.read("run/config.json");
    let text = text.replace("_embeddings\": 32", "_embeddings\": 16000000");
    place.write("run/config.json", text);
    place.matformer(&["info", "run"]).ok();
    let arguments = ["generate", "run", "--prompt", "a", "--json", "--submodel", "S"];
    place.matformer(&[&arguments[..], &["--max-tokens", "3"]].concat()).ok();
    let mut child =
        place.command(&[&arguments[..], &["--max-tokens", "15000000"]].concat()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let ended = child.try_wait().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ended.is_none_or(|status| status.success()), "{ended:?}");
}

#[test]
fn matformer_json() {
    let manifest = |from: &str, to: &str| replaced("matformer.json", from, to);
    snapshot!(changed(|place| place.write("run/matformer.json", "{}")), @"error: cannot understand `run/matformer.json` as a model's manifest: missing field `format_version` at line 1 column 2");
    snapshot!(manifest("\"format_version\": 1", "\"format_version\": 2"), @"
    error: format_version of `run/matformer.json`: 2, expected 1
    hint: a newer version wrote it: update this program
    ");
    snapshot!(manifest("\"kind\": \"matlm\"", "\"kind\": \"matvit\""), @"
    error: run: a vision model
    hint: score needs a language model; `eval` and `report` take every kind
    ");
    snapshot!(manifest("\"kind\": \"matlm\"", "\"kind\": \"mamba\""), @"
    error: run/matformer.json: kind `mamba`
    hint: expected `matlm` or `matvit`: this program knows no other
    ");
    snapshot!(manifest("\"n_layers\": 2", "\"n_layers\": 3"), @"error: run/config.json: `num_hidden_layers`: 2; expected 3, as in `matformer.json`");
    snapshot!(manifest("\"width\": 64", "\"width\": 512"), @"error: cannot understand `run/matformer.json` as a model's manifest: granularities: `S=32,M=512,L=128,XL=256`, expected strictly ascending widths at line 24 column 3");
    snapshot!(manifest("\"objective\": \"sampled\"", "\"objective\": \"guess\""), @"error: cannot understand `run/matformer.json` as a model's manifest: draw: `guess`, expected `sampled`, `sampled:0.1/0.2/0.3/0.4`, `sampled-xl-heavy`, `joint`, `joint-separate`, `sandwich`, `sandwich:2`, `per-layer` or `baseline:S` at line 25 column 22");
    snapshot!(manifest("\"multiple\": 32", "\"multiple\": 32, \"colour\": 1"), @"error: cannot understand `run/matformer.json` as a model's manifest: unknown field `colour`, expected one of `format_version`, `kind`, `n_layers`, `d_ff`, `multiple`, `granularities`, `objective`, `provenance`, `weights_sha256`, `tokenizer_sha256`, `slice` at line 6 column 26");
    snapshot!(manifest("\"tokenizer_sha256\": \"", "\"tokenizer_sha256\": \"x"), @"error: contents of `run/matformer.json`: tokenizer_sha256: `x400220e39bffcbb62b130d6ad848a46561ef22000e2f66c74652ee0bf8809077`, expected 64 lowercase hexadecimal digits");
}

#[test]
fn tokenizer_json() {
    let tokenizer = |text: &str| changed(|place| place.write("run/tokenizer.json", text));
    snapshot!(changed(|place| place.remove("run/tokenizer.json")), @r#"
    error: run/tokenizer.json: no such file: text cannot be read without the tokenizer
    hint: AutoTokenizer of transformers writes one with `AutoTokenizer.from_pretrained("ORIGINAL").save_pretrained("run")`
    "#);
    snapshot!(tokenizer("{"), @"
    error: tokenizer `run/tokenizer.json`: EOF while parsing an object at line 1 column 1
    hint: expected a `tokenizer.json` as the tokenizers library writes it
    ");
    snapshot!(tokenizer("{}"), @"
    error: tokenizer `run/tokenizer.json`: Model missing. at line 1 column 2
    hint: expected a `tokenizer.json` as the tokenizers library writes it
    ");
    // One that would work, and give each token another meaning.
    let swapped = changed(|place| {
        let text = place.read("run/tokenizer.json");
        place.write("run/tokenizer.json", text.replace("[\"a\",\"n\"]", "[\"n\",\"a\"]") + " ");
    });
    hashed_snapshot!(swapped, @"
    error: run/tokenizer.json: SHA-256 [hash]; expected [hash], as `matformer.json` says
    hint: it was changed or damaged after it was written: restore it; after an intended change, set `tokenizer_sha256` in `matformer.json` to the new hash
    ");
    // Every command that reads or copies it looks at it.
    let place = Place::trained();
    place.write("run/tokenizer.json", place.read("run/tokenizer.json") + " ");
    for arguments in [
        &["generate", "run", "--prompt", "a"][..],
        &["eval", "run"],
        &["report", "run"],
        &["slice", "run", "--submodel", "S", "--out", "slim"],
    ] {
        let output = place.matformer(arguments);
        assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{output}");
        assert!(output.stderr.contains("error: run/tokenizer.json: SHA-256 "), "{output}");
    }
    assert!(!place.path("slim").exists());
}

#[test]
fn a_folder_that_names_no_tokenizer_still_loads() {
    let place = Place::trained();
    let mut manifest = place.read_json("run/matformer.json");
    assert!(manifest.as_object_mut().unwrap().remove("tokenizer_sha256").is_some());
    place.write("run/matformer.json", manifest.to_string());
    place.matformer(&["score", "run", "--text", "a"]).ok();
    // What is made of it names one.
    place.matformer(&["slice", "run", "--submodel", "S", "--out", "slim"]).ok();
    assert!(place.read_json("slim/matformer.json")["tokenizer_sha256"].is_string());
    place.write("slim/tokenizer.json", place.read("slim/tokenizer.json") + " ");
    let said = place.refused(&["score", "slim", "--text", "a"]);
    assert!(said.starts_with("error: slim/tokenizer.json: SHA-256 "), "{said}");
}

const WEIGHTS: &str = "run/model.safetensors";
const NORM: &str = "model.norm.weight";

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// What is said after the tensors of the weights file were changed.
fn tensors(change: impl FnOnce(&mut Tensors)) -> String {
    changed(|place| {
        let bytes = std::fs::read(place.path(WEIGHTS)).unwrap();
        let mut tensors: Tensors = SafeTensors::deserialize(&bytes)
            .unwrap()
            .tensors()
            .into_iter()
            .map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec())))
            .collect();
        change(&mut tensors);
        let views = tensors.iter().map(|(name, (dtype, shape, data))| {
            (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        place.write(WEIGHTS, safetensors::serialize(views, None).unwrap());
    })
}

/// What is said after the bytes of the weights file were changed.
fn bytes(change: impl FnOnce(&mut Vec<u8>)) -> String {
    changed(|place| {
        let mut bytes = std::fs::read(place.path(WEIGHTS)).unwrap();
        change(&mut bytes);
        place.write(WEIGHTS, bytes);
    })
}

#[test]
fn model_safetensors_with_other_tensors() {
    snapshot!(tensors(|t| drop(t.remove(NORM))), @"error: run/model.safetensors: tensor `model.norm.weight`: nothing; expected shape [32]");
    let extra = tensors(|t| {
        let extra = t[NORM].clone();
        t.insert("model.extra.weight".to_owned(), extra);
    });
    snapshot!(extra, @"error: run/model.safetensors: tensor `model.extra.weight`: a tensor that the model does not have; expected the model's 20 tensors only");
    snapshot!(tensors(|t| t.get_mut(NORM).unwrap().1 = vec![2, 16]), @"error: run/model.safetensors: tensor `model.norm.weight`: shape [2, 16]; expected shape [32]");
    snapshot!(tensors(|t| t.get_mut(NORM).unwrap().0 = Dtype::I32), @"error: run/model.safetensors: tensor `model.norm.weight`: dtype I32; expected F32, BF16 or F16");
    for (value, expected) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let said =
            tensors(|t| t.get_mut(NORM).unwrap().2[8..12].copy_from_slice(&value.to_le_bytes()));
        assert_eq!(
            said,
            format!(
                "error: {WEIGHTS}: tensor `{NORM}`: {expected} at element 2; expected finite values\n"
            )
        );
    }
    // A value that could be one, in a file that is not the one that was written.
    hashed_snapshot!(tensors(|t| t.get_mut(NORM).unwrap().2[3] ^= 1), @"
    error: run/model.safetensors: SHA-256 [hash]; expected [hash], as `matformer.json` says
    hint: it was changed or damaged after it was written: restore it; after an intended change, set `weights_sha256` in `matformer.json` to the new hash
    ");
}

#[test]
fn model_safetensors_that_is_damaged() {
    snapshot!(changed(|place| place.remove(WEIGHTS)), @"error: cannot open `run/model.safetensors`: No such file or directory (os error 2)");
    snapshot!(bytes(Vec::clear), @"error: run/model.safetensors: header too small; expected a safetensors file");
    snapshot!(bytes(|b| b.truncate(1000)), @"error: run/model.safetensors: invalid header length; expected a safetensors file");
    snapshot!(bytes(|b| b.truncate(b.len() - 1)), @"error: run/model.safetensors: incomplete metadata, file not fully covered; expected a safetensors file");
    snapshot!(bytes(|b| b.push(0)), @"error: run/model.safetensors: incomplete metadata, file not fully covered; expected a safetensors file");
    // A header that is longer than it can be, and one that lies about a tensor's place.
    snapshot!(bytes(|b| b[..8].copy_from_slice(&u64::MAX.to_le_bytes())), @"error: run/model.safetensors: header too large; expected a safetensors file");
    let lying = bytes(|b| {
        let text = String::from_utf8_lossy(&b[..2000]).into_owned();
        let at = text.find("data_offsets\":[0,").unwrap() + "data_offsets\":[".len();
        b[at] = b'8';
    });
    snapshot!(lying, @"error: run/model.safetensors: invalid offset for tensor `model.embed_tokens.weight`; expected a safetensors file");
    let index = changed(|place| {
        place.write("run/model.safetensors.index.json", "{\"weight_map\": {\"a\": \"../text/b\"}}");
    });
    snapshot!(index, @"error: run/model.safetensors.index.json: file `../text/b`; expected the name of a file in the same folder");
}
