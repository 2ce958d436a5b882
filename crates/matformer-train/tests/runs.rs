//! Whole runs: stop and resume, checkpoints, metrics, guards.

use burn::tensor::TensorData;
use matformer_core::{Manifest, rng};
use matformer_lm::{MatLm, MatLmConfig};
use matformer_nn::{DeviceSpec, folder, params};
use matformer_train::{
    Batch, Batches, BoxError, Checkpoints, Distill, Error, Interrupter, MetricsLine, MetricsLog,
    Spike, TrainConfig, Trainer,
};
use matformer_vit::MatVit;

use super::support::{
    self, Counting, ROWS, Subject, draws, model, train, train_config, train_model, train_on,
    weights,
};

fn load<M: Subject>(dir: &std::path::Path) -> M {
    let device = DeviceSpec::from_env().and_then(DeviceSpec::resolve).unwrap();
    folder::load(dir, &device).unwrap().0
}

#[test]
fn stopped_and_resumed_is_bit_for_bit_the_same() {
    stopped_and_resumed::<MatLm>(&train_config());
}

/// Of what is frozen there are no moments to be kept.
#[test]
fn stopped_and_resumed_with_a_frozen_embedding_is_bit_for_bit_the_same() {
    stopped_and_resumed::<MatLm>(&TrainConfig {
        freeze: vec!["embed".to_owned()],
        ..train_config()
    });
}

/// A model with random drop-path, a moving average, and a learning rate for each layer.
#[test]
fn stopped_and_resumed_on_images_is_bit_for_bit_the_same() {
    stopped_and_resumed::<MatVit>(&TrainConfig { ema: 0.8, layer_decay: 0.7, ..train_config() });
}

fn stopped_and_resumed<M: Subject>(config: &TrainConfig) {
    let train = |dir: &std::path::Path, config: &TrainConfig, stop_at| {
        train_model(M::fresh(&support::device().autodiff()), dir, config, stop_at)
    };
    for (i, draw) in draws().into_iter().enumerate() {
        let config = TrainConfig { draw: draw.clone(), ..config.clone() };
        let whole = tempfile::tempdir().unwrap();
        let outcome = train(whole.path(), &config, None).unwrap();
        assert!(!outcome.interrupted && outcome.steps == 12);

        let parts = tempfile::tempdir().unwrap();
        // A different step for each draw, not aligned with evaluations or checkpoints. With separate
        // batches, a step has four indices.
        let mut random = rng::keyed(5, "stop", i as u64);
        let per_step = if draw.to_string() == "joint-separate" { 4 } else { 1 };
        let stop = (1 + rng::index(&mut random, 10) as u64) * per_step;
        let outcome = train(parts.path(), &config, Some(stop)).unwrap();
        assert!(outcome.interrupted && outcome.steps < 12, "{draw}: {outcome:?}");
        let outcome = train(parts.path(), &config, None).unwrap();
        assert!(!outcome.interrupted);

        assert_eq!(weights(&load::<M>(whole.path())), weights(&load::<M>(parts.path())), "{draw}");
        let losses = |dir| -> Vec<(u64, String)> {
            let lines = MetricsLog::read(dir).unwrap().into_iter();
            let key = |line| match line {
                MetricsLine::Train(t) => (t.step, format!("{:?} {}", t.loss, t.grad_norm)),
                MetricsLine::HeldOut(h) => (h.step, format!("{:?}", h.held_out)),
                MetricsLine::Skipped(s) => (s.step, format!("{s:?}")),
            };
            lines.map(key).collect()
        };
        assert_eq!(losses(whole.path()), losses(parts.path()), "{draw}");
    }
}

/// Large enough for every kernel to use several threads: a sum in the order in which threads end
/// would change the bits.
#[test]
fn the_same_steps_twice_are_bit_for_bit_the_same() {
    let config = MatLmConfig {
        vocab_size: 700,
        d_model: 96,
        n_heads: 4,
        d_ff: 512,
        granularities: None,
        ..support::config()
    };
    let train = TrainConfig { draw: "joint".parse().unwrap(), ..train_config() };
    let after_steps = || {
        let device = DeviceSpec::from_env().and_then(DeviceSpec::resolve).unwrap().autodiff();
        let model = MatLm::new(&config, 3, &device).unwrap();
        let batches = Counting { rows: 80, wrong: 0..0, stop_at: None };
        let mut trainer = Trainer::new(model, &train, 1);
        for _ in 0..3 {
            trainer.step(&batches).unwrap();
        }
        weights(trainer.model())
    };
    assert_eq!(after_steps(), after_steps());
}

#[test]
fn a_run_learns_and_records_its_metrics() {
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
    // The learning rate is too high after step 4: the first checkpoint stays the best.
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
            MetricsLine::Train(_) | MetricsLine::Skipped(_) => None,
        })
        .collect();
    let best = means.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0;
    let mut expected = vec![best, 12, 14];
    expected.sort_unstable();
    expected.dedup();
    let kept = Checkpoints::of(dir.path()).all().unwrap();
    assert_eq!(kept.iter().map(|c| c.step).collect::<Vec<_>>(), expected);
    load::<MatLm>(&kept[0].dir);
}

/// A model whose weights are all `value`.
fn all(value: f32) -> MatLm {
    let fill = params::fill(model(), |_, shape| {
        let n: usize = shape.iter().product();
        Ok::<_, Error>(TensorData::new(vec![value; n], shape.to_vec()))
    });
    fill.unwrap()
}

#[test]
fn a_nan_loss_stops_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let error = train_model(all(f32::NAN), dir.path(), &train_config(), None).unwrap_err();
    assert!(matches!(error, Error::NonFinite { what: "loss", step: 1, .. }), "{error}");
    let message = error.to_string();
    assert!(message.ends_with("at step 1; last good checkpoint: none"), "{message}");
    assert_eq!(
        error.hint().unwrap(),
        "train into another folder with a lower `train.learning_rate` (it is 0.01)"
    );
    assert!(Checkpoints::of(dir.path()).all().unwrap().is_empty());
}

#[test]
fn a_nan_gradient_is_skipped_until_there_are_several_in_a_row() {
    // Finite weights whose squares are infinite.
    let dir = tempfile::tempdir().unwrap();
    let error = train_model(all(1e30), dir.path(), &train_config(), None).unwrap_err();
    assert!(matches!(error, Error::Diverged { in_a_row: 5, step: 5, .. }), "{error}");
    assert!(error.to_string().contains("because the gradient norm is NaN"), "{error}");
    let skipped = MetricsLog::read(dir.path()).unwrap();
    assert_eq!(skipped.len(), 5);
    let without_value =
        |line: &MetricsLine| matches!(line, MetricsLine::Skipped(s) if s.value.is_none());
    assert!(skipped.iter().all(without_value), "{skipped:?}");
    // Without the guard, the first one ends the run.
    let dir = tempfile::tempdir().unwrap();
    let spike = Spike { nats: 0.0, ..Spike::default() };
    let off = TrainConfig { spike, clip: 0.0, eps: 1e-20, ..train_config() };
    let error = train_model(all(1e30), dir.path(), &off, None).unwrap_err();
    assert!(matches!(error, Error::NonFinite { what: "gradient norm", step: 1, .. }), "{error}");
    let hint = error.hint().unwrap();
    assert!(hint.contains("`train.clip` 1 (0 is no clipping), a higher `train.eps`"), "{hint}");
}

#[test]
fn invalid_settings_are_named() {
    let cases = [
        (TrainConfig { steps: 0, ..train_config() }, "`train.steps` is 0; expected at least 1"),
        (TrainConfig { betas: [0.9, 1.0], ..train_config() }, "`train.betas` is 1"),
        (TrainConfig { min_lr: 2.0, ..train_config() }, "`train.min_lr` is 2; expected a share"),
        (
            TrainConfig { spike: Spike { nats: -1.0, ..Spike::default() }, ..train_config() },
            "`train.spike.nats` is -1",
        ),
        (
            TrainConfig { spike: Spike { in_a_row: 0, ..Spike::default() }, ..train_config() },
            "`train.spike.in_a_row` is 0; expected at least 1",
        ),
        (TrainConfig { learning_rate: f64::NAN, ..train_config() }, "`train.learning_rate` is NaN"),
        (TrainConfig { learning_rate: 3.0, ..train_config() }, "is 3; expected above 0, at most 1"),
        (
            TrainConfig { weight_decay: 1e9, ..train_config() },
            "`train.weight_decay` is 1000000000; expected below 100: ",
        ),
        (TrainConfig { eps: 0.0, ..train_config() }, "`train.eps` is 0; expected from 1e-30 to 1"),
        (
            TrainConfig { overfit: Some(0), ..train_config() },
            "`train.overfit` is 0; expected at least 1",
        ),
        (
            TrainConfig { steps: u64::MAX, ..train_config() },
            "`train.steps` is 18446744073709551615",
        ),
        (
            TrainConfig {
                distill: Some(Distill { from: Some("Q".into()), ..Distill::default() }),
                ..train_config()
            },
            "`train.distill.from` is Q; expected one of S, M, L, XL",
        ),
        (
            TrainConfig {
                distill: Some(Distill { weight: -1.0, ..Distill::default() }),
                ..train_config()
            },
            "`train.distill.weight` is -1",
        ),
        (
            TrainConfig {
                distill: Some(Distill { temperature: 0.0, ..Distill::default() }),
                ..train_config()
            },
            "`train.distill.temperature` is 0; expected from 0.01 to 100",
        ),
        (TrainConfig { draw: "baseline:Q".parse().unwrap(), ..train_config() }, "`Q`"),
    ];
    for (config, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        let message = train(dir.path(), &config, None).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is written");
    }
    let odd = TrainConfig { tokens_per_step: 100, batch_rows: Some(3), ..train_config() };
    let message = |config: &TrainConfig, targets| config.rows(targets).unwrap_err().to_string();
    assert_eq!(
        message(&odd, 16),
        "`train.tokens_per_step` is 100; expected a multiple of 16, the targets of one row: \
         `train.seq_len`, or the model's context where that is absent"
    );
    assert_eq!(
        message(&TrainConfig { tokens_per_step: 128, ..odd.clone() }, 16),
        "`train.tokens_per_step` is 128; expected a multiple of 48, the targets of one pass: \
         `train.batch_rows` is 3 of 16 targets each"
    );
    // Images.
    assert_eq!(
        message(&odd, 1),
        "`train.tokens_per_step` is 100; expected a multiple of 3, the targets of one pass: \
         `train.batch_rows` is 3"
    );
    assert_eq!(TrainConfig { tokens_per_step: 96, ..odd }.batches_per_step(48).unwrap(), 2);
}

#[test]
fn training_rows_are_as_long_as_the_key_says_or_the_context_allows() {
    let of = |seq_len| TrainConfig { seq_len, ..train_config() };
    assert_eq!([16, 1024, 4096].map(|context| of(None).row_len(context)), [16, 1024, 1024]);
    assert_eq!(of(Some(2048)).row_len(4096), 2048);
    for seq_len in [None, Some(2), Some(16)] {
        of(seq_len).validate_seq_len(Some(16)).unwrap();
    }
    let message =
        |seq_len, context| of(Some(seq_len)).validate_seq_len(context).unwrap_err().to_string();
    let expected = "expected from 2 to 16, the model's context";
    assert_eq!(message(17, Some(16)), format!("`train.seq_len` is 17; {expected}"));
    assert_eq!(message(1, Some(16)), format!("`train.seq_len` is 1; {expected}"));
    of(None).validate_seq_len(None).unwrap();
    assert_eq!(
        message(16, None),
        "`train.seq_len` is 16; expected none: only a language model has rows of tokens"
    );
}

/// Batches of which one training batch or one held-out batch cannot be read.
struct Unreadable {
    batches: Counting,
    train: Option<u64>,
    held_out: Option<usize>,
}

impl Batches<MatLm> for Unreadable {
    fn train(&self, model: &MatLm, index: u64) -> Result<Batch<MatLm>, BoxError> {
        if self.train == Some(index) {
            return Err("unreadable".into());
        }
        self.batches.train(model, index)
    }

    fn targets_per_batch(&self) -> usize {
        Batches::<MatLm>::targets_per_batch(&self.batches)
    }

    fn held_out_len(&self) -> usize {
        Batches::<MatLm>::held_out_len(&self.batches)
    }

    fn held_out(&self, model: &MatLm, index: usize) -> Result<Batch<MatLm>, BoxError> {
        if self.held_out == Some(index) {
            return Err("unreadable".into());
        }
        self.batches.held_out(model, index)
    }
}

#[test]
fn metrics_from_before_an_error_are_written() {
    let config = TrainConfig { eval_every: 10, checkpoint_every: 12, ..train_config() };
    for (train, held_out, steps) in [(Some(7), None, 7), (None, Some(1), 10)] {
        let dir = tempfile::tempdir().unwrap();
        let batches = Counting { rows: ROWS, wrong: 0..0, stop_at: None };
        let batches = Unreadable { batches, train, held_out };
        let error =
            train_on(batches, Interrupter::new(), model(), dir.path(), &config).unwrap_err();
        assert!(matches!(error, Error::Batch { .. }), "{error}");
        let lines = MetricsLog::read(dir.path()).unwrap();
        assert_eq!(
            lines.iter().map(MetricsLine::step).collect::<Vec<_>>(),
            (1..=steps).collect::<Vec<u64>>()
        );
    }
}

#[test]
fn a_run_that_is_stopped_before_its_first_step_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let interrupter = Interrupter::new();
    interrupter.stop(None);
    let batches = Counting { rows: ROWS, wrong: 0..0, stop_at: None };
    let outcome = train_on(batches, interrupter, model(), dir.path(), &train_config()).unwrap();
    assert!(outcome.interrupted && outcome.steps == 0, "{outcome:?}");
    assert!(Checkpoints::of(dir.path()).all().unwrap().is_empty());
}
