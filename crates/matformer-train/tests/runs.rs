//! Whole runs: stop and resume, checkpoints, metrics, guards.

use matformer_core::{Manifest, rng};
use matformer_lm::MatLm;
use matformer_nn::{DeviceSpec, folder};
use matformer_train::{Checkpoints, Error, MetricsLine, MetricsLog, TrainConfig};

use crate::support::{draws, train, train_config, weights};

fn load(dir: &std::path::Path) -> MatLm {
    let device = DeviceSpec::from_env().and_then(DeviceSpec::resolve).unwrap();
    folder::load(dir, &device).unwrap().0
}

#[test]
fn stopped_and_resumed_is_bit_for_bit_the_same() {
    for (i, draw) in draws().into_iter().enumerate() {
        let config = TrainConfig { draw: draw.clone(), ..train_config() };
        let whole = tempfile::tempdir().unwrap();
        let outcome = train(whole.path(), &config, None).unwrap();
        assert!(!outcome.interrupted && outcome.steps == 12);

        let parts = tempfile::tempdir().unwrap();
        // A step that is no multiple of anything, another for each draw. Separate batches take
        // four indices a step.
        let mut random = rng::keyed(5, "stop", i as u64);
        let per_step = if draw.to_string() == "joint-separate" { 4 } else { 1 };
        let stop = (1 + rng::index(&mut random, 10) as u64) * per_step;
        let outcome = train(parts.path(), &config, Some(stop)).unwrap();
        assert!(outcome.interrupted && outcome.steps < 12, "{draw}: {outcome:?}");
        let outcome = train(parts.path(), &config, None).unwrap();
        assert!(!outcome.interrupted);

        assert_eq!(weights(&load(whole.path())), weights(&load(parts.path())), "{draw}");
        let losses = |dir| -> Vec<(u64, String)> {
            let lines = MetricsLog::read(dir).unwrap().into_iter();
            let key = |line| match line {
                MetricsLine::Train(t) => (t.step, format!("{:?} {}", t.loss, t.grad_norm)),
                MetricsLine::HeldOut(h) => (h.step, format!("{:?}", h.held_out)),
            };
            lines.map(key).collect()
        };
        assert_eq!(losses(whole.path()), losses(parts.path()), "{draw}");
    }
}

#[test]
fn a_run_learns_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let config = TrainConfig { steps: 60, eval_every: 60, checkpoint_every: 60, ..train_config() };
    let outcome = train(dir.path(), &config, None).unwrap();
    let lines = MetricsLog::read(dir.path()).unwrap();
    assert_eq!(lines.len(), 61);
    let held_out = outcome.held_out.unwrap();
    let uniform = 20f64.ln();
    for name in ["S", "M", "L", "XL"] {
        assert!(held_out.held_out[name] < 0.7 * uniform, "{held_out:?}");
    }
    let manifest = Manifest::load(dir.path()).unwrap();
    assert_eq!((manifest.provenance.steps, manifest.provenance.tokens), (60, 60 * 16));
    assert!(dir.path().join("tokenizer.json").exists());
}

#[test]
fn the_last_checkpoints_and_the_best_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    // After step 4 the rate is absurd: the first checkpoint stays the best.
    let config = TrainConfig {
        steps: 14,
        warmup: 0,
        learning_rate: 0.05,
        eval_every: 2,
        checkpoint_every: 2,
        keep: 2,
        ..train_config()
    };
    train(dir.path(), &config, None).unwrap();
    let means: Vec<(u64, f64)> = MetricsLog::read(dir.path())
        .unwrap()
        .into_iter()
        .filter_map(|line| match line {
            MetricsLine::HeldOut(h) => Some((h.step, h.mean())),
            MetricsLine::Train(_) => None,
        })
        .collect();
    let best = means.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0;
    let mut expected = vec![best, 12, 14];
    expected.sort_unstable();
    expected.dedup();
    let kept = Checkpoints::of(dir.path()).all().unwrap();
    assert_eq!(kept.iter().map(|c| c.step).collect::<Vec<_>>(), expected);
    load(&kept[0].dir);
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_names_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let config = TrainConfig {
        learning_rate: 1e30,
        warmup: 0,
        eval_every: 1,
        checkpoint_every: 1,
        ..train_config()
    };
    let error = train(dir.path(), &config, None).unwrap_err();
    assert!(matches!(error, Error::NonFinite { step: 1.., .. }), "{error}");
    let message = error.to_string();
    assert!(
        message.contains("last good checkpoint: ") && message.contains("step-0000"),
        "{message}"
    );
    assert!(error.hint().unwrap().contains("train.learning_rate"));
}

#[test]
fn settings_that_cannot_train_are_named() {
    let cases = [
        (TrainConfig { steps: 0, ..train_config() }, "`train.steps` is 0; expected at least 1"),
        (TrainConfig { betas: [0.9, 1.0], ..train_config() }, "`train.betas` is 1"),
        (TrainConfig { min_lr: 2.0, ..train_config() }, "`train.min_lr` is 2; expected a share"),
        (TrainConfig { learning_rate: f64::NAN, ..train_config() }, "`train.learning_rate` is NaN"),
        (TrainConfig { draw: "baseline:Q".parse().unwrap(), ..train_config() }, "`Q`"),
    ];
    for (config, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        let message = train(dir.path(), &config, None).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is written");
    }
    let odd = TrainConfig { tokens_per_step: 100, batch_rows: Some(3), ..train_config() };
    let message = odd.rows(16).unwrap_err().to_string();
    assert_eq!(
        message,
        "`train.tokens_per_step` is 100; expected a multiple of 48, the targets of one batch"
    );
    assert_eq!(TrainConfig { tokens_per_step: 96, ..odd }.batches_per_step(48).unwrap(), 2);
}
