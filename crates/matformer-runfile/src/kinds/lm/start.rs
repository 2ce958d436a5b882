//! A first run on text.

use matformer_core::units::{counted, file_size};
use matformer_data::{Source, TextSurvey, survey_text};
use matformer_train::TrainConfig;

use super::{
    Lm, Tables,
    rows::{self, Holds},
};
use crate::{
    Error, Result,
    first_run::{FirstRun, named, paths_of, rounded, table, whole},
};

/// Bytes of text from which a model of the larger preset has enough to learn.
const ENOUGH: u64 = 8_000_000;
/// Most passes over the text: more teach a model the text by heart.
const EPOCHS: f64 = 10.0;
/// Documents that are held out where there are many: enough for standard errors.
const HELD_OUT: f64 = 100.0;

/// A run on this text.
pub(super) fn first_run(sources: &[Source], preset: Option<&str>) -> Result<FirstRun> {
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
    let held = paths_of(sources).map(|paths| rows::held(&paths)).transpose()?;
    let tokens = bytes.map(|bytes| bytes as f64 / bytes_per_token(vocab_size));
    let held_out = held_out(survey.and_then(|survey| survey.documents));
    let sure = match bytes {
        Some(bytes) if is_tiny(bytes) => Some(sure_tokens(bytes, held_out)),
        _ => tokens,
    };
    let Batch { rows, seq_len } = Batch { rows: plan.rows, seq_len: context }.within(sure);
    let tokens_per_step = rows * seq_len;
    let epochs = tokens.map(|tokens| EPOCHS * tokens / tokens_per_step as f64);
    let most = epochs.map_or(u64::MAX, |steps| rounded(steps.ceil() as u64));
    let steps = plan.steps.min(most).max(100);
    let mut train = table([
        ("steps", whole(steps)),
        ("tokens_per_step", whole(tokens_per_step as u64)),
        ("optimizer", "muon".into()),
        ("learning_rate", plan.learning_rate.into()),
        ("warmup", whole((steps / 10).min(200))),
        ("eval_every", whole(steps / 10)),
        ("eval_tokens", whole(plan.eval_tokens)),
        ("checkpoint_every", whole(steps / 10)),
    ]);
    if seq_len < context {
        train.insert("seq_len".to_owned(), whole(seq_len as u64));
    }
    let mut data = table([("held_out", held_out.into()), ("vocab_size", whole(vocab_size as u64))]);
    let mut found = found(survey);
    match held {
        Some(Holds::Field(field)) => {
            found += &format!(", in the field `{field}` of its rows");
            data.insert("field".to_owned(), field.into());
        }
        Some(Holds::Conversations) => {
            found += ", conversations";
            data.insert("chat".to_owned(), true.into());
        }
        Some(Holds::Text) | None => {}
    }
    let shape = toml::Table::new();
    Ok(FirstRun { preset: preset.to_owned(), shape, data, train, found })
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
        /// The same of texts of a few lines.
        const SHORTEST: usize = 8;
        let Self { mut rows, mut seq_len } = self;
        let too_many = |n: usize| tokens.is_some_and(|tokens| n as f64 > tokens / 4.0);
        while too_many(rows * seq_len) && seq_len > SHORT {
            seq_len /= 2;
        }
        while too_many(rows * seq_len) && rows > 1 {
            rows /= 2;
        }
        while too_many(rows * seq_len) && seq_len > SHORTEST {
            seq_len /= 2;
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
            learning_rate: 2e-3,
            eval_tokens: 65_536,
            most_vocab: 32_768,
        };
        let small = Self {
            steps: 2000,
            learning_rate: 4e-3,
            eval_tokens: 32_768,
            most_vocab: 4096,
            ..paper
        };
        match preset {
            "demo" => Self {
                steps: 2500,
                rows: 8,
                learning_rate: 1e-2,
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

/// Whether a text is of a few lines.
fn is_tiny(bytes: u64) -> bool {
    bytes < 4096
}

/// Lower bound on the training tokens of a text of a few lines: a tokenizer memorises it, and the held-out
/// part may exceed its share.
fn sure_tokens(bytes: u64, held_out: f64) -> f64 {
    bytes as f64 / 6.0 * (1.0 - 2.0 * held_out)
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
        return "text from the Hub, of unknown size".to_owned();
    };
    let size = file_size(bytes);
    match documents {
        Some(n) => format!("{size} of text in {}", counted(n as usize, "document")),
        None => format!("about {size} of text"),
    }
}
