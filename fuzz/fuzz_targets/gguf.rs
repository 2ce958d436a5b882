//! GGUF files that are damaged: configuration, tokenizer and tensors are read to the end, or refused.

#![no_main]

use std::{io, path::PathBuf, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use matformer_formats::{LmImport, gguf::Gguf};
use matformer_fuzz::{Edit, apply, folder};
use matformer_nn::DeviceSpec;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(folder);

/// Three architectures and both kinds of tokenizers.
static WHOLE: [&[u8]; 3] = [
    include_bytes!("../../crates/matformer-formats/tests/fixtures/gguf/llama.gguf"),
    include_bytes!("../../crates/matformer-formats/tests/fixtures/gguf/qwen2.gguf"),
    include_bytes!("../../crates/matformer-formats/tests/fixtures/gguf/qwen3.gguf"),
];

/// Swallows values, and counts them.
struct Counted(u64);

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fuzz_target!(|input: (u8, Vec<Edit>)| {
    let (which, edits) = input;
    let mut files = [WHOLE[usize::from(which) % WHOLE.len()].to_vec()];
    apply(&mut files, &edits);
    let path: PathBuf = FOLDER.path().join("model.gguf");
    std::fs::write(&path, &files[0]).unwrap();
    let gguf = match Gguf::open(&path) {
        Ok(gguf) => gguf,
        Err(error) => {
            let _ = (error.to_string(), error.hint());
            return;
        }
    };
    if let Ok(files) = gguf.files() {
        assert!(files.is_empty() || files[0].0 == "tokenizer.json");
    }
    if let Err(error) = LmImport::new(&gguf, None, &DeviceSpec::Flex.resolve().unwrap()) {
        let _ = (error.to_string(), error.hint());
    }
    for tensor in gguf.tensors() {
        let mut counted = Counted(0);
        if gguf.write_tensor(&tensor.name, &mut counted).is_ok() {
            let elements: usize = tensor.shape.iter().product();
            assert_eq!(counted.0, (elements * tensor.dtype.size()) as u64);
        }
    }
});
