//! What takes tokens through a model: the engine's own decoder on the CPU, the walk on any other device.

use std::{sync::Arc, time::Instant};

use burn::{
    module::Module,
    tensor::{Int, Tensor, TensorData},
};
use matformer_core::{Plan, Space, Span, Spans, Submodel};
use matformer_lm::MatLm;
use matformer_nn::{Elastic, State, device, walk};

use crate::{
    EngineOptions, Error, Format, Result,
    cpu::{self, Decoder, Weights},
    engine::Speeds,
};

pub(crate) use cpu::Row;

/// Times of a pass of which the median counts.
const REPEATS: usize = 3;

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

    /// A slot that no request has.
    fn spare(&self) -> usize;

    /// Seconds of a pass of so many tokens.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    fn seconds(&mut self, widths: &[usize], tokens: usize) -> Result<f64> {
        let (slot, ids) = (self.spare(), vec![0; tokens]);
        let mut times = Vec::new();
        for _ in 0..=REPEATS {
            self.truncate(slot, 0);
            let started = Instant::now();
            self.step(&[Row { slot, ids: &ids, widths, logits_from: 0 }])?;
            times.push(started.elapsed().as_secs_f64());
        }
        // The first takes memory.
        times.remove(0);
        times.sort_by(f64::total_cmp);
        Ok(times[REPEATS / 2])
    }

    /// How long drafting a token and verifying up to `most` of them take.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    fn speeds(&mut self, narrow: &[usize], wide: &[usize], most: usize) -> Result<Speeds> {
        let verify =
            (1..=most + 1).map(|tokens| self.seconds(wide, tokens)).collect::<Result<_>>()?;
        Ok(Speeds { narrow: self.seconds(narrow, 1)?, verify })
    }
}

/// The stepper of a model's device.
pub(crate) fn of(
    model: &MatLm,
    options: &EngineOptions,
    capacity: usize,
) -> Result<Box<dyn Stepper>> {
    if device::is_cpu(&model.device()) {
        let weights = Arc::new(Weights::of(model, options.format)?);
        let threads = options.threads.unwrap_or_else(cpu::threads);
        return Ok(Box::new(OnCpu(Decoder::new(weights, threads, options.slots + 1, capacity))));
    }
    if options.format != Format::F32 {
        return Err(Error::Packed { format: options.format });
    }
    let state = State::with_cache(options.slots + 1, capacity);
    Ok(Box::new(OnDevice { model: model.valid(), state, spare: options.slots }))
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

    fn spare(&self) -> usize {
        self.0.cache().slots() - 1
    }
}

struct OnDevice {
    model: MatLm,
    state: State,
    spare: usize,
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
        let wanted = TensorData::new(wanted.clone(), [wanted.len()]);
        let wanted = Tensor::<1, Int>::from_data(wanted, &self.model.device());
        let hidden = output.hidden.clone().select(0, wanted);
        let logits = self.model.head(&output.with_hidden(hidden));
        Ok(logits.try_into_vec_as().map_err(|error| matformer_nn::Error::read("logits", error))?)
    }

    fn spare(&self) -> usize {
        self.spare
    }
}
