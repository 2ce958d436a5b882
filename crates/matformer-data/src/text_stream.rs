//! Incremental detokenisation, with stop strings.

use std::borrow::Borrow;

use crate::{Result, Tokenizer};

/// Number of preceding tokens that the text of a token may depend on (some tokenizers drop the leading space of a
/// text).
const BEFORE: usize = 8;

/// Converts a stream of tokens to text. Characters that consist of several tokens are emitted whole, and the text ends
/// before a stop string. It holds its tokenizer or a reference to it.
pub struct TextStream<T> {
    tokenizer: T,
    stops: Vec<String>,
    /// The last tokens whose text is out, and those whose text is not: from `shown` on.
    tokens: Vec<u32>,
    shown: usize,
    /// Text that is held back because it may be the beginning of a stop string.
    held: String,
    stopped: bool,
}

impl<T: Borrow<Tokenizer>> TextStream<T> {
    /// The text behind a prompt. Empty stop strings stop nothing.
    pub fn new(tokenizer: T, prompt: &[u32], stops: &[String]) -> Self {
        let tokens = prompt[prompt.len().saturating_sub(BEFORE)..].to_vec();
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        let shown = tokens.len();
        Self { tokenizer, stops, tokens, shown, held: String::new(), stopped: false }
    }

    /// Adds a token, and returns the text that is certain now; nothing after a stop string.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn push(&mut self, token: u32) -> Result<String> {
        self.tokens.push(token);
        let new = self.unshown()?;
        // A character that is not whole yet.
        if new.is_empty() || new.ends_with('\u{fffd}') {
            return Ok(String::new());
        }
        self.forget();
        Ok(self.say(&new))
    }

    /// Whether a stop string was met.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The rest, when no more tokens come.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn finish(mut self) -> Result<String> {
        let new = self.unshown()?;
        let text = self.say(&new);
        Ok(if self.stopped { text } else { text + &self.held })
    }

    fn unshown(&self) -> Result<String> {
        let (before, new) = self.tokens.split_at(self.shown);
        self.tokenizer.borrow().continuation(before, new)
    }

    /// Keeps what the text of the next tokens depends on: whole characters.
    fn forget(&mut self) {
        self.tokens.drain(..self.shown);
        self.shown = self.tokens.len();
    }

    fn say(&mut self, new: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held += new;
        let stop = self.stops.iter().filter_map(|stop| self.held.find(stop)).min();
        self.stopped = stop.is_some();
        let certain = stop.unwrap_or_else(|| self.held.len() - self.begun());
        let said = self.held[..certain].to_owned();
        self.held.drain(..certain);
        said
    }

    /// Bytes at the end of the held text that a stop string may begin with.
    fn begun(&self) -> usize {
        let begun = |stop: &String| {
            let ends = stop.char_indices().map(|(at, _)| at).rev();
            ends.into_iter().find(|at| self.held.ends_with(&stop[..*at]))
        };
        self.stops.iter().filter_map(begun).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokenizer() -> (tempfile::TempDir, Tokenizer) {
        let dir = tempfile::tempdir().unwrap();
        let text = "one two three мир café 🦊 four five six one two".to_owned();
        let tokenizer = Tokenizer::train(&[text], 280, dir.path()).unwrap();
        (dir, tokenizer)
    }

    fn streamed(tokenizer: &Tokenizer, prompt: &[u32], tokens: &[u32], stops: &[&str]) -> String {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut stream = TextStream::new(tokenizer, prompt, &stops);
        let mut text = String::new();
        for token in tokens {
            text += &stream.push(*token).unwrap();
        }
        text + &stream.finish().unwrap()
    }

    #[test]
    fn a_text_ends_before_a_stop_string() {
        let (_dir, tokenizer) = tokenizer();
        let tokens = tokenizer.encode("one мир two\n\nthree 🦊 four").unwrap();
        let text = |stops: &[&str]| streamed(&tokenizer, &[], &tokens, stops);
        assert_eq!(text(&[]), "one мир two\n\nthree 🦊 four");
        assert_eq!(text(&["\n\n"]), "one мир two");
        assert_eq!(text(&["four", "ee 🦊"]), "one мир two\n\nthr");
        assert_eq!(text(&["", "fours", "one мир twos"]), "one мир two\n\nthree 🦊 four");
        assert_eq!(text(&["one"]), "");
        // What may be the begin of a stop string is not given out.
        let mut stream = TextStream::new(&tokenizer, &[], &["two\n\nx".to_owned()]);
        let said: Vec<String> = tokens.iter().map(|token| stream.push(*token).unwrap()).collect();
        let at = said.iter().position(|text| text.contains('\n')).unwrap();
        assert!(said[at].contains("thr") || said[at].ends_with("\n\n"), "{said:?}");
        assert!(!stream.is_stopped());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Tokens of any bytes, of which some are no characters.
        #[test]
        fn the_pieces_are_the_text(tokens in prop::collection::vec(0u32..280, 0..40), cut in 0usize..10) {
            static TOKENIZER: std::sync::LazyLock<(tempfile::TempDir, Tokenizer)> =
                std::sync::LazyLock::new(tokenizer);
            let tokenizer = &TOKENIZER.1;
            let tokens: Vec<u32> = tokens.into_iter().filter(|t| (*t as usize) < tokenizer.vocab_size()).collect();
            let (prompt, rest) = tokens.split_at(cut.min(tokens.len()));
            let streamed = streamed(tokenizer, prompt, rest, &[]);
            let whole = tokenizer.continuation(prompt, rest).unwrap();
            let count = |text: &str| text.chars().filter(|c| *c != '\u{fffd}').collect::<String>();
            prop_assert_eq!(count(&streamed), count(&whole));
        }
    }
}
