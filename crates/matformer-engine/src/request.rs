//! Requests to the engine, and its responses.

use matformer_core::Submodel;
use serde::Serialize;

use crate::Sampling;

/// A text to be continued.
#[derive(Clone, Debug)]
pub struct Request {
    /// Tokens of the prompt, at least one.
    pub prompt: Vec<u32>,
    /// The submodel that the answer is from.
    pub submodel: Submodel,
    /// When another size is used instead.
    pub policy: Policy,
    /// Tokens that a narrower submodel drafts, to be verified several at a time.
    pub draft: Option<Draft>,
    /// New tokens at most; fewer where the context ends before.
    pub max_new_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens that end the answer; they are not part of it.
    pub stop: Vec<u32>,
    /// Log-probabilities: of each token, and of so many of the most likely ones.
    pub logprobs: Option<usize>,
    /// The same for the tokens of the prompt, from the second on. With `max_new_tokens = 0`, this scores a text.
    pub prompt_logprobs: Option<usize>,
}

impl Request {
    /// A request for the most likely tokens.
    pub fn new(prompt: Vec<u32>, submodel: Submodel, max_new_tokens: usize) -> Self {
        Self {
            prompt,
            submodel,
            policy: Policy::Fixed,
            draft: None,
            max_new_tokens,
            sampling: Sampling::default(),
            stop: Vec::new(),
            logprobs: None,
            prompt_logprobs: None,
        }
    }
}

/// Which size takes a token through the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Policy {
    /// The request's submodel takes all.
    #[default]
    Fixed,
    /// The request's submodel takes all; where it is unsure of the next token, a wider one takes the last token
    /// again and decides.
    Escalate {
        /// The wider submodel.
        wide: Submodel,
        /// Entropy in nats of the next token's distribution above which it is asked.
        entropy: f64,
    },
    /// Another submodel takes the prompt.
    Phases {
        /// The submodel of the prompt.
        prompt: Submodel,
    },
}

/// Speculative decoding (Leviathan et al. 2023, arXiv 2211.17192) with one set of weights and one cache slot: a narrow
/// submodel proposes tokens, the request's own takes them all at once and keeps those that it would have chosen. The
/// distribution of the answer is that of the request's submodel.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Candidate draft submodels, none wider than the request's submodel in any layer. If there are several, the one
    /// with the highest expected tokens per second is used, estimated from its acceptance rate so far and the measured
    /// times of the submodels.
    pub submodels: Vec<Submodel>,
    /// Tokens that are drafted at a time.
    pub len: DraftLen,
    /// Stop drafting before a token whose probability is below this (0: never).
    pub confidence: f64,
    /// Where the narrow submodel's keys and values are.
    pub cache: DraftCache,
}

impl Draft {
    /// Drafts of a submodel in the request's own cache.
    pub fn new(submodel: Submodel, len: DraftLen) -> Self {
        Self { submodels: vec![submodel], len, confidence: 0.0, cache: DraftCache::Shared }
    }
}

/// Where a narrow submodel reads and writes keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DraftCache {
    /// In the request's slot: the draft submodel reads the keys and values of the wide submodel, which later overwrites
    /// those of the drafted tokens. Nothing is computed twice, and any narrower submodel can draft at any time.
    #[default]
    Shared,
    /// In a cache of its own, as two models that share no weights would: it takes the prompt and every kept token,
    /// too.
    Own,
}

/// How many tokens are drafted at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DraftLen {
    /// Always so many.
    Fixed(usize),
    /// The number with the highest expected tokens per second, estimated from the acceptance rate so far and the
    /// measured times of the two submodels; 0 if drafting would be slower.
    Auto {
        /// At most so many.
        most: usize,
    },
}

impl DraftLen {
    /// Tokens that can be drafted at a time: they are verified, with the one before them, in one pass over the
    /// weights, which computes up to 16 tokens as it computes one.
    pub const MOST: usize = 15;
}

/// A request's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(crate) u64);

/// What a step did for a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A new token.
    Token {
        /// Of this request.
        id: RequestId,
        /// The token.
        token: u32,
        /// Whether a narrower submodel drafted it.
        drafted: bool,
        /// Its log-probability and the most likely tokens with theirs, where they were asked for; before penalties,
        /// biases and temperature.
        logprobs: Option<Logprobs>,
    },
    /// Log-probabilities of the next tokens of its prompt, before penalties, biases and temperature; the first token
    /// has none.
    Prompt {
        /// Of this request.
        id: RequestId,
        /// Of each token, in their order.
        logprobs: Vec<Logprobs>,
    },
    /// Its last token was reported.
    Finished {
        /// Of this request.
        id: RequestId,
        /// Why.
        reason: Finish,
        /// What drafting came to.
        drafted: Drafted,
    },
}

/// Log-probabilities at one position, in nats.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Logprobs {
    /// Of the token that was chosen.
    pub chosen: f32,
    /// The most likely tokens, best first.
    pub top: Vec<(u32, f32)>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// At one of the stop tokens.
    Stop,
    /// At `max_new_tokens`.
    Length,
    /// At the end of the context, or of the cache.
    Context,
    /// It was cancelled.
    Cancelled,
    /// The model's logits are NaN.
    NotFinite,
}

/// What drafting came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Drafted {
    /// Tokens that were drafted.
    pub proposed: usize,
    /// Those that were kept.
    pub kept: usize,
    /// Drafts of which a token was not kept.
    pub rejected: usize,
    /// Histogram of accepted draft lengths: exactly n tokens were accepted `kept_at_once[n]` times.
    pub kept_at_once: Vec<usize>,
}

impl Drafted {
    /// Acceptance rate: the fraction of verified tokens that were accepted. Verification stops at the first rejected
    /// token; the tokens after it are not counted. 0 if none was verified.
    pub fn acceptance(&self) -> f64 {
        let judged = self.kept + self.rejected;
        if judged == 0 { 0.0 } else { self.kept as f64 / judged as f64 }
    }

    /// Adds what another answer's drafting came to.
    pub fn join(&mut self, other: &Self) {
        self.proposed += other.proposed;
        self.kept += other.kept;
        self.rejected += other.rejected;
        let longest = self.kept_at_once.len().max(other.kept_at_once.len());
        self.kept_at_once.resize(longest, 0);
        for (times, more) in self.kept_at_once.iter_mut().zip(&other.kept_at_once) {
            *times += more;
        }
    }

    pub(crate) fn add(&mut self, proposed: usize, kept: usize) {
        self.proposed += proposed;
        self.kept += kept;
        self.rejected += usize::from(kept < proposed);
        if self.kept_at_once.len() <= kept {
            self.kept_at_once.resize(kept + 1, 0);
        }
        self.kept_at_once[kept] += 1;
    }
}
