//! A small MatLM whose `config.json`, `matformer.json` and `model.safetensors` are damaged: it is
//! loaded and runs, or is refused.

#![no_main]

use std::{ops::ControlFlow, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use matformer_core::{Draw, Manifest, Provenance, fs};
use matformer_engine::{Engine, EngineModel, EngineOptions, Format, Request, generate};
use matformer_fuzz::{Edit, apply, folder as new_folder};
use matformer_lm::{MatLm, MatLmConfig, costs, score};
use matformer_nn::{DeviceSpec, Elastic, Folder, folder};
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(new_folder);

const FILES: [&str; 3] = [folder::CONFIG, Manifest::FILE, folder::WEIGHTS];

static WHOLE: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| {
    let config = MatLmConfig {
        vocab_size: 10,
        d_model: 8,
        n_layers: 1,
        n_heads: 2,
        n_kv_heads: 1,
        d_ff: 16,
        granularities: Some(vec![4, 16]),
        width_multiple: 4,
        context: 8,
        ..MatLmConfig::default()
    };
    let device = DeviceSpec::Flex.resolve().unwrap();
    let model = MatLm::new(&config, 0, &device).unwrap();
    let provenance = Provenance {
        version: "0".into(),
        seed: 0,
        steps: 0,
        tokens: 0,
        data_hash: "0".into(),
        parent: None,
    };
    let manifest = Manifest::new(MatLm::KIND, model.space(), Draw::Joint, provenance);
    folder::save(&model, &manifest, FOLDER.path()).unwrap();
    FILES.map(|name| fs::read(FOLDER.path().join(name)).unwrap())
});

fuzz_target!(|input: (bool, Vec<Edit>)| {
    let (sign, edits) = input;
    let mut files = WHOLE.clone();
    let hash = fs::sha256_bytes(&files[2]);
    apply(&mut files, &edits);
    if sign {
        // Otherwise no damaged weights would be looked at to the end.
        let text = String::from_utf8_lossy(&files[1]).replace(&hash, &fs::sha256_bytes(&files[2]));
        files[1] = text.into_bytes();
    }
    for (name, bytes) in FILES.iter().zip(&files) {
        std::fs::write(FOLDER.path().join(name), bytes).unwrap();
    }
    let device = DeviceSpec::Flex.resolve().unwrap();
    let (model, manifest) = match folder::load::<MatLm>(FOLDER.path(), &device) {
        Ok(loaded) => loaded,
        Err(error) => {
            let _ = (error.to_string(), error.hint());
            return;
        }
    };
    assert_eq!(manifest.space().unwrap(), model.space().clone().with_layers(None));
    let submodel = model.space().largest();
    for resource in costs(model.config()).resources() {
        costs(model.config()).get(resource).unwrap().cost(&submodel).unwrap();
    }
    let _ = score(&model, &submodel, &[0, 1, 2]);
    if model.config().context <= 64 {
        let request = Request { stop: vec![0], ..Request::new(vec![0, 1], submodel, usize::MAX) };
        let model = EngineModel::of(&model, Format::F32).unwrap();
        let mut engine = Engine::new(&model, &EngineOptions::default()).unwrap();
        let _ = generate(&mut engine, &[request], |_, _| ControlFlow::Continue(()));
    }
});
