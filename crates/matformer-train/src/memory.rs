//! How much memory training takes: an estimate.

use matformer_core::Plan;
use matformer_nn::config::Dims;
use serde::Serialize;

/// Bytes of an f32.
const FLOAT: f64 = size_of::<f32>() as f64;
/// Code, threads and buffers.
const PROGRAM: f64 = 25e6;
/// Logits of a chunk of cross-entropy at most, of 128 to 256 rows; they become their gradients.
const LOGITS: f64 = (1 << 22) as f64;

/// Bytes that training takes at its peak, by what they are for.
///
/// An estimate: it counts tensors, neither what an allocator keeps nor what a graphics driver
/// takes. The peaks of runs on a CPU (models of 1.7 to 30 million parameters, one submodel and
/// joint) were within a fifth of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TrainingMemory {
    /// The program itself.
    pub program: f64,
    /// The model.
    pub weights: f64,
    /// Its gradient; two of them where a step has several forward passes.
    pub gradients: f64,
    /// First and second moment.
    pub moments: f64,
    /// What the forward pass keeps for the backward pass, and what the largest layer works with.
    pub activations: f64,
    /// A chunk of the head's output, which becomes its gradient.
    pub logits: f64,
    /// The moments' copy on the host while a checkpoint is written: gradients and activations are
    /// gone by then.
    pub checkpoint: f64,
}

impl TrainingMemory {
    /// The estimate for passes of `rows` rows through `plan`, which must be one of the model's;
    /// `accumulates` says whether a step has several of them.
    pub fn of(dims: &Dims, rows: usize, plan: &Plan, accumulates: bool) -> Self {
        let weights = FLOAT * dims.params;
        let tokens = rows as f64 * dims.seq as f64;
        let [d, q_dim, kv_dim] = [dims.d_model, dims.q_dim, dims.kv_dim].map(|n| n as f64);
        let hidden = if dims.gated { 2.0 } else { 1.0 }; // up, and gate
        // Floats per token: what each layer keeps, and the most that one works with.
        let (mut kept, mut working) = (2.0 * d, 0.0_f64);
        for layer in 0..plan.n_layers() {
            let (entering, leaving) =
                (plan.input_units(layer) as f64, plan.input_units(layer + 1) as f64);
            // Blocks with a common input keep the widest one's hidden values only.
            let wide: usize = plan.widest(layer).iter().map(|b| b.width * b.units()).sum();
            kept += entering * (3.0 * d + 2.0 * q_dim + 2.0 * kv_dim) + leaving * d;
            kept += hidden * wide as f64;
            let widest = plan.max_width(layer) as f64;
            working = working.max(leaving * 2.0 * d + (hidden + 1.0) * widest.max(q_dim));
        }
        let outputs = dims.outputs as f64;
        let heads = rows as f64 * dims.heads_per_row as f64;
        let logits = outputs * (LOGITS / outputs).clamp(128.0, 256.0).min(heads);
        Self {
            program: PROGRAM,
            weights,
            gradients: weights * if accumulates { 2.0 } else { 1.0 },
            moments: 2.0 * weights,
            activations: FLOAT * tokens * (kept + working),
            logits: FLOAT * logits,
            checkpoint: 2.0 * weights,
        }
    }

    /// The most that is needed at any time.
    pub fn peak(&self) -> f64 {
        let step = self.gradients + self.activations + self.logits;
        self.program + self.weights + self.moments + step.max(self.checkpoint)
    }

    /// What the host needs where the work is done on another device: weights and moments, on their
    /// way to a checkpoint.
    pub fn host(&self) -> f64 {
        self.program + 2.0 * self.weights + self.checkpoint
    }
}

#[cfg(test)]
mod tests {
    use matformer_core::{Granularities, Space, Submodel};

    use super::*;

    #[test]
    fn memory_grows_with_what_is_trained_and_never_overflows() {
        let space = Space::new(5, 512, 32, Granularities::default_for(512).unwrap()).unwrap();
        let dims = Dims {
            params: 1e6,
            seq: 256,
            d_model: 128,
            q_dim: 128,
            kv_dim: 64,
            gated: true,
            outputs: 2048,
            heads_per_row: 256,
        };
        let of = |rows, submodels: &[Submodel]| {
            let plan = Plan::merged(submodels).unwrap();
            TrainingMemory::of(&dims, rows, &plan, false)
        };
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
}
