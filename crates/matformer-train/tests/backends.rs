//! Training on another backend follows flex step by step.

use std::collections::BTreeMap;

use matformer_lm::MatLm;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use matformer_nn::DeviceSpec;
use matformer_train::{MetricsLine, MetricsLog, Precision, TrainConfig};
use matformer_vit::MatVit;

use super::support::{ROWS, SEQ, Subject, device, train_config, train_model};

/// Loss of every submodel that was drawn, by step.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn losses<M: Subject>(on: &burn::tensor::Device, draw: &str) -> Vec<(u64, BTreeMap<String, f64>)> {
    losses_of::<M>(&TrainConfig { steps: 20, draw: draw.parse().unwrap(), ..train_config() }, on)
}

/// The same of any run.
fn losses_of<M: Subject>(
    config: &TrainConfig,
    on: &burn::tensor::Device,
) -> Vec<(u64, BTreeMap<String, f64>)> {
    let dir = tempfile::tempdir().unwrap();
    train_model(M::fresh(&on.clone().autodiff()), dir.path(), config, None).unwrap();
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

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn twenty_steps_follow_flex() {
    twenty_steps::<MatLm>();
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[test]
fn twenty_steps_on_images_follow_flex() {
    twenty_steps::<MatVit>();
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
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

/// bfloat16 has 8 bits of precision: losses follow, weights do not.
#[test]
fn two_hundred_steps_in_bfloat16_follow_those_in_f32() {
    in_bfloat16::<MatLm>();
    in_bfloat16::<MatVit>();
}

fn in_bfloat16<M: Subject>() {
    // Runs part over time, whatever their precision: small steps and several seeds even that out.
    let config = |dtype, seed| TrainConfig {
        steps: 200,
        tokens_per_step: 2 * ROWS * SEQ,
        learning_rate: 1e-3,
        dtype,
        seed,
        ..train_config()
    };
    if let Err(error) = config(Precision::Bf16, 0).validate_device(&device()) {
        let error = error.to_string();
        assert!(error.contains("`train.dtype` is bf16; expected f32: this device"), "{error}");
        return;
    }
    let losses = |dtype| -> Vec<f64> {
        let of_seed = |seed| losses_of::<M>(&config(dtype, seed), &device());
        let by_step = (0..2).flat_map(of_seed);
        by_step.flat_map(|(_, by_label)| by_label.into_values()).collect()
    };
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (low, full) = (losses(Precision::Bf16), losses(Precision::F32));
    let (first, all) = (mean(&full[..20]), mean(&full));
    assert!(all < 0.9 * first, "something was learnt: {first}, {all}");
    let off = (mean(&low) - all).abs() / all;
    assert!(off < 2e-2, "{} in bfloat16, {all} in f32", mean(&low));
    assert_ne!(low, full, "bfloat16 was computed in");
}
