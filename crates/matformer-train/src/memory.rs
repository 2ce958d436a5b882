//! An estimate of how much memory training takes.

use matformer_core::Plan;
use serde::Serialize;

use crate::{ExchangeRule, TrainConfig};

/// Bytes of an f32.
const FLOAT: f64 = size_of::<f32>() as f64;
/// Memory of the program itself: code, threads and buffers.
const PROGRAM: f64 = 25e6;
/// Most logits of a chunk of cross-entropy, which has 128 to 256 rows; gradients replace them.
const LOGITS: f64 = (1 << 22) as f64;

/// Sizes that decide how much memory training a model takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dims {
    /// Parameters of the widest submodel.
    pub params: f64,
    /// Positions of a training row.
    pub seq: usize,
    /// Size of the hidden state.
    pub d_model: usize,
    /// Size of the queries of all heads together.
    pub q_dim: usize,
    /// Size of the keys of all heads together.
    pub kv_dim: usize,
    /// Whether the feed-forward block has a gate.
    pub gated: bool,
    /// Outputs of the head: vocabulary or classes.
    pub outputs: usize,
    /// Targets of a training row: how often the head runs.
    pub targets: usize,
}

/// Bytes that training takes at its peak, by purpose.
///
/// An estimate: it counts tensors, not the overhead of an allocator or of a graphics driver. It was
/// within 20 % of the measured peaks of runs on a CPU (models of 1.7 to 30 million parameters, one
/// submodel and joint).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TrainingMemory {
    /// The program itself.
    pub program: f64,
    /// The model.
    pub weights: f64,
    /// The gradient; two of them if a step has several forward passes.
    pub gradients: f64,
    /// First and second moment.
    pub moments: f64,
    /// The teacher's weights, of a run that learns from another model (`train.distill.teacher`).
    pub teacher: f64,
    /// The moving average of the weights (`train.ema`); 0 where none is kept.
    pub average: f64,
    /// Weights at the beginning of a round and the outer momentum (`train.exchange`); 0 without rounds.
    pub outer: f64,
    /// Activations saved for the backward pass, and the temporaries of the largest layer.
    pub activations: f64,
    /// A chunk of the head's output, which its gradient replaces.
    pub logits: f64,
    /// The copy of moments, average and outer momentum on the host while a checkpoint is written. Gradients and
    /// activations are freed by then.
    pub checkpoint: f64,
}

impl TrainingMemory {
    /// The estimate for passes of `rows` rows through `plan`, which must be one of the model's. Parts that
    /// are frozen are counted as if they were trained.
    pub fn of(config: &TrainConfig, dims: &Dims, rows: usize, plan: &Plan) -> Self {
        let weights = FLOAT * dims.params;
        let tokens = rows as f64 * dims.seq as f64;
        let [d, q_dim, kv_dim] = [dims.d_model, dims.q_dim, dims.kv_dim].map(|n| n as f64);
        let hidden = if dims.gated { 2.0 } else { 1.0 }; // up, and gate
        // Floats per token: what all layers keep, and the temporaries of the largest one.
        let (mut kept, mut working) = (2.0 * d, 0.0_f64);
        for layer in 0..plan.n_layers() {
            let (entering, leaving) =
                (plan.input_units(layer) as f64, plan.input_units(layer + 1) as f64);
            // Blocks with a common input keep only the hidden values of the widest one.
            let wide: usize = plan.widest(layer).iter().map(|b| b.width * b.units()).sum();
            kept += entering * (3.0 * d + 2.0 * q_dim + 2.0 * kv_dim) + leaving * d;
            kept += hidden * wide as f64;
            let widest = plan.max_width(layer) as f64;
            working = working.max(leaving * 2.0 * d + (hidden + 1.0) * widest.max(q_dim));
        }
        let outputs = dims.outputs as f64;
        let targets = rows as f64 * dims.targets as f64;
        let logits = outputs * (LOGITS / outputs).clamp(128.0, 256.0).min(targets);
        // With a teacher: a chunk of its logits, their logarithms, and the student's.
        let chunks = if config.distill.is_some() { 4.0 } else { 1.0 };
        let accumulates = targets < config.tokens_per_step as f64;
        let frozen = config.distill.as_ref().is_some_and(|distill| distill.folder().is_some());
        let (moments, average) = (2.0 * weights, if config.ema > 0.0 { weights } else { 0.0 });
        let momentum = match config.exchange {
            ExchangeRule::Rounds(rounds) if rounds.outer_momentum > 0.0 => weights,
            _ => 0.0,
        };
        let anchor = if config.exchange == ExchangeRule::EveryStep { 0.0 } else { weights };
        Self {
            program: PROGRAM,
            weights,
            gradients: weights * if accumulates { 2.0 } else { 1.0 },
            moments,
            teacher: if frozen { weights } else { 0.0 },
            average,
            outer: anchor + momentum,
            activations: FLOAT * tokens * (kept + working),
            logits: FLOAT * logits * chunks,
            checkpoint: moments + average + momentum,
        }
    }

    /// The largest sum that is needed at any time.
    pub fn peak(&self) -> f64 {
        let step = self.gradients + self.activations + self.logits;
        let state = self.weights + self.moments + self.teacher + self.average + self.outer;
        // At the end of a round: means over the ranks.
        let means = if self.outer > 0.0 { self.weights + self.moments + self.average } else { 0.0 };
        self.program + state + step.max(self.checkpoint).max(means)
    }

    /// Memory of the host if another device computes: the copies of weights, moments and average
    /// that are written to a checkpoint.
    pub fn host(&self) -> f64 {
        self.program + 2.0 * self.weights + self.checkpoint
    }
}

#[cfg(test)]
mod tests {
    use matformer_core::{Granularities, Space, Submodel};

    use super::*;
    use crate::{Distill, Rounds};

    const DIMS: Dims = Dims {
        params: 1e6,
        seq: 256,
        d_model: 128,
        q_dim: 128,
        kv_dim: 64,
        gated: true,
        outputs: 2048,
        targets: 256,
    };

    fn space() -> Space {
        Space::new(5, 512, 32, Granularities::default_for(512).unwrap()).unwrap()
    }

    /// The estimate for a step of one pass.
    fn of(dims: &Dims, rows: usize, submodels: &[Submodel]) -> TrainingMemory {
        let plan = Plan::merged(submodels).unwrap();
        let config = TrainConfig { tokens_per_step: 1, ..TrainConfig::default() };
        TrainingMemory::of(&config, dims, rows, &plan)
    }

    #[test]
    fn memory_grows_with_what_is_trained_and_never_overflows() {
        let space = space();
        let of = |rows, submodels: &[Submodel]| of(&DIMS, rows, submodels);
        let (small, large) = (space.smallest(), space.largest());
        let one = of(8, std::slice::from_ref(&small));
        assert_eq!(one.moments, 2.0 * one.weights);
        let twice = of(16, std::slice::from_ref(&small));
        assert_eq!(twice.activations, 2.0 * one.activations);
        assert!(of(8, std::slice::from_ref(&large)).activations > one.activations);
        let joint = of(8, &space.uniforms());
        assert!(joint.activations > of(8, &[small, large]).activations);
        assert!(joint.peak() > joint.weights + joint.gradients + joint.moments);
        let absurd = of(usize::MAX, &space.uniforms());
        assert!(absurd.peak() > 1e21 && absurd.peak().is_finite());
    }

    #[test]
    fn shorter_rows_take_less() {
        let of = |dims: &Dims| of(dims, 8, &[space().largest()]);
        let quarter = of(&Dims { seq: 64, targets: 64, ..DIMS });
        assert_eq!(4.0 * quarter.activations, of(&DIMS).activations);
    }

    #[test]
    fn a_moving_average_is_a_copy_of_the_weights_here_and_in_a_checkpoint() {
        let plan = Plan::one(&space().largest());
        let plain = TrainConfig { tokens_per_step: 1, ..TrainConfig::default() };
        let of = |config: &TrainConfig| TrainingMemory::of(config, &DIMS, 8, &plan);
        let without = of(&plain);
        let with = of(&TrainConfig { ema: 0.99, ..plain.clone() });
        assert_eq!((without.average, with.average), (0.0, with.weights));
        assert_eq!(with.checkpoint, without.checkpoint + with.weights);
        assert_eq!(with.host(), without.host() + with.weights);
        assert!(with.peak() >= without.peak() + with.weights);
        // With one short row, the peak is reached while a checkpoint is written.
        let of = |ema| {
            let config = TrainConfig { ema, ..plain.clone() };
            TrainingMemory::of(&config, &Dims { seq: 1, targets: 1, ..DIMS }, 1, &plan).peak()
        };
        assert_eq!(of(0.99) - of(0.0), 2.0 * with.weights);
    }

    #[test]
    fn rounds_add_the_weights_that_they_began_with_and_a_momentum() {
        let plan = Plan::one(&space().largest());
        let plain = TrainConfig { tokens_per_step: 1, ..TrainConfig::default() };
        let of = |outer_momentum| {
            let rounds = Rounds { outer_momentum, ..Rounds::default() };
            let config = TrainConfig { exchange: ExchangeRule::Rounds(rounds), ..plain.clone() };
            TrainingMemory::of(&config, &DIMS, 8, &plan)
        };
        let (without, with) = (TrainingMemory::of(&plain, &DIMS, 8, &plan), of(0.9));
        assert_eq!((without.outer, with.outer), (0.0, 2.0 * with.weights));
        assert_eq!(with.checkpoint, without.checkpoint + with.weights);
        assert_eq!(of(0.0).outer, with.weights);
        assert!(with.peak() >= without.peak() + 2.0 * with.weights);
    }

    #[test]
    fn accumulation_adds_a_gradient_and_distillation_logits() {
        let plan = Plan::one(&space().largest());
        let of = |config: &TrainConfig| TrainingMemory::of(config, &DIMS, 8, &plan);
        let one = TrainConfig { tokens_per_step: 8 * 256, ..TrainConfig::default() };
        let two = of(&TrainConfig { tokens_per_step: 2 * 8 * 256, ..one.clone() });
        assert_eq!(of(&one).gradients, two.weights);
        assert_eq!(two.gradients, 2.0 * two.weights);
        let taught = of(&TrainConfig { distill: Some(Distill::default()), ..one.clone() });
        assert_eq!(taught.logits, 4.0 * of(&one).logits);
    }
}
