//! What drafts for the requests of a step, and in which cache.

use super::{Engine, Turn};
use crate::{
    DraftCache, DraftLen, Request, Result,
    drafting::{Drafter, Learnt, Took},
    running::{certainty, rows},
};

impl Engine {
    /// The cache that a slot's drafts have for themselves.
    fn own(&self, slot: usize) -> usize {
        self.options.slots + slot
    }

    pub(super) fn truncate_own(&mut self, slot: usize, len: usize) {
        if self.options.draft_caches {
            self.stepper.truncate(self.own(slot), len);
        }
    }

    /// Takes parts of prompts into the caches that drafts have for themselves, so that a draft model is as far as the
    /// verifier when the first token is drafted.
    pub(super) fn read_prompts(&mut self, turns: &[Turn]) -> Result<()> {
        let prompts: Vec<Turn> = turns.iter().filter_map(|turn| self.prompt(turn)).collect();
        if !prompts.is_empty() {
            self.stepper.step(&rows(&prompts))?;
        }
        Ok(())
    }

    /// The part of a prompt that a turn feeds, for the draft's own cache.
    fn prompt(&self, turn: &Turn) -> Option<Turn> {
        let running = self.running[turn.slot].as_ref()?;
        let draft = running.request.draft.as_ref()?;
        let drafts = draft.cache == DraftCache::Own && running.request.max_new_tokens > 1;
        if !drafts || !running.answer.is_empty() {
            return None;
        }
        let widths = draft.submodels[turn.drafter].widths().to_vec();
        let (slot, ids) = (self.own(turn.slot), turn.ids.clone());
        let logits_from = ids.len();
        Some(Turn { slot, ids, widths, logits_from, drafter: turn.drafter, drafts: Vec::new() })
    }

    /// Records the time of a step of a request that runs alone: in a batch, it would differ.
    pub(super) fn timed(&mut self, turn: &Turn, took: &Took) {
        if turn.ids.len() == 1 + took.drafted
            && let Some(running) = &mut self.running[turn.slot]
            && let Some(drafter) = &mut running.drafter
        {
            drafter.timed(turn.drafter, took);
        }
    }

    /// What drafts for a request, in a free slot: pairs of submodels that are new are timed.
    pub(super) fn drafter(&mut self, slot: usize, request: &Request) -> Result<Option<Drafter>> {
        let Some(draft) = &request.draft else { return Ok(None) };
        let mut learnt = Vec::new();
        for narrow in &draft.submodels {
            if !Drafter::measures(draft) {
                learnt.push(Learnt::new(None));
                continue;
            }
            let pair = [narrow.clone(), request.submodel.clone()];
            learnt.push(match self.learnt.get(&pair) {
                Some(known) => known.clone(),
                None => {
                    let most = DraftLen::MOST.min(self.context - 1);
                    let speeds = self.stepper.speeds(slot, narrow, &request.submodel, most)?;
                    Learnt::new(Some(speeds))
                }
            });
        }
        Ok(Some(Drafter::new(learnt)))
    }

    /// Keeps what a request has learnt of its drafts for the next one.
    pub(super) fn remember(&mut self, request: &Request, drafter: Drafter) {
        if let Some(draft) = &request.draft
            && Drafter::measures(draft)
        {
            for (narrow, learnt) in draft.submodels.iter().zip(drafter.learnt()) {
                self.learnt.insert([narrow.clone(), request.submodel.clone()], learnt);
            }
        }
    }

    /// Adds drafted tokens to the turns of requests that have a draft and one token to feed.
    pub(super) fn draft(&mut self, turns: &mut [Turn]) -> Result<()> {
        let mut left: Vec<usize> = turns.iter_mut().map(|turn| self.draft_len(turn)).collect();
        let starts: Vec<usize> = turns.iter().map(|turn| self.stepper.len(turn.slot)).collect();
        while left.iter().any(|left| *left > 0) {
            let drafting: Vec<usize> = (0..turns.len()).filter(|i| left[*i] > 0).collect();
            let narrow: Vec<Turn> =
                drafting.iter().filter_map(|i| self.narrow(&turns[*i])).collect();
            let all = self.stepper.step(&rows(&narrow))?;
            let of_each = all.chunks_exact(self.stepper.vocab_size());
            for (i, logits) in drafting.into_iter().zip(of_each) {
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
            self.stepper.reuse(all);
        }
        for (turn, start) in turns.iter_mut().zip(starts) {
            self.stepper.truncate(turn.slot, start);
            if !turn.drafts.is_empty() {
                turn.logits_from = 0;
            }
        }
        Ok(())
    }

    /// Input of the draft submodel: the last token, or with its own cache all tokens not yet in it.
    fn narrow(&self, turn: &Turn) -> Option<Turn> {
        let running = self.running[turn.slot].as_ref()?;
        let draft = running.request.draft.as_ref()?;
        let widths = draft.submodels[turn.drafter].widths().to_vec();
        let (slot, ids) = match draft.cache {
            DraftCache::Shared => (turn.slot, turn.ids.last().copied().into_iter().collect()),
            DraftCache::Own => {
                let own = self.own(turn.slot);
                let text = running.request.prompt.iter().chain(&running.answer);
                // The last token of the answer is the first of the turn.
                let drafted = turn.ids.iter().skip(1);
                (own, text.chain(drafted).copied().skip(self.stepper.len(own)).collect::<Vec<_>>())
            }
        };
        let logits_from = ids.len() - 1;
        Some(Turn { slot, ids, widths, logits_from, drafter: turn.drafter, drafts: Vec::new() })
    }

    /// Chooses what drafts for a turn, and how many tokens.
    fn draft_len(&mut self, turn: &mut Turn) -> usize {
        let room = self.context - 1 - self.stepper.len(turn.slot);
        let Some(running) = &mut self.running[turn.slot] else { return 0 };
        let (Some(draft), Some(drafter)) = (&running.request.draft, &mut running.drafter) else {
            return 0;
        };
        if turn.ids.len() > 1 || running.answer.is_empty() {
            return 0;
        }
        let left = running.request.max_new_tokens - running.answer.len();
        let choice = drafter.choose(draft);
        turn.drafter = choice.who;
        // The last token needs no draft.
        choice.len.min(left.saturating_sub(1)).min(room)
    }
}
