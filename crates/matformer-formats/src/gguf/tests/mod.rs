//! Files of the package `gguf` (`tests/fixtures/gguf/make_gguf.py`), read, damaged and written again.

mod hostile;
mod read;
mod write;

use std::path::{Path, PathBuf};

use matformer_core::fs;
use serde_json::Value;

use super::*;

/// A file among the fixtures.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf").join(name)
}

fn open(name: &str) -> Gguf {
    Gguf::open(&fixture(&format!("{name}.gguf"))).unwrap()
}

/// The JSON file that the script wrote.
fn golden(name: &str) -> Value {
    let bytes = fs::read(fixture(&format!("{name}.json"))).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// The values of a tensor as they are written.
fn bytes(gguf: &Gguf, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    gguf.write_tensor(name, &mut bytes).unwrap();
    bytes
}

/// The values of a tensor as f32.
fn values(gguf: &Gguf, info: &TensorInfo) -> Vec<f32> {
    weights::floats(info.dtype, &bytes(gguf, &info.name))
}

/// What a tokenizer makes of the strings that the script tokenised, beside what llama.cpp makes.
fn check_tokens(tokenizer: &[u8], name: &str) {
    let golden = golden("tokens");
    let tokenizer = tokenizers::Tokenizer::from_bytes(tokenizer).unwrap();
    let strings = golden["strings"].as_array().unwrap();
    for (text, expected) in strings.iter().zip(golden["ids"][name].as_array().unwrap()) {
        let text = text.as_str().unwrap();
        let ids = tokenizer.encode(text, true).unwrap().get_ids().to_vec();
        assert_eq!(serde_json::json!(ids), *expected, "{name}: {text:?}");
    }
}
