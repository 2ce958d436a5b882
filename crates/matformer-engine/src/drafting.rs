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
/// Choices after which a length beside the best one is tried: it costs little, and times change with the text's length
/// and with what else the machine does.
const EXPLORE: usize = 16;
/// Weight of a new time in its average.
const NEW_TIME: f64 = 0.1;
/// A time counts as at most so many times what is known: a thread that was held up says nothing of the others.
const HELD_UP: f64 = 2.0;

/// How long the passes of a pair of submodels take, in seconds: measured once, then averaged over what turns took.
#[derive(Clone, Debug)]
pub(crate) struct Speeds {
    /// A token through the narrow one.
    pub(crate) narrow: f64,
    /// 1, 2, … tokens through the other.
    pub(crate) verify: Vec<f64>,
}

/// What a turn of one request took, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    /// Tokens that were drafted.
    pub(crate) drafted: usize,
    /// All passes of the narrow submodel.
    pub(crate) drafting: f64,
    /// The pass that verified them.
    pub(crate) verifying: f64,
}

impl Speeds {
    /// Tokens per time with `k` tokens drafted of which each is kept with probability `kept`:
    /// `(1 + Σ keptⁱ) / (k·narrow + verify(k + 1))`.
    fn goodput(&self, k: usize, kept: f64) -> f64 {
        let tokens: f64 = (0..=k).map(|i| kept.powi(i as i32)).sum();
        tokens / (k as f64 * self.narrow + self.verify[k])
    }

    fn learn(&mut self, took: &Took) {
        if took.drafted > 0 {
            average(&mut self.narrow, took.drafting / took.drafted as f64);
        }
        if let Some(verify) = self.verify.get_mut(took.drafted) {
            average(verify, took.verifying);
        }
    }
}

fn average(known: &mut f64, seconds: f64) {
    *known += NEW_TIME * (seconds.min(HELD_UP * *known) - *known);
}

/// Running statistics of a request's drafts.
#[derive(Debug)]
pub(crate) struct Drafter {
    /// By narrow submodel.
    learnt: Vec<Learnt>,
    /// Drafts that were chosen so far.
    choices: usize,
}

/// What is known of drafts of a submodel. The next request with the same pair of submodels starts from it.
#[derive(Clone, Debug)]
pub(crate) struct Learnt {
    /// Share of its tokens that are kept, averaged over time.
    kept: f64,
    /// Passes since its last draft.
    idle: usize,
    /// Absent where the length and the submodel are given.
    speeds: Option<Speeds>,
}

impl Learnt {
    /// Before the first draft.
    pub(crate) fn new(speeds: Option<Speeds>) -> Self {
        Self { kept: HOPE, idle: 0, speeds }
    }
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
    /// What is known of each narrow submodel, with speeds where [`measures`](Self::measures) says that they are needed.
    pub(crate) fn new(learnt: Vec<Learnt>) -> Self {
        Self { learnt, choices: 0 }
    }

    /// What was learnt of each narrow submodel.
    pub(crate) fn learnt(self) -> Vec<Learnt> {
        self.learnt
    }

    /// Whether the choice follows from times.
    pub(crate) fn measures(draft: &Draft) -> bool {
        draft.submodels.len() > 1 || matches!(draft.len, DraftLen::Auto { .. })
    }

    /// The next draft; of no tokens where drafting does not pay.
    pub(crate) fn choose(&mut self, draft: &Draft) -> Choice {
        self.choices += 1;
        self.learnt.iter_mut().for_each(|learnt| learnt.idle += 1);
        let best = self.best(draft);
        let stale = (0..self.learnt.len()).max_by_key(|who| self.learnt[*who].idle);
        match (draft.len, stale) {
            (DraftLen::Auto { most }, Some(who)) if self.learnt[who].idle > RETRY => {
                Choice { who, len: TRY.min(most) }
            }
            (DraftLen::Auto { most }, _) => self.beside(best, most),
            _ => best,
        }
    }

    /// The best choice, or now and then one token more or fewer.
    fn beside(&self, best: Choice, most: usize) -> Choice {
        let speeds = self.learnt[best.who].speeds.as_ref();
        let longest = speeds.map_or(0, |speeds| speeds.verify.len() - 1);
        let len = match self.choices % (2 * EXPLORE) {
            _ if best.len == 0 => 0,
            0 => best.len - 1,
            EXPLORE => best.len + 1,
            _ => best.len,
        };
        Choice { len: len.min(most).min(longest), ..best }
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

    /// The verifier is another now; what was learnt of what is kept stays.
    pub(crate) fn retime(&mut self, who: usize, other: &Learnt) {
        self.learnt[who].speeds.clone_from(&other.speeds);
    }

    /// Counts what a turn took that this request had for itself.
    pub(crate) fn timed(&mut self, who: usize, took: &Took) {
        if let Some(speeds) = &mut self.learnt[who].speeds {
            speeds.learn(took);
        }
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

    fn learnt(narrow: f64) -> Learnt {
        let verify = (0..16).map(|k| 1.0 + 0.05 * f64::from(k)).collect();
        Learnt::new(Some(Speeds { narrow, verify }))
    }

    #[test]
    fn the_length_follows_what_is_kept() {
        let auto = draft(1, DraftLen::Auto { most: 8 });
        let mut drafter = Drafter::new(vec![learnt(0.3)]);
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
        assert_eq!(
            Drafter::new(vec![Learnt::new(None)]).choose(&draft(1, DraftLen::Fixed(3))).len,
            3
        );
    }

    #[test]
    fn the_length_follows_what_turns_take() {
        let auto = draft(1, DraftLen::Auto { most: 8 });
        let mut drafter = Drafter::new(vec![learnt(0.1)]);
        let first = drafter.choose(&auto).len;
        assert!(first >= 3, "{first}");
        // Passes of more than two tokens turn out to be slow; one that was held up does not count.
        for _ in 0..200 {
            let drafted = drafter.choose(&auto).len;
            let verifying = if drafted > 1 { 3.0 } else { 1.0 };
            drafter.timed(0, &Took { drafted, drafting: 0.1 * drafted as f64, verifying });
            drafter.learn(0, drafted, drafted);
        }
        let lens: Vec<usize> = (0..EXPLORE)
            .map(|_| {
                let len = drafter.choose(&auto).len;
                drafter.learn(0, len, len);
                len
            })
            .collect();
        assert!(lens.iter().filter(|len| **len != lens[1]).count() <= 1, "{lens:?}");
        let best = drafter.best(&auto).len;
        let rate =
            |len: usize| (len + 1) as f64 / (0.1 * len as f64 + if len > 1 { 3.0 } else { 1.0 });
        assert!(rate(best) > 0.9 * rate(8).max(rate(1)), "{best}");
        let before = drafter.learnt[0].speeds.clone().unwrap();
        drafter.timed(0, &Took { drafted: 1, drafting: 50.0, verifying: 50.0 });
        let after = drafter.learnt[0].speeds.clone().unwrap();
        assert!(after.narrow < 1.2 * before.narrow && after.verify[1] < 1.2 * before.verify[1]);
    }

    #[test]
    fn of_several_the_one_that_pays_drafts() {
        let auto = draft(2, DraftLen::Auto { most: 8 });
        let mut drafter = Drafter::new(vec![learnt(0.1), learnt(0.5)]);
        assert_eq!(drafter.choose(&auto).who, 0, "cheaper, and as promising");
        for _ in 0..100 {
            drafter.learn(0, 1, 0);
            drafter.learn(1, 2, 2);
        }
        assert_eq!(drafter.choose(&auto).who, 1);
    }
}
