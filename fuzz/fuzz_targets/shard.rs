//! A token shard and its list of documents, damaged: opened and read to the end, or refused.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use matformer_data::{Hash, HeldOut, Shard};
use matformer_fuzz::{Edit, apply, folder};
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(folder);

const DOCUMENTS: &str = "{\"name\":\"a\",\"start\":0,\"tokens\":2,\"bytes\":4}\n\
                         {\"name\":\"b\",\"start\":3,\"tokens\":1,\"bytes\":1,\"cluster\":\"c\"}\n";

static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let path = FOLDER.path().join("whole.bin");
    Shard::write(&path, &[0, 5, 6, 0, 7], Hash::of(b"tokenizer"), 300).unwrap();
    std::fs::read(path).unwrap()
});

fuzz_target!(|edits: Vec<Edit>| {
    let mut files = [WHOLE.clone(), DOCUMENTS.as_bytes().to_vec()];
    apply(&mut files, &edits);
    let path = FOLDER.path().join("a.bin");
    std::fs::write(&path, &files[0]).unwrap();
    std::fs::write(path.with_extension("docs.jsonl"), &files[1]).unwrap();
    let shard = match Shard::open(&path) {
        Ok(shard) => shard,
        Err(error) => {
            let _ = (error.to_string(), error.hint());
            return;
        }
    };
    assert_eq!(shard.iter(0..usize::MAX).count(), shard.len());
    let Ok(held_out) = HeldOut::new(shard) else { return };
    let windows: usize = held_out.windows(2).unwrap().map(|window| window.targets.len()).sum();
    assert_eq!(windows, held_out.tokens());
    assert!(held_out.is_whole());
});
