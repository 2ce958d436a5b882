//! Admission, slots, and one step for all requests.

use std::collections::VecDeque;

use matformer_core::Submodel;
use matformer_lm::MatLm;

use crate::{
    Draft, DraftLen, Drafted, Error, Event, Finish, Format, Logprobs, Policy, Request, RequestId,
    Result,
    sampling::{Distribution, logprobs, most_likely},
    stepper::{Row, Stepper},
};

/// Room and habits of an [`Engine`].
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Requests that are worked on at the same time.
    pub slots: usize,
    /// Tokens of a request at most, prompt and answer; the model's context if absent.
    pub capacity: Option<usize>,
    /// Prompt tokens of a step at most: others go on decoding beside a long prompt.
    pub prefill: usize,
    /// Threads of the CPU; all if absent.
    pub threads: Option<usize>,
    /// How matrices are held.
    pub format: Format,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { slots: 1, capacity: None, prefill: 512, threads: None, format: Format::F32 }
    }
}

/// Continues many texts at once, each with a submodel of its own.
pub struct Engine {
    stepper: Box<dyn Stepper>,
    context: usize,
    prefill: usize,
    next: u64,
    /// Of requests that want no token.
    done: Vec<Event>,
    waiting: VecDeque<Running>,
    /// By slot.
    running: Vec<Option<Running>>,
}

/// A request that is not finished.
struct Running {
    id: RequestId,
    request: Request,
    /// What was generated so far.
    answer: Vec<u32>,
    /// Tokens that its slot does not hold yet: a part of the prompt, or the last token.
    unseen: Vec<u32>,
    /// The last token goes through the wide submodel of its policy.
    escalated: bool,
    drafted: Drafted,
    /// Share of drafts that are kept, averaged over time.
    kept: f64,
    /// What drafting takes, where its length follows from it.
    speeds: Option<Speeds>,
}

/// What a request feeds to a step.
struct Turn {
    slot: usize,
    ids: Vec<u32>,
    widths: Vec<usize>,
    logits_from: usize,
    /// The last of `ids` that are drafted, with the distributions that they were drawn from.
    drafts: Vec<Distribution>,
}

impl Engine {
    /// An engine for a model on its device.
    ///
    /// # Errors
    /// When there are no slots, or the weights cannot be read or packed.
    pub fn new(model: &MatLm, options: &EngineOptions) -> Result<Self> {
        if options.slots == 0 {
            return Err(Error::Option {
                option: "slots",
                found: "0".to_owned(),
                expected: "1 or more",
            });
        }
        let context = model.config().context;
        let capacity = options.capacity.map_or(context, |capacity| capacity.min(context));
        let stepper = crate::stepper::of(model, options, capacity)?;
        let running = (0..options.slots).map(|_| None).collect();
        let prefill = options.prefill.max(1);
        Ok(Self {
            stepper,
            context: capacity,
            prefill,
            next: 0,
            done: Vec::new(),
            waiting: VecDeque::new(),
            running,
        })
    }

    /// Takes a request in; it starts when a slot is free.
    ///
    /// # Errors
    /// When the prompt is empty, has a token beyond the vocabulary or leaves no room for an answer; when a submodel is
    /// not one of the model's, or a draft is wider than what verifies it; when an option is out of range.
    pub fn submit(&mut self, request: Request) -> Result<RequestId> {
        self.check(&request)?;
        let id = RequestId(self.next);
        self.next += 1;
        if request.max_new_tokens == 0 {
            let drafted = Drafted::default();
            self.done.push(Event::Finished { id, reason: Finish::Length, drafted });
            return Ok(id);
        }
        let unseen = request.prompt.clone();
        self.waiting.push_back(Running {
            id,
            request,
            answer: Vec::new(),
            unseen,
            escalated: false,
            drafted: Drafted::default(),
            kept: 0.7,
            speeds: None,
        });
        Ok(id)
    }

    fn check(&self, request: &Request) -> Result<()> {
        let (space, vocab_size) = (self.stepper.space(), self.stepper.vocab_size());
        if request.prompt.is_empty() {
            return Err(Error::Empty);
        }
        if let Some(position) = request.prompt.iter().position(|t| *t as usize >= vocab_size) {
            return Err(Error::Token { token: request.prompt[position], position, vocab_size });
        }
        if request.prompt.len() >= self.context {
            return Err(Error::PromptTooLong {
                found: request.prompt.len(),
                context: self.context,
            });
        }
        space.check(&request.submodel)?;
        match &request.policy {
            Policy::Fixed => {}
            Policy::Escalate { wide, .. } => {
                space.check(wide)?;
                narrower("policy", &request.submodel, wide)?;
                if request.draft.is_some() {
                    return Err(Error::DraftAndEscalate);
                }
            }
            Policy::Phases { prompt } => space.check(prompt)?,
        }
        if let Some(draft) = &request.draft {
            space.check(&draft.submodel)?;
            narrower("draft", &draft.submodel, &request.submodel)?;
            let (DraftLen::Fixed(len) | DraftLen::Auto { most: len }) = draft.len;
            if !(1..=DraftLen::MOST).contains(&len) {
                let expected = "from 1 to 15";
                return Err(Error::Option {
                    option: "draft_len",
                    found: len.to_string(),
                    expected,
                });
            }
            let c = draft.confidence;
            if !(0.0..1.0).contains(&c) {
                let expected = "from 0 to below 1";
                return Err(Error::Option { option: "confidence", found: c.to_string(), expected });
            }
        }
        request.sampling.validate(vocab_size)
    }

    /// Whether requests are waiting or running.
    pub fn is_busy(&self) -> bool {
        !self.done.is_empty()
            || !self.waiting.is_empty()
            || self.running.iter().any(Option::is_some)
    }

    /// Ends a request; `None` if there is no such one.
    pub fn cancel(&mut self, id: RequestId) -> Option<Event> {
        let waiting = self.waiting.iter().position(|running| running.id == id);
        let running = match waiting {
            Some(at) => self.waiting.remove(at),
            None => {
                let of = |r: &Option<Running>| r.as_ref().is_some_and(|running| running.id == id);
                let slot = self.running.iter().position(of)?;
                self.stepper.truncate(slot, 0);
                self.running[slot].take()
            }
        };
        running.map(|r| Event::Finished { id, reason: Finish::Cancelled, drafted: r.drafted })
    }

    /// Takes every running request one pass on: a part of its prompt, a token, or a token and what was drafted for
    /// it. Returns what is new, request by request.
    ///
    /// # Errors
    /// When the device fails.
    pub fn step(&mut self) -> Result<Vec<Event>> {
        let mut events = std::mem::take(&mut self.done);
        self.admit()?;
        let mut turns = self.turns();
        if turns.is_empty() {
            return Ok(events);
        }
        self.draft(&mut turns)?;
        let logits = self.stepper.step(&rows(&turns))?;
        let mut logits = logits.chunks_exact(self.stepper.vocab_size());
        for turn in turns {
            let wanted = turn.ids.len() - turn.logits_from;
            let of_turn: Vec<&[f32]> = logits.by_ref().take(wanted).collect();
            self.take(turn, &of_turn, &mut events);
        }
        Ok(events)
    }

    fn admit(&mut self) -> Result<()> {
        for slot in 0..self.running.len() {
            if self.running[slot].is_some() {
                continue;
            }
            let Some(mut admitted) = self.waiting.pop_front() else { break };
            if let Some(Draft { submodel, len: DraftLen::Auto { most }, .. }) =
                &admitted.request.draft
            {
                let (narrow, wide) = (submodel.widths(), admitted.request.submodel.widths());
                // As many as fit the slot, behind a first token.
                let most = (*most).min(self.context - 1);
                admitted.speeds = Some(self.stepper.speeds(slot, narrow, wide, most)?);
            }
            self.stepper.truncate(slot, 0);
            self.running[slot] = Some(admitted);
        }
        Ok(())
    }

    /// What each running request feeds next, without drafts.
    fn turns(&mut self) -> Vec<Turn> {
        let mut room = self.prefill;
        let mut turns = Vec::new();
        for (slot, running) in self.running.iter().enumerate() {
            let Some(running) = running else { continue };
            let all = running.unseen.len();
            let n = if all == 1 { 1 } else { all.min(room) };
            if all > 1 {
                room -= n;
            }
            if n == 0 {
                continue;
            }
            turns.push(Turn {
                slot,
                ids: running.unseen[..n].to_vec(),
                widths: running.submodel().widths().to_vec(),
                logits_from: if n == all { n - 1 } else { n },
                drafts: Vec::new(),
            });
        }
        turns
    }

    /// Adds drafted tokens to the turns of requests that have a draft and one token to feed.
    fn draft(&mut self, turns: &mut [Turn]) -> Result<()> {
        let mut left: Vec<usize> = turns.iter().map(|turn| self.draft_len(turn)).collect();
        let starts: Vec<usize> = turns.iter().map(|turn| self.stepper.len(turn.slot)).collect();
        while left.iter().any(|left| *left > 0) {
            let drafting: Vec<usize> = (0..turns.len()).filter(|i| left[*i] > 0).collect();
            let narrow: Vec<Turn> = drafting.iter().map(|i| self.narrow(&turns[*i])).collect();
            let logits = self.stepper.step(&rows(&narrow))?;
            for (i, logits) in
                drafting.into_iter().zip(logits.chunks_exact(self.stepper.vocab_size()))
            {
                let turn = &mut turns[i];
                let Some(running) = &self.running[turn.slot] else { continue };
                let (position, distribution) =
                    (running.position() + turn.drafts.len(), running.next(logits, &turn.ids[1..]));
                let token = distribution.at(running.request.sampling.draw("draft", position));
                let confidence =
                    running.request.draft.as_ref().map_or(0.0, |draft| draft.confidence);
                if confidence > 0.0 && certainty(logits) < confidence {
                    left[i] = 0;
                    continue;
                }
                turn.ids.push(token);
                turn.drafts.push(distribution);
                left[i] -= 1;
            }
        }
        for (turn, start) in turns.iter_mut().zip(starts) {
            self.stepper.truncate(turn.slot, start);
            if !turn.drafts.is_empty() {
                turn.logits_from = 0;
            }
        }
        Ok(())
    }

    /// The turn of the narrow submodel: the last token that it has not taken.
    fn narrow(&self, turn: &Turn) -> Turn {
        let draft =
            self.running[turn.slot].as_ref().and_then(|running| running.request.draft.as_ref());
        let widths = draft.map_or_else(Vec::new, |draft| draft.submodel.widths().to_vec());
        let ids = turn.ids.last().copied().into_iter().collect();
        Turn { slot: turn.slot, ids, widths, logits_from: 0, drafts: Vec::new() }
    }

    /// Tokens to draft for a turn.
    fn draft_len(&self, turn: &Turn) -> usize {
        let Some(running) = &self.running[turn.slot] else { return 0 };
        let Some(draft) = &running.request.draft else { return 0 };
        if turn.ids.len() > 1 || running.answer.is_empty() {
            return 0;
        }
        let left = running.request.max_new_tokens - running.answer.len();
        let room = self.context - 1 - self.stepper.len(turn.slot);
        let wanted = match draft.len {
            DraftLen::Fixed(n) => n,
            DraftLen::Auto { .. } => {
                running.speeds.as_ref().map_or(0, |speeds| best_len(running.kept, speeds))
            }
        };
        // The last token needs no draft.
        wanted.min(left.saturating_sub(1)).min(room)
    }

    /// Chooses tokens from the logits of a turn.
    fn take(&mut self, turn: Turn, logits: &[&[f32]], events: &mut Vec<Event>) {
        let Turn { slot, ids, drafts, .. } = turn;
        let Some(running) = &mut self.running[slot] else { return };
        let (fed, drafted) = ids.split_at(ids.len() - drafts.len());
        running.unseen.drain(..fed.len());
        if !running.unseen.is_empty() {
            return;
        }
        let held = self.stepper.len(slot);
        let reason = if logits.iter().any(|row| row.iter().any(|logit| logit.is_nan())) {
            Some(Finish::NotFinite)
        } else if running.escalates(logits[0]) {
            // The last token once more, through the wide submodel.
            running.escalated = true;
            running.unseen.extend(fed.last());
            self.stepper.truncate(slot, held - 1);
            None
        } else {
            let chosen = running.verified(drafted, &drafts, logits);
            let kept = chosen.len() - 1;
            // What was drafted behind the last kept token is forgotten.
            self.stepper.truncate(slot, held - (drafted.len() - kept));
            running.escalated = false;
            running.learn(drafted.len(), kept);
            running.unseen.extend(chosen.last());
            running.say(&chosen, logits, self.context, events)
        };
        if let Some(reason) = reason
            && let Some(running) = self.running[slot].take()
        {
            self.stepper.truncate(slot, 0);
            events.push(Event::Finished { id: running.id, reason, drafted: running.drafted });
        }
    }
}

impl Running {
    /// The submodel that takes the next tokens.
    fn submodel(&self) -> &Submodel {
        match &self.request.policy {
            Policy::Escalate { wide, .. } if self.escalated => wide,
            Policy::Phases { prompt } if self.answer.is_empty() => prompt,
            _ => &self.request.submodel,
        }
    }

    /// The place of the next token in the text.
    fn position(&self) -> usize {
        self.request.prompt.len() + self.answer.len()
    }

    /// Adds tokens to the answer and says so, until it ends: with what.
    fn say(
        &mut self,
        tokens: &[u32],
        logits: &[&[f32]],
        context: usize,
        events: &mut Vec<Event>,
    ) -> Option<Finish> {
        for (token, logits) in tokens.iter().zip(logits) {
            if self.request.stop.contains(token) {
                return Some(Finish::Stop);
            }
            self.answer.push(*token);
            let logprobs = self.request.logprobs.map(|n| {
                let (chosen, top) = logprobs(logits, *token, n);
                Logprobs { chosen, top }
            });
            events.push(Event::Token { id: self.id, token: *token, logprobs });
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
    fn next(&self, logits: &[f32], more: &[u32]) -> Distribution {
        if !self.request.sampling.adjusts() {
            return self.request.sampling.distribution(logits);
        }
        let answer = [&self.answer[..], more].concat();
        let mut logits = logits.to_vec();
        self.request.sampling.adjust(&mut logits, &self.request.prompt, &answer);
        self.request.sampling.distribution(&logits)
    }

    /// The drafted tokens that are kept, and one more.
    fn verified(&self, drafted: &[u32], drafts: &[Distribution], logits: &[&[f32]]) -> Vec<u32> {
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
    fn escalates(&self, logits: &[f32]) -> bool {
        match &self.request.policy {
            Policy::Escalate { entropy, .. } => !self.escalated && entropy_of(logits) > *entropy,
            _ => false,
        }
    }

    /// Counts a draft, if there was one, and averages over about the last twenty drafted tokens.
    fn learn(&mut self, proposed: usize, kept: usize) {
        const NEW: f64 = 0.05;
        if proposed == 0 {
            return;
        }
        self.drafted.add(proposed, kept);
        // A draft ends at the first token that is not kept: the others were not judged.
        let judged = (0..proposed.min(kept + 1)).map(|i| if i < kept { 1.0 } else { 0.0 });
        for one in judged {
            self.kept += NEW * (one - self.kept);
        }
    }
}

/// How long the passes of a pair of submodels take, in any unit.
#[derive(Clone, Debug)]
pub(crate) struct Speeds {
    /// A token through the narrow one.
    pub(crate) narrow: f64,
    /// 1, 2, … tokens through the other.
    pub(crate) verify: Vec<f64>,
}

/// The number of drafted tokens that promises the most tokens per time, where each is kept with probability `kept`:
/// `(1 + Σ keptⁱ) / (k·narrow + verify(k + 1))`.
fn best_len(kept: f64, speeds: &Speeds) -> usize {
    let goodput = |k: usize| {
        let tokens: f64 = (0..=k).map(|i| kept.powi(i as i32)).sum();
        tokens / (k as f64 * speeds.narrow + speeds.verify[k])
    };
    (0..speeds.verify.len())
        .max_by(|a, b| goodput(*a).total_cmp(&goodput(*b)).then(b.cmp(a)))
        .unwrap_or(0)
}

fn rows(turns: &[Turn]) -> Vec<Row<'_>> {
    fn row(turn: &Turn) -> Row<'_> {
        let Turn { slot, ids, widths, logits_from, .. } = turn;
        Row { slot: *slot, ids, widths, logits_from: *logits_from }
    }
    turns.iter().map(row).collect()
}

fn narrower(option: &'static str, narrow: &Submodel, wide: &Submodel) -> Result<()> {
    let pairs = narrow.widths().iter().zip(wide.widths());
    match pairs.enumerate().find(|(_, (narrow, wide))| narrow > wide) {
        Some((layer, (narrow, wide))) => {
            Err(Error::Wider { option, layer, found: *narrow, most: *wide })
        }
        None => Ok(()),
    }
}

/// The probability of the most likely token.
fn certainty(logits: &[f32]) -> f64 {
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
