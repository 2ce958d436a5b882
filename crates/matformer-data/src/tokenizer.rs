//! Byte-level BPE: trained, saved, loaded and used through the `tokenizers` crate.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use matformer_core::fs;
use rayon::prelude::*;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder};

use crate::special::{self, END_OF_TEXT, Special, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE};
use crate::words::{self, Words};
use crate::{Error, Hash, Result, pieces};

/// A tokenizer is trained on at most this much text, in bytes: whole documents, drawn by the seed.
pub const TRAINING_SAMPLE_BYTES: usize = 24 << 20;

/// A longer text is encoded in pieces of about this length, where the tokenizer allows it, in bytes.
const PIECE: usize = 256 << 10;

/// A tokenizer with its begin, end and padding tokens and the hash of its file.
///
/// Text is data: the spelling of a control token inside a text is encoded as ordinary text, never as
/// that token.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The same, to which the spelling of a control token is that token; made when it is first needed.
    with_control: Arc<OnceLock<tokenizers::Tokenizer>>,
    path: PathBuf,
    hash: Hash,
    config: String,
    vocab_size: usize,
    rows: usize,
    bos: u32,
    eos: u32,
    pad: Option<u32>,
    /// Whether a text may be encoded in pieces.
    pieces: bool,
    /// The tokens of words, where they do not depend on the words around them.
    words: Option<Words>,
}

/// A token and the bytes of the text that it covers. A character cut into several tokens is covered
/// by each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSpan {
    /// The token.
    pub id: u32,
    /// Bytes of the encoded text.
    pub bytes: Range<usize>,
}

impl Tokenizer {
    /// Loads a `tokenizer.json`. Its begin, end and padding tokens are those of the
    /// `tokenizer_config.json` beside it, or else of the `special_tokens_map.json`. Without an end
    /// token there, it is [`END_OF_TEXT`]; without a begin token, that is the end token.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, [`Error::Tokenizer`] if it is not a tokenizer or has
    /// no end token.
    pub fn load(path: &Path) -> Result<Self> {
        let wrong = |reason: String| Error::Tokenizer { path: path.into(), reason };
        let bytes = fs::read(path)?;
        let mut inner = tokenizers::Tokenizer::from_bytes(special::without_dropout(&bytes))
            .map_err(|error| wrong(error.to_string()))?;
        // A file may ask for padding or truncation of its own; a text is encoded whole.
        inner.with_truncation(None).map_err(|error| wrong(error.to_string()))?.with_padding(None);
        let Special { config, bos, eos, pad } = Special::beside(path)?;
        let id = |token: &str| {
            inner.token_to_id(token).ok_or_else(|| wrong(format!("has no token `{token}`")))
        };
        let no_end = || {
            let default = format!("and it has no token `{END_OF_TEXT}`");
            wrong(format!("`{TOKENIZER_CONFIG_FILE}` beside it names no `eos_token`, {default}"))
        };
        let eos = match &eos {
            Some(eos) => id(eos)?,
            None => inner.token_to_id(END_OF_TEXT).ok_or_else(no_end)?,
        };
        let bos = bos.as_deref().map_or(Ok(eos), id)?;
        let pad = pad.and_then(|token| inner.token_to_id(&token));
        let control: Vec<u32> = [bos, eos].into_iter().chain(pad).collect();
        special::spell_as_text(&mut inner, &control).map_err(|error| wrong(error.to_string()))?;
        // Ids may have holes: a model needs a row up to the largest.
        let largest = inner.get_vocab(true).into_values().max();
        let vocab_size = largest.map_or(0, |id| id as usize + 1);
        let added = inner.get_added_tokens_decoder();
        let never = |id: &u32| added.get(id).is_some_and(|token| token.special);
        let given = inner.get_vocab(true).into_values().filter(|id| !never(id)).chain(control);
        let rows = given.max().map_or(0, |id| id as usize + 1);
        let hash = Hash::of(&bytes);
        let (pieces, path) = (pieces::may_be_cut(&inner), path.into());
        let words = words::are_alone(&inner).then(Words::default);
        let with_control = Arc::default();
        Ok(Self {
            inner,
            with_control,
            path,
            hash,
            config,
            vocab_size,
            rows,
            bos,
            eos,
            pad,
            pieces,
            words,
        })
    }

    /// Trains a byte-level BPE vocabulary of `vocab_size` tokens on `texts` and writes
    /// `tokenizer.json` and `tokenizer_config.json` into `folder`. The same texts, in any order, and the
    /// same size give the same bytes. A small text may give fewer tokens than asked for.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if training fails, [`Error::File`] if a file cannot be written.
    pub fn train(texts: &[String], vocab_size: usize, folder: &Path) -> Result<Self> {
        let path = folder.join(TOKENIZER_FILE);
        let json = train(texts, vocab_size)
            .map_err(|error| Error::Tokenizer { path: path.clone(), reason: error.to_string() })?;
        fs::write_atomic(&path, json.as_bytes())?;
        fs::write_atomic(folder.join(TOKENIZER_CONFIG_FILE), special::of_trained().as_bytes())?;
        Self::load(&path)
    }

    /// The tokens of `text`, without begin or end token.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer cannot encode it; byte-level ones can encode
    /// everything.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let whole = |text: &str| {
            let encoding = self.inner.encode_fast(text, false);
            Ok(encoding.map_err(|error| self.failed(error))?.get_ids().to_vec())
        };
        match &self.words {
            Some(words) => words.encode(text, &whole),
            None => whole(text),
        }
    }

    /// The same of a text that is laid out for the model, such as a chat: the spelling of a control token is that
    /// token.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_control(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.with_control().encode_fast(text, false);
        let encoding = encoding.map_err(|error| self.failed(error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The same with the tokens that the tokenizer's own configuration puts around a text, such as a begin token: what
    /// `tokenizer(text)` of transformers gives.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_as_configured(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.with_control().encode_fast(text, true);
        Ok(encoding.map_err(|error| self.failed(error))?.get_ids().to_vec())
    }

    /// How control tokens are spelt.
    pub fn control_spellings(&self) -> Vec<String> {
        let added = self.inner.get_added_tokens_decoder();
        added.into_values().filter(|token| token.special).map(|token| token.content).collect()
    }

    /// The tokens of `text`, each with the bytes that it covers.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_offsets(&self, text: &str) -> Result<Vec<TokenSpan>> {
        let encoding = self.inner.encode(text, false);
        Ok(spans(&encoding.map_err(|error| self.failed(error))?))
    }

    /// The same of a text that is laid out for the model ([`Tokenizer::encode_with_control`]).
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_control_and_offsets(&self, text: &str) -> Result<Vec<TokenSpan>> {
        let encoding = self.with_control().encode(text, false);
        Ok(spans(&encoding.map_err(|error| self.failed(error))?))
    }

    /// The tokens of many texts, on all cores, also of one that is long: its tokens are those of
    /// [`Tokenizer::encode`].
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_batch(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>> {
        let whole = |text| vec![text];
        let cut = |text| if self.pieces { pieces::of(text, PIECE) } else { whole(text) };
        let all: Vec<(usize, &str)> = texts
            .iter()
            .enumerate()
            .flat_map(|(place, text)| cut(*text).into_iter().map(move |piece| (place, piece)))
            .collect();
        let encode = |(place, piece): &(usize, &str)| Ok((*place, self.encode(piece)?));
        let encoded: Vec<_> = all.par_iter().map(encode).collect::<Result<_>>()?;
        let mut tokens = vec![Vec::new(); texts.len()];
        for (place, more) in encoded {
            if tokens[place].is_empty() {
                tokens[place] = more;
            } else {
                tokens[place].extend(more);
            }
        }
        Ok(tokens)
    }

    /// The text of `tokens`. Control tokens are spelt out; bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the tokenizer cannot decode them.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.inner.decode(tokens, false).map_err(|error| self.failed(error))
    }

    /// What `tokens[at]` adds to the text of the token before it: alone, many decoders would drop its space.
    /// Control tokens are spelt out.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    ///
    /// # Panics
    /// If there is no such token.
    pub fn decode_one(&self, tokens: &[u32], at: usize) -> Result<String> {
        let text = |tokens: &[u32]| self.decode(tokens);
        match added(text, &tokens[at.saturating_sub(1)..at], &tokens[at..=at])? {
            // Tokens that share a character are no text of their own.
            empty if empty.is_empty() => text(&tokens[at..=at]),
            text => Ok(text),
        }
    }

    /// The text that `tokens` add to that of `prompt`, without control tokens. What a token stands
    /// for may depend on the tokens before it: some tokenizers drop the space in front of a text.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn continuation(&self, prompt: &[u32], tokens: &[u32]) -> Result<String> {
        let text =
            |tokens: &[u32]| self.inner.decode(tokens, true).map_err(|error| self.failed(error));
        added(text, prompt, tokens)
    }

    /// How many of `tokens` to keep so that no character is cut in the middle: at most `most`, or the
    /// first character where that has more.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn whole_characters(&self, tokens: &[u32], most: usize) -> Result<usize> {
        /// No character has more tokens.
        const LONGEST: usize = 8;
        if most == 0 || most >= tokens.len() {
            return Ok(most.min(tokens.len()));
        }
        let end = tokens.len().min(most + LONGEST);
        let whole = self.decode(&tokens[..end])?;
        let down = (1..=most).rev().take(LONGEST);
        for kept in down.chain(most + 1..end) {
            let text = self.decode(&tokens[..kept])?;
            let longer = self.decode(&tokens[..kept + 1])?;
            // A text may hold U+FFFD itself: it is whole where the next token adds something.
            if whole.starts_with(&text) && !(text.ends_with('\u{fffd}') && text == longer) {
                return Ok(kept);
            }
        }
        Ok(most)
    }

    /// How the vocabulary spells token `id` (`Ġfn` for ` fn`), or `None` outside the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The largest id plus one: the rows of a new model's embedding.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The rows that an embedding needs for texts: special tokens that no text is given, such as
    /// Gemma 3's for images, may have ids beyond them.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The token that begins a text: the first input of every document.
    pub fn bos(&self) -> u32 {
        self.bos
    }

    /// The token that ends a text and separates documents.
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// The token that fills up a batch, if the tokenizer has one.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// SHA-256 of `tokenizer.json`.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// What is written as the `tokenizer_config.json` beside it: the one that is there, with the
    /// control tokens that it does not name.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// The same tokenizer, whose file will be at `path`.
    pub(crate) fn at(self, path: PathBuf) -> Self {
        Self { path, ..self }
    }

    /// The file that it was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn with_control(&self) -> &tokenizers::Tokenizer {
        self.with_control.get_or_init(|| {
            let mut inner = self.inner.clone();
            inner.set_encode_special_tokens(false);
            inner
        })
    }

    fn failed(&self, error: tokenizers::Error) -> Error {
        Error::Tokenizer { path: self.path.clone(), reason: error.to_string() }
    }
}

fn spans(encoding: &tokenizers::Encoding) -> Vec<TokenSpan> {
    let spans = encoding.get_ids().iter().zip(encoding.get_offsets());
    spans.map(|(&id, &(start, end))| TokenSpan { id, bytes: start..end }).collect()
}

/// The text that `tokens` add after the tokens `before` them; the text of `tokens` alone if a character spans the
/// boundary.
fn added(
    text: impl Fn(&[u32]) -> Result<String>,
    before: &[u32],
    tokens: &[u32],
) -> Result<String> {
    let (first, whole) = (text(before)?, text(&[before, tokens].concat())?);
    match whole.strip_prefix(&first) {
        Some(added) => Ok(added.to_owned()),
        None => text(tokens),
    }
}

/// The `tokenizer.json` of a vocabulary trained on `texts`.
fn train(texts: &[String], vocab_size: usize) -> tokenizers::Result<String> {
    let byte_level = ByteLevel::new(false, true, true);
    let separator = AddedToken::from(END_OF_TEXT, true);
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![separator.clone()])
        .show_progress(false)
        .build();
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<tokenizers::NormalizerWrapper>)
        .with_pre_tokenizer(Some(byte_level))
        .with_post_processor(None::<tokenizers::PostProcessorWrapper>)
        .with_decoder(Some(byte_level))
        .build()?;
    tokenizer.train(&mut trainer, texts.iter().map(String::as_str))?;
    tokenizer.to_string(true)
}

#[cfg(test)]
#[path = "tokenizer_tests.rs"]
mod tests;
