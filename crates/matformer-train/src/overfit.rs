//! `train.overfit`: a self-test. A model that can learn at all overfits a few batches.

use std::{fmt, ops::Range, sync::Arc};

use matformer_core::{Draw, Space};
use matformer_nn::Elastic;
use serde::Serialize;

use crate::{Batch, Batches, BoxError, HeldOut, MetricsLine, TrainConfig};

/// The loss of a granularity must fall to this share of its first value.
const LEARNT: f64 = 0.1;

/// The first `n` training batches, over and over, for training and for evaluation.
pub(crate) struct FirstBatches<M: Elastic> {
    pub(crate) of: Arc<dyn Batches<M>>,
    pub(crate) n: u64,
}

impl<M: Elastic> Batches<M> for FirstBatches<M> {
    fn train(&self, model: &M, index: u64) -> Result<Batch<M>, BoxError> {
        self.of.train(model, index % self.n)
    }

    fn rows(&self) -> usize {
        self.of.rows()
    }

    fn train_rows(&self, model: &M, index: u64, rows: Range<usize>) -> Result<Batch<M>, BoxError> {
        self.of.train_rows(model, index % self.n, rows)
    }

    fn targets_per_batch(&self) -> usize {
        self.of.targets_per_batch()
    }

    fn learnt_per_batch(&self) -> f64 {
        self.of.learnt_per_batch()
    }

    fn held_out_len(&self) -> usize {
        self.n as usize
    }

    fn held_out(&self, model: &M, index: usize) -> Result<Batch<M>, BoxError> {
        self.of.train(model, index as u64)
    }
}

/// Result of the self-test.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overfit {
    /// Number of batches that the run trained on.
    pub batches: u64,
    /// Losses of every granularity that the draw trains, from the narrowest to the widest.
    pub losses: Vec<Learnt>,
    /// Whether all of them overfitted the batches.
    pub ok: bool,
    /// The usual causes, if they did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causes: Option<String>,
}

/// Nats per target of a granularity on the batches.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Learnt {
    /// Its name.
    pub granularity: String,
    /// Before the first step.
    pub first: f64,
    /// After the last step.
    pub last: f64,
}

impl fmt::Display for Overfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let batches = if self.batches == 1 { "batch" } else { "batches" };
        write!(f, "overfit on {} {batches}: ", self.batches)?;
        f.write_str(if self.ok { "ok:" } else { "not learnt:" })?;
        for (i, Learnt { granularity, first, last }) in self.losses.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma} {granularity} {first:.3} → {last:.3}")?;
        }
        Ok(())
    }
}

impl Overfit {
    /// Compares the first and the last evaluation in the log.
    pub(crate) fn of(
        config: &TrainConfig,
        space: &Space,
        batches: u64,
        lines: &[MetricsLine],
    ) -> Option<Self> {
        let held_out = |line: &MetricsLine| match line {
            MetricsLine::HeldOut(line) => Some(line.clone()),
            _ => None,
        };
        let first: HeldOut = lines.iter().find_map(held_out)?;
        let last: HeldOut = lines.iter().rev().find_map(held_out)?;
        let losses: Vec<Learnt> = trained(&config.draw, space)
            .into_iter()
            .filter_map(|name| {
                let (first, last) = (*first.held_out.get(name)?, *last.held_out.get(name)?);
                Some(Learnt { granularity: name.to_owned(), first, last })
            })
            .collect();
        let ok = losses.iter().all(|loss| loss.last <= LEARNT * loss.first);
        let causes = (!ok).then(|| causes(config, &losses));
        Some(Self { batches, losses, ok, causes })
    }
}

/// The granularities that a draw trains, from the narrowest to the widest.
fn trained<'a>(draw: &Draw, space: &'a Space) -> Vec<&'a str> {
    let names = space.granularities.names();
    match draw {
        Draw::Baseline { granularity } => names.into_iter().filter(|n| n == granularity).collect(),
        Draw::Sampled { probabilities: Some(list) } => {
            let drawn = names.into_iter().zip(list).filter(|(_, p)| **p > 0.0);
            drawn.map(|(name, _)| name).collect()
        }
        _ => names,
    }
}

fn causes(config: &TrainConfig, losses: &[Learnt]) -> String {
    let c = config;
    let mut causes: Vec<String> = Vec::new();
    if c.steps < 200 {
        causes.push(format!("too few steps (`train.steps` is {})", c.steps));
    }
    if c.warmup >= c.steps / 2 {
        causes.push(format!("a warm-up for most of the run (`train.warmup` is {})", c.warmup));
    }
    let rose = losses.iter().any(|loss| loss.last >= loss.first);
    let rate = if rose { "too high" } else { "too low or too high" };
    causes.push(format!("a rate that is {rate} (`train.learning_rate` is {})", c.learning_rate));
    causes.push("more text than the narrowest granularity can hold".to_owned());
    causes.push("targets that do not follow from the inputs".to_owned());
    format!("likely causes: {}", causes.join("; "))
}

#[cfg(test)]
mod tests {
    use matformer_core::Granularities;

    use super::*;

    fn judged(config: &TrainConfig, last: [f64; 4]) -> Overfit {
        let space = Space::new(2, 256, 32, Granularities::default_for(256).unwrap()).unwrap();
        let names = ["S", "M", "L", "XL"];
        let line = |step, losses: [f64; 4]| {
            let held_out = names.iter().map(|n| (*n).to_owned()).zip(losses).collect();
            MetricsLine::HeldOut(HeldOut { step, held_out, sources: Vec::new() })
        };
        let lines = [line(0, [6.0; 4]), line(50, [3.0; 4]), line(100, last)];
        Overfit::of(config, &space, 1, &lines).unwrap()
    }

    #[test]
    fn all_that_the_draw_trains_must_have_learnt() {
        let config = TrainConfig { steps: 100, warmup: 60, ..TrainConfig::default() };
        let ok = judged(&config, [0.5, 0.2, 0.1, 0.01]);
        assert_eq!(
            ok.to_string(),
            "overfit on 1 batch: ok: S 6.000 → 0.500, M 6.000 → 0.200, L 6.000 → 0.100, XL 6.000 → 0.010"
        );
        assert_eq!(ok.causes, None);
        let not = judged(&config, [0.7, 0.2, 0.1, 0.01]);
        assert!(!not.ok && not.to_string().starts_with("overfit on 1 batch: not learnt: S 6.000"));
        let causes = not.causes.unwrap();
        assert!(
            causes.starts_with("likely causes: too few steps (`train.steps` is 100); a warm-up")
        );
        // Twins and weights of zero train less than all.
        for (draw, names) in [("baseline:XL", "XL"), ("sampled:0/0.5/0/0.5", "MXL")] {
            let config = TrainConfig { draw: draw.parse().unwrap(), ..config.clone() };
            let found = judged(&config, [5.0, 0.2, 5.0, 0.1]);
            assert!(found.ok, "{found}");
            let labels: String = found.losses.iter().map(|l| l.granularity.as_str()).collect();
            assert_eq!(labels, names);
        }
        let rose = judged(&config, [7.0, 0.2, 0.1, 0.1]).causes.unwrap();
        assert!(
            rose.contains("a rate that is too high (`train.learning_rate` is 0.003)"),
            "{rose}"
        );
    }
}
