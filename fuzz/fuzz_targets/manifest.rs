//! A damaged `matformer.json`: what loads is saved and loads again as what it was.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use matformer_core::Manifest;
use matformer_fuzz::{Edit, apply, folder};
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(folder);

const WHOLE: &str = r#"{
  "format_version": 1, "kind": "matlm", "n_layers": 5, "d_ff": 512, "multiple": 32,
  "granularities": [{ "name": "S", "width": 64 }, { "name": "XL", "width": 512 }],
  "objective": "sandwich:2",
  "provenance": {
    "version": "0.1.0", "seed": 0, "steps": 1000, "tokens": 2048000, "data_hash": "9f",
    "parent": null
  },
  "weights_sha256": "0000000000000000000000000000000000000000000000000000000000000000"
}"#;

fuzz_target!(|edits: Vec<Edit>| {
    let mut files = [WHOLE.as_bytes().to_vec()];
    apply(&mut files, &edits);
    std::fs::write(FOLDER.path().join(Manifest::FILE), &files[0]).unwrap();
    match Manifest::load(FOLDER.path()) {
        Ok(manifest) => {
            manifest.space().unwrap();
            manifest.save(FOLDER.path()).unwrap();
            assert_eq!(Manifest::load(FOLDER.path()).unwrap(), manifest);
        }
        Err(error) => {
            let _ = (error.to_string(), error.hint());
        }
    }
});
