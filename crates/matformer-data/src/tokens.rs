//! Files of token ids, as nanoGPT and llm.c write them: the text is what their tokenizer decodes.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use matformer_core::fs;

use crate::inputs::Input;
use crate::rows::{Content, Row, Rows, next_number};
use crate::{Error, Result, Tokenizer};

/// The first word of llm.c's header.
const MAGIC: u32 = 20_240_520;
/// The version of it that is read: u16 tokens of GPT-2.
const VERSION: u32 = 1;
/// Bytes of the header.
const HEADER: usize = 1024;
/// A document without an end is cut here, in tokens.
const LONGEST: usize = 1 << 20;

/// The documents of a file: they end with the end token of the tokenizer.
pub(crate) struct Documents {
    input: Input,
    file: BufReader<File>,
    tokenizer: Arc<Tokenizer>,
    number: u32,
}

/// The files of token ids that lie right in a folder, where some are to be trained on and some to be
/// held out by their names (`train.bin`, `val.bin`), sorted.
pub(crate) fn in_folder(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| part(name).is_some()).collect();
    names.sort();
    let all = |held_out| names.iter().any(|name| part(name) == Some(held_out));
    let prepared =
        folder.join("summary.json").exists() || folder.join("fine_label_names.txt").exists();
    if all(true) && all(false) && !prepared { names } else { Vec::new() }
}

/// Whether the name of a file of token ids says that it is held out; nothing where it says no split.
pub(crate) fn part(name: &str) -> Option<bool> {
    let stem = name.strip_suffix(".bin")?;
    stem.rsplit(['_', '-', '.']).find_map(|word| match word {
        "train" => Some(false),
        "val" | "valid" | "validation" => Some(true),
        _ => None,
    })
}

impl Documents {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a header of another version, and a length that does not fit.
    pub(crate) fn open(input: &Input, tokenizer: &Arc<Tokenizer>) -> Result<Self> {
        let mut file = BufReader::with_capacity(1 << 20, fs::open(&input.path)?);
        let wrong = |reason: String| Error::unreadable(&input.label, "token ids", reason);
        let bytes = input.bytes() as usize;
        let mut start = [0; 12];
        if bytes > HEADER {
            let mut header = [0; HEADER];
            file.read_exact(&mut header).map_err(fs::error(&input.path, "read"))?;
            start.copy_from_slice(&header[..12]);
        }
        let word = |at: usize| {
            u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]])
        };
        if word(0) == MAGIC {
            if word(4) != VERSION {
                return Err(wrong(format!("llm.c's version {}, expected: {VERSION}", word(4))));
            }
            let (found, expected) = (bytes - HEADER, 2 * word(8) as usize);
            if found != expected {
                let reason =
                    format!("{found} bytes of tokens, expected: {expected} (the header's count)");
                return Err(wrong(reason));
            }
        } else if bytes % 2 == 1 {
            return Err(wrong(format!("{bytes} bytes, expected: two for each token")));
        } else if bytes > HEADER {
            file = BufReader::with_capacity(1 << 20, fs::open(&input.path)?);
        }
        Ok(Self { input: input.clone(), file, tokenizer: tokenizer.clone(), number: 1 })
    }

    /// The tokens of the next document; nothing behind the last.
    fn tokens(&mut self) -> Result<Option<Vec<u32>>> {
        let (mut tokens, mut any) = (Vec::new(), false);
        while tokens.len() < LONGEST {
            let mut token = [0; 2];
            match self.file.read_exact(&mut token) {
                Ok(()) => any = true,
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(fs::error(&self.input.path, "read")(error).into()),
            }
            let token = u32::from(u16::from_le_bytes(token));
            if token == self.tokenizer.eos() || token == self.tokenizer.bos() {
                if tokens.is_empty() {
                    continue;
                }
                break;
            }
            if token as usize >= self.tokenizer.vocab_size() {
                let size = self.tokenizer.vocab_size();
                let reason = format!("token {token}, expected: below {size} (`data.tokenizer`)");
                return Err(Error::unreadable(&self.input.label, "token ids", reason));
            }
            tokens.push(token);
        }
        if !any || tokens.is_empty() {
            return Ok(None);
        }
        self.number = next_number(self.number, &self.input)?;
        Ok(Some(tokens))
    }
}

impl Rows for Documents {
    fn next(&mut self) -> Result<Option<Row>> {
        let number = self.number;
        let Some(tokens) = self.tokens()? else { return Ok(None) };
        let content = Content::Text(self.tokenizer.decode(&tokens)?.into_bytes());
        Ok(Some(Row { number, unit: "document", held_out: false, content }))
    }

    fn skip_to(&mut self, number: u32) -> Result<()> {
        while self.number < number && self.tokens()?.is_some() {}
        Ok(())
    }
}
