//! What each baseline of a run is trained on.

use matformer_core::{Draw, Space};
use matformer_nn::ModelConfig;
use matformer_runfile::RunFile;
use matformer_train::{TrainConfig, passes};

use matformer_run::Kind;
use matformer_run::Result;
use serde::{Deserialize, Serialize};

/// How much data a baseline sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// As many steps as the elastic run gave to a width in the mean: a quarter of them if it drew one
    /// of four widths in each step.
    PerWidth,
    /// As many steps as the elastic run.
    Total,
}

impl Budget {
    /// Every budget.
    pub const ALL: [Self; 2] = [Self::PerWidth, Self::Total];

    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::PerWidth => "per-width",
            Self::Total => "total",
        }
    }
}

/// Steps whose draws stand for those of a long run.
const SAMPLES: u64 = 4096;

/// The run that trains one granularity alone: the same data, schedule and seed.
pub(crate) fn baseline<K: Kind>(
    elastic: &RunFile<K>,
    name: &str,
    budget: Budget,
) -> Result<RunFile<K>> {
    let train = &elastic.train;
    let steps = match budget {
        Budget::Total => train.steps,
        Budget::PerWidth => share(train, &elastic.shape().space()?),
    };
    // Warm-up is the same share of the steps.
    let warmup = (train.warmup as u128 * steps as u128 / train.steps.max(1) as u128) as u64;
    let train = TrainConfig {
        steps,
        warmup,
        draw: Draw::Baseline { granularity: name.to_owned() },
        distill: None,
        ..train.clone()
    };
    Ok(RunFile { train, ..elastic.clone() })
}

/// Steps that the elastic run gave to a granularity in the mean: how many submodels its steps trained,
/// over the number of granularities.
pub(crate) fn share(train: &TrainConfig, space: &Space) -> u64 {
    let samples = train.steps.min(SAMPLES);
    let terms: usize = (0..samples)
        .map(|step| passes(train, space, step).iter().map(Vec::len).sum::<usize>())
        .sum();
    let per_step = terms as f64 / samples.max(1) as f64;
    ((train.steps as f64 * per_step / space.granularities.len() as f64).round() as u64).max(1)
}

/// How many steps the elastic run gave to each granularity, where its draw trains some more often than
/// others: the mean, which `per-width` gives to each baseline, is not that.
pub(crate) fn unequal<K: Kind>(elastic: &RunFile<K>, budget: Budget) -> Result<Option<String>> {
    let (train, space) = (&elastic.train, elastic.shape().space()?);
    let by_design =
        matches!(train.draw, Draw::Sandwich { .. } | Draw::Sampled { probabilities: Some(_) });
    if budget == Budget::Total || !by_design {
        return Ok(None);
    }
    let uniforms = space.uniforms();
    let samples = train.steps.min(SAMPLES);
    let mut counts = vec![0_u64; uniforms.len()];
    for step in 0..samples {
        for submodel in passes(train, &space, step).iter().flatten() {
            if let Some(at) = uniforms.iter().position(|uniform| uniform == submodel) {
                counts[at] += 1;
            }
        }
    }
    if counts.iter().all(|count| *count == counts[0]) {
        return Ok(None);
    }
    let steps = |count: u64| (count as f64 * train.steps as f64 / samples.max(1) as f64).round();
    let list = space.granularities.names().into_iter().zip(counts);
    let list: Vec<String> = list.map(|(name, n)| format!("{name} {}", steps(n))).collect();
    Ok(Some(format!(
        "the draw `{}` does not train all widths equally often (steps of {}); each baseline gets their \
         mean, {}",
        train.draw,
        list.join(", "),
        share(train, &space)
    )))
}

#[cfg(test)]
mod tests {
    use matformer_core::Granularities;

    use super::*;

    #[test]
    fn a_baseline_sees_as_many_batches_as_the_draw_gave_to_its_width() {
        let space = Space::new(2, 64, 8, Granularities::default_for(64).unwrap()).unwrap();
        let steps = |draw: &str| {
            let draw = draw.parse().unwrap();
            share(&TrainConfig { steps: 1200, draw, ..TrainConfig::default() }, &space)
        };
        // One of four widths a step, or all of them, or S, XL and one between.
        assert_eq!((steps("sampled"), steps("joint"), steps("sandwich:1")), (300, 1200, 900));
        // Never none.
        let one = TrainConfig { steps: 1, ..TrainConfig::default() };
        assert_eq!(share(&one, &space), 1);
    }
}
