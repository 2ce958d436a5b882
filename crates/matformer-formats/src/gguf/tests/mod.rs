//! Files of the package `gguf` (`tests/fixtures/gguf/make_gguf.py`), read, damaged and written again.

mod hostile;
mod read;
mod write;

use std::path::{Path, PathBuf};

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
    let bytes = bytes(gguf, &info.name);
    let pairs = || bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
    match info.dtype {
        Dtype::F32 => {
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        Dtype::F16 => pairs().map(|b| burn::tensor::f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::Bf16 => pairs().map(|b| burn::tensor::bf16::from_le_bytes(b).to_f32()).collect(),
    }
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
