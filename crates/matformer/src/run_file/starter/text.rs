//! A first run on text.

use matformer_data::{Source, TextSurvey, survey_text};
use matformer_train::TrainConfig;

use super::{
    Sized, named,
    page::{Key, shared},
    rounded, table, whole,
};
use crate::run_file::{Error, Lm, Result, Tables};

/// Bytes of text from which a model of the larger preset has enough to learn.
const ENOUGH: u64 = 8_000_000;
/// Most passes over the text: more teach a model the text by heart.
const EPOCHS: f64 = 10.0;
/// Documents that are held out where there are many: enough for standard errors.
const HELD_OUT: f64 = 100.0;

/// The keys that a run on text shows.
pub(super) const KEYS: &[Key] = &[
    Key::new(
        "model.preset",
        "named shape: demo, small, 78m, …; `matformer info --preset NAME` shows its sizes",
    ),
    Key::new("model.lm.d_model", "size of the hidden state"),
    Key::new("model.lm.n_layers", "number of layers"),
    Key::new("model.lm.n_heads", "attention heads; divides d_model"),
    Key::new("model.lm.n_kv_heads", "heads of keys and values; divides n_heads"),
    Key::new("model.lm.d_ff", "widest feed-forward width: that of XL"),
    Key::like(
        "model.lm.granularities",
        "",
        "widths of S, M, L and XL; default: d_ff/8, /4, /2, /1",
    ),
    Key::new("model.lm.context", "most tokens that the model can read at once"),
    Key::new("data.paths", "files, folders, hf:owner/name, fetch:NAME; relative to this file"),
    Key::new(
        "data.field",
        "field of a .jsonl row, or column of a .csv or .parquet file, that holds the text",
    ),
    Key::new("data.held_out", "share of the documents that are kept apart for evaluation"),
    Key::like("data.validation", "[\"test.jsonl\"]", "held-out files of your own instead"),
    Key::new("data.vocab_size", "size of the tokenizer that is trained on the text"),
    Key::like("data.tokenizer", "\"hf:owner/model\"", "use another model's tokenizer instead"),
    shared::STEPS,
    Key::new("train.tokens_per_step", "batch size in tokens; a multiple of seq_len"),
    Key::like(
        "train.batch_rows",
        "4",
        "rows of one pass: fewer take less memory; default: all of a step",
    ),
    Key::like(
        "train.seq_len",
        "256",
        "tokens of a training row; default: the context, at most 1024",
    ),
    shared::LEARNING_RATE,
    shared::SCHEDULE,
    shared::WARMUP,
    Key::new("train.weight_decay", "decay of matrices and embeddings"),
    shared::DRAW,
    Key::new("train.ema", "decay of a moving average of the weights, such as 0.999; 0: none"),
    shared::DTYPE,
    shared::SEED,
    shared::INIT,
    Key::new("train.eval_every", "steps between two evaluations on held-out text"),
    Key::new("train.eval_tokens", "held-out tokens of each of them"),
    shared::CHECKPOINT_EVERY,
    shared::KEEP,
    shared::TENSORBOARD,
];

/// A run on this text.
pub(super) fn sized(sources: &[Source], preset: Option<&str>) -> Result<Sized> {
    let survey = survey(sources)?;
    let bytes = survey.map(|survey| survey.bytes);
    let fits = if bytes.is_none_or(|bytes| bytes >= ENOUGH) { "small" } else { "demo" };
    let preset = preset.unwrap_or(fits);
    // A preset that is not there is said by the caller.
    let shape = Lm::preset(preset).unwrap_or_default();
    let plan = Plan::of(preset);
    let vocab_size = bytes.map_or(plan.most_vocab, vocab_size).min(plan.most_vocab);
    let context = TrainConfig::default().row_len(shape.context);
    if survey.is_some_and(|found| found.bytes == 0 || found.documents.is_some_and(|n| n < 2)) {
        return Err(Error::TooLittle { found: found(survey) });
    }
    let tokens = bytes.map(|bytes| bytes as f64 / bytes_per_token(vocab_size));
    let Batch { rows, seq_len } = Batch { rows: plan.rows, seq_len: context }.within(tokens);
    let tokens_per_step = rows * seq_len;
    let epochs = tokens.map(|tokens| EPOCHS * tokens / tokens_per_step as f64);
    let most = epochs.map_or(u64::MAX, |steps| rounded(steps.ceil() as u64));
    let steps = plan.steps.min(most).max(100);
    let mut train = table([
        ("steps", whole(steps)),
        ("tokens_per_step", whole(tokens_per_step as u64)),
        ("learning_rate", plan.learning_rate.into()),
        ("warmup", whole((steps / 10).min(200))),
        ("eval_every", whole(steps / 10)),
        ("eval_tokens", whole(plan.eval_tokens)),
        ("checkpoint_every", whole(steps / 10)),
    ]);
    if seq_len < context {
        train.insert("seq_len".to_owned(), whole(seq_len as u64));
    }
    let held_out = held_out(survey.and_then(|survey| survey.documents));
    let data = table([("held_out", held_out.into()), ("vocab_size", whole(vocab_size as u64))]);
    let shape = toml::Table::new();
    Ok(Sized { preset: preset.to_owned(), shape, data, train, found: found(survey) })
}

/// About how much text there is; nothing where some of it is on the Hub.
fn survey(sources: &[Source]) -> Result<Option<TextSurvey>> {
    let mut all = None;
    for source in sources {
        let found = match source {
            Source::Path(path) => survey_text(&[path])?,
            Source::Fetched(name) => {
                let parts = named(name)?.parts;
                let bytes: usize = parts.iter().map(|part| part.bytes).sum();
                let files: usize = parts.iter().map(|part| part.files).sum();
                TextSurvey { bytes: bytes as u64, documents: Some(files as u64) }
            }
            _ => return Ok(None),
        };
        all = Some(all.map_or(found, |all: TextSurvey| all.and(found)));
    }
    Ok(all)
}

/// The rows of a step.
struct Batch {
    rows: usize,
    seq_len: usize,
}

impl Batch {
    /// At most a quarter of so many tokens, for texts of a few pages.
    fn within(self, tokens: Option<f64>) -> Self {
        /// The shortest rows from which something can be learnt.
        const SHORT: usize = 32;
        let Self { mut rows, mut seq_len } = self;
        let too_many = |n: usize| tokens.is_some_and(|tokens| n as f64 > tokens / 4.0);
        while too_many(rows * seq_len) && seq_len > SHORT {
            seq_len /= 2;
        }
        while too_many(rows * seq_len) && rows > 1 {
            rows /= 2;
        }
        Self { rows, seq_len }
    }
}

/// What goes with a preset.
struct Plan {
    steps: u64,
    /// Rows of a step.
    rows: usize,
    learning_rate: f64,
    eval_tokens: u64,
    most_vocab: usize,
}

impl Plan {
    fn of(preset: &str) -> Self {
        let paper = Self {
            steps: 20_000,
            rows: 16,
            learning_rate: 1e-3,
            eval_tokens: 65_536,
            most_vocab: 32_768,
        };
        let small = Self {
            steps: 2000,
            learning_rate: 2e-3,
            eval_tokens: 32_768,
            most_vocab: 4096,
            ..paper
        };
        match preset {
            "demo" => Self {
                steps: 2500,
                rows: 8,
                learning_rate: 3e-3,
                eval_tokens: 16_384,
                most_vocab: 2048,
            },
            "small" => small,
            _ => paper,
        }
    }
}

/// The vocabulary that so much text can fill.
fn vocab_size(bytes: u64) -> usize {
    match bytes {
        0..200_000 => 512,
        200_000..1_000_000 => 1024,
        1_000_000..ENOUGH => 2048,
        ENOUGH..100_000_000 => 4096,
        100_000_000..1_000_000_000 => 16_384,
        _ => 32_768,
    }
}

fn bytes_per_token(vocab_size: usize) -> f64 {
    match vocab_size {
        0..1024 => 2.0,
        1024..2048 => 2.5,
        2048..4096 => 3.0,
        4096..16_384 => 3.5,
        _ => 4.0,
    }
}

/// The share of so many documents that is held out.
fn held_out(documents: Option<u64>) -> f64 {
    let share = documents.map_or(0.02, |documents| HELD_OUT / documents.max(1) as f64);
    (share.clamp(0.02, 0.2) * 100.0).round() / 100.0
}

fn found(survey: Option<TextSurvey>) -> String {
    let Some(TextSurvey { bytes, documents }) = survey else {
        return "text of the Hub, whose size is not known yet".to_owned();
    };
    let size = match bytes {
        1_000_000_000.. => format!("{:.1} GB", bytes as f64 / 1e9),
        1_000_000.. => format!("{:.1} MB", bytes as f64 / 1e6),
        1000.. => format!("{:.0} kB", bytes as f64 / 1e3),
        _ => format!("{bytes} bytes"),
    };
    match documents {
        Some(1) => format!("{size} of text in 1 document"),
        Some(n) => format!("{size} of text in {n} documents"),
        None => format!("about {size} of text"),
    }
}
