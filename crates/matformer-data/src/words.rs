//! Tokens of text word by word: each distinct word is encoded once.
//!
//! GPT-2's pre-tokenizer, which is also that of the tokenizers that are trained here, cuts a text into
//! words, and the tokens of a word do not depend on what is around it. ASCII is cut here, by the same
//! rules; stretches of other characters are left to the tokenizers library.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::pieces;

/// Words that are remembered by each thread at a time.
const MOST: usize = 1 << 17;
/// Longer words are not remembered, in bytes.
const LONGEST: usize = 64;

/// The tokens of words.
type Known = HashMap<Box<[u8]>, Box<[u32]>>;

/// The words of a tokenizer. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Words(Arc<Mutex<Vec<Known>>>);

/// Whether a tokenizer encodes each word alone, cut as GPT-2 does it.
pub(crate) fn are_alone(tokenizer: &tokenizers::Tokenizer) -> bool {
    let added = tokenizer.get_added_tokens_decoder();
    let cut = serde_json::to_value(tokenizer.get_pre_tokenizer()).unwrap_or_default();
    let is = |key: &str, value: Value| cut.get(key) == Some(&value);
    pieces::may_be_cut(tokenizer)
        && added.values().all(|token| token.special)
        && is("type", json!("ByteLevel"))
        && is("use_regex", json!(true))
}

impl Words {
    /// The tokens of a text; `encode` gives those of a part of it.
    ///
    /// # Errors
    /// As `encode`.
    pub(crate) fn encode<E>(
        &self,
        text: &str,
        encode: &dyn Fn(&str) -> Result<Vec<u32>, E>,
    ) -> Result<Vec<u32>, E> {
        let pool = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = pool().pop().unwrap_or_default();
        let mut tokens = Vec::with_capacity(text.len() / 3);
        let result = stretches(text).try_for_each(|stretch| {
            let part = &text[stretch];
            if !part.is_ascii() {
                tokens.extend(encode(part)?);
                return Ok(());
            }
            let mut at = 0;
            while at < part.len() {
                let word = word(part.as_bytes(), at);
                at = word.end;
                let word = &part[word];
                if let Some(found) = known.get(word.as_bytes()) {
                    tokens.extend_from_slice(found);
                    continue;
                }
                let found = encode(word)?;
                tokens.extend_from_slice(&found);
                if word.len() <= LONGEST && known.len() < MOST {
                    known.insert(word.as_bytes().into(), found.into());
                }
            }
            Ok(())
        });
        pool().push(known);
        result.map(|()| tokens)
    }
}

/// A text as stretches that are ASCII and stretches around other characters. Each but the last ends with
/// a letter in front of white space, where no word goes on.
fn stretches(text: &str) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    let ends = move |at: usize| bytes[at - 1].is_ascii_alphabetic() && is_space(bytes[at]);
    let mut start = 0;
    std::iter::from_fn(move || {
        if start == bytes.len() {
            return None;
        }
        let other = bytes[start..].iter().position(|byte| !byte.is_ascii());
        let other = other.map_or(bytes.len(), |at| start + at);
        let before = match other == bytes.len() {
            true => other,
            // The last end of a word in front of it.
            false => (start + 1..other).rev().find(|at| ends(*at)).unwrap_or(start),
        };
        let end = match before > start {
            true => before,
            false => (other + 1..bytes.len()).find(|at| ends(*at)).unwrap_or(bytes.len()),
        };
        let found = start..end;
        start = end;
        Some(found)
    })
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ')
}

/// The word at a place of ASCII text that ends, or goes on with white space behind a letter:
/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
fn word(text: &[u8], at: usize) -> Range<usize> {
    let rest = &text[at..];
    let contractions: [&[u8]; 7] = [b"'s", b"'t", b"'re", b"'ve", b"'m", b"'ll", b"'d"];
    if rest[0] == b'\''
        && let Some(found) = contractions.iter().find(|found| rest.starts_with(found))
    {
        return at..at + found.len();
    }
    let first = usize::from(rest[0] == b' ');
    let run = |from: usize, class: Class| {
        rest[from..].iter().take_while(|byte| Class::of(**byte) == class).count()
    };
    let length = match rest.get(first).map(|byte| Class::of(*byte)) {
        Some(class) if class != Class::Space => first + run(first, class),
        _ => {
            let spaces = run(0, Class::Space);
            // The last space belongs to the word behind it.
            if spaces == rest.len() { spaces } else { (spaces - 1).max(1) }
        }
    };
    at..at + length
}

/// What a byte of ASCII is to the rules.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Space,
    Letter,
    Digit,
    Other,
}

impl Class {
    fn of(byte: u8) -> Self {
        match byte {
            byte if is_space(byte) => Self::Space,
            b'a'..=b'z' | b'A'..=b'Z' => Self::Letter,
            b'0'..=b'9' => Self::Digit,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Tokenizer;

    #[test]
    fn stretches_are_the_text() {
        for text in
            ["", "a b", "é", "one été two naïve three", "a é b é", "é a", "a\u{a0}b c", "x é"]
        {
            let parts: Vec<&str> = stretches(text).map(|range| &text[range]).collect();
            assert_eq!(parts.concat(), text);
            let plain = parts.iter().filter(|part| part.is_ascii()).count();
            assert!(text.is_ascii() || plain < parts.len());
        }
        let parts: Vec<_> = stretches("one two été three four").collect();
        assert_eq!(parts, [0..7, 7..19, 19..24]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn tokens_are_those_of_the_library(
            text in "([a-c']{1,3}|[ \n\t\u{b}\r]{1,4}|[.,1é♥'\u{301}\u{a0}]|don't|we'll|'re|[0-9]{1,4}|\r\n|[!-/\u{0}\u{1c}\u{7f}]|<\\|endoftext\\|>|Ж+){0,40}",
        ) {
            static TOKENIZER: std::sync::LazyLock<(tempfile::TempDir, Tokenizer)> =
                std::sync::LazyLock::new(|| {
                    let folder = tempfile::tempdir().unwrap();
                    let text = "a ab abc don't we'll  b\n\nca\t.1 12 cc é Ж".repeat(20);
                    let tokenizer = Tokenizer::train(&[text], 310, folder.path()).unwrap();
                    (folder, tokenizer)
                });
            let tokenizer = &TOKENIZER.1;
            let whole: Vec<u32> = tokenizer.encode_with_offsets(&text).unwrap().iter().map(|span| span.id).collect();
            prop_assert_eq!(tokenizer.encode(&text).unwrap(), whole);
        }
    }
}
