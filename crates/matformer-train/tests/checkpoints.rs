//! Damaged checkpoints, and two processes that train into one folder.

use std::path::{Path, PathBuf};

use matformer_nn::folder;
use matformer_train::{Checkpoints, Error, MetricsLine, MetricsLog, RunLock, TrainConfig};

use super::support::{device, train, train_config, weights};

fn stopped(at: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    assert!(train(dir.path(), &train_config(), Some(at)).unwrap().interrupted);
    dir
}

/// Bits of the weights by path, and metrics by step.
type Ended = (std::collections::BTreeMap<String, Vec<u32>>, Vec<(u64, String)>);

fn ended(dir: &Path) -> Ended {
    let (model, _) = folder::load::<matformer_lm::MatLm>(dir, &device()).unwrap();
    let lines = MetricsLog::read(dir).unwrap().into_iter();
    let lines = lines.map(|line| match line {
        MetricsLine::Train(t) => (t.step, format!("{:?}", t.loss)),
        other => (other.step(), format!("{other:?}")),
    });
    (weights(&model), lines.collect())
}

fn rewrite(path: PathBuf, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(path, change(bytes)).unwrap();
}

#[test]
fn a_damaged_checkpoint_is_renamed_and_the_run_resumes_from_the_one_before() {
    let whole = tempfile::tempdir().unwrap();
    train(whole.path(), &train_config(), None).unwrap();
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 10] = [
        ("weights cut off", |c| {
            rewrite(c.join("model.safetensors"), |b| b[..b.len() / 2].to_vec());
        }),
        ("a weight changed", |c| {
            rewrite(c.join("model.safetensors"), |mut b| {
                let at = b.len() - 3;
                b[at] ^= 1;
                b
            });
        }),
        ("moments cut off", |c| {
            rewrite(c.join("train/optimizer.safetensors"), |b| b[..b.len() - 4].to_vec());
        }),
        ("a moment changed", |c| {
            rewrite(c.join("train/optimizer.safetensors"), |mut b| {
                let at = b.len() - 4;
                b[at] ^= 1;
                b
            });
        }),
        ("a lying header", |c| {
            rewrite(c.join("train/optimizer.safetensors"), |mut b| {
                b[..8].copy_from_slice(&u64::MAX.to_le_bytes());
                b
            });
        }),
        ("moments gone", |c| std::fs::remove_file(c.join("train/optimizer.safetensors")).unwrap()),
        ("no manifest", |c| std::fs::remove_file(c.join("matformer.json")).unwrap()),
        ("state cut off", |c| rewrite(c.join("train/state.json"), |b| b[..40].to_vec())),
        ("state of another step", |c| {
            rewrite(c.join("train/state.json"), |b| {
                let text = String::from_utf8(b).unwrap();
                text.replace("\"step\": 8", "\"step\": 7").into_bytes()
            });
        }),
        ("pieces of another size", |c| {
            rewrite(c.join("train/state.json"), |b| {
                let mut state: serde_json::Value = serde_json::from_slice(&b).unwrap();
                state["pieces"]["embed"][0][0] = 1.into();
                state.to_string().into_bytes()
            });
        }),
    ];
    for (what, damage) in damages {
        let dir = stopped(9);
        let checkpoints = Checkpoints::of(dir.path());
        let steps = |all: Vec<matformer_train::Checkpoint>| -> Vec<u64> {
            all.into_iter().map(|c| c.step).collect()
        };
        // Stopped after step 10: the last two regular checkpoints, and the one of the stop.
        let mut all = checkpoints.all().unwrap();
        std::fs::remove_dir_all(all.pop().unwrap().dir).unwrap();
        assert_eq!(steps(all.clone()), [4, 8]);
        damage(&all[1].dir);
        let outcome =
            train(dir.path(), &train_config(), None).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(outcome.steps, 12, "{what}");
        assert_eq!(ended(dir.path()), ended(whole.path()), "{what}");
        assert_eq!(steps(checkpoints.all().unwrap()), [4, 8, 12], "{what}");
        assert!(dir.path().join("checkpoints/damaged-step-000008").is_dir(), "{what}");
    }
}

#[test]
fn if_all_are_damaged_the_error_names_the_newest() {
    let dir = stopped(5);
    for checkpoint in Checkpoints::of(dir.path()).all().unwrap() {
        std::fs::remove_file(checkpoint.dir.join("model.safetensors")).unwrap();
    }
    let before = Checkpoints::of(dir.path()).all().unwrap();
    let error = train(dir.path(), &train_config(), None).unwrap_err();
    assert!(matches!(error, Error::NoCheckpoint { count: 2, .. }), "{error}");
    let message = error.to_string();
    assert!(
        message.contains("checkpoints: all 2 checkpoints are damaged; the newest: "),
        "{message}"
    );
    assert!(message.contains("step-000006") && message.contains("model.safetensors"), "{message}");
    assert!(error.hint().unwrap().starts_with("remove `"));
    assert_eq!(Checkpoints::of(dir.path()).all().unwrap(), before, "nothing is put aside");
}

#[test]
fn a_checkpoint_of_another_model_is_refused_but_not_renamed() {
    let dir = stopped(5);
    let other = TrainConfig { outer: matformer_train::Outer::Skip, ..train_config() };
    // The same shape resumes; another does not, and nothing is renamed.
    train(dir.path(), &other, Some(7)).unwrap();
    let config = matformer_lm::MatLmConfig { d_model: 32, ..super::support::config() };
    let model = matformer_lm::MatLm::new(&config, 3, &device().autodiff()).unwrap();
    let error = super::support::train_model(model, dir.path(), &train_config(), None).unwrap_err();
    assert!(matches!(error, Error::Checkpoint { .. }), "{error}");
    assert!(error.to_string().contains("as the run's configuration says"), "{error}");
    assert!(!dir.path().join("checkpoints/damaged-step-000008").exists());
}

#[test]
fn moments_of_an_older_layout_are_refused_and_not_taken_for_damage() {
    let dir = stopped(5);
    let all = Checkpoints::of(dir.path()).all().unwrap();
    for checkpoint in &all {
        rewrite(checkpoint.dir.join("train/state.json"), |b| {
            let mut state: serde_json::Value = serde_json::from_slice(&b).unwrap();
            assert_eq!(state.as_object_mut().unwrap().remove("version"), Some(1.into()));
            state.to_string().into_bytes()
        });
    }
    let error = train(dir.path(), &train_config(), None).unwrap_err();
    assert!(matches!(error, Error::StateVersion { found: 0, expected: 1, .. }), "{error}");
    let hint = error.hint().unwrap();
    assert!(hint.contains("train.init = ") && hint.contains("step-000006"), "{hint}");
    assert_eq!(Checkpoints::of(dir.path()).all().unwrap(), all, "nothing is put aside");
}

#[test]
fn only_one_process_trains_into_a_run_folder() {
    let dir = stopped(5);
    let held = RunLock::take(dir.path()).unwrap();
    let error = train(dir.path(), &train_config(), None).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert!(error.to_string().ends_with("another process is training into it"), "{error}");
    // Other processes may read.
    let last = Checkpoints::of(dir.path()).latest().unwrap().unwrap();
    folder::load::<matformer_lm::MatLm>(&last.dir, &device()).unwrap();
    drop(held);
    train(dir.path(), &train_config(), None).unwrap();
}

#[test]
fn a_run_that_has_ended_resumes_with_more_steps() {
    let dir = tempfile::tempdir().unwrap();
    train(dir.path(), &train_config(), None).unwrap();
    let longer = TrainConfig { steps: 20, ..train_config() };
    assert!(train(dir.path(), &longer, Some(14)).unwrap().interrupted);
    let steps = || matformer_core::Manifest::load(dir.path()).unwrap().provenance.steps;
    assert_eq!(steps(), 12, "the old model stays until the new one is there");
    assert_eq!(train(dir.path(), &longer, None).unwrap().steps, 20);
    assert_eq!(steps(), 20);
    folder::load::<matformer_lm::MatLm>(dir.path(), &device()).unwrap();
}

#[cfg(unix)]
#[test]
fn all_files_of_a_checkpoint_have_the_same_permissions() {
    use std::os::unix::fs::PermissionsExt;

    let dir = stopped(5);
    let last = Checkpoints::of(dir.path()).latest().unwrap().unwrap().dir;
    let mode = |name: &str| std::fs::metadata(last.join(name)).unwrap().permissions().mode();
    for name in ["train/optimizer.safetensors", "train/state.json", "model.safetensors"] {
        assert_eq!(mode(name), mode("matformer.json"), "{name}");
    }
}

#[test]
fn a_checkpoint_returns_the_configuration_of_its_run() {
    let dir = stopped(5);
    let found = Checkpoints::of(dir.path()).configured().unwrap();
    assert_eq!(found, Some(serde_json::json!({ "seed": 0 })));
    assert_eq!(Checkpoints::of(&dir.path().join("none")).configured().unwrap(), None);
}
