//! Language models on text.

use std::{ops::ControlFlow, path::Path, sync::Arc};

use anyhow::Result;
use burn::tensor::Device;
use matformer::{
    core::{Costs, Span, Spans, Submodel, fs},
    data::{
        Baselines, BatchShape, DataConfig, Dropped, Hash, HeldOut, Prepared, Source as DataSource,
        TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, Tokenizer, find_prepared,
    },
    engine::{self, Engine, EngineModel, EngineOptions, Request, generate},
    eval::{
        DocumentLoss, EvalResults, Store, Studied, TextSet, Unit, WINDOWS,
        report::{Sample, compare},
        text_units,
    },
    formats::companions,
    lm::{MatLm, MatLmConfig, SpecialTokens, Tokens, costs},
    nn::{Folder, Slice, with_config},
    run_file::{Lm, RunFile},
    sources::resolve_text,
    synthetic::{OneBatch, one_batch},
    text::TextBatches,
    train::Dims,
};

use super::{Facts, GgufOut, Kind, Part, Processor, Source, params};
use crate::{
    args::Format,
    commands::{FEW_DOCUMENTS, count, documents},
    failure::{Hinted, OrBadInput},
    folder::{
        ModelFolder, data_cache_of, is_here, prepare_text, prepare_text_for, tokenizer_in,
        with_progress,
    },
    logging::say,
};

/// Most characters of a sample's prompt.
const PROMPT: usize = 60;

impl Kind for Lm {
    type Net = MatLm;
    type Prepared = Prepared;
    type Floor = Baselines;

    const MEASURED_AT_END: bool = false;
    const ROWS: &'static str = "rows";
    const DOCUMENT: &'static str = "document";
    const ROW: &'static str = "row of the whole context";
    const SMALLER: &'static str = ", or the vocabulary";
    const TARGET: &'static str = "token";
    const TARGETS: &'static str = "tokens";
    const TASK: &'static str = "text-generation";
    const AUTO_CLASS: &'static str = "AutoModelForCausalLM";
    const PROCESSOR: Processor =
        Processor { class: "AutoTokenizer", variable: "tokenizer", file: TOKENIZER_FILE };

    fn check_data(run: &RunFile<Self>) -> Result<()> {
        run.data.validate().bad_input()
    }

    fn expected(run: &RunFile<Self>) -> MatLmConfig {
        let given = match &run.data.tokenizer {
            Some(DataSource::Path(path)) if path.is_dir() => Some(path.join(TOKENIZER_FILE)),
            Some(DataSource::Path(path)) => Some(path.clone()),
            _ => None,
        };
        // What is wrong with it is said when it is read for the data.
        let given = given.and_then(|path| Tokenizer::load(&path).ok());
        let vocab_size = given.map_or(run.data.vocab_size, |tokenizer| tokenizer.vocab_size());
        MatLmConfig { vocab_size, ..run.shape().clone() }
    }

    fn prepare(run: &RunFile<Self>, cache: &Path) -> Result<Prepared> {
        prepare_text(&run.data, cache)
    }

    fn prepared(run: &RunFile<Self>, cache: &Path) -> Result<Option<Prepared>> {
        // A path that is not there is looked for on the hub.
        let tokenizer_here = match &run.data.tokenizer {
            Some(DataSource::Path(path)) => path.exists(),
            Some(source) => is_here(source, cache),
            None => true,
        };
        let mut sources = run.data.paths.iter().chain(&run.data.validation);
        if !tokenizer_here || !sources.all(|source| is_here(source, cache)) {
            return Ok(None);
        }
        with_progress(|report| {
            let config = resolve_text(&run.data, cache, report)?;
            Ok(find_prepared(&config, cache, report)?)
        })
    }

    fn not_prepared(run: &RunFile<Self>) -> String {
        let vocabulary = if run.data.tokenizer.is_some() { "`data.tokenizer`" } else { "the text" };
        format!(
            "not prepared yet: how many tokens there are is not known, nor the vocabulary that \
             {vocabulary} gives; these numbers are for one of {}",
            run.shape().vocab_size
        )
    }

    fn prepare_for(folder: &ModelFolder<Self>, run: &RunFile<Self>) -> Result<Prepared> {
        // Its tokenizer is in the folder, wherever it came from; weights know no other.
        prepare_text_for(&run.data, folder.tokenizer()?.path(), &data_cache_of(&folder.dir))
    }

    fn fitted(run: &RunFile<Self>, prepared: &Prepared) -> Result<MatLmConfig> {
        let tokenizer = prepared.tokenizer().bad_input()?;
        let (bos, eos) = (Some(tokenizer.bos()), Some(tokenizer.eos()));
        // A model that a run starts from may have more rows than its tokenizer has ids (Qwen), or a
        // tokenizer with special tokens that have no row (Gemma 3).
        let vocab_size = match run.train.init {
            Some(_) => run.shape().vocab_size,
            None => prepared.summary.vocab_size,
        };
        Ok(MatLmConfig {
            vocab_size,
            special_tokens: SpecialTokens::new(bos, eos, tokenizer.pad()),
            ..run.shape().clone()
        })
    }

    fn facts(prepared: &Prepared) -> Facts {
        Facts {
            hash: prepared.data_hash(),
            tokenizer: Some(prepared.summary.tokenizer_hash),
            train: prepared.summary.train.tokens,
            held_out: prepared.summary.held_out.tokens,
        }
    }

    fn say(data: &DataConfig, prepared: &Prepared) {
        let s = &prepared.summary;
        say!(
            "data {}: {} training tokens of {}, {} held-out tokens of {}{}{}",
            prepared.data_hash().short(),
            count(s.train.tokens as f64),
            documents(s.train.documents),
            count(s.held_out.tokens as f64),
            s.held_out.documents,
            match s.dropped == Dropped::default() {
                true => String::new(),
                false => format!("; left out: {}", s.dropped),
            },
            if prepared.reused { " (prepared before)" } else { "" },
        );
        prepared.notes.iter().for_each(|note| say!("{note}"));
        if let Some(first) = &s.lost.first {
            say!(
                "note: the tokenizer does not give back {} of {} bytes, in {} (first `{first}`)",
                s.lost.bytes,
                s.train.bytes + s.held_out.bytes,
                documents(s.lost.documents)
            );
        }
        if data.tokenizer.is_none() && s.vocab_size < data.vocab_size {
            say!(
                "note: the text gives a vocabulary of {}, fewer than `data.vocab_size`, which is {}",
                s.vocab_size,
                data.vocab_size
            );
        }
        if s.held_out.documents < FEW_DOCUMENTS {
            say!(
                "note: {} held out: a held-out loss of so few is known roughly; \
                 `data.held_out` sets their share",
                documents(s.held_out.documents)
            );
        }
    }

    fn files(_: &RunFile<Self>, prepared: &Prepared) -> Result<Vec<(String, Vec<u8>)>> {
        [prepared.tokenizer_path(), prepared.tokenizer_config_path()]
            .into_iter()
            .map(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Ok((name, fs::read(&path)?))
            })
            .collect()
    }

    fn tokenizer_of(folder: &ModelFolder<Self>) -> Result<Option<Hash>> {
        let named = folder.manifest.tokenizer_sha256.is_some();
        if named || folder.dir.join(TOKENIZER_FILE).exists() {
            Ok(Some(folder.tokenizer()?.hash()))
        } else {
            Ok(None) // imported without one
        }
    }

    fn files_of(folder: &ModelFolder<Self>) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = companions(&folder.dir).bad_input()?;
        if Self::tokenizer_of(folder)?.is_some() {
            let config = folder.tokenizer()?.config().as_bytes().to_vec();
            files.retain(|(name, _)| name != TOKENIZER_CONFIG_FILE);
            files.push((TOKENIZER_CONFIG_FILE.to_owned(), config));
        }
        Ok(files)
    }

    fn check_format(format: Format, dir: &Path) -> Result<(), Hinted> {
        match format {
            Format::Hf | Format::Gguf => Ok(()),
            Format::Timm => Err(Hinted {
                message: format!("{}: a language model; timm has vision models", dir.display()),
                hint: "leave --format out: the slice is a folder of Hugging Face's".to_owned(),
            }),
        }
    }

    fn write_timm(folder: &ModelFolder<Self>, _: Slice<'_, MatLm>, _: &Path) -> Result<()> {
        Self::check_format(Format::Timm, &folder.dir).bad_input()
    }

    #[cfg(feature = "gguf")]
    fn write_gguf(
        folder: &ModelFolder<Self>,
        slim: Slice<'_, MatLm>,
        gguf: &GgufOut<'_>,
    ) -> Result<()> {
        use matformer::{
            core::Dtype,
            formats::gguf::{GgufDtype, GgufFacts, GgufModel, write},
        };

        use crate::args::SliceDtype;

        let dtype = match (gguf.dtype, slim.dtype()) {
            (Some(SliceDtype::Q8_0), _) => GgufDtype::Q8_0,
            (Some(SliceDtype::F32), _) | (None, Dtype::F32) => GgufDtype::F32,
            (Some(SliceDtype::F16), _) | (None, Dtype::F16) => GgufDtype::F16,
            (Some(SliceDtype::Bf16), _) | (None, Dtype::Bf16) => GgufDtype::Bf16,
        };
        let name = folder.dir.canonicalize().unwrap_or_else(|_| folder.dir.clone());
        let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = format!("{name} {}", gguf.facts.submodel);
        let tokenizer = folder.tokenizer()?;
        let model = GgufModel {
            model: &slim.model,
            name: &name,
            tokenizer_dir: &folder.dir,
            tokenizer_config: Some(tokenizer.config()),
            facts: Some(GgufFacts {
                slice: gguf.facts,
                parent: &folder.manifest.weights_sha256,
                license: gguf.license.as_deref(),
            }),
        };
        let written = write(gguf.path, &model, dtype, slim.tensors);
        let written = written.map_err(|error| match error {
            // What llama.cpp cannot run.
            matformer::nn::Error::Config { .. } => anyhow::Error::from(Hinted {
                message: format!(
                    "--format gguf: {} is a `{}` model: {error}",
                    folder.dir.display(),
                    folder.model.config().family()
                ),
                hint: "--format hf writes a folder, with --pad of equal widths".to_owned(),
            }),
            error => error.into(),
        });
        let written = written.bad_input()?;
        written.notes.iter().for_each(|note| say!("note: {note}"));
        Ok(())
    }

    #[cfg(not(feature = "gguf"))]
    fn write_gguf(_: &ModelFolder<Self>, _: Slice<'_, MatLm>, gguf: &GgufOut<'_>) -> Result<()> {
        Err(Hinted {
            message: format!("{}: this program was built without GGUF", gguf.path.display()),
            hint: "build it with the feature `gguf`, or leave --format out".to_owned(),
        })
        .bad_input()
    }

    fn batches(run: &RunFile<Self>, prepared: &Prepared, rows: usize) -> Result<Source<Self>> {
        let train = &run.train;
        let shape = BatchShape { rows, seq_len: train.row_len(run.shape().context) };
        let batches =
            TextBatches::new(prepared, shape, train.eval_tokens, train.seed).bad_input()?;
        Ok(Source { distinct: batches.distinct(), batches: Arc::new(batches) })
    }

    fn targets_per_row(shape: &MatLmConfig) -> usize {
        shape.context
    }

    fn dims(shape: &MatLmConfig) -> Result<Dims> {
        Ok(Dims {
            params: params::<Self>(shape)?,
            seq: shape.context,
            d_model: shape.d_model,
            q_dim: shape.n_heads * shape.head_dim(),
            kv_dim: shape.n_kv_heads * shape.head_dim(),
            gated: shape.activation.gate().is_some(),
            outputs: shape.vocab_size,
            targets: shape.context,
        })
    }

    fn create(shape: &MatLmConfig, seed: u64, device: &Device) -> Result<MatLm> {
        MatLm::new(shape, seed, device).bad_input()
    }

    fn costs(shape: &MatLmConfig) -> Costs {
        costs(shape)
    }

    /// transformers loads a model that has a family of its own, layers of unequal widths by the Python
    /// files beside them; llama.cpp one of its architectures, as a GGUF file.
    fn exports(c: &MatLmConfig) -> Vec<&'static str> {
        let mut exports = Vec::new();
        if c.family() != MatLm::KIND {
            exports.push("transformers");
        }
        #[cfg(feature = "gguf")]
        if matformer::formats::gguf::architecture(c).is_ok() {
            exports.push("llama.cpp");
        }
        exports
    }

    fn describe(c: &MatLmConfig) -> String {
        format!(
            "d_model {}, {} layers, {} heads ({} for keys and values), d_ff {}, vocabulary {}, \
             context {}",
            c.d_model, c.n_layers, c.n_heads, c.n_kv_heads, c.d_ff, c.vocab_size, c.context
        )
    }

    fn like(shape: &MatLmConfig, of: &MatLmConfig) -> MatLmConfig {
        MatLmConfig { vocab_size: of.vocab_size, ..shape.clone() }
    }

    fn take_open(data: &mut DataConfig, of: &DataConfig) {
        if data.tokenizer.is_none() {
            data.tokenizer = of.tokenizer.clone();
        }
    }

    fn take_own_files(data: &mut DataConfig, checkpoint: &Path) {
        let own = checkpoint.join(TOKENIZER_FILE);
        if let Some(DataSource::Path(given)) = &data.tokenizer
            && !given.exists()
            && own.is_file()
        {
            data.tokenizer = Some(DataSource::Path(own));
        }
    }

    fn adopt(dir: &Path, run: &mut RunFile<Self>) -> Result<()> {
        let own = dir.join(TOKENIZER_FILE);
        let expected = tokenizer_in(dir)?.hash();
        let given = match &run.data.tokenizer {
            None => {
                run.data.tokenizer = Some(DataSource::Path(own));
                return Ok(());
            }
            Some(DataSource::Path(path)) if path.is_dir() => path.join(TOKENIZER_FILE),
            Some(DataSource::Path(path)) => path.clone(),
            // What must be fetched is compared once it is here.
            Some(_) => return Ok(()),
        };
        match given.is_file() && Tokenizer::load(&given).bad_input()?.hash() != expected {
            true => Err(other_tokenizer(dir, &given.display().to_string())).bad_input(),
            false => Ok(()),
        }
    }

    fn check_adopted(dir: &Path, prepared: &Prepared) -> Result<()> {
        let own = tokenizer_in(dir)?;
        match prepared.summary.tokenizer_hash == own.hash() {
            true => Ok(()),
            false => Err(other_tokenizer(dir, "the run's tokenizer")).bad_input(),
        }
    }

    fn start(model: &MatLm, shape: &MatLmConfig) -> Result<MatLm> {
        // A run file has neither: the tokenizer is the model's, and so is its family.
        let MatLmConfig { model_type, special_tokens, .. } = model.config().clone();
        let shape = MatLmConfig { model_type, special_tokens, ..shape.clone() };
        with_config(model, &shape).bad_input()
    }

    const MILLIS_OF: &'static str = "decode";

    fn prompt_and_next(model: &MatLm) -> Result<Option<[Tokens; 2]>> {
        let prompt: Vec<u32> = (0..model.config().context / 2)
            .map(|i| (i % model.config().vocab_size) as u32)
            .collect();
        let row = |start, len| Spans::new(vec![Span { slot: Some(0), start, len }]);
        let next = model.tokens_of(&row(prompt.len(), 1), &[0])?;
        Ok(Some([model.tokens_of(&row(0, prompt.len()), &prompt)?, next]))
    }

    fn synthetic(model: &MatLm, shape: &MatLmConfig, rows: usize) -> Result<OneBatch<MatLm>> {
        Ok(one_batch(model, rows, shape.context)?)
    }

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
        let held_out = held_out(prepared, part)?;
        let MatLmConfig { context, d_model, d_ff, .. } = *folder.model.config();
        let context = folder.context().unwrap_or(context);
        let walks = part.walks(context, d_model, d_ff).unwrap_or(WINDOWS);
        let set = TextSet { held_out: &held_out, context, walks };
        store.evaluate(&folder.model, &set, submodels, progress).bad_input()
    }

    fn floor(prepared: &Prepared, targets: Option<usize>, _: &Device) -> Result<Baselines> {
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

/// The tokens at which generation ends: those that end a text, and the one that begins the next.
pub fn ends(model: &MatLm, tokenizer: &Tokenizer) -> Vec<u32> {
    let mut ends = model.config().special_tokens.ends();
    ends.extend([tokenizer.eos(), tokenizer.bos()]);
    ends.sort_unstable();
    ends.dedup();
    ends
}

fn other_tokenizer(dir: &Path, given: &str) -> Hinted {
    Hinted {
        message: format!(
            "`data.tokenizer`: {given} is not the tokenizer of `{}`, whose weights know no other",
            dir.display()
        ),
        hint: "leave `data.tokenizer` out: a run takes it from the folder that it starts from"
            .to_owned(),
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
