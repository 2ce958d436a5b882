//! Token shards: one split as a stream of tokens in a memory-mapped file.
//!
//! Everything is little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | magic, `MFTOKENS` |
//! | 8..12 | format version, u32: 1, or 2 for one that says which tokens are learnt |
//! | 12..16 | bytes of a token, u32: 2 or 4 |
//! | 16..24 | number of tokens, u64 |
//! | 24..56 | SHA-256 of the tokenizer's file |
//! | 56.. | the tokens, u16 or u32 |
//!
//! Behind the last token, version 2 has a bit for each token, the lowest of a byte first: 1 for one that is
//! learnt and measured, such as an assistant's answer. In version 1 all are. Nothing follows. Beside `NAME.bin`
//! lies `NAME.docs.jsonl`: a row `{"name", "start", "tokens", "bytes"}` per document, in the order of the stream,
//! with a `"cluster"` where several documents are not independent, the number of its `"answers"` where only these
//! tokens are learnt, and its `"source"` where there are several with weights.

use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use matformer_core::fs;
use memmap2::Mmap;
use serde::{Deserialize, Serialize};

use crate::{Error, Hash, Result, Tokenizer};

const MAGIC: [u8; 8] = *b"MFTOKENS";
const VERSION: u32 = 1;
/// With a bit for each token.
const MASKED: u32 = 2;
const HEADER: usize = 56;
/// Tokens at either end of a shard that are looked at when it is opened.
const CHECKED: usize = 1 << 20;

/// A stream of tokens on disk. Clones share the mapping.
#[derive(Debug, Clone)]
pub struct Shard {
    path: PathBuf,
    map: Arc<Mmap>,
    tokens: usize,
    width: usize,
    tokenizer: Hash,
    masked: bool,
}

/// Where a document lies in its shard: the begin token at `start`, then `tokens` tokens of `bytes`
/// bytes of text, then the end token, which may be the begin token of the next document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentSpan {
    /// The document's name.
    pub name: String,
    /// Position of the begin token in front of it.
    pub start: usize,
    /// Tokens of its text, without begin and end token.
    pub tokens: usize,
    /// Bytes of its text, or of its answers where only these are measured.
    pub bytes: usize,
    /// Tokens of its answers, where only these are learnt and measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<usize>,
    /// Cluster of dependent documents that this document belongs to, such as its crate or book; `None` if it is
    /// independent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The place of its source in `data.sources`; `None` where there are none, and for what `data.validation` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<usize>,
}

impl DocumentSpan {
    /// The tokens of the text, without begin and end token.
    pub fn text(&self) -> Range<usize> {
        self.start + 1..self.start + 1 + self.tokens
    }

    /// Tokens that are measured.
    pub fn targets(&self) -> usize {
        self.answers.unwrap_or(self.tokens)
    }
}

impl Shard {
    /// Opens a shard and checks its header and length.
    ///
    /// # Errors
    /// [`Error::File`], or [`Error::Prepared`] with what is malformed.
    pub fn open(path: &Path) -> Result<Self> {
        let file = fs::open(path)?;
        // SAFETY: shards are published whole by a rename and never written again; as with every
        // mapped file, a program that truncates one while it is open ends this process.
        let map = unsafe { Mmap::map(&file) }.map_err(fs::error(path, "map"))?;
        let Header { tokens, width, tokenizer, masked } =
            parse(&map).map_err(|reason| malformed(path, reason))?;
        Ok(Self { path: path.into(), map: Arc::new(map), tokens, width, tokenizer, masked })
    }

    /// Opens a shard, and checks that `tokenizer` made it and that the tokens at its beginning and its end
    /// are in the vocabulary. Of a large one the rest is not read for that: models check their batches.
    ///
    /// # Errors
    /// As [`Shard::open`].
    pub fn open_checked(path: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        let shard = Self::open(path)?;
        shard.check(tokenizer.hash(), tokenizer.vocab_size())?;
        Ok(shard)
    }

    fn check(&self, tokenizer: Hash, vocab_size: usize) -> Result<()> {
        if self.tokenizer != tokenizer {
            let reason = format!("made by tokenizer {}, expected: {tokenizer}", self.tokenizer);
            return Err(malformed(&self.path, reason));
        }
        for range in [0..self.tokens.min(CHECKED), self.tokens.saturating_sub(CHECKED)..self.tokens]
        {
            let mut tokens = range.clone().zip(self.iter(range));
            if let Some((at, token)) = tokens.find(|(_, token)| *token as usize >= vocab_size) {
                return Err(malformed(&self.path, outside(token, at, vocab_size)));
            }
        }
        Ok(())
    }

    /// Writes a shard; u16 where the vocabulary allows it.
    ///
    /// # Errors
    /// As [`ShardWriter::push`].
    pub fn write(path: &Path, tokens: &[u32], tokenizer: Hash, vocab_size: usize) -> Result<()> {
        let mut writer = ShardWriter::create(path, tokenizer, vocab_size)?;
        writer.push(tokens)?;
        writer.finish()
    }

    /// The number of tokens, begin and end tokens included.
    pub fn len(&self) -> usize {
        self.tokens
    }

    /// Whether it holds no token.
    pub fn is_empty(&self) -> bool {
        self.tokens == 0
    }

    /// The hash of the tokenizer that made it.
    pub fn tokenizer_hash(&self) -> Hash {
        self.tokenizer
    }

    /// The tokens at `range`, as far as the shard has them.
    pub fn iter(&self, range: Range<usize>) -> impl Iterator<Item = u32> + '_ {
        let byte = |token: usize| HEADER + token.min(self.tokens) * self.width;
        let bytes = self.map.get(byte(range.start)..byte(range.end)).unwrap_or_default();
        bytes.chunks_exact(self.width).map(|token| {
            let mut word = [0; 4];
            word.iter_mut().zip(token).for_each(|(word, byte)| *word = *byte);
            u32::from_le_bytes(word)
        })
    }

    /// Whether only some of its tokens are learnt.
    pub fn is_masked(&self) -> bool {
        self.masked
    }

    /// Of the tokens at `range`, as far as the shard has them, whether each is learnt.
    pub fn learnt(&self, range: Range<usize>) -> impl Iterator<Item = bool> + '_ {
        let bits = self.map.get(HEADER + self.tokens * self.width..).unwrap_or_default();
        let bit =
            |token: usize| bits.get(token / 8).is_some_and(|byte| byte >> (token % 8) & 1 == 1);
        let range = range.start.min(self.tokens)..range.end.min(self.tokens);
        range.map(move |token| !self.masked || bit(token))
    }

    /// Reads the list of documents beside the shard and checks that they follow each other and fill
    /// it.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, [`Error::Prepared`] with the line.
    pub fn documents(&self) -> Result<Vec<DocumentSpan>> {
        let path = list_path(&self.path);
        let wrong = |line: usize, reason: String| Error::Prepared {
            what: "document list",
            path: path.clone(),
            reason: format!("line {line}: {reason}"),
        };
        let mut documents = Vec::new();
        let mut end = 0_usize;
        // Between two documents, and behind the last, lies an end token, or none.
        let follows = |end: usize, start| start == end || start == end.saturating_add(1);
        for (index, row) in fs::read_to_string(&path)?.lines().enumerate() {
            let line = index + 1;
            let document: DocumentSpan =
                serde_json::from_str(row).map_err(|error| wrong(line, error.to_string()))?;
            if !follows(end, document.start) || index == 0 && document.start != 0 {
                return Err(wrong(line, format!("starts at {}, expected: {end}", document.start)));
            }
            end = document
                .start
                .checked_add(1)
                .and_then(|end| end.checked_add(document.tokens))
                .unwrap_or(usize::MAX);
            documents.push(document);
        }
        if !follows(end, self.tokens) {
            let reason = format!("documents end at token {end}, expected: {}", self.tokens);
            return Err(wrong(documents.len(), reason));
        }
        Ok(documents)
    }
}

/// Writes a shard and the list of documents beside it, a piece at a time. A file that is not finished has
/// no tokens by its header, and cannot be opened.
#[derive(Debug)]
pub struct ShardWriter {
    path: PathBuf,
    out: BufWriter<File>,
    list: Option<BufWriter<File>>,
    tokenizer: Hash,
    vocab_size: usize,
    width: usize,
    tokens: usize,
    /// Which tokens are learnt, a bit each, where not all are.
    learnt: Option<Vec<u8>>,
}

impl ShardWriter {
    /// Begins a shard at `path`.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn create(path: &Path, tokenizer: Hash, vocab_size: usize) -> Result<Self> {
        let file = File::create(path).map_err(fs::error(path, "create"))?;
        let width = if vocab_size <= 1 << 16 { 2 } else { 4 };
        let (path, out, list) = (path.to_owned(), BufWriter::with_capacity(1 << 20, file), None);
        let (tokens, learnt) = (0, None);
        let mut writer = Self { path, out, list, tokenizer, vocab_size, width, tokens, learnt };
        writer.header(0)?;
        Ok(writer)
    }

    /// The same for a shard that says of each token whether it is learnt.
    pub fn masked(self) -> Self {
        Self { learnt: Some(Vec::new()), ..self }
    }

    /// Tokens so far.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Adds tokens; in a masked shard they are not learnt.
    ///
    /// # Errors
    /// [`Error::Prepared`] for a token outside the vocabulary; [`Error::File`].
    pub fn push(&mut self, tokens: &[u32]) -> Result<()> {
        self.push_masked(tokens, &[])
    }

    /// Adds tokens, of which those are learnt that `learnt` says, if the shard is masked.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_masked(&mut self, tokens: &[u32], learnt: &[bool]) -> Result<()> {
        for (at, token) in tokens.iter().enumerate() {
            if *token as usize >= self.vocab_size {
                let reason = outside(*token, self.tokens + at, self.vocab_size);
                return Err(malformed(&self.path, reason));
            }
            let bytes = token.to_le_bytes();
            self.out.write_all(&bytes[..self.width]).map_err(fs::error(&self.path, "write"))?;
        }
        if let Some(bits) = &mut self.learnt {
            bits.resize((self.tokens + tokens.len()).div_ceil(8), 0);
            for (at, _) in learnt.iter().enumerate().filter(|(_, learnt)| **learnt) {
                let token = self.tokens + at;
                bits[token / 8] |= 1 << (token % 8);
            }
        }
        self.tokens += tokens.len();
        Ok(())
    }

    /// Adds a row to the list of documents.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn list(&mut self, document: &DocumentSpan) -> Result<()> {
        let path = list_path(&self.path);
        if self.list.is_none() {
            let file = File::create(&path).map_err(fs::error(&path, "create"))?;
            self.list = Some(BufWriter::new(file));
        }
        let Some(list) = &mut self.list else { return Ok(()) };
        let mut row = serde_json::to_vec(document).map_err(|error| Error::Prepared {
            what: "document list",
            path: path.clone(),
            reason: error.to_string(),
        })?;
        row.push(b'\n');
        Ok(list.write_all(&row).map_err(fs::error(&path, "write"))?)
    }

    /// Completes the header.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn finish(mut self) -> Result<()> {
        if let Some(mut list) = self.list.take() {
            list.flush().map_err(fs::error(list_path(&self.path), "write"))?;
        }
        if let Some(bits) = &self.learnt {
            self.out.write_all(bits).map_err(fs::error(&self.path, "write"))?;
        }
        self.out.rewind().map_err(fs::error(&self.path, "write"))?;
        self.header(self.tokens)?;
        Ok(self.out.flush().map_err(fs::error(&self.path, "write"))?)
    }

    fn header(&mut self, tokens: usize) -> Result<()> {
        let mut header = Vec::with_capacity(HEADER);
        header.extend(MAGIC);
        let version = if self.learnt.is_some() { MASKED } else { VERSION };
        header.extend(version.to_le_bytes());
        header.extend((self.width as u32).to_le_bytes());
        header.extend((tokens as u64).to_le_bytes());
        header.extend(self.tokenizer.as_bytes());
        Ok(self.out.write_all(&header).map_err(fs::error(&self.path, "write"))?)
    }
}

fn list_path(shard: &Path) -> PathBuf {
    shard.with_extension("docs.jsonl")
}

fn malformed(path: &Path, reason: String) -> Error {
    Error::Prepared { what: "token shard", path: path.into(), reason }
}

fn outside(token: u32, position: usize, vocab_size: usize) -> String {
    format!("token {token} at position {position}, expected: below {vocab_size}")
}

/// The header of a whole file.
struct Header {
    tokens: usize,
    /// Bytes of a token.
    width: usize,
    tokenizer: Hash,
    masked: bool,
}

fn parse(bytes: &[u8]) -> Result<Header, String> {
    let short = || format!("{} bytes are shorter than the header: {HEADER}", bytes.len());
    let (magic, rest) = bytes.split_first_chunk().ok_or_else(short)?;
    let (version, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (width, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (count, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (tokenizer, tokens) = rest.split_first_chunk().ok_or_else(short)?;
    if *magic != MAGIC {
        let (found, expected) = (magic.escape_ascii(), MAGIC.escape_ascii());
        return Err(format!("starts with `{found}`, expected: `{expected}`"));
    }
    let version = u32::from_le_bytes(*version);
    if ![VERSION, MASKED].contains(&version) {
        return Err(format!("format version {version}, expected: {VERSION} or {MASKED}"));
    }
    let masked = version == MASKED;
    let width = u32::from_le_bytes(*width);
    if width != 2 && width != 4 {
        return Err(format!("tokens of {width} bytes, expected: 2 or 4"));
    }
    let count = u64::from_le_bytes(*count);
    let bits = if masked { u128::from(count.div_ceil(8)) } else { 0 };
    let expected = u128::from(count) * u128::from(width) + bits;
    if tokens.len() as u128 != expected {
        let found = tokens.len();
        return Err(format!("{found} bytes of tokens, expected: {expected} (the header's count)"));
    }
    let (width, tokenizer) = (width as usize, Hash::from_bytes(*tokenizer));
    Ok(Header { tokens: (tokens.len() - bits as usize) / width, width, tokenizer, masked })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VOCAB: usize = 300;

    fn tokenizer() -> Hash {
        Hash::of(b"tokenizer")
    }

    fn write_documents(path: &Path, documents: &[DocumentSpan]) {
        let rows = documents.iter().map(|row| serde_json::to_string(row).unwrap() + "\n");
        std::fs::write(list_path(path), rows.collect::<String>()).unwrap();
    }

    /// A good shard of four tokens, damaged by `change`, opened and checked.
    fn open_damaged(change: impl FnOnce(&mut Vec<u8>)) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.bin");
        Shard::write(&path, &[0, 1, 299, 2], tokenizer(), VOCAB).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        match Shard::open(&path).and_then(|shard| shard.check(tokenizer(), VOCAB)) {
            Err(Error::Prepared { what: "token shard", reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn shorter_than_its_header() {
        for length in [0, 7, 8, 55] {
            let expected = format!("{length} bytes are shorter than the header: 56");
            assert_eq!(open_damaged(|bytes| bytes.truncate(length)), expected);
        }
    }

    #[test]
    fn other_magic() {
        let expected = "starts with `XFTOKENS`, expected: `MFTOKENS`";
        assert_eq!(open_damaged(|bytes| bytes[0] = b'X'), expected);
    }

    #[test]
    fn other_version() {
        assert_eq!(open_damaged(|bytes| bytes[8] = 9), "format version 9, expected: 1 or 2");
    }

    #[test]
    fn unknown_token_width() {
        for width in [0, 1, 3, 8] {
            let expected = format!("tokens of {width} bytes, expected: 2 or 4");
            assert_eq!(open_damaged(|bytes| bytes[12] = width), expected);
        }
    }

    #[test]
    fn count_against_length() {
        let length = |found: usize, expected: &str| {
            format!("{found} bytes of tokens, expected: {expected} (the header's count)")
        };
        assert_eq!(open_damaged(|bytes| bytes[16] = 5), length(8, "10"));
        assert_eq!(open_damaged(|bytes| bytes.truncate(63)), length(7, "8"));
        assert_eq!(open_damaged(|bytes| bytes.push(0)), length(9, "8"));
        assert_eq!(
            open_damaged(|bytes| bytes[16..24].fill(255)),
            length(8, "36893488147419103230")
        );
    }

    #[test]
    fn other_tokenizer() {
        let reason = open_damaged(|bytes| bytes[24] ^= 1);
        assert!(reason.starts_with("made by tokenizer "), "{reason}");
        assert!(reason.ends_with(&format!(", expected: {}", tokenizer())), "{reason}");
    }

    #[test]
    fn token_outside_the_vocabulary() {
        let expected = "token 300 at position 2, expected: below 300";
        assert_eq!(
            open_damaged(
                |bytes| bytes[HEADER + 4..HEADER + 6].copy_from_slice(&300_u16.to_le_bytes())
            ),
            expected
        );
        let folder = tempfile::tempdir().unwrap();
        let written = Shard::write(&folder.path().join("a.bin"), &[300], tokenizer(), VOCAB);
        assert!(written.unwrap_err().to_string().contains("token 300 at position 0"));
    }

    #[test]
    fn documents_must_follow_each_other_and_fill_the_shard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.bin");
        Shard::write(&path, &[0, 5, 6, 0, 7], tokenizer(), VOCAB).unwrap();
        let shard = Shard::open(&path).unwrap();
        let span = |name: &str, start, tokens| DocumentSpan {
            name: name.into(),
            start,
            tokens,
            bytes: 2,
            answers: None,
            cluster: (name == "b").then(|| "book".into()),
            source: None,
        };
        let good = vec![span("a", 0, 2), span("b", 3, 1)];
        write_documents(&path, &good);
        assert_eq!(shard.documents().unwrap(), good);
        let rows = std::fs::read_to_string(folder.path().join("train.docs.jsonl")).unwrap();
        assert_eq!(rows.matches("cluster").count(), 1, "{rows}");
        assert_eq!(good[1].text(), 4..5);

        let line = |spans: &[DocumentSpan]| {
            write_documents(&path, spans);
            let reason = shard.documents().unwrap_err().to_string();
            let (_, line) = reason.split_once("train.docs.jsonl`: line ").unwrap();
            line.split_once(": ").unwrap().0.to_owned()
        };
        assert_eq!(line(&[span("a", 1, 2), span("b", 4, 1)]), "1");
        assert_eq!(line(&[span("a", 0, 2), span("b", 2, 1)]), "2");
        assert_eq!(line(&[span("a", 0, usize::MAX)]), "1");
        assert_eq!(line(&[span("a", 0, 2)]), "1");
        std::fs::write(folder.path().join("train.docs.jsonl"), "{\"name\":\"a\"}\n").unwrap();
        let error = shard.documents().unwrap_err().to_string();
        assert!(error.starts_with("document list `") && error.contains("`: line 1: "), "{error}");
    }

    #[test]
    fn a_masked_shard_says_of_each_token_whether_it_is_learnt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.bin");
        for count in [0, 1, 7, 8, 9, 40] {
            let tokens: Vec<u32> = (0..count).collect();
            let learnt: Vec<bool> = tokens.iter().map(|token| token % 3 == 1).collect();
            let mut writer = ShardWriter::create(&path, tokenizer(), VOCAB).unwrap().masked();
            writer.push(&[5, 6]).unwrap();
            for (tokens, learnt) in tokens.chunks(6).zip(learnt.chunks(6)) {
                writer.push_masked(tokens, learnt).unwrap();
            }
            writer.push(&[7]).unwrap();
            writer.finish().unwrap();
            let shard = Shard::open(&path).unwrap();
            assert!(shard.is_masked() && shard.len() == tokens.len() + 3);
            assert_eq!(shard.iter(2..2 + tokens.len()).collect::<Vec<_>>(), tokens);
            let expected = [vec![false; 2], learnt, vec![false]].concat();
            assert_eq!(shard.learnt(0..usize::MAX).collect::<Vec<_>>(), expected);
            let cut = &std::fs::read(&path).unwrap()[..];
            std::fs::write(&path, &cut[..cut.len() - 1]).unwrap();
            assert!(matches!(Shard::open(&path), Err(Error::Prepared { .. })));
        }
        Shard::write(&path, &[1, 2], tokenizer(), VOCAB).unwrap();
        assert_eq!(Shard::open(&path).unwrap().learnt(1..9).collect::<Vec<_>>(), [true]);
    }

    proptest! {
        // Every case writes and syncs files.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn tokens_round_trip_in_both_widths(
            tokens in prop::collection::vec(0_u32..60_000, 0..50),
            wide: bool,
            from in 0_usize..60,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("train.bin");
            let vocab = if wide { 100_000 } else { 60_000 };
            Shard::write(&path, &tokens, tokenizer(), vocab).unwrap();
            let shard = Shard::open(&path).unwrap();
            shard.check(tokenizer(), vocab).unwrap();
            prop_assert_eq!(shard.len(), tokens.len());
            let read: Vec<u32> = shard.iter(from..usize::MAX).collect();
            prop_assert_eq!(read, tokens.get(from..).unwrap_or_default());
        }

        #[test]
        fn any_bytes_are_a_shard_or_a_fault(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(Header { tokens, width, masked, .. }) = parse(&bytes) {
                let bits = if masked { tokens.div_ceil(8) } else { 0 };
                prop_assert_eq!(HEADER + tokens * width + bits, bytes.len());
            }
        }
    }
}
