//! Whether a run fits the machine's memory.

use burn::tensor::Device;
use matformer_core::units::{counted, memory as bytes};
use matformer_core::{Plan, Submodel};
use matformer_nn::{ModelConfig, device::in_host_memory, machine::available_memory};
use matformer_runfile::RunFile;
use matformer_train::{TrainingMemory, passes};

use crate::{
    error::{Error, Hinted, OrBadInput, Result},
    kind::Kind,
};

/// Steps whose draws are looked at for the largest.
const DRAWS: u64 = 64;

/// What a run needs, and what there is.
pub struct Need {
    /// By what it is for.
    pub memory: TrainingMemory,
    /// Bytes at the peak, on the device.
    pub peak: f64,
    /// Bytes that the process may still take; `None` where the system does not say.
    pub available: Option<u64>,
    /// Whether the device computes in this machine's memory. What another one has is not known.
    pub on_host: bool,
    /// Rows of one forward pass.
    pub rows: usize,
}

impl Need {
    /// The need of a valid run whose model has this shape.
    pub fn of<K: Kind>(run: &RunFile<K>, device: &Device) -> Result<Self> {
        let (train, shape) = (&run.train, run.shape_in_training());
        let (space, dims) = (shape.space()?, K::dims(&shape)?);
        let rows = train.rows(dims.targets).bad_input()?;
        let (mut largest, mut seen): (Option<TrainingMemory>, Vec<Vec<Submodel>>) = (None, vec![]);
        for step in 0..train.steps.min(DRAWS) {
            for submodels in passes(train, &space, step) {
                if seen.contains(&submodels) {
                    continue;
                }
                let plan = Plan::merged(&submodels)?;
                let memory = TrainingMemory::of(train, &dims, rows, &plan);
                if largest.is_none_or(|largest| memory.peak() > largest.peak()) {
                    largest = Some(memory);
                }
                seen.push(submodels);
            }
        }
        let Some(memory) = largest else {
            return Err(Error::refused("`train.draw` draws nothing"));
        };
        let on_host = in_host_memory(device);
        let peak = memory.peak();
        Ok(Self { memory, peak, available: available_memory(), on_host, rows })
    }

    /// Refuses what does not fit; gives what is to be said of what may just fit.
    pub fn check<K: Kind>(&self, run: &RunFile<K>) -> Result<Option<String>> {
        let Some(available) = self.available else {
            return Ok(None);
        };
        let needed = if self.on_host { self.peak } else { self.memory.host() };
        if needed <= available as f64 {
            return Ok(None);
        }
        let message = format!(
            "training needs about {} of memory; {} are available",
            bytes(needed),
            bytes(available as f64)
        );
        // Nobody knows to the byte: a little too much may yet fit.
        if needed <= 1.2 * available as f64 {
            return Ok(Some(message));
        }
        let without = needed - if self.on_host { self.memory.activations } else { 0.0 };
        let hint = match self.rows {
            2.. if without < available as f64 => {
                let share = (available as f64 - without) / self.memory.activations;
                let most = ((self.rows as f64 * share) as usize).max(1);
                // A step is made of whole passes.
                let per_row = K::targets_per_row(&run.shape_in_training());
                let all = run.train.tokens_per_step / per_row;
                let rows = (1..=most).rev().find(|rows| all.is_multiple_of(*rows)).unwrap_or(1);
                format!(
                    "lower `train.batch_rows`, which is {}: {rows} {} of {} fit; a step then has {} \
                     passes",
                    self.rows,
                    K::ROWS,
                    counted(per_row, "target"),
                    all / rows
                )
            }
            _ => format!(
                "a smaller model needs less: `model.{}.d_model`, `n_layers`, `d_ff`{}",
                K::NAME,
                K::SMALLER
            ),
        };
        Err(Hinted { message, hint }).bad_input()
    }
}
