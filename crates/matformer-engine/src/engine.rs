//! Admission, slots, and one step for all requests.

mod drafts;

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use matformer_core::Submodel;

use crate::{
    Draft, DraftCache, DraftLen, Drafted, EngineModel, Error, Event, Finish, Policy, Request,
    RequestId, Result,
    drafting::{Learnt, Took},
    running::{Running, Turn, rows},
    stepper::Stepper,
};

/// Maximum number of prompt tokens per step with logits: each token has one logit per vocabulary entry.
const SCORED: usize = 64;

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
    /// Whether each slot has a second cache, for drafts with [`DraftCache::Own`].
    pub draft_caches: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { slots: 1, capacity: None, prefill: 512, threads: None, draft_caches: false }
    }
}

/// Continues many texts at once, each with a submodel of its own.
pub struct Engine {
    stepper: Box<dyn Stepper>,
    context: usize,
    options: EngineOptions,
    next: u64,
    /// Final events of requests that ask for no new tokens.
    done: Vec<Event>,
    waiting: VecDeque<Running>,
    /// By slot.
    running: Vec<Option<Running>>,
    /// Statistics per pair of submodels (narrow one first): measured times, and the acceptance rate of the last
    /// request.
    learnt: HashMap<[Submodel; 2], Learnt>,
}

impl Engine {
    /// An engine for a model on its device.
    ///
    /// # Errors
    /// When there are no slots.
    pub fn new(model: &EngineModel, options: &EngineOptions) -> Result<Self> {
        if options.slots == 0 {
            return Err(Error::Option {
                option: "slots",
                found: "0".to_owned(),
                expected: "1 or more",
            });
        }
        let context = model.config().context;
        let capacity = options.capacity.map_or(context, |capacity| capacity.min(context));
        let caches = if options.draft_caches { 2 * options.slots } else { options.slots };
        Ok(Self {
            stepper: crate::stepper::of(model, options.threads, caches, capacity),
            context: capacity,
            options: options.clone(),
            next: 0,
            done: Vec::new(),
            waiting: VecDeque::new(),
            running: (0..options.slots).map(|_| None).collect(),
            learnt: HashMap::new(),
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
        if request.max_new_tokens == 0 && request.prompt_logprobs.is_none() {
            let drafted = Drafted::default();
            self.done.push(Event::Finished { id, reason: Finish::Length, drafted });
            return Ok(id);
        }
        self.waiting.push_back(Running::new(id, request));
        Ok(id)
    }

    /// Checks a request as [`submit`](Self::submit) does.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn check(&self, request: &Request) -> Result<()> {
        let (space, vocab_size) = (self.stepper.space(), self.stepper.vocab_size());
        if request.prompt.is_empty() {
            return Err(Error::Empty);
        }
        if let Some(position) = request.prompt.iter().position(|t| *t as usize >= vocab_size) {
            return Err(Error::Token { token: request.prompt[position], position, vocab_size });
        }
        // A text that is only scored may fill the context.
        if request.prompt.len() > self.context - usize::from(request.max_new_tokens > 0) {
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
            self.check_draft(draft, &request.submodel)?;
        }
        request.sampling.validate(vocab_size)
    }

    fn check_draft(&self, draft: &Draft, verifier: &Submodel) -> Result<()> {
        let wrong =
            |option, found: String, expected| Err(Error::Option { option, found, expected });
        if draft.submodels.is_empty() {
            return wrong("draft", "no submodel".to_owned(), "one or more");
        }
        for submodel in &draft.submodels {
            self.stepper.space().check(submodel)?;
            narrower("draft", submodel, verifier)?;
        }
        let (DraftLen::Fixed(len) | DraftLen::Auto { most: len }) = draft.len;
        if !(1..=DraftLen::MOST).contains(&len) {
            return wrong("draft_len", len.to_string(), "from 1 to 15");
        }
        let c = draft.confidence;
        if !(0.0..1.0).contains(&c) {
            return wrong("confidence", c.to_string(), "from 0 to below 1");
        }
        match draft.cache {
            DraftCache::Own if !self.options.draft_caches => wrong(
                "draft_cache",
                "own".to_owned(),
                "shared: the engine was made without `draft_caches`",
            ),
            DraftCache::Own if draft.submodels.len() > 1 => wrong(
                "draft",
                format!("{} submodels", draft.submodels.len()),
                "one, with a cache of its own",
            ),
            _ => Ok(()),
        }
    }

    /// Whether requests are waiting or running.
    pub fn is_busy(&self) -> bool {
        !self.done.is_empty()
            || !self.waiting.is_empty()
            || self.running.iter().any(Option::is_some)
    }

    /// Requests that wait for a slot.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Ends a request; `None` if there is no such one.
    pub fn cancel(&mut self, id: RequestId) -> Option<Event> {
        let waiting = self.waiting.iter().position(|running| running.id == id);
        let running = match waiting {
            Some(at) => self.waiting.remove(at),
            None => {
                let slot = self.slot_of(id)?;
                self.free(slot)
            }
        };
        running.map(|r| Event::Finished { id, reason: Finish::Cancelled, drafted: r.drafted })
    }

    /// Has another submodel take the next tokens of a request; what its slot holds stays. `false` if there is no such
    /// request.
    ///
    /// # Errors
    /// When the submodel is not one of the model's, or narrower than what drafts for it.
    pub fn resize(&mut self, id: RequestId, submodel: &Submodel) -> Result<bool> {
        self.stepper.space().check(submodel)?;
        let slot = self.slot_of(id);
        let running = match slot {
            Some(slot) => self.running[slot].as_mut(),
            None => self.waiting.iter_mut().find(|running| running.id == id),
        };
        let Some(running) = running else { return Ok(false) };
        for narrow in running.request.draft.iter().flat_map(|draft| &draft.submodels) {
            narrower("draft", narrow, submodel)?;
        }
        if let Policy::Escalate { wide, .. } = &running.request.policy {
            narrower("policy", submodel, wide)?;
        }
        running.request.submodel = submodel.clone();
        // Times of the new pairs, where they are known; until then those of the old size are near enough.
        if let (Some(draft), Some(drafter)) = (&running.request.draft, &mut running.drafter) {
            for (who, narrow) in draft.submodels.iter().enumerate() {
                if let Some(learnt) = self.learnt.get(&[narrow.clone(), submodel.clone()]) {
                    drafter.retime(who, learnt);
                }
            }
        }
        Ok(true)
    }

    /// Median seconds of each of `passes` when they follow one another, over and over. Each row of a pass is so many
    /// tokens of a submodel behind `past` others; the logits of the last 16 are included. No request may be waiting or
    /// running.
    ///
    /// # Errors
    /// When the rows do not fit the slots, a submodel is not one of the model's, or the device fails.
    pub fn seconds(&mut self, passes: &[Vec<(&Submodel, usize)>], past: usize) -> Result<Vec<f64>> {
        let free = if self.is_busy() { 0 } else { self.options.slots };
        let rows = passes.iter().map(Vec::len).max().unwrap_or(0);
        let all = || passes.iter().flatten();
        let longest = all().map(|(_, tokens)| *tokens).max().unwrap_or(0);
        if rows > free || past + longest > self.context || all().any(|(_, tokens)| *tokens == 0) {
            return Err(Error::Option {
                option: "passes",
                found: format!("{rows} rows of up to {longest} tokens behind {past}"),
                expected: "as many as there are free slots, of 1 token up to their capacity",
            });
        }
        for (submodel, _) in all() {
            self.stepper.space().check(submodel)?;
        }
        self.stepper.seconds(passes, 0, past)
    }

    fn slot_of(&self, id: RequestId) -> Option<usize> {
        self.running.iter().position(|r| r.as_ref().is_some_and(|running| running.id == id))
    }

    /// Empties a slot.
    fn free(&mut self, slot: usize) -> Option<Running> {
        self.stepper.truncate(slot, 0);
        self.truncate_own(slot, 0);
        let mut running = self.running[slot].take();
        if let Some(running) = &mut running
            && let Some(drafter) = running.drafter.take()
        {
            self.remember(&running.request, drafter);
        }
        running
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
        self.read_prompts(&turns)?;
        let started = Instant::now();
        self.draft(&mut turns)?;
        let drafting = started.elapsed().as_secs_f64();
        let logits = self.stepper.step(&rows(&turns))?;
        if let [turn] = &turns[..] {
            let verifying = started.elapsed().as_secs_f64() - drafting;
            self.timed(turn, &Took { drafted: turn.drafts.len(), drafting, verifying });
        }
        let mut of_all = logits.chunks_exact(self.stepper.vocab_size());
        for turn in turns {
            let wanted = turn.ids.len() - turn.logits_from;
            let of_turn: Vec<&[f32]> = of_all.by_ref().take(wanted).collect();
            self.take(turn, &of_turn, &mut events);
        }
        self.stepper.reuse(logits);
        Ok(events)
    }

    fn admit(&mut self) -> Result<()> {
        for slot in 0..self.running.len() {
            if self.running[slot].is_some() {
                continue;
            }
            let Some(admitted) = self.waiting.pop_front() else { break };
            let drafter = self.drafter(slot, &admitted.request)?;
            self.stepper.truncate(slot, 0);
            self.running[slot] = Some(Running { drafter, ..admitted });
        }
        Ok(())
    }

    /// What each running request feeds next, without drafts.
    fn turns(&mut self) -> Vec<Turn> {
        let mut room = self.options.prefill.max(1);
        let mut turns = Vec::new();
        for (slot, running) in self.running.iter().enumerate() {
            let Some(running) = running else { continue };
            let all = running.unseen.len();
            let scored = running.scores_prompt();
            let most = if scored { room.min(SCORED) } else { room };
            let n = if all == 1 { 1 } else { all.min(most) };
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
                logits_from: match (scored, n == all) {
                    (true, _) => 0,
                    (false, true) => n - 1,
                    (false, false) => n,
                },
                drafter: 0,
                drafts: Vec::new(),
            });
        }
        turns
    }

    /// Chooses tokens from the logits of a turn.
    fn take(&mut self, turn: Turn, logits: &[&[f32]], events: &mut Vec<Event>) {
        let Turn { slot, ids, drafts, drafter, .. } = turn;
        let Some(running) = &mut self.running[slot] else { return };
        let (fed, drafted) = ids.split_at(ids.len() - drafts.len());
        let is_nan = logits.iter().any(|row| row.iter().any(|logit| logit.is_nan()));
        if !is_nan {
            running.score_prompt(logits, events);
        }
        running.unseen.drain(..fed.len());
        if !running.unseen.is_empty() && !is_nan {
            return;
        }
        let held = self.stepper.len(slot);
        // After a prompt only the last counts.
        let logits = if drafts.is_empty() { &logits[logits.len() - 1..] } else { logits };
        let mut true_len = held;
        let reason = if is_nan {
            Some(Finish::NotFinite)
        } else if running.request.max_new_tokens == 0 {
            Some(Finish::Length)
        } else if running.escalates(logits[0]) {
            // The last token once more, through the wide submodel.
            running.escalated = true;
            running.unseen.extend(fed.last());
            true_len = held - 1;
            None
        } else {
            let chosen = running.verified(drafted, &drafts, logits);
            let kept = chosen.len() - 1;
            // What was drafted behind the last kept token is forgotten.
            true_len = held - (drafted.len() - kept);
            running.escalated = false;
            running.learn(drafter, drafted.len(), kept);
            running.unseen.extend(chosen.last());
            running.say(&chosen, kept, logits, self.context, events)
        };
        self.stepper.truncate(slot, true_len);
        self.truncate_own(slot, true_len);
        if let Some(reason) = reason
            && let Some(running) = self.free(slot)
        {
            events.push(Event::Finished { id: running.id, reason, drafted: running.drafted });
        }
    }
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
