//! Folders, and Hugging Face's ViT: logits, loss and every gradient, from fixtures made by
//! `fixtures/make_vit.py`.

use std::path::{Path, PathBuf};

use matformer_core::{Manifest, Plan, SubmodelSpec, fs};
use matformer_nn::{Elastic, Folder, State, folder, row_losses, walk};
use matformer_vit::{MatVit, MatVitConfig, Pooling, costs};
use safetensors::SafeTensors;

use crate::{
    compare::{check_gradients, device, floats, values, worst},
    support::{config, logits, manifest, model, pixels},
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A folder of the fixture's weights, with a manifest of ours.
fn golden_folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("vit_tiny.safetensors"), dir.path().join(folder::WEIGHTS)).unwrap();
    std::fs::copy(fixture("vit_tiny_config.json"), dir.path().join(folder::CONFIG)).unwrap();
    let shape = MatVitConfig {
        n_layers: 2,
        d_ff: 64,
        granularities: Some(vec![16, 64]),
        width_multiple: 16,
        ..MatVitConfig::default()
    };
    let weights_sha256 = fs::sha256_file(dir.path().join(folder::WEIGHTS)).unwrap();
    Manifest { weights_sha256, ..manifest(&shape) }.save(dir.path()).unwrap();
    dir
}

#[test]
fn a_vit_of_transformers_at_every_size() {
    let dir = golden_folder();
    let (model, _) = folder::load::<MatVit>(dir.path(), &device().autodiff()).unwrap();
    let bytes = std::fs::read(fixture("vit_tiny_golden.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let images = model.images(3, &floats(&file, "pixels")).unwrap();
    let target = model.labels(&[4, 0, 2], 0.0).unwrap();
    for name in ["XL", "16x1+64x1"] {
        let submodel = match name {
            "XL" => model.space().largest(),
            spec => {
                let spec: SubmodelSpec = spec.parse().unwrap();
                spec.resolve(model.space(), &costs(model.config())).unwrap()
            }
        };
        let walked = walk(&model, &images, &Plan::one(&submodel), &mut State::new()).unwrap();
        let logits = values(model.head(&walked.of(0)).inner());
        let off = worst(&logits, &floats(&file, &format!("{name}.logits")));
        assert!(off < 1e-4, "{name}: logits differ by {off}");
        let loss = row_losses(&model, &walked, &target).remove(0).nats.mean();
        let grads = loss.backward();
        let loss = loss.inner().into_scalar::<f32>();
        let expected = floats(&file, &format!("{name}.loss"))[0];
        assert!((loss - expected).abs() < 1e-5, "{name}: loss {loss} against {expected}");
        check_gradients(&model, &grads, &file, name, |path| model.tensor_name(path));
    }
}

#[test]
fn folders_give_back_what_was_saved() {
    for pooling in [Pooling::ClassToken, Pooling::Mean] {
        let config = MatVitConfig { pooling, ..config() };
        let (model, dir) = (model(&config, &device()), tempfile::tempdir().unwrap());
        folder::save(&model, &manifest(&config), dir.path()).unwrap();
        let (again, _) = folder::load::<MatVit>(dir.path(), &device()).unwrap();
        assert_eq!(again.config(), &config);
        let (plan, pixels) = (Plan::one(&model.space().smallest()), pixels(config.pixels(), 3));
        assert_eq!(logits(&model, &plan, 1, &pixels), logits(&again, &plan, 1, &pixels));
    }
}

#[test]
fn what_is_no_vit_is_refused_by_key() {
    let refused = |from: &str, to: &str| {
        let dir = golden_folder();
        let path = dir.path().join(folder::CONFIG);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        std::fs::write(&path, text.replace(from, to)).unwrap();
        let error = folder::load::<MatVit>(dir.path(), &device()).unwrap_err().to_string();
        error.split_once("config.json: ").unwrap().1.to_owned()
    };
    assert_eq!(
        refused("\"vit\"", "\"swin\""),
        "`model_type`: \"swin\"; expected `vit` or `matvit`"
    );
    assert_eq!(refused("\"gelu\"", "\"relu\""), "`hidden_act`: \"relu\"; expected `gelu`");
    assert_eq!(
        refused("\"patch_size\": 4", "\"patch_size\": 5"),
        "`patch_size` is 5; expected a divisor of `image_size` 12"
    );
    assert_eq!(
        refused("\"hidden_size\": 24", "\"hidden_size\": null"),
        "`hidden_size`: null; expected a whole number"
    );
}
