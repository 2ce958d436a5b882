//! Folders, and Hugging Face's ViT: logits, loss and every gradient, from fixtures made by
//! `fixtures/make_vit.py`.

use std::path::{Path, PathBuf};

use matformer_core::{Manifest, Plan, Submodel, SubmodelSpec, fs};
use matformer_nn::{Elastic, Folder, State, extract, folder, row_losses, walk};
use matformer_vit::{MatVit, MatVitConfig, Pooling, costs};
use safetensors::SafeTensors;

use super::{
    compare::{
        check_gradients, check_slices, check_weight_keys, device, floats, sliced, values, worst,
    },
    support::{config, logits, manifest, model, pixels},
};

/// A committed fixture. Cargo says at run time where the crate is, so that the tests can also run where it
/// was not built.
fn fixture(name: &str) -> PathBuf {
    let krate = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    Path::new(&krate).join("tests/fixtures").join(name)
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

#[test]
fn layers_of_unequal_widths_read_back_to_the_bit() {
    let config = config();
    let widths = [config.d_ff, config.granularities.as_ref().unwrap()[0]];
    let widths: Vec<usize> = widths.into_iter().cycle().take(config.n_layers).collect();
    let mixed = Submodel::new(widths);
    let slim = extract(&model(&config, &device()), &mixed).unwrap();
    let dir = tempfile::tempdir().unwrap();
    folder::save(&slim, &manifest(&config), dir.path()).unwrap();
    let text = std::fs::read_to_string(dir.path().join(folder::CONFIG)).unwrap();
    assert!(text.contains("\"model_type\": \"matvit\""), "{text}");
    let (again, _) = folder::load::<MatVit>(dir.path(), &device()).unwrap();
    assert_eq!(again.config(), slim.config());
    let (plan, pixels) = (Plan::one(&mixed), pixels(config.pixels(), 3));
    assert_eq!(logits(&again, &plan, 1, &pixels), logits(&slim, &plan, 1, &pixels));
}

#[test]
fn weight_keys_are_those_that_change_the_tensors() {
    let base = MatVitConfig { granularities: Some(vec![96, 384]), ..MatVitConfig::default() };
    let changes = serde_json::json!({
        "image_size": 32, "channels": 3, "patch_size": 7, "classes": 11, "d_model": 192,
        "n_layers": 7, "n_heads": 6, "d_ff": 400, "granularities": [48, 384],
        "width_multiple": 8, "pooling": "mean", "distillation_token": true, "drop_path": 0.1,
        "norm_eps": 1e-5, "layer_d_ff": [96, 384, 384, 384, 384, 384],
    });
    // Heads share the matrices of queries, keys and values: other heads cut them elsewhere.
    check_weight_keys::<MatVit>(&base, changes, &["n_heads"]);
}

#[test]
fn slices_of_files_are_those_of_memory() {
    let config = config();
    let widths = config.granularities.clone().unwrap();
    let unequal = widths.iter().rev().cycle().take(config.n_layers).copied().collect();
    let (narrow, unequal) = (Submodel::uniform(widths[0], config.n_layers), Submodel::new(unequal));
    check_slices(&model(&config, &device()), &[narrow, unequal.clone()]);

    let (whole, padded) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let model = model(&config, &device());
    folder::save(&model, &manifest(&config), whole.path()).unwrap();
    sliced::<MatVit>(whole.path(), &unequal, true, &manifest(&config), padded.path());
    let (again, _) = folder::load::<MatVit>(padded.path(), &device()).unwrap();
    let pixels = pixels(config.pixels(), 3);
    let of = |model: &MatVit, submodel| logits(model, &Plan::one(submodel), 1, &pixels);
    let (ours, theirs) = (of(&again, &again.space().largest()), of(&model, &unequal));
    for (a, b) in ours.concat().iter().zip(theirs.concat()) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}
