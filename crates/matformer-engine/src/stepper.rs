//! What takes tokens through a model: the engine's own decoder on the CPU, matformer-nn's forward pass on any other
//! device.

use std::time::Instant;

use burn::tensor::{Int, Tensor, TensorData};
use matformer_core::{Plan, Space, Span, Spans, Submodel};
use matformer_lm::MatLm;
use matformer_nn::{Elastic, State, walk};

use crate::{
    EngineModel, Result,
    cpu::{self, Decoder},
    drafting::Speeds,
    model::Held,
};

pub(crate) use cpu::Row;

/// Times of a pass of which the median counts.
const REPEATS: usize = 3;
/// Tokens of a timed row at most whose logits are asked for: as many as are verified at a time.
const LOGITS: usize = crate::DraftLen::MOST + 1;

/// A model with a cache of slots.
pub(crate) trait Stepper: Send {
    fn space(&self) -> &Space;

    fn vocab_size(&self) -> usize;

    /// Positions that a slot holds.
    fn len(&self, slot: usize) -> usize;

    /// Forgets the positions of a slot from `len` on.
    fn truncate(&mut self, slot: usize, len: usize);

    /// Takes tokens through the model; returns the logits that are wanted, token by token.
    ///
    /// # Errors
    /// When the device fails.
    fn step(&mut self, rows: &[Row<'_>]) -> Result<Vec<f32>>;

    /// Takes back the memory of logits, so that the next ones need no new pages from the system.
    fn reuse(&mut self, _logits: Vec<f32>) {}

    /// Median seconds of each of `passes` when they follow one another: passes of other sizes in between leave other
    /// weights in the processor's caches. Rows take free slots of their own, behind `past` tokens.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    fn seconds(
        &mut self,
        passes: &[Vec<(&Submodel, usize)>],
        first_slot: usize,
        past: usize,
    ) -> Result<Vec<f64>> {
        let Some(widest) = passes.iter().max_by_key(|pass| pass.len()) else {
            return Ok(Vec::new());
        };
        let filled: Vec<_> = widest.iter().map(|(submodel, _)| (*submodel, past)).collect();
        if past > 0 {
            self.pass(&filled, first_slot)?;
        }
        let mut times = vec![Vec::new(); passes.len()];
        for repeat in 0..=REPEATS {
            for (pass, times) in passes.iter().zip(&mut times) {
                let started = Instant::now();
                self.pass(pass, first_slot)?;
                // The first takes memory.
                if repeat > 0 {
                    times.push(started.elapsed().as_secs_f64());
                }
                (0..pass.len()).for_each(|i| self.truncate(first_slot + i, past));
            }
        }
        (0..widest.len()).for_each(|i| self.truncate(first_slot + i, 0));
        Ok(times.into_iter().map(median).collect())
    }

    /// A pass of rows in free slots of their own: each is so many tokens, one at least, of a submodel.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    fn pass(&mut self, rows: &[(&Submodel, usize)], first_slot: usize) -> Result<()> {
        let ids = vec![0; rows.iter().map(|(_, tokens)| *tokens).max().unwrap_or(0)];
        let row = |i: usize| {
            let (submodel, tokens) = rows[i];
            // Those of a past that is only there to be attended to would be many.
            let logits_from = tokens.saturating_sub(LOGITS);
            Row {
                slot: first_slot + i,
                ids: &ids[..tokens],
                widths: submodel.widths(),
                logits_from,
            }
        };
        let logits = self.step(&(0..rows.len()).map(row).collect::<Vec<_>>())?;
        self.reuse(logits);
        Ok(())
    }

    /// How long drafting a token and verifying up to `most` of them take, in a free slot: measured at powers of two,
    /// in between on the lines that join them.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    fn speeds(
        &mut self,
        slot: usize,
        narrow: &Submodel,
        wide: &Submodel,
        most: usize,
    ) -> Result<Speeds> {
        let (mut measured, mut narrows) = (Vec::new(), Vec::new());
        let mut tokens = 1;
        loop {
            let seconds = self.seconds(&[vec![(narrow, 1)], vec![(wide, tokens)]], slot, 0)?;
            narrows.push(seconds[0]);
            measured.push((tokens, seconds[1]));
            if tokens > most {
                break;
            }
            tokens = (2 * tokens).min(most + 1);
        }
        let between = |tokens: usize| {
            let after = measured.iter().position(|(at, _)| *at >= tokens).unwrap_or(0);
            let (to, high) = measured[after];
            let (from, low) = measured[after.saturating_sub(1)];
            if to == from {
                return high;
            }
            low + (high - low) * (tokens - from) as f64 / (to - from) as f64
        };
        Ok(Speeds { narrow: median(narrows), verify: (1..=most + 1).map(between).collect() })
    }
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// The stepper of a model's device, with so many caches.
pub(crate) fn of(
    model: &EngineModel,
    threads: Option<usize>,
    caches: usize,
    capacity: usize,
) -> Box<dyn Stepper> {
    match &model.held {
        Held::Packed(weights) => {
            let threads = threads.unwrap_or_else(cpu::threads);
            Box::new(OnCpu(Decoder::new(weights.clone(), threads, caches, capacity)))
        }
        Held::Device(model) => {
            let state = State::with_cache(caches, capacity);
            Box::new(OnDevice { model: MatLm::clone(model), state })
        }
    }
}

struct OnCpu(Decoder);

impl Stepper for OnCpu {
    fn space(&self) -> &Space {
        &self.0.weights().space
    }

    fn vocab_size(&self) -> usize {
        self.0.weights().config.vocab_size
    }

    fn len(&self, slot: usize) -> usize {
        self.0.cache().len(slot)
    }

    fn truncate(&mut self, slot: usize, len: usize) {
        self.0.cache_mut().truncate(slot, len);
    }

    fn step(&mut self, rows: &[Row<'_>]) -> Result<Vec<f32>> {
        Ok(self.0.step(rows))
    }

    fn reuse(&mut self, logits: Vec<f32>) {
        self.0.reuse(logits);
    }
}

struct OnDevice {
    model: MatLm,
    state: State,
}

impl Stepper for OnDevice {
    fn space(&self) -> &Space {
        self.model.space()
    }

    fn vocab_size(&self) -> usize {
        self.model.config().vocab_size
    }

    fn len(&self, slot: usize) -> usize {
        self.state.cache().map_or(0, |cache| cache.lens()[slot])
    }

    fn truncate(&mut self, slot: usize, len: usize) {
        if let Some(cache) = self.state.cache_mut() {
            cache.truncate(slot, len);
        }
    }

    fn step(&mut self, rows: &[Row<'_>]) -> Result<Vec<f32>> {
        let span = |row: &Row<'_>| Span {
            slot: Some(row.slot),
            start: self.len(row.slot),
            len: row.ids.len(),
        };
        let spans = Spans::new(rows.iter().map(span).collect());
        let ids: Vec<u32> = rows.iter().flat_map(|row| row.ids).copied().collect();
        let submodels: Vec<Submodel> =
            rows.iter().map(|row| Submodel::new(row.widths.to_vec())).collect();
        let input = self.model.tokens_of(&spans, &ids)?;
        let walked = walk(&self.model, &input, &Plan::rows(&submodels)?, &mut self.state)?;
        let mut wanted = Vec::new();
        let mut first = 0;
        for row in rows {
            wanted.extend((first + row.logits_from..first + row.ids.len()).map(|at| at as i32));
            first += row.ids.len();
        }
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let output = walked.all();
        let wanted = TensorData::from(&wanted[..]);
        let wanted = Tensor::<1, Int>::from_data(wanted, &self.model.device());
        let hidden = output.hidden.clone().select(0, wanted);
        let logits = self.model.head(&output.with_hidden(hidden));
        Ok(logits.try_into_vec_as().map_err(|error| matformer_nn::Error::read("logits", error))?)
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use matformer_lm::MatLmConfig;

    use super::*;
    use crate::Format;

    /// Both steppers on the CPU: rows of unequal length and size, parts of prompts, a slot that goes back.
    #[test]
    fn the_decoder_gives_what_the_walk_gives() {
        let device = "flex".parse::<matformer_nn::DeviceSpec>().unwrap().resolve().unwrap();
        let config = MatLmConfig { vocab_size: 40, n_layers: 2, ..MatLmConfig::default() };
        let model = MatLm::new(&config, 1, &device).unwrap();
        let [s, xl] = [model.space().smallest(), model.space().largest()];
        let ours = of(&EngineModel::of(&model, Format::F32).unwrap(), None, 2, 20);
        let state = State::with_cache(2, 20);
        let walk: Box<dyn Stepper> = Box::new(OnDevice { model: model.clone(), state });
        // Slot, tokens, submodel, and the first token after which logits are wanted.
        let steps = [
            vec![(0, vec![1, 2, 3], &xl, 3), (1, vec![7; 5], &s, 4)],
            vec![(1, vec![9], &xl, 0), (0, vec![4, 5], &s, 0)],
            vec![(0, vec![6, 7, 8], &xl, 1)],
        ];
        let run = |mut stepper: Box<dyn Stepper>| -> Vec<f32> {
            let mut found = Vec::new();
            for rows in &steps {
                let row = |(slot, ids, submodel, logits_from)| Row {
                    slot,
                    ids,
                    widths: Submodel::widths(submodel),
                    logits_from,
                };
                let parts = rows.iter().map(|(slot, ids, of, from)| (*slot, &ids[..], *of, *from));
                let rows: Vec<Row<'_>> = parts.map(row).collect();
                found.extend(stepper.step(&rows).unwrap());
                stepper.truncate(0, 3);
                assert_eq!(stepper.len(0), 3);
            }
            found
        };
        let (ours, walked) = (run(ours), run(walk));
        assert_eq!((ours.len(), walked.len()), (6 * 40, 6 * 40));
        let off = ours.iter().zip(&walked).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 1e-4, "{off}");
    }
}
