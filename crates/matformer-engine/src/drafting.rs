//! Which submodel drafts how many tokens: what promises the most tokens per second.

use crate::{Draft, DraftLen};

/// Share of drafted tokens that are kept, before any was seen.
const HOPE: f64 = 0.7;
/// Weight of a new outcome in the average: about the last twenty drafted tokens count.
const NEW: f64 = 0.05;
/// Passes after which a submodel that does not pay is tried again: texts change.
const RETRY: usize = 64;
/// Tokens of such a try.
const TRY: usize = 2;

/// How long the passes of a pair of submodels take, in any unit.
#[derive(Clone, Debug)]
pub(crate) struct Speeds {
    /// A token through the narrow one.
    pub(crate) narrow: f64,
    /// 1, 2, … tokens through the other.
    pub(crate) verify: Vec<f64>,
}

impl Speeds {
    /// Tokens per time with `k` tokens drafted of which each is kept with probability `kept`:
    /// `(1 + Σ keptⁱ) / (k·narrow + verify(k + 1))`.
    fn goodput(&self, k: usize, kept: f64) -> f64 {
        let tokens: f64 = (0..=k).map(|i| kept.powi(i as i32)).sum();
        tokens / (k as f64 * self.narrow + self.verify[k])
    }
}

/// What a request has learnt about its drafts.
#[derive(Debug)]
pub(crate) struct Drafter {
    /// By narrow submodel.
    learnt: Vec<Learnt>,
}

#[derive(Clone, Debug)]
struct Learnt {
    /// Share of its tokens that are kept, averaged over time.
    kept: f64,
    /// Passes since its last draft.
    idle: usize,
    /// Absent where the length and the submodel are given.
    speeds: Option<Speeds>,
}

/// A draft to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Which of the narrow submodels.
    pub(crate) who: usize,
    /// Tokens to draft.
    pub(crate) len: usize,
}

impl Drafter {
    /// `speeds` are those of each narrow submodel, where [`measures`](Self::measures) says that they are needed.
    pub(crate) fn new(speeds: Vec<Option<Speeds>>) -> Self {
        let learnt = |speeds| Learnt { kept: HOPE, idle: 0, speeds };
        Self { learnt: speeds.into_iter().map(learnt).collect() }
    }

    /// Whether the choice follows from times.
    pub(crate) fn measures(draft: &Draft) -> bool {
        draft.submodels.len() > 1 || matches!(draft.len, DraftLen::Auto { .. })
    }

    /// The next draft; of no tokens where drafting does not pay.
    pub(crate) fn choose(&mut self, draft: &Draft) -> Choice {
        self.learnt.iter_mut().for_each(|learnt| learnt.idle += 1);
        let best = self.best(draft);
        let stale = (0..self.learnt.len()).max_by_key(|who| self.learnt[*who].idle);
        match (draft.len, stale) {
            (DraftLen::Auto { most }, Some(who)) if self.learnt[who].idle > RETRY => {
                Choice { who, len: TRY.min(most) }
            }
            _ => best,
        }
    }

    fn best(&self, draft: &Draft) -> Choice {
        let mut best = (Choice { who: 0, len: 0 }, f64::NEG_INFINITY);
        for (who, learnt) in self.learnt.iter().enumerate() {
            let Some(speeds) = &learnt.speeds else {
                let (DraftLen::Fixed(len) | DraftLen::Auto { most: len }) = draft.len;
                return Choice { who, len };
            };
            let longest = speeds.verify.len() - 1;
            let lens = match draft.len {
                DraftLen::Fixed(len) => len.min(longest)..=len.min(longest),
                DraftLen::Auto { most } => 0..=most.min(longest),
            };
            for len in lens {
                let goodput = speeds.goodput(len, learnt.kept);
                // Of equal ones the shortest.
                if goodput > best.1 {
                    best = (Choice { who, len }, goodput);
                }
            }
        }
        best.0
    }

    /// The verifier is another now; what was learnt of the drafts stays.
    pub(crate) fn retime(&mut self, who: usize, speeds: &Speeds) {
        self.learnt[who].speeds = Some(speeds.clone());
    }

    /// Counts a draft.
    pub(crate) fn learn(&mut self, who: usize, proposed: usize, kept: usize) {
        let learnt = &mut self.learnt[who];
        learnt.idle = 0;
        // A draft ends at the first token that is not kept: the others were not judged.
        let judged = (0..proposed.min(kept + 1)).map(|i| if i < kept { 1.0 } else { 0.0 });
        for one in judged {
            learnt.kept += NEW * (one - learnt.kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use matformer_core::Submodel;

    use super::*;
    use crate::DraftCache;

    fn draft(n: usize, len: DraftLen) -> Draft {
        let submodels = (0..n).map(|_| Submodel::new(vec![8])).collect();
        Draft { submodels, len, confidence: 0.0, cache: DraftCache::Shared }
    }

    fn speeds(narrow: f64) -> Option<Speeds> {
        Some(Speeds { narrow, verify: (0..16).map(|k| 1.0 + 0.05 * f64::from(k)).collect() })
    }

    #[test]
    fn the_length_follows_what_is_kept() {
        let auto = draft(1, DraftLen::Auto { most: 8 });
        let mut drafter = Drafter::new(vec![speeds(0.3)]);
        let first = drafter.choose(&auto).len;
        assert!((1..8).contains(&first), "{first}");
        for _ in 0..100 {
            drafter.learn(0, 4, 4);
        }
        assert_eq!(drafter.choose(&auto).len, 8, "all are kept");
        for _ in 0..100 {
            drafter.learn(0, 1, 0);
        }
        assert_eq!(drafter.choose(&auto).len, 0, "none is kept");
        // It is tried again, but seldom.
        let tries = (0..10 * RETRY).filter(|_| {
            let choice = drafter.choose(&auto);
            if choice.len > 0 {
                drafter.learn(0, choice.len, 0);
            }
            choice.len > 0
        });
        assert!((5..=10).contains(&tries.count()));
        assert_eq!(Drafter::new(vec![None]).choose(&draft(1, DraftLen::Fixed(3))).len, 3);
    }

    #[test]
    fn of_several_the_one_that_pays_drafts() {
        let auto = draft(2, DraftLen::Auto { most: 8 });
        let mut drafter = Drafter::new(vec![speeds(0.1), speeds(0.5)]);
        assert_eq!(drafter.choose(&auto).who, 0, "cheaper, and as promising");
        for _ in 0..100 {
            drafter.learn(0, 1, 0);
            drafter.learn(1, 2, 2);
        }
        assert_eq!(drafter.choose(&auto).who, 1);
    }
}
