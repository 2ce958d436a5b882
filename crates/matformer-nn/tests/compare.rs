//! How tests of the models compare numbers: included by theirs.

use std::{collections::BTreeMap, path::Path};

use burn::{
    module::Module,
    tensor::{Device, Gradients, Tensor},
};
use matformer_core::{Draw, Dtype, Manifest, Provenance, Space, Submodel, fs};
use matformer_nn::{
    DeviceSpec, Folder, ModelConfig, SliceOptions, extract, folder, params, slice,
    weights::{self, WeightFiles},
};
use safetensors::SafeTensors;
use serde_json::Value;

/// The device that the environment names.
pub fn device() -> Device {
    DeviceSpec::from_env().and_then(DeviceSpec::resolve).unwrap()
}

/// A manifest of a model that nobody trained, the weights' hash to be set.
pub fn manifest<M: Folder>(space: &Space) -> Manifest {
    let provenance = Provenance {
        version: "test".to_owned(),
        seed: 0,
        steps: 0,
        tokens: 0,
        data_hash: "0".repeat(64),
        parent: None,
    };
    let manifest = Manifest::new(M::KIND, space, Draw::Joint, provenance);
    Manifest { weights_sha256: "0".repeat(64), ..manifest }
}

/// Checks that `WEIGHT_KEYS` are exactly the keys of a configuration whose change gives other
/// tensors, and those in `same_shapes`, whose change gives tensors of the same shapes that mean
/// something else. `changes` has another value for every key.
pub fn check_weight_keys<M: Folder>(base: &M::Config, changes: Value, same_shapes: &[&str]) {
    let device = DeviceSpec::from_env().and_then(DeviceSpec::resolve).unwrap();
    let tensors = |config: &M::Config| {
        config.validate().unwrap();
        params::shapes(&M::unset(config, config.space().unwrap(), &device).unwrap())
    };
    let written = serde_json::to_value(base).unwrap();
    let changes = changes.as_object().unwrap();
    for key in written.as_object().unwrap().keys().map(String::as_str).chain(["layer_d_ff"]) {
        assert!(changes.contains_key(key), "`{key}` has no other value here");
    }
    for (key, value) in changes {
        let mut other = written.clone();
        other[key] = value.clone();
        if key == "d_ff" {
            other["granularities"] = serde_json::json!([value]);
        }
        assert_ne!(other, written, "`{key}`");
        let other: M::Config = serde_json::from_value(other).unwrap();
        let differs = tensors(&other) != tensors(base) || same_shapes.contains(&key.as_str());
        assert_eq!(M::Config::WEIGHT_KEYS.contains(&key.as_str()), differs, "`{key}`");
    }
    assert!(M::Config::WEIGHT_KEYS.iter().all(|key| changes.contains_key(*key)));
}

pub fn values<const D: usize>(t: Tensor<D>) -> Vec<f32> {
    t.try_into_vec_as().unwrap()
}

/// Largest difference, as a share of the largest magnitude.
pub fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let size = b.iter().fold(0f32, |m, v| m.max(v.abs()));
    a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / size.max(f32::MIN_POSITIVE)
}

/// ‖a − b‖ / ‖b‖
pub fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        a.iter().zip(b).map(|(a, b)| f(f64::from(*a), f64::from(*b))).sum()
    };
    (sum(&|a, b| (a - b) * (a - b)) / sum(&|_, b| b * b).max(1e-30)).sqrt()
}

/// Gradients by parameter path.
pub fn gradients<M: Module>(model: &M, grads: &Gradients) -> BTreeMap<String, Vec<f32>> {
    let mut found = BTreeMap::new();
    params::read_gradients(model, grads, |path, data| {
        found.insert(path.to_owned(), data.try_into_vec().unwrap());
        Ok(())
    })
    .unwrap();
    found
}

/// Values of a stored f32 tensor.
pub fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let bytes = file.tensor(name).unwrap().data().to_vec();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// Compares every gradient that a golden file holds for one submodel with the model's.
pub fn check_gradients<M: Module>(
    model: &M,
    grads: &Gradients,
    file: &SafeTensors<'_>,
    submodel: &str,
    tensor_name: impl Fn(&str) -> String,
) {
    let mut compared = 0;
    for (path, grad) in gradients(model, grads) {
        let key = format!("{submodel}.grad.{}", tensor_name(&path));
        if file.tensor(&key).is_err() {
            continue;
        }
        let expected = floats(file, &key);
        let off = distance(&grad, &expected);
        // Some gradients are zero but for rounding: a softmax does not see the keys' bias.
        let vanishes = [&grad, &expected].iter().all(|g| g.iter().all(|v| v.abs() < 1e-6));
        assert!(off < 1e-4 || vanishes, "{key}: {off}");
        compared += 1;
    }
    let prefix = format!("{submodel}.grad.");
    let stored = file.names().iter().filter(|name| name.starts_with(&prefix)).count();
    assert_eq!(compared, stored, "every stored gradient has its parameter");
}

/// Checks that slices cut out of weights files have the bytes of those that are extracted in memory and
/// saved, whatever the dtype and the number of files.
pub fn check_slices<M: Folder>(model: &M, submodels: &[Submodel]) {
    let stored = |dtype| weights::stored(model, dtype, |path| model.tensor_name(path));
    let largest = stored(Dtype::F32).iter().map(|tensor| tensor.bytes()).max().unwrap();
    for (dtype, shard_bytes) in [
        (Dtype::F32, u64::MAX),
        (Dtype::F32, largest),
        (Dtype::Bf16, u64::MAX),
        (Dtype::F16, largest / 2),
    ] {
        let whole = tempfile::tempdir().unwrap();
        let manifest = Manifest { dtype, ..manifest::<M>(model.space()) };
        let save = |dir: &Path| {
            folder::save_as(model, stored(dtype), shard_bytes, &manifest, dir).unwrap();
        };
        save(whole.path());
        assert_eq!(whole.path().join(weights::INDEX).exists(), shard_bytes != u64::MAX);
        let (loaded, read) = folder::load::<M>(whole.path(), &device()).unwrap();
        assert_eq!(read.dtype, dtype);
        for submodel in submodels {
            let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let slim = extract(&loaded, submodel).unwrap();
            let manifest =
                Manifest::new(M::KIND, slim.space(), Draw::Joint, read.provenance.clone());
            let manifest = Manifest { dtype, ..manifest };
            folder::save(&slim, &manifest, theirs.path()).unwrap();
            sliced::<M>(whole.path(), submodel, false, &manifest, ours.path());
            assert_eq!(files(ours.path()), files(theirs.path()), "{dtype:?} {submodel}");
        }
    }
}

/// Cuts a submodel out of the folder `whole` and writes it into `dir`.
pub fn sliced<M: Folder>(
    whole: &Path,
    submodel: &Submodel,
    pad: bool,
    manifest: &Manifest,
    dir: &Path,
) {
    let files = WeightFiles::open(whole).unwrap();
    let tensors = files.tensors().unwrap();
    let (unset, _) = folder::load_unset::<M>(whole, &tensors, &device()).unwrap();
    let options = SliceOptions { submodel: submodel.clone(), pad, dtype: None };
    let slim = slice(&unset, &tensors, &options).unwrap();
    assert_eq!(slim.dtype(), manifest.dtype);
    folder::save_as(&slim.model, slim.tensors, u64::MAX, manifest, dir).unwrap();
}

/// Contents of the files in a folder, by name.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let paths = fs::read_dir(dir).unwrap().into_iter();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    paths.map(|path| (name(&path), fs::read(&path).unwrap())).collect()
}
