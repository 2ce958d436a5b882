//! One text of an answer, from the engine's news to pieces of text.

use std::sync::Arc;

use matformer_data::{TextStream, Tokenizer};
use matformer_engine::{Drafted, Finish, Logprobs};

use crate::{
    error::ApiError,
    score::{Scored, Scores},
    worker::News,
};

/// What is asked of every text of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    /// Strings that end the text.
    pub(crate) stops: Vec<String>,
    /// The prompt is a part of the text.
    pub(crate) echo: bool,
    /// Log-probabilities, with so many of the most likely tokens.
    pub(crate) logprobs: Option<usize>,
    /// Tokens that end the text and are looked for here: the engine would not tell of them.
    pub(crate) ends: Vec<u32>,
    /// What drafting came to is waited for.
    pub(crate) drafts: bool,
}

/// What is new of a text.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    pub(crate) text: String,
    /// Whether a narrower size drafted its last token.
    pub(crate) drafted: bool,
    pub(crate) scored: Vec<Scored>,
    /// Why the text ends with it.
    pub(crate) finish: Option<&'static str>,
}

impl Piece {
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.scored.is_empty() && self.finish.is_none()
    }
}

/// One text of an answer.
pub(crate) struct Choice {
    /// Absent once the text has ended.
    text: Option<TextStream<Arc<Tokenizer>>>,
    shown: Shown,
    scores: Option<Scores>,
    /// Tokens of the prompt whose log-probabilities are not there yet.
    unscored: std::vec::IntoIter<u32>,
    /// New tokens.
    pub(crate) tokens: usize,
    pub(crate) drafted: Drafted,
    finish: Option<&'static str>,
    /// The engine tells nothing more.
    pub(crate) done: bool,
}

impl Choice {
    /// A text behind a prompt, and what there is of it before the first token. `typed` is the prompt's text.
    pub(crate) fn new(
        tokenizer: &Arc<Tokenizer>,
        prompt: &[u32],
        typed: Option<&str>,
        shown: &Shown,
    ) -> Result<(Self, Piece), ApiError> {
        let internal = |error: matformer_data::Error| ApiError::internal(error.to_string());
        let mut piece = Piece::default();
        let mut scores = shown
            .logprobs
            .map(|n| Scores::new(tokenizer, if shown.echo { &[] } else { prompt }, n));
        let mut unscored = Vec::new().into_iter();
        if shown.echo {
            piece.text = match typed {
                Some(typed) => typed.to_owned(),
                None => tokenizer.continuation(&[], prompt).map_err(internal)?,
            };
            if let (Some(scores), [first, rest @ ..]) = (&mut scores, prompt) {
                piece.scored.push(scores.push(*first, None)?);
                unscored = Vec::from(rest).into_iter();
            }
        }
        let choice = Self {
            text: Some(TextStream::new(Arc::clone(tokenizer), prompt, &shown.stops)),
            shown: shown.clone(),
            scores,
            unscored,
            tokens: 0,
            drafted: Drafted::default(),
            finish: None,
            done: false,
        };
        Ok((choice, piece))
    }

    /// Whether no more tokens are wanted.
    pub(crate) fn is_ended(&self) -> bool {
        self.finish.is_some()
    }

    /// Takes in what the engine tells.
    pub(crate) fn hear(&mut self, news: News) -> Result<Piece, ApiError> {
        match news {
            News::Prompt(logprobs) => self.prompt(&logprobs),
            News::Token { token, drafted, logprobs } => {
                self.token(token, drafted, logprobs.as_ref())
            }
            News::Finished { reason, drafted } => {
                self.drafted = drafted;
                self.done = true;
                match reason {
                    Finish::NotFinite => Err(ApiError::internal("the model's logits are NaN")),
                    Finish::Stop => self.end("stop"),
                    Finish::Length | Finish::Context | Finish::Cancelled => self.end("length"),
                }
            }
            News::Failed(why) => Err(ApiError::internal(why)),
        }
    }

    fn prompt(&mut self, logprobs: &[Logprobs]) -> Result<Piece, ApiError> {
        let mut piece = Piece::default();
        if let Some(scores) = &mut self.scores {
            // In this order: the other one takes a token that it has no log-probability for.
            for (logprobs, token) in logprobs.iter().zip(self.unscored.by_ref()) {
                piece.scored.push(scores.push(token, Some(logprobs))?);
            }
        }
        Ok(piece)
    }

    fn token(
        &mut self,
        token: u32,
        drafted: bool,
        logprobs: Option<&Logprobs>,
    ) -> Result<Piece, ApiError> {
        let Some(text) = &mut self.text else { return Ok(Piece::default()) };
        self.tokens += 1;
        let mut piece = Piece { drafted, ..Piece::default() };
        if let (Some(scores), Some(logprobs)) = (&mut self.scores, logprobs) {
            piece.scored.push(scores.push(token, Some(logprobs))?);
        }
        let ends = self.shown.ends.contains(&token);
        if !ends {
            piece.text = text.push(token).map_err(|error| ApiError::internal(error.to_string()))?;
        }
        if ends || text.is_stopped() {
            let end = self.end("stop")?;
            piece.text += &end.text;
            piece.finish = end.finish;
            self.done |= !self.shown.drafts;
        }
        Ok(piece)
    }

    /// Ends the text, if it has not ended.
    fn end(&mut self, finish: &'static str) -> Result<Piece, ApiError> {
        let Some(text) = self.text.take() else { return Ok(Piece::default()) };
        let text = text.finish().map_err(|error| ApiError::internal(error.to_string()))?;
        self.finish = Some(finish);
        Ok(Piece { text, finish: self.finish, ..Piece::default() })
    }
}
