//! How fast a model generates, at each size, in each format, for one text and for several;
//! what a format costs in loss; what speculation gives.

mod speculation;
mod text;

use std::{ops::ControlFlow, path::PathBuf, time::Instant};

use matformer_core::{Resource, Submodel, SubmodelSpec};
use matformer_engine::{
    self as engine, Engine, EngineModel, EngineOptions, Format, Heard, Request,
};
use matformer_eval::stats::median;
use matformer_nn::{DeviceSpec, device::is_cpu, machine};
use matformer_run::{ModelFolder, OrBadInput, Result, Session};
use matformer_runfile::Lm;
use serde::Serialize;

pub use self::{speculation::Speculation, text::Loss};

/// Tokens of a prompt.
pub const PROMPT: usize = 16;
/// Tokens of a prompt whose reading is timed, where the context holds as many.
const PREFILL: usize = 512;
/// Texts of a batch of mixed sizes.
const MIXED: usize = 8;

/// `bench decode --json`.
#[derive(Debug, Serialize)]
pub struct Found {
    /// The machine.
    pub machine: String,
    /// The device.
    pub device: String,
    /// Bytes per second that all threads read together, in 10⁹; only of the CPU.
    pub bandwidth_gb_s: Option<f64>,
    /// New tokens of each text.
    pub tokens: usize,
    /// Rates of generation.
    pub rows: Vec<Row>,
    /// Rates of reading a prompt.
    pub prefill: Vec<Prefill>,
    /// Batches in which every size has as many texts.
    pub mixed: Vec<Mixed>,
    /// Nats per token of each format, with --text.
    pub loss: Vec<text::Loss>,
    /// With --text.
    pub speculation: Vec<speculation::Speculation>,
    /// What more tokens in a pass cost: `v(k)` of each size and format, of 1, 2, … tokens, where `v(1)` is 1.
    pub verify: Vec<Verify>,
}

/// Generation at a size, in a format, of some texts at the same time.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The size.
    pub submodel: String,
    /// The format of the weights.
    pub dtype: String,
    /// Texts that are generated at the same time.
    pub batch: usize,
    /// Of all texts together, after the first token of one.
    pub tokens_per_second: f64,
    /// The same with the time of the prompts.
    pub with_prompts: f64,
    /// Bytes of the weights times passes per second, over the bandwidth.
    pub percent_of_bandwidth: Option<f64>,
    /// Until the first token of a prompt, in milliseconds.
    pub first_token_ms: f64,
}

/// Reading a prompt at a size, in a format.
#[derive(Debug, Serialize)]
pub struct Prefill {
    /// The size.
    pub submodel: String,
    /// The format of the weights.
    pub dtype: String,
    /// Tokens of the prompt.
    pub tokens: usize,
    /// Tokens that are read per second.
    pub tokens_per_second: f64,
}

/// A batch of texts of every size.
#[derive(Debug, Serialize)]
pub struct Mixed {
    /// The sizes, text by text.
    pub submodels: Vec<String>,
    /// The format of the weights.
    pub dtype: String,
    /// Of a step of all texts.
    pub step_ms: f64,
    /// What its bytes and FLOPs predict, from steps of one size: each ring of widths for as many texts as have it.
    pub predicted_ms: f64,
    /// The one over the other.
    pub ratio: f64,
    /// Of giving a running text another size.
    pub resize_us: f64,
}

/// Verifying several tokens in a pass.
#[derive(Debug, Serialize)]
pub struct Verify {
    /// The size.
    pub submodel: String,
    /// The format of the weights.
    pub dtype: String,
    /// Times of a pass of 1, 2, … tokens over that of 1.
    pub v: Vec<f64>,
}

/// A model in one format, and what is measured of it.
struct Bench<'a> {
    folder: &'a ModelFolder<Lm>,
    model: EngineModel,
    format: Format,
    sizes: &'a [Submodel],
    /// Speculation is measured in one format: there are many pairs and lengths.
    speculates: bool,
    question: &'a Question,
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct Question {
    /// The model folder.
    pub model: PathBuf,
    /// The sizes; every trained size if none.
    pub submodels: Vec<SubmodelSpec>,
    /// Formats that weights are held in; all that the device has if none.
    pub formats: Vec<Format>,
    /// Numbers of texts that are generated at the same time.
    pub batch: Vec<usize>,
    /// New tokens of each text, 2 or more: the first comes with its prompt.
    pub tokens: usize,
    /// Tokens of the prompt whose reading is timed.
    pub prefill: Option<usize>,
    /// Texts that losses and speculation are measured on.
    pub text: Vec<PathBuf>,
    /// Number of prompts that speculation is measured on.
    pub prompts: usize,
    /// Number of rounds; medians count.
    pub rounds: usize,
    /// Number of threads; all if none.
    pub threads: Option<usize>,
}

/// Measures how fast a model generates.
///
/// # Errors
/// When the model, a text or the device fails.
pub fn measure(question: &Question, session: &Session) -> Result<Found> {
    let on_cpu = is_cpu(&session.device);
    let formats = match (&question.formats[..], on_cpu) {
        ([], true) => &[Format::F32, Format::Bf16, Format::Q8_0][..],
        ([], false) => &[Format::F32],
        (given, _) => given,
    };
    let mut bar = session.bar("measuring generation");
    bar.at(0, formats.len() as u64);
    let bandwidth = on_cpu.then(|| engine::bandwidth(question.threads)).transpose()?;
    let mut found = Found {
        machine: machine::describe(),
        device: DeviceSpec::of(&session.device).unwrap_or(DeviceSpec::Auto).to_string(),
        bandwidth_gb_s: bandwidth.map(|bytes| bytes / 1e9),
        tokens: question.tokens,
        rows: Vec::new(),
        prefill: Vec::new(),
        mixed: Vec::new(),
        loss: Vec::new(),
        speculation: Vec::new(),
        verify: Vec::new(),
    };
    for (i, format) in formats.iter().enumerate() {
        let (folder, model) = ModelFolder::open(&question.model, session, *format)?;
        let asked = question.submodels.iter().map(|spec| folder.submodel(Some(spec)));
        let mut sizes = asked.collect::<Result<Vec<_>>>()?;
        if sizes.is_empty() {
            sizes = folder.trained();
        }
        let speculates = i == 0;
        let bench =
            Bench { folder: &folder, model, format: *format, sizes: &sizes, speculates, question };
        bench.all(&mut found, bandwidth)?;
        bar.at(i as u64 + 1, formats.len() as u64);
    }
    drop(bar);
    text::compare(&mut found.loss);
    Ok(found)
}

impl Bench<'_> {
    fn all(&self, found: &mut Found, bandwidth: Option<f64>) -> Result<()> {
        for submodel in self.sizes {
            for batch in &self.question.batch {
                let mut row = self.rate(submodel, *batch)?;
                row.percent_of_bandwidth = bandwidth.map(|bandwidth| {
                    let passes = row.tokens_per_second / *batch as f64;
                    100.0 * passes * self.bytes(submodel) / bandwidth
                });
                found.rows.push(row);
            }
            found.prefill.push(self.prefill(submodel)?);
            found.verify.push(self.verify(submodel)?);
        }
        if self.sizes.len() > 1 {
            found.mixed.push(self.mixed()?);
        }
        for path in &self.question.text {
            let text = text::Text::read(path, self.folder)?;
            found.loss.extend(text::losses(self, &text)?);
            if self.speculates {
                found.speculation.extend(speculation::measure(self, &text)?);
            }
        }
        Ok(())
    }

    fn engine(&self, slots: usize, capacity: usize) -> Result<Engine> {
        let options = EngineOptions {
            slots,
            capacity: Some(capacity),
            threads: self.question.threads,
            draft_caches: true,
            ..EngineOptions::default()
        };
        Engine::new(&self.model, &options).bad_input()
    }

    fn label(&self, submodel: &Submodel) -> String {
        self.folder.space().label(submodel)
    }

    /// Medians over rounds of an engine with `batch` requests.
    fn rate(&self, submodel: &Submodel, batch: usize) -> Result<Row> {
        let requests: Vec<Request> = (0..batch).map(|i| self.text(submodel, i)).collect();
        let tokens = |request: &Request| request.prompt.len() + request.max_new_tokens;
        let mut engine = self.engine(batch, requests.iter().map(tokens).max().unwrap_or(1))?;
        let (mut rates, mut all, mut firsts) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.question.rounds {
            let timed = timed(&mut engine, &requests)?;
            rates.push(timed.rate());
            all.push((timed.tokens + batch) as f64 / timed.seconds);
            firsts.push(timed.first * 1e3);
        }
        Ok(Row {
            submodel: self.label(submodel),
            dtype: self.format.to_string(),
            batch,
            tokens_per_second: median(rates),
            with_prompts: median(all),
            percent_of_bandwidth: None,
            first_token_ms: median(firsts),
        })
    }

    /// The text at a place of a batch: prompts and answers are of unequal length.
    fn text(&self, submodel: &Submodel, place: usize) -> Request {
        // A short context keeps room for the answer.
        let most = (self.model.config().context / 2).max(1);
        let prompt = self.prompt((PROMPT + place * 7 % 32).min(most));
        let tokens = self.question.tokens - place % 4 * (self.question.tokens / 8);
        Request::new(prompt, submodel.clone(), tokens)
    }

    fn prefill(&self, submodel: &Submodel) -> Result<Prefill> {
        let context = self.model.config().context;
        let tokens = self.question.prefill.unwrap_or(PREFILL).min(context / 2).max(1);
        let mut engine = self.engine(1, tokens + 1)?;
        // Until the first new token, as a person waits for it.
        let requests = [Request::new(self.prompt(tokens), submodel.clone(), 1)];
        let mut times = Vec::new();
        for _ in 0..self.question.rounds {
            times.push(timed(&mut engine, &requests)?.first);
        }
        let tokens_per_second = tokens as f64 / median(times);
        let dtype = self.format.to_string();
        Ok(Prefill { submodel: self.label(submodel), dtype, tokens, tokens_per_second })
    }

    fn verify(&self, submodel: &Submodel) -> Result<Verify> {
        let mut engine = self.engine(1, 16)?;
        let most = 16.min(self.model.config().context);
        // In turn, so that a slower moment of the machine strikes all.
        let passes: Vec<_> = (1..=most).map(|tokens| vec![(submodel, tokens)]).collect();
        let mut rounds = Vec::new();
        for _ in 0..self.question.rounds {
            rounds.push(engine.seconds(&passes, 0)?);
        }
        let over_one = |i: usize| median(rounds.iter().map(|all| all[i] / all[0]).collect());
        let v = (0..passes.len()).map(over_one).collect();
        Ok(Verify { submodel: self.label(submodel), dtype: self.format.to_string(), v })
    }

    /// A batch with every size beside what batches of one size predict.
    fn mixed(&self) -> Result<Mixed> {
        let mut engine = self.engine(MIXED, 8)?;
        let mut sizes = self.sizes.to_vec();
        sizes.sort_by_key(|size| size.widths().iter().sum::<usize>());
        let texts: Vec<&Submodel> = (0..MIXED).map(|i| &sizes[i * sizes.len() / MIXED]).collect();
        // Each ring of widths, as the difference of two batches of one size.
        let mut passes: Vec<_> = vec![texts.iter().map(|size| (*size, 1)).collect()];
        let mut below: Option<&Submodel> = None;
        for size in &sizes {
            let wide = texts.iter().filter(|text| sizes_before(&sizes, size, text)).count();
            if wide > 0 {
                passes.push(vec![(size, 1); wide]);
                passes.extend(below.map(|below| vec![(below, 1); wide]));
                below = Some(size);
            }
        }
        let mut step_ms = Vec::new();
        let mut predicted_ms = Vec::new();
        for _ in 0..self.question.rounds {
            // In turn, so that each finds as little of its weights in the processor's caches as the others.
            let seconds = engine.seconds(&passes, 0)?;
            let rings = seconds[2..].chunks(2).map(|ring| ring[0] - ring[1]);
            step_ms.push(1e3 * seconds[0]);
            predicted_ms.push(1e3 * (seconds[1] + rings.sum::<f64>()));
        }
        let (step_ms, predicted_ms) = (median(step_ms), median(predicted_ms));
        Ok(Mixed {
            submodels: texts.iter().map(|size| self.label(size)).collect(),
            dtype: self.format.to_string(),
            step_ms,
            predicted_ms,
            ratio: step_ms / predicted_ms,
            resize_us: self.resize(&mut engine, &sizes)?,
        })
    }

    /// Microseconds of giving a running text another size.
    fn resize(&self, engine: &mut Engine, sizes: &[Submodel]) -> Result<f64> {
        let request = Request::new(self.prompt(2), sizes[0].clone(), 6);
        let id = engine.submit(request).bad_input()?;
        let mut times = Vec::new();
        while engine.is_busy() {
            engine.step()?;
            let next = &sizes[times.len() % sizes.len()];
            let started = Instant::now();
            engine.resize(id, next)?;
            times.push(started.elapsed().as_secs_f64() * 1e6);
        }
        Ok(median(times))
    }

    fn prompt(&self, tokens: usize) -> Vec<u32> {
        let vocab_size = self.model.config().vocab_size;
        (0..tokens).map(|i| (i * 31 % vocab_size) as u32).collect()
    }

    /// Bytes of the weights that a pass reads: of an embedding that is not the head too, one row.
    fn bytes(&self, submodel: &Submodel) -> f64 {
        let c = self.model.config();
        let costs = matformer_lm::costs(c);
        let table = costs.get(Resource::NonEmbedding);
        let non_embedding = table.and_then(|table| table.cost(submodel)).unwrap_or_default();
        let params = non_embedding + (c.vocab_size * c.d_model) as f64;
        let per_value = match self.format {
            Format::F32 => 4.0,
            Format::Bf16 => 2.0,
            Format::Q8_0 => 34.0 / 32.0,
        };
        params * per_value
    }
}

/// Whether `size` is not wider than `text`, both of `sizes`, which ascend.
fn sizes_before(sizes: &[Submodel], size: &Submodel, text: &Submodel) -> bool {
    let at = |of: &Submodel| sizes.iter().position(|other| other == of);
    at(size) <= at(text)
}

/// What answering requests took.
struct Timed {
    /// Seconds until the first token.
    first: f64,
    seconds: f64,
    /// New tokens behind the first of each text.
    tokens: usize,
    answers: Vec<engine::Answer>,
}

impl Timed {
    /// Tokens per second after the first token, which comes with its prompt.
    fn rate(&self) -> f64 {
        self.tokens as f64 / (self.seconds - self.first)
    }
}

fn timed(engine: &mut Engine, requests: &[Request]) -> Result<Timed> {
    let started = Instant::now();
    let mut first = None;
    let answers = engine::generate(engine, requests, |_, heard| {
        if let Heard::Token(_) = heard {
            first.get_or_insert_with(|| started.elapsed().as_secs_f64());
        }
        ControlFlow::Continue(())
    })
    .bad_input()?;
    let seconds = started.elapsed().as_secs_f64();
    let tokens = answers.iter().map(|answer| answer.tokens.len().saturating_sub(1)).sum();
    Ok(Timed { first: first.unwrap_or_default(), seconds, tokens, answers })
}
