//! A request that is being answered: which size takes its next token, and which tokens it keeps.

use matformer_core::Submodel;

use crate::{
    Drafted, Event, Finish, Logprobs, Policy, Request, RequestId,
    drafting::Drafter,
    sampling::{Distribution, logprobs, most_likely},
    stepper::Row,
};

/// A request that is not finished.
pub(crate) struct Running {
    pub(crate) id: RequestId,
    pub(crate) request: Request,
    /// What was generated so far.
    pub(crate) answer: Vec<u32>,
    /// Tokens that its slot does not hold yet: a part of the prompt, or the last token.
    pub(crate) unseen: Vec<u32>,
    /// The last token goes through the wide submodel of its policy.
    pub(crate) escalated: bool,
    pub(crate) drafted: Drafted,
    /// What it has learnt about its drafts; absent before it has a slot.
    pub(crate) drafter: Option<Drafter>,
}

/// What a request feeds to a step.
pub(crate) struct Turn {
    pub(crate) slot: usize,
    pub(crate) ids: Vec<u32>,
    pub(crate) widths: Vec<usize>,
    pub(crate) logits_from: usize,
    /// Which of the narrow submodels drafts for it.
    pub(crate) drafter: usize,
    /// The last of `ids` that are drafted, with the distributions that they were drawn from.
    pub(crate) drafts: Vec<Distribution>,
}

impl Running {
    pub(crate) fn new(id: RequestId, request: Request) -> Self {
        let unseen = request.prompt.clone();
        let drafted = Drafted::default();
        Self { id, request, answer: Vec::new(), unseen, escalated: false, drafted, drafter: None }
    }

    /// The submodel that takes the next tokens.
    pub(crate) fn submodel(&self) -> &Submodel {
        match &self.request.policy {
            Policy::Escalate { wide, .. } if self.escalated => wide,
            Policy::Phases { prompt } if self.answer.is_empty() => prompt,
            _ => &self.request.submodel,
        }
    }

    /// The place of the next token in the text.
    pub(crate) fn position(&self) -> usize {
        self.request.prompt.len() + self.answer.len()
    }

    /// Whether the next tokens are of a prompt whose log-probabilities are asked for.
    pub(crate) fn scores_prompt(&self) -> bool {
        self.request.prompt_logprobs.is_some() && self.answer.is_empty() && !self.escalated
    }

    /// The log-probabilities of the prompt's tokens that follow the next unseen ones.
    pub(crate) fn score_prompt(&self, logits: &[&[f32]], events: &mut Vec<Event>) {
        let (true, Some(top)) = (self.scores_prompt(), self.request.prompt_logprobs) else {
            return;
        };
        let prompt = &self.request.prompt;
        let first = prompt.len() - self.unseen.len() + 1;
        let tokens = prompt[first..].iter().zip(logits);
        let of = |(token, logits): (&u32, &&[f32])| Logprobs::of(logits, *token, top);
        let logprobs: Vec<Logprobs> = tokens.map(of).collect();
        if !logprobs.is_empty() {
            events.push(Event::Prompt { id: self.id, logprobs });
        }
    }

    /// Adds tokens to the answer, of which the first `kept` were drafted, and says so, until it ends: with what.
    pub(crate) fn say(
        &mut self,
        tokens: &[u32],
        kept: usize,
        logits: &[&[f32]],
        context: usize,
        events: &mut Vec<Event>,
    ) -> Option<Finish> {
        for (i, (token, logits)) in tokens.iter().zip(logits).enumerate() {
            if self.request.stop.contains(token) {
                return Some(Finish::Stop);
            }
            self.answer.push(*token);
            let logprobs = self.request.logprobs.map(|n| Logprobs::of(logits, *token, n));
            events.push(Event::Token { id: self.id, token: *token, drafted: i < kept, logprobs });
            if self.answer.len() >= self.request.max_new_tokens {
                return Some(Finish::Length);
            }
            if self.position() >= context {
                return Some(Finish::Context);
            }
        }
        None
    }

    /// The distribution of the token behind the answer and `more`.
    pub(crate) fn next(&self, logits: &[f32], more: &[u32]) -> Distribution {
        if !self.request.sampling.adjusts() {
            return self.request.sampling.distribution(logits);
        }
        let answer = [&self.answer[..], more].concat();
        let mut logits = logits.to_vec();
        self.request.sampling.adjust(&mut logits, &self.request.prompt, &answer);
        self.request.sampling.distribution(&logits)
    }

    /// The drafted tokens that are kept, and one more.
    pub(crate) fn verified(
        &self,
        drafted: &[u32],
        drafts: &[Distribution],
        logits: &[&[f32]],
    ) -> Vec<u32> {
        let sampling = &self.request.sampling;
        let mut kept = Vec::new();
        for (i, logits) in logits.iter().enumerate() {
            let position = self.position() + i;
            let ours = self.next(logits, &kept);
            let (Some(token), Some(theirs)) = (drafted.get(i), drafts.get(i)) else {
                kept.push(ours.at(sampling.draw("token", position)));
                break;
            };
            if sampling.draw("keep", position) * theirs.of(*token) < ours.of(*token) {
                kept.push(*token);
                continue;
            }
            kept.push(ours.beyond(theirs).at(sampling.draw("token", position)));
            break;
        }
        kept
    }

    /// Whether a wider submodel shall decide.
    pub(crate) fn escalates(&self, logits: &[f32]) -> bool {
        match &self.request.policy {
            Policy::Escalate { entropy, .. } => !self.escalated && entropy_of(logits) > *entropy,
            _ => false,
        }
    }

    /// Counts a draft, if there was one.
    pub(crate) fn learn(&mut self, who: usize, proposed: usize, kept: usize) {
        if proposed == 0 {
            return;
        }
        self.drafted.add(proposed, kept);
        if let Some(drafter) = &mut self.drafter {
            drafter.learn(who, proposed, kept);
        }
    }
}

impl Logprobs {
    fn of(logits: &[f32], token: u32, n: usize) -> Self {
        let (chosen, top) = logprobs(logits, token, n);
        Self { chosen, top }
    }
}

pub(crate) fn rows(turns: &[Turn]) -> Vec<Row<'_>> {
    fn row(turn: &Turn) -> Row<'_> {
        let Turn { slot, ids, widths, logits_from, .. } = turn;
        Row { slot: *slot, ids, widths, logits_from: *logits_from }
    }
    turns.iter().map(row).collect()
}

/// The probability of the most likely token.
pub(crate) fn certainty(logits: &[f32]) -> f64 {
    let (logprob, _) = logprobs(logits, most_likely(logits), 0);
    f64::from(logprob).exp()
}

/// Entropy of the softmax, in nats.
fn entropy_of(logits: &[f32]) -> f64 {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |max, logit| max.max(*logit));
    let (mut sum, mut along) = (0f64, 0f64);
    for logit in logits {
        let below = f64::from(logit - largest);
        let weight = below.exp();
        sum += weight;
        along += weight * below;
    }
    sum.ln() - along / sum
}
