//! How good a language model is on held-out text.

use super::*;

/// Most characters of a sample's prompt.
const PROMPT: usize = 60;

impl Measure for Lm {
    type Floor = Baselines;

    const MEASURED_AT_END: bool = false;

    fn units(prepared: &Prepared, part: &Part) -> Result<Vec<(Unit, DocumentLoss)>> {
        Ok(text_units(&held_out(prepared, part)?))
    }

    fn evaluate(
        folder: &ModelFolder<Self>,
        prepared: &Prepared,
        store: &mut Store,
        submodels: &[Submodel],
        part: &Part,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Studied> {
        let (held_out, context, walks) = on(folder, prepared, part)?;
        let (reference, ranks) = (None, store.ranks());
        let set = TextSet { held_out: &held_out, context, walks, reference, ranks };
        store.evaluate(&folder.model, &set, submodels, progress).bad_input()
    }

    fn beside(
        folder: &ModelFolder<Self>,
        prepared: &Prepared,
        store: &mut Store,
        submodels: &[Submodel],
        part: &Part,
        against: Against<'_, MatLm>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<Studied>> {
        let (held_out, context, walks) = on(folder, prepared, part)?;
        let Against { reference, continued } = against;
        if !continued {
            let (reference, ranks) = (Some(reference), store.ranks());
            let set = TextSet { held_out: &held_out, context, walks, reference, ranks };
            return store.evaluate(&folder.model, &set, submodels, progress).bad_input().map(Some);
        }
        let beginnings = match Beginnings::of(&held_out, context) {
            Err(matformer_eval::Error::Nothing { .. }) => return Ok(None), // all documents are too short
            found => found.bad_input()?,
        };
        let set = ContinuedSet { beginnings: &beginnings, reference };
        store.evaluate(&folder.model, &set, submodels, progress).bad_input().map(Some)
    }

    fn floor(prepared: &Prepared, targets: Option<usize>, _: &Session) -> Result<Baselines> {
        Ok(prepared.baselines(&prepared.held_out_part(targets).bad_input()?)?)
    }

    fn compare(floor: &Baselines, results: &EvalResults) -> String {
        compare(floor, results)
    }

    fn say_floor(floor: &Baselines, results: &EvalResults) -> String {
        let bits = results.results.iter().filter_map(|r| r.bits_per_byte);
        let best = bits.fold(f64::MAX, f64::min);
        format!(
            "bits per byte of the same text: byte unigram {:.3}, gzip -9 per file {:.3}, best \
             submodel {best:.3}{}",
            floor.byte_unigram,
            floor.gzip,
            if floor.gzip < best && results.data.documents >= FEW_DOCUMENTS {
                ": gzip wins"
            } else {
                ""
            }
        )
    }

    fn sample(
        folder: &ModelFolder<Self>,
        prepared: &Prepared,
        targets: Option<usize>,
    ) -> Result<Option<Sample>> {
        let (tokenizer, largest) = (folder.tokenizer()?, folder.submodel(None)?);
        let held_out = prepared.held_out_part(targets).bad_input()?.take(PROMPT, &tokenizer)?;
        let begin = held_out.texts(&tokenizer)?.into_iter().next().unwrap_or_default();
        let mut typed = tokenizer.encode(&prompt(&begin))?;
        // A short context keeps room for what is generated.
        let most = folder.model.config().context / 2;
        typed.truncate(tokenizer.whole_characters(&typed, most)?);
        let prompt = [&[tokenizer.bos()], &typed[..]].concat();
        let request = Request {
            stop: ends(&folder.model, &tokenizer),
            ..Request::new(prompt.clone(), largest.clone(), 64)
        };
        let options = EngineOptions {
            capacity: Some(prompt.len() + request.max_new_tokens),
            ..EngineOptions::default()
        };
        let model = EngineModel::of(&folder.model, engine::Format::F32)?;
        let mut engine = Engine::new(&model, &options)?;
        let answers = generate(&mut engine, &[request], |_, _| ControlFlow::Continue(()))?;
        let tokens = answers.into_iter().next().map_or_else(Vec::new, |answer| answer.tokens);
        Ok(Some(Sample {
            submodel: folder.space().label(&largest),
            prompt: tokenizer.decode(&typed)?,
            text: tokenizer.continuation(&prompt, &tokens)?,
        }))
    }
}

/// A part of the held-out documents, the length of their windows, and how a measurement is cut up.
fn on(
    folder: &ModelFolder<Lm>,
    prepared: &Prepared,
    part: &Part,
) -> Result<(HeldOut, usize, Walks)> {
    let held_out = held_out(prepared, part)?;
    let MatLmConfig { context, d_model, d_ff, .. } = *folder.model.config();
    let context = folder.context().unwrap_or(context);
    Ok((held_out, context, part.walks(context, d_model, d_ff).unwrap_or(WINDOWS)))
}

/// A part of the held-out documents.
fn held_out(prepared: &Prepared, part: &Part) -> Result<HeldOut> {
    let Some(half) = part.half else {
        return prepared.held_out_part(part.targets).bad_input();
    };
    let half = prepared.held_out().bad_input()?.half(half);
    match part.targets {
        Some(tokens) => half.take(tokens, &prepared.tokenizer().bad_input()?).bad_input(),
        None => Ok(half),
    }
}

/// The first whole words of a text.
fn prompt(text: &str) -> String {
    let text = text.trim_start();
    let cut = text.char_indices().nth(PROMPT).map_or(text.len(), |(at, _)| at);
    let head = &text[..cut];
    match head.rfind(char::is_whitespace) {
        Some(end) if cut < text.len() => head[..end].trim_end().to_owned(),
        _ => head.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::prompt;

    #[test]
    fn a_prompt_is_the_first_whole_words() {
        assert_eq!(prompt(" \n"), "");
        assert_eq!(prompt("\n Call me Ishmael."), "Call me Ishmael.");
        assert_eq!(prompt(&"Ελλάδα ".repeat(20)), ["Ελλάδα"; 8].join(" "));
        assert_eq!(prompt(&"x".repeat(99)).len(), 60);
    }
}
