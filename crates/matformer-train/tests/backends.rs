//! Training on another backend follows flex step by step.

use std::collections::BTreeMap;

use matformer_lm::MatLm;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use matformer_nn::DeviceSpec;
use matformer_train::{MetricsLine, MetricsLog, Precision, TrainConfig};
use matformer_vit::MatVit;

use crate::support::{Subject, device, train_config, train_model};

/// Loss of every submodel that was drawn, by step.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn losses<M: Subject>(on: &burn::tensor::Device, draw: &str) -> Vec<(u64, BTreeMap<String, f64>)> {
    losses_in::<M>(Precision::F32, 20, on, draw)
}

/// The same of a run in some precision.
fn losses_in<M: Subject>(
    dtype: Precision,
    steps: u64,
    on: &burn::tensor::Device,
    draw: &str,
) -> Vec<(u64, BTreeMap<String, f64>)> {
    let dir = tempfile::tempdir().unwrap();
    let config = TrainConfig { steps, dtype, draw: draw.parse().unwrap(), ..train_config() };
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
    let config = TrainConfig { dtype: Precision::Bf16, ..train_config() };
    if let Err(error) = config.validate_device(&device()) {
        let error = error.to_string();
        assert!(error.contains("`train.dtype` is bf16; expected f32: this device"), "{error}");
        return;
    }
    let [low, full] = [Precision::Bf16, Precision::F32]
        .map(|dtype| losses_in::<M>(dtype, 200, &device(), "sampled"));
    let mean = |losses: &[(u64, BTreeMap<String, f64>)]| {
        let all: Vec<f64> =
            losses.iter().flat_map(|(_, by_label)| by_label.values().copied()).collect();
        all.iter().sum::<f64>() / all.len() as f64
    };
    let [first, last] = [&full[..20], &full[full.len() - 20..]].map(mean);
    // Over all steps: what is learnt by heart at the end has next to no loss, and of that a part is noise.
    let (found, expected) = (mean(&low), mean(&full));
    assert!(last < 0.99 * first, "something was learnt: {first} to {last}");
    let off = (found - expected).abs() / expected;
    assert!(off < 2e-2, "{found} in bfloat16, {expected} in f32");
    assert_ne!(low.last(), full.last(), "bfloat16 was computed in");
}
