//! Training on another backend follows flex step by step.

use std::collections::BTreeMap;

use matformer_lm::MatLm;
use matformer_nn::DeviceSpec;
use matformer_train::{MetricsLine, MetricsLog, TrainConfig};
use matformer_vit::MatVit;

use crate::support::{Subject, device, train_config, train_model};

/// Loss of every submodel that was drawn, by step.
fn losses<M: Subject>(on: &burn::tensor::Device, draw: &str) -> Vec<(u64, BTreeMap<String, f64>)> {
    let dir = tempfile::tempdir().unwrap();
    let config = TrainConfig { steps: 20, draw: draw.parse().unwrap(), ..train_config() };
    train_model(M::fresh(&on.clone().autodiff()), dir.path(), &config, None).unwrap();
    MetricsLog::read(dir.path())
        .unwrap()
        .into_iter()
        .map(|line| match line {
            MetricsLine::Train(line) => (line.step, line.loss),
            MetricsLine::HeldOut(line) => (line.step, line.held_out),
            MetricsLine::Skipped(line) => panic!("{line:?}"),
        })
        .collect()
}

#[test]
fn twenty_steps_follow_flex() {
    twenty_steps::<MatLm>();
}

#[test]
fn twenty_steps_on_images_follow_flex() {
    twenty_steps::<MatVit>();
}

fn twenty_steps<M: Subject>() {
    let flex = DeviceSpec::Flex.resolve().unwrap();
    for draw in ["sampled", "joint"] {
        let (ours, reference) = (losses::<M>(&device(), draw), losses::<M>(&flex, draw));
        assert_eq!(ours.len(), reference.len());
        for ((step, ours), (_, reference)) in ours.iter().zip(&reference) {
            for (label, expected) in reference {
                let found = ours[label];
                let off = (found - expected).abs() / expected;
                assert!(off < 1e-3, "{draw}, step {step}, {label}: {found}, flex: {expected}");
            }
        }
        // The loss changed, so training is what is compared.
        let mean =
            |losses: &BTreeMap<String, f64>| losses.values().sum::<f64>() / losses.len() as f64;
        let first = mean(&reference[0].1);
        let least = reference.iter().map(|(_, losses)| mean(losses)).fold(first, f64::min);
        assert!(least < 0.99 * first, "{draw}: {first} to {least}");
    }
}
