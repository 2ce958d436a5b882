//! `train.overfit`, the self-test on the first batches.

use matformer_train::{MetricsLine, MetricsLog, TrainConfig};

use super::support::{train, train_config};

fn config(steps: u64, draw: &str) -> TrainConfig {
    TrainConfig {
        steps,
        overfit: Some(2),
        draw: draw.parse().unwrap(),
        learning_rate: 2e-2,
        eval_every: 1000,
        checkpoint_every: 1000,
        ..train_config()
    }
}

#[test]
fn a_model_that_can_learn_overfits_two_batches() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(200, "joint");
    // Stopped and resumed: the first loss is still the one before the first step.
    assert!(train(dir.path(), &config, Some(1)).unwrap().interrupted);
    let found = train(dir.path(), &config, None).unwrap().overfit.unwrap();
    assert!(found.ok && found.causes.is_none(), "{found}");
    assert_eq!(found.batches, 2);
    let names: Vec<&str> = found.losses.iter().map(|l| l.granularity.as_str()).collect();
    assert_eq!(names, ["S", "M", "L", "XL"]);
    for loss in &found.losses {
        // Before training, all 20 tokens are about equally likely.
        assert!((loss.first - 20f64.ln()).abs() < 0.3, "{found}");
    }
    // Evaluation uses the same two batches as training.
    let lines = MetricsLog::read(dir.path()).unwrap();
    let last = |at: u64| {
        lines.iter().find_map(|line| match line {
            MetricsLine::Train(t) if t.step == at => Some(t.loss["XL"]),
            _ => None,
        })
    };
    let trained = (last(199).unwrap() + last(200).unwrap()) / 2.0;
    assert!((trained - found.losses[3].last).abs() < 0.05, "{trained} against {found}");
}

#[test]
fn a_model_that_cannot_reports_likely_causes() {
    let dir = tempfile::tempdir().unwrap();
    let found = train(dir.path(), &config(4, "baseline:M"), None).unwrap().overfit.unwrap();
    assert!(!found.ok && found.losses.len() == 1, "{found}");
    let causes = found.causes.unwrap();
    assert!(causes.starts_with("likely causes: too few steps (`train.steps` is 4)"), "{causes}");
    // Without `train.overfit` there is no report.
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(train(dir.path(), &train_config(), None).unwrap().overfit, None);
}
