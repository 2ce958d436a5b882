//! Texts as rows of tokens, as lm-evaluation-harness makes them.

use matformer_data::Tokenizer;
use matformer_eval::{Continuation, Continuations};
use matformer_tasks::{Example, Examples, Generation, Problem, Prompt, Question, is_space};

/// What the examples of a task ask, in tokens.
pub(super) struct Encoded {
    /// The examples that have tokens, with what is wrong with others.
    pub found: Examples,
    /// What each of them asks for.
    pub asks: Vec<Ask>,
    /// The rows that they ask for.
    pub rows: Continuations,
    /// Examples whose context was cut at the beginning.
    pub truncated: usize,
}

/// What an example asks for.
#[derive(Debug)]
pub(super) enum Ask {
    /// Of each continuation, the places of the rows that are summed for it.
    Sums(Vec<Vec<usize>>),
    /// What follows these tokens.
    Prompt(Vec<u32>),
}

/// Makes tokens for a model.
pub(super) struct Encoder<'a> {
    pub tokenizer: &'a Tokenizer,
    /// Positions of the model.
    pub context: usize,
    pub generation: &'a Generation,
}

/// Something whose first tokens were cut off.
struct Cut<T> {
    kept: T,
    cut: usize,
}

impl Encoder<'_> {
    /// What examples ask for, with hits of rows where a score needs to know which are the likeliest.
    pub fn encode(&self, mut found: Examples, greedy: bool) -> Encoded {
        let examples = std::mem::take(&mut found.examples);
        let (asks, rows) = (Vec::new(), Continuations::new(greedy));
        let mut encoded = Encoded { found, asks, rows, truncated: 0 };
        for example in examples {
            match self.ask(&example, &mut encoded.rows) {
                Ok(Cut { kept, cut }) => {
                    encoded.truncated += usize::from(cut > 0);
                    encoded.asks.push(kept);
                    encoded.found.examples.push(example);
                }
                Err(reason) => {
                    let problem = Problem { row: example.at, reason, counts: false };
                    encoded.found.problems.push(problem);
                }
            }
        }
        encoded
    }

    fn ask(&self, example: &Example, all: &mut Continuations) -> Result<Cut<Ask>, String> {
        let rows = match &example.question {
            Question::Generation { context, .. } => {
                let Cut { kept, cut } = self.prompt(context)?;
                return Ok(Cut { kept: Ask::Prompt(kept), cut });
            }
            Question::Text { text, .. } => match self.windows(text)? {
                windows if windows.is_empty() => return Err("the text is empty".to_owned()),
                windows => vec![windows],
            },
            question => {
                let rows = question.prompts().iter().map(|prompt| self.continuation(prompt));
                rows.map(|row| Ok(vec![row?])).collect::<Result<_, String>>()?
            }
        };
        let cut = rows.iter().flatten().map(|row| row.cut).max().unwrap_or_default();
        let mut place = |row: Cut<Continuation>| {
            all.add(row.kept, &example.at).map_err(|error| error.to_string())
        };
        let sums = rows.into_iter().map(|rows| rows.into_iter().map(&mut place).collect());
        Ok(Cut { kept: Ask::Sums(sums.collect::<Result<_, String>>()?), cut })
    }

    fn tokens(&self, text: &str) -> Result<Vec<u32>, String> {
        self.tokenizer.encode_as_configured(text).map_err(|error| error.to_string())
    }

    /// A continuation after its context. White space at the end of the context belongs to the continuation, as words
    /// are tokenized with the space before them; where text is tokenized as a whole, the continuation is what follows
    /// as many tokens as the context has alone.
    fn continuation(&self, prompt: &Prompt) -> Result<Cut<Continuation>, String> {
        let Prompt { context, continuation } = prompt;
        let (mut tokens, before) = if context.is_empty() {
            let own = self.tokenizer.encode_with_control(continuation);
            let own = own.map_err(|error| error.to_string())?;
            let begin =
                (own.first() != Some(&self.tokenizer.bos())).then_some(self.tokenizer.bos());
            (begin.into_iter().chain(own).collect::<Vec<u32>>(), 1)
        } else {
            let before = self.tokens(context.trim_end_matches(is_space))?.len();
            (self.tokens(&format!("{context}{continuation}"))?, before)
        };
        let scored = tokens.len().saturating_sub(before);
        if before == 0 {
            return Err("the context is white space only, expected text".to_owned());
        }
        if scored == 0 {
            return Err(format!("continuation {continuation:?} adds no token to its context"));
        }
        if scored > self.context {
            return Err(format!(
                "a continuation of {scored} tokens, expected at most {}, the model's context",
                self.context
            ));
        }
        // The last token is only predicted.
        let cut = tokens.len().saturating_sub(self.context + 1);
        tokens.drain(..cut);
        Ok(Cut { kept: Continuation { tokens, scored }, cut })
    }

    /// A text after the begin token, in windows of as many targets as the context has; the last one has tokens of the
    /// window before it as its context.
    fn windows(&self, text: &str) -> Result<Vec<Cut<Continuation>>, String> {
        let tokens = [vec![self.tokenizer.bos()], self.tokens(text)?].concat();
        let ends = (0..tokens.len() - 1).step_by(self.context).map(|from| {
            let end = (from + self.context).min(tokens.len() - 1);
            let row = &tokens[end.saturating_sub(self.context)..=end];
            Cut { kept: Continuation { tokens: row.to_vec(), scored: end - from }, cut: 0 }
        });
        Ok(ends.collect())
    }

    /// A context that leaves room for what is generated.
    fn prompt(&self, context: &str) -> Result<Cut<Vec<u32>>, String> {
        let mut kept = self.tokens(context)?;
        if kept.is_empty() {
            return Err("the context is empty, expected text".to_owned());
        }
        let cut = kept.len().saturating_sub(self.context - self.generation.max_tokens);
        kept.drain(..cut);
        Ok(Cut { kept, cut })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `get_rolling_token_windows` and `make_disjoint_window` of lm-evaluation-harness, with a context of four: what
    /// is read and what is predicted.
    #[test]
    fn windows_are_those_of_the_harness() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::train(&["abcdefghij".repeat(3)], 300, folder.path()).unwrap();
        let generation = Generation { until: Vec::new(), max_tokens: 2 };
        let encoder = Encoder { tokenizer: &tokenizer, context: 4, generation: &generation };
        let windows = |text: &str| -> Vec<(usize, Vec<u32>)> {
            let windows = encoder.windows(text).unwrap().into_iter();
            windows.map(|w| (w.kept.scored, w.kept.tokens)).collect()
        };
        let text: Vec<u32> = tokenizer.encode("zyxwvutsrq").unwrap();
        assert_eq!(text.len(), 10);
        let first = [vec![tokenizer.bos()], text[..4].to_vec()].concat();
        let expected = [(4, first.clone()), (4, text[3..8].to_vec()), (2, text[5..10].to_vec())];
        assert_eq!(windows("zyxwvutsrq"), expected);
        assert_eq!(windows("zyxw"), [(4, first.clone())]);
        assert_eq!(windows("zy"), [(2, first[..3].to_vec())]);
        assert_eq!(windows(""), []);

        let Cut { kept, cut } = encoder.prompt("zyxw").unwrap();
        assert_eq!((kept, cut), (text[2..4].to_vec(), 2));
    }
}
