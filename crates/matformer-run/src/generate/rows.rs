//! Many prompts through one engine, from a file of rows.

use std::{
    collections::BTreeMap,
    fmt::Display,
    io::{BufRead, BufReader, stdin},
    ops::ControlFlow,
    path::Path,
};

use matformer_core::{SubmodelSpec, fs};
use matformer_data::{TextStream, Tokenizer};
use matformer_engine::{self as engine, EngineModel, Heard, Request};
use serde::Deserialize;

use super::{Ask, Asker, Output, engine as new_engine};
use crate::error::{Error, Hinted, OrBadInput, Result, chain};

/// A row of the file; what it leaves out is as the command says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    prompt: String,
    submodel: Option<String>,
    max_tokens: Option<usize>,
    temperature: Option<f64>,
    top_k: Option<usize>,
    top_p: Option<f64>,
    min_p: Option<f64>,
    repetition_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    logit_bias: Option<BTreeMap<u32, f32>>,
    seed: Option<u64>,
    stop: Option<Stops>,
    logprobs: Option<usize>,
}

/// One stop string or several, as in OpenAI's interface.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stops {
    One(String),
    Several(Vec<String>),
}

/// A line of the file, and where it is.
pub struct Line {
    place: String,
    row: Row,
}

/// Reads the rows of a file, or of standard input where it is `-`; empty lines are none.
///
/// # Errors
/// When a line is no such row.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let name =
        if path == Path::new("-") { "standard input".into() } else { path.display().to_string() };
    let wrong = |place: &str, found: &dyn Display| {
        Err(Hinted {
            message: format!("{place}: {found}"),
            hint: "expected a JSON object in each line, such as {\"prompt\": \"The fox\"}; other keys: \
                   submodel, max_tokens, temperature, top_k, top_p, min_p, seed, stop, logprobs and \
                   penalties"
                .to_owned(),
        })
        .bad_input()
    };
    let reader: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(stdin().lock())
    } else {
        Box::new(BufReader::new(fs::open(path).bad_input()?))
    };
    let mut lines = Vec::new();
    for (number, line) in reader.lines().enumerate() {
        let place = format!("{name}, line {}", number + 1);
        let line = match line {
            Ok(line) if line.trim().is_empty() => continue,
            Ok(line) => line,
            Err(error) => return wrong(&place, &error),
        };
        match serde_json::from_str(&line) {
            Ok(row) => lines.push(Line { place, row }),
            Err(error) => return wrong(&place, &error),
        }
    }
    if lines.is_empty() {
        return wrong(&name, &"no rows");
    }
    Ok(lines)
}

/// Answers all rows; `each` gets the answers in the order of the rows.
///
/// # Errors
/// When a row does not fit the model, the device fails, or `each` does.
pub fn answer(
    asker: &Asker<'_>,
    lines: Vec<Line>,
    (model, slots): (&EngineModel, usize),
    each: &mut dyn FnMut(&Output) -> Result<()>,
) -> Result<()> {
    let mut asks = Vec::new();
    for line in lines {
        asks.push(line.ask(asker)?);
    }
    let requests: Vec<Request> = asks.iter().map(|(_, ask)| ask.request.clone()).collect();
    let mut engine = new_engine(model, &requests, slots)?;
    for ((place, _), request) in asks.iter().zip(&requests) {
        engine.check(request).map_err(|error| at(place, &error)).bad_input()?;
    }
    let mut streams: Vec<Option<TextStream<&Tokenizer>>> = asks
        .iter()
        .map(|(_, ask)| Some(TextStream::new(asker.tokenizer, &ask.request.prompt, &ask.stops)))
        .collect();
    let mut texts = vec![String::new(); asks.len()];
    let mut whole: BTreeMap<usize, Output> = BTreeMap::new();
    let mut next = 0;
    let mut failed = Ok(());
    let answered = engine::generate(&mut engine, &requests, |i, heard| {
        let Some(stream) = &mut streams[i] else { return ControlFlow::Continue(()) };
        let step = match heard {
            Heard::Token(token) => {
                stream.push(token).map(|piece| texts[i] += &piece).map_err(Into::into)
            }
            Heard::Answer(answer) => {
                let stream = streams[i].take();
                let rest = stream.map_or_else(|| Ok(String::new()), TextStream::finish);
                rest.map_err(Error::from).and_then(|rest| {
                    let text = std::mem::take(&mut texts[i]) + &rest;
                    let prompt = asks[i].1.prompt.clone();
                    whole.insert(i, asker.output(prompt, &requests[i], text, answer.clone()));
                    while let Some(output) = whole.remove(&next) {
                        next += 1;
                        each(&output)?;
                    }
                    Ok(())
                })
            }
        };
        if failed.is_ok() {
            failed = step;
        }
        let stopped = streams[i].as_ref().is_some_and(TextStream::is_stopped);
        if stopped || failed.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    failed?;
    answered.map_err(|error| match error {
        engine::Error::NotFinite { request } => at(&asks[request].0, &"the logits are NaN"),
        error => at("generate", &error),
    })?;
    Ok(())
}

impl Line {
    fn ask(self, asker: &Asker<'_>) -> Result<(String, Ask)> {
        let Self { place, row } = self;
        let in_row = |error: Error| at(&place, &chain(&error));
        let mut ask = asker.ask(&row.prompt).map_err(in_row).bad_input()?;
        if let Some(spec) = &row.submodel {
            let spec: SubmodelSpec = spec
                .parse()
                .map_err(|error| at(&place, &format!("`submodel`: {error}")))
                .bad_input()?;
            ask.request = asker.resized(ask.request, &spec).map_err(in_row).bad_input()?;
        }
        let r = &mut ask.request;
        let s = &mut r.sampling;
        set(&mut r.max_new_tokens, row.max_tokens);
        set(&mut s.temperature, row.temperature);
        set(&mut s.top_k, row.top_k);
        set(&mut s.top_p, row.top_p);
        set(&mut s.min_p, row.min_p);
        set(&mut s.repetition_penalty, row.repetition_penalty);
        set(&mut s.frequency_penalty, row.frequency_penalty);
        set(&mut s.presence_penalty, row.presence_penalty);
        set(&mut s.logit_bias, row.logit_bias.map(|bias| bias.into_iter().collect()));
        set(&mut s.seed, row.seed);
        r.logprobs = row.logprobs.or(r.logprobs);
        match row.stop {
            Some(Stops::One(stop)) => ask.stops = vec![stop],
            Some(Stops::Several(stops)) => ask.stops = stops,
            None => {}
        }
        Ok((place, ask))
    }
}

fn set<T>(value: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *value = new;
    }
}

fn at(place: &str, found: &dyn Display) -> Error {
    Error::failed(format!("{place}: {found}"))
}
