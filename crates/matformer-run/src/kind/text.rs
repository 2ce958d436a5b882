//! Language models on text.

mod export;
mod measure;
mod model;
mod words;

use std::{ops::ControlFlow, path::Path, sync::Arc};

use crate::{synthetic::OneBatch, synthetic::one_batch, text::TextBatches};
use burn::tensor::Device;
use matformer_core::{Costs, Span, Spans, Submodel, fs};
use matformer_data::{
    Baselines, BatchShape, DataConfig, Dropped, Hash, HeldOut, Prepared, Source as DataSource,
    TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, Tokenizer, find_prepared,
};
use matformer_engine::{self as engine, Engine, EngineModel, EngineOptions, Request, generate};
use matformer_eval::{
    Beginnings, ContinuedSet, DocumentLoss, EvalResults, Store, Studied, TextSet, Unit, WINDOWS,
    Walks, report::Sample, report::compare, text_units,
};
use matformer_formats::companions;
use matformer_lm::{MatLm, MatLmConfig, SpecialTokens, Tokens, costs};
use matformer_nn::{Folder, Slice, with_config};
use matformer_runfile::{Lm, RunFile};
use matformer_sources::locate_text;
use matformer_train::Dims;

use super::{
    Against, Data, Export, Facts, GgufOut, Measure, Model, Part, Processor, Source, Words, params,
};
use crate::{
    Session,
    cache::{data_cache_of, is_here, prepare_text, with_progress},
    error::{Hinted, OrBadInput, Result, failed},
    folder::{ModelFolder, tokenizer_in},
    slice::Format,
};
use matformer_core::units::{count, counted};
use matformer_eval::stats::FEW_DOCUMENTS;
use matformer_train::say;

failed!(matformer_lm::Error);

impl Data for Lm {
    type Prepared = Prepared;

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

    fn prepare(run: &RunFile<Self>, cache: &Path, session: &Session) -> Result<Prepared> {
        prepare_text(&run.data, None, cache, session)
    }

    fn prepared(run: &RunFile<Self>, cache: &Path, session: &Session) -> Result<Option<Prepared>> {
        // A path that is not there is looked for on the hub.
        let tokenizer_here = match &run.data.tokenizer {
            Some(DataSource::Path(path)) => path.exists(),
            Some(source) => is_here(source, cache),
            None => true,
        };
        let mut sources = run.data.every_source();
        if !tokenizer_here || sources.any(|source| matches!(source, DataSource::Hub(_))) {
            return Ok(None);
        }
        with_progress(session, |report| {
            Ok(find_prepared(&locate_text(&run.data, cache)?, cache, report)?)
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
        prepare_text(
            &run.data,
            Some(folder.tokenizer()?.path()),
            &data_cache_of(&folder.dir),
            &folder.session,
        )
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
            counted(s.train.documents, "document"),
            count(s.held_out.tokens as f64),
            s.held_out.documents,
            match s.dropped == Dropped::default() {
                true => String::new(),
                false => format!("; left out: {}", s.dropped),
            },
            if prepared.reused { " (prepared before)" } else { "" },
        );
        let sum: f64 = data.weights().iter().sum();
        for (number, (source, weight)) in s.sources.iter().zip(data.weights()).enumerate() {
            say!(
                "source {}: {} training tokens of {}, {:.1} % of the rows",
                number + 1,
                count(source.size.tokens as f64),
                counted(source.size.documents, "document"),
                100.0 * weight / sum
            );
        }
        if let Some(answers) = s.train.answers {
            say!("only answers are learnt: {} of the training tokens", count(answers as f64));
        }
        prepared.notes.iter().for_each(|note| say!("{note}"));
        if let Some(first) = &s.lost.first {
            say!(
                "note: the tokenizer does not give back {} of {} bytes, in {} (first `{first}`)",
                s.lost.bytes,
                s.train.bytes + s.held_out.bytes,
                counted(s.lost.documents, "document")
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
                "note: {} held out: too few for a precise held-out loss; `data.held_out` \
                 sets their share",
                counted(s.held_out.documents, "document")
            );
        }
    }

    fn files(_: &RunFile<Self>, prepared: &Prepared) -> Result<Vec<(String, Vec<u8>)>> {
        [prepared.tokenizer_path(), prepared.tokenizer_config_path()]
            .into_iter()
            .chain(prepared.chat_template_path())
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

    fn batches(run: &RunFile<Self>, prepared: &Prepared, rows: usize) -> Result<Source<Self>> {
        let train = &run.train;
        let shape = BatchShape { rows, seq_len: train.row_len(run.shape().context) };
        let weights = run.data.weights();
        let batches = TextBatches::new(prepared, &weights, shape, train.eval_tokens, train.seed)
            .bad_input()?;
        Ok(Source { distinct: batches.distinct(), batches: Arc::new(batches) })
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
