//! Against PyTorch: logits, loss and every gradient, from fixtures made by `fixtures/make_llama.py`.

use matformer_core::{Manifest, Plan, Submodel, SubmodelSpec, fs};
use matformer_lm::{MatLm, MatLmConfig, costs};
use matformer_nn::{Activation, Elastic, Folder, State, folder, row_losses, walk};
use safetensors::SafeTensors;

use super::{
    compare::{check_gradients, device, floats},
    support::{fixture, manifest, one},
};

/// A model folder out of a fixture's weights and configuration.
fn load(weights: &str, config_json: &str, activation: Activation) -> MatLm {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(fixture(weights), dir.path().join(folder::WEIGHTS)).unwrap();
    let mut text = std::fs::read_to_string(fixture(config_json)).unwrap();
    if activation == Activation::Gelu {
        text = text.replace("\"llama\"", "\"matlm\"").replace("\"silu\"", "\"gelu\"");
    }
    std::fs::write(dir.path().join(folder::CONFIG), text).unwrap();
    let config = MatLmConfig {
        n_layers: 2,
        d_ff: 64,
        granularities: Some(vec![16, 32, 64]),
        width_multiple: 16,
        ..MatLmConfig::default()
    };
    let weights_sha256 = fs::sha256_file(dir.path().join(folder::WEIGHTS)).unwrap();
    Manifest { weights_sha256, ..manifest(&config) }.save(dir.path()).unwrap();
    folder::load(dir.path(), &device().autodiff()).unwrap().0
}

fn submodel(model: &MatLm, name: &str) -> Submodel {
    if name == "XL" {
        return model.space().largest();
    }
    let spec: SubmodelSpec = name.parse().unwrap();
    spec.resolve(model.space(), &costs(model.config())).unwrap()
}

/// Compares everything that a golden file holds for one submodel.
fn check(model: &MatLm, golden: &str, name: &str) {
    let bytes = std::fs::read(fixture(golden)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let ids = file.tensor("ids").unwrap();
    let [rows, len] = ids.shape() else { panic!("rank 2") };
    let (rows, len) = (*rows, *len);
    let ids: Vec<u32> = ids
        .data()
        .chunks_exact(8)
        .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32)
        .collect();
    let submodel = submodel(model, name);

    let logits = one(model, &submodel, rows, &ids);
    let expected = floats(&file, &format!("{name}.logits"));
    let worst = logits.iter().zip(&expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst < 1e-4, "{name}: logits differ by {worst}");

    // ids[:, 1:] from ids[:, :-1]
    let part = |from: usize, to: usize| -> Vec<u32> {
        ids.chunks(len).flat_map(|row| row[from..to].to_vec()).collect()
    };
    let input = model.tokens(rows, &part(0, len - 1)).unwrap();
    let target = model.targets(rows, &part(1, len), None).unwrap();
    let walked = walk(model, &input, &Plan::one(&submodel), &mut State::new()).unwrap();
    let loss = row_losses(model, &walked, &target).remove(0);
    let count: usize = loss.counts.iter().sum();
    let loss = loss.nats.sum() / count as f64;
    let grads = loss.backward();
    let loss = loss.inner().into_scalar::<f32>();
    let expected = floats(&file, &format!("{name}.loss"))[0];
    assert!((loss - expected).abs() < 1e-5, "{name}: loss {loss} against {expected}");

    check_gradients(model, &grads, &file, name, |path| model.tensor_name(path));
}

#[test]
fn llama_at_every_size() {
    let model = load("llama_tiny.safetensors", "llama_tiny_config.json", Activation::SwiGlu);
    for name in ["XL", "16x1+64x1", "48x1+32x1"] {
        check(&model, "llama_tiny_golden.safetensors", name);
    }
}

#[test]
fn llama_with_a_head_of_its_own() {
    let model = load("llama_untied.safetensors", "llama_untied_config.json", Activation::SwiGlu);
    check(&model, "llama_untied_golden.safetensors", "XL");
}

#[test]
fn the_papers_two_matrices() {
    let model = load("gelu_tiny.safetensors", "llama_tiny_config.json", Activation::Gelu);
    for name in ["XL", "16x1+64x1"] {
        check(&model, "gelu_tiny_golden.safetensors", name);
    }
}
