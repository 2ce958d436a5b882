//! Steps that are skipped because their loss is a spike.

use std::{ops::Range, path::Path};

use matformer_nn::{DeviceSpec, folder};
use matformer_train::{
    Checkpoints, Distill, Error, Interrupter, MetricsLine, MetricsLog, Outcome, Result,
    SkippedLine, Spike, TrainConfig,
};

use super::support::{Counting, ROWS, model, train_config, train_on, weights};

/// Long enough for a low loss; one width, so that every step has a loss of it.
fn config() -> TrainConfig {
    TrainConfig {
        steps: 190,
        draw: "baseline:M".parse().unwrap(),
        learning_rate: 3e-2,
        eval_every: 95,
        checkpoint_every: 80,
        ..train_config()
    }
}

fn train(
    dir: &Path,
    config: &TrainConfig,
    wrong: Range<u64>,
    stop: Option<u64>,
) -> Result<Outcome> {
    let interrupter = Interrupter::new();
    let stop_at = stop.map(|at| (at, interrupter.clone()));
    train_on(Counting { rows: ROWS, wrong, stop_at }, interrupter, model(), dir, config)
}

fn skipped(dir: &Path) -> Vec<SkippedLine> {
    let lines = MetricsLog::read(dir).unwrap().into_iter();
    lines
        .filter_map(|line| match line {
            MetricsLine::Skipped(line) => Some(line),
            _ => None,
        })
        .collect()
}

fn optimizer_steps(dir: &Path) -> u64 {
    let text = std::fs::read_to_string(dir.join("train/state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&text).unwrap();
    state["pieces"]["embed"][0][1].as_u64().unwrap()
}

#[test]
fn a_spike_is_skipped_and_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = train(dir.path(), &config(), 170..171, None).unwrap();
    assert_eq!((outcome.steps, outcome.skipped), (190, 1));
    let [line] = &skipped(dir.path())[..] else { panic!("{:?}", skipped(dir.path())) };
    assert_eq!((line.step, &line.skipped[..]), (171, "loss of M"));
    assert!(line.value.unwrap() > line.limit.unwrap() && line.limit.unwrap() > 2.0, "{line:?}");
    let last = Checkpoints::of(dir.path()).latest().unwrap().unwrap();
    assert_eq!(optimizer_steps(&last.dir), 189);

    // Without the guard every step is applied.
    let dir = tempfile::tempdir().unwrap();
    let off = TrainConfig { spike: Spike { nats: 0.0, ..Spike::default() }, ..config() };
    assert_eq!(train(dir.path(), &off, 170..171, None).unwrap().skipped, 0);
    let last = Checkpoints::of(dir.path()).latest().unwrap().unwrap();
    assert_eq!(optimizer_steps(&last.dir), 190);
}

#[test]
fn a_resumed_run_skips_the_same_steps() {
    let end = |stops: &[u64]| {
        let dir = tempfile::tempdir().unwrap();
        for stop in stops {
            assert!(train(dir.path(), &config(), 170..173, Some(*stop)).unwrap().interrupted);
        }
        let outcome = train(dir.path(), &config(), 170..173, None).unwrap();
        let device = DeviceSpec::from_env().and_then(DeviceSpec::resolve).unwrap();
        let (model, _) = folder::load::<matformer_lm::MatLm>(dir.path(), &device).unwrap();
        (weights(&model), skipped(dir.path()), outcome.skipped)
    };
    let whole = end(&[]);
    assert_eq!(whole.2, 3);
    // Before the guard judges, just before the spikes, and between two of them.
    assert_eq!(end(&[20, 169, 171]), whole);
}

#[test]
fn spikes_in_a_row_end_the_run_and_name_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let error = train(dir.path(), &config(), 170..190, None).unwrap_err();
    assert!(matches!(error, Error::Diverged { in_a_row: 5, step: 175, .. }), "{error}");
    let message = error.to_string();
    let start = "5 steps in a row skipped, at step 175 because the loss of M is ";
    assert!(message.starts_with(start), "{message}");
    assert!(message.ends_with("step-000160"), "{message}");
    assert!(error.hint().unwrap().contains("train.spike = 0"));
    assert_eq!(skipped(dir.path()).len(), 5, "what was left out is written down");

    // The last step may have caused the spikes, so a checkpoint that holds it is not named.
    let dir = tempfile::tempdir().unwrap();
    let often = TrainConfig { checkpoint_every: 1, keep: 200, ..config() };
    let message = train(dir.path(), &often, 170..190, None).unwrap_err().to_string();
    assert!(message.ends_with("step-000169"), "{message}");
}

#[test]
fn runs_resume_from_checkpoints_that_are_older_than_the_guard() {
    let dir = tempfile::tempdir().unwrap();
    train(dir.path(), &config(), 0..0, Some(150)).unwrap();
    let path = Checkpoints::of(dir.path()).latest().unwrap().unwrap().dir.join("train/state.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut state: serde_json::Value = serde_json::from_str(&text).unwrap();
    state.as_object_mut().unwrap().remove("guard").unwrap();
    std::fs::write(&path, state.to_string()).unwrap();
    let outcome = train(dir.path(), &config(), 170..171, None).unwrap();
    assert_eq!((outcome.steps, outcome.skipped), (190, 0), "too few steps to judge by");
}

#[test]
fn a_run_of_which_no_step_was_applied_fails_and_publishes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // Gradients overflow.
    let distill = Some(Distill { weight: 1e30, ..Distill::default() });
    let config = TrainConfig { steps: 4, draw: "joint".parse().unwrap(), distill, ..config() };
    for _ in 0..2 {
        // The second time there is a checkpoint of the last step.
        let error = train(dir.path(), &config, 0..0, None).unwrap_err();
        let message = error.to_string();
        let start = "all 4 steps were skipped, the last because the gradient norm is ";
        assert!(message.starts_with(start), "{message}");
        let hint = error.hint().unwrap();
        assert!(hint.contains("a lower `train.distill.weight` (it is 1000000"), "{hint}");
        assert!(!dir.path().join("matformer.json").exists());
    }
}
