//! What must hold in the repository, as tests.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use serde_json::Value;

/// The layers: each crate with the crates of ours that it may depend on, directly. Every arrow
/// points down.
const LAYERS: [(&str, &[&str]); 19] = [
    ("matformer-core", &[]),
    ("matformer-data", &["matformer-core"]),
    ("matformer-exchange", &[]),
    ("matformer-nn", &["matformer-core"]),
    ("matformer-search", &["matformer-core"]),
    ("matformer-sources", &["matformer-core", "matformer-data"]),
    ("matformer-tasks", &["matformer-core", "matformer-data"]),
    ("matformer-lm", &["matformer-core", "matformer-nn"]),
    ("matformer-train", &["matformer-core", "matformer-exchange", "matformer-nn"]),
    ("matformer-vit", &["matformer-core", "matformer-nn"]),
    ("matformer-engine", &["matformer-core", "matformer-lm", "matformer-nn"]),
    ("matformer-serve", &["matformer-core", "matformer-data", "matformer-engine"]),
    ("matformer-formats", &["matformer-core", "matformer-lm", "matformer-nn", "matformer-vit"]),
    (
        "matformer-eval",
        &[
            "matformer-core",
            "matformer-data",
            "matformer-engine",
            "matformer-exchange",
            "matformer-lm",
            "matformer-nn",
            "matformer-vit",
        ],
    ),
    (
        "matformer-runfile",
        &[
            "matformer-core",
            "matformer-data",
            "matformer-lm",
            "matformer-nn",
            "matformer-sources",
            "matformer-train",
            "matformer-vit",
        ],
    ),
    (
        "matformer-run",
        &[
            "matformer-core",
            "matformer-data",
            "matformer-engine",
            "matformer-eval",
            "matformer-exchange",
            "matformer-formats",
            "matformer-lm",
            "matformer-nn",
            "matformer-runfile",
            "matformer-sources",
            "matformer-train",
            "matformer-vit",
        ],
    ),
    (
        "matformer-study",
        &[
            "matformer-core",
            "matformer-data",
            "matformer-engine",
            "matformer-eval",
            "matformer-exchange",
            "matformer-nn",
            "matformer-run",
            "matformer-runfile",
            "matformer-search",
            "matformer-tasks",
            "matformer-train",
        ],
    ),
    (
        "matformer-bench",
        &[
            "matformer-core",
            "matformer-engine",
            "matformer-eval",
            "matformer-lm",
            "matformer-nn",
            "matformer-run",
            "matformer-runfile",
            "matformer-train",
            "matformer-vit",
        ],
    ),
    (
        "matformer",
        &[
            "matformer-bench",
            "matformer-core",
            "matformer-data",
            "matformer-engine",
            "matformer-eval",
            "matformer-exchange",
            "matformer-formats",
            "matformer-lm",
            "matformer-nn",
            "matformer-run",
            "matformer-runfile",
            "matformer-search",
            "matformer-serve",
            "matformer-sources",
            "matformer-study",
            "matformer-tasks",
            "matformer-train",
            "matformer-vit",
        ],
    ),
];

/// Crates that must build without Burn, whatever they depend on.
const WITHOUT_BURN: [&str; 6] = [
    "matformer-core",
    "matformer-data",
    "matformer-exchange",
    "matformer-search",
    "matformer-sources",
    "matformer-tasks",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Normal and build dependencies of every crate of the workspace.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let names = dependencies.filter(|d| d["kind"] != "dev").map(|d| text(&d["name"]));
            (text(&package["name"]), names.collect())
        })
        .collect()
}

#[test]
fn every_arrow_points_down() {
    let found = dependencies();
    let crates: Vec<&str> = found.keys().map(String::as_str).filter(|n| *n != "xtask").collect();
    let mut known: Vec<&str> = LAYERS.iter().map(|(name, _)| *name).collect();
    known.sort_unstable();
    assert_eq!(crates, known, "every crate has its place in the layers");
    for (name, may) in LAYERS {
        for dependency in found[name].iter().filter(|d| d.starts_with("matformer")) {
            assert!(may.contains(&dependency.as_str()), "{name} must not know {dependency}");
        }
    }
    assert!(
        found["xtask"].iter().all(|d| !d.starts_with("matformer")),
        "xtask depends on no crate of ours"
    );
}

#[test]
fn crates_without_burn_know_none() {
    let found = dependencies();
    for name in WITHOUT_BURN {
        let burn = found[name].iter().find(|d| d.starts_with("burn"));
        assert!(burn.is_none(), "{name} depends on {burn:?}");
    }
}

#[test]
fn every_crate_has_a_readme_and_an_example() {
    for (name, _) in LAYERS {
        let dir = root().join("crates").join(name);
        let readme = std::fs::read_to_string(dir.join("README.md")).unwrap();
        assert!(readme.lines().count() > 10, "{name}: README.md says too little");
        let examples = std::fs::read_dir(dir.join("examples"));
        assert!(examples.is_ok_and(|e| e.count() > 0), "{name}: no example");
    }
}

#[test]
fn library_code_names_no_backend() {
    // Only device choice, the list of backends of the ops, and kernels may.
    let allowed = [
        "matformer-nn/src/device.rs",
        "matformer-nn/src/ops/backend.rs",
        "matformer-nn/src/ops/rows.rs",
        "matformer-nn/src/ops/cube/",
        "matformer-nn/src/ops/flex/",
    ];
    let with_burn = LAYERS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| *name != "matformer" && !WITHOUT_BURN.contains(name));
    for name in with_burn {
        for file in sources(&root().join("crates").join(name).join("src")) {
            let path = file.to_string_lossy().replace('\\', "/");
            if allowed.iter().any(|a| path.contains(a)) {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap();
            for backend in ["Flex", "CubeBackend", "Wgpu", "Cuda"] {
                assert!(!text.contains(backend), "{path} names {backend}");
            }
        }
    }
}

#[test]
fn checks_are_listed_in_one_place() {
    let script = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    let called = script.lines().filter(|line| !line.starts_with('#') && line.contains("cargo"));
    assert_eq!(called.collect::<Vec<_>>(), ["cargo xtask ci"]);
}

#[test]
fn every_fuzz_target_is_built() {
    let manifest = std::fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    for file in std::fs::read_dir(root().join("fuzz/fuzz_targets")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}\"")), "{name}");
    }
}

fn sources(dir: &PathBuf) -> Vec<PathBuf> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .collect()
}
