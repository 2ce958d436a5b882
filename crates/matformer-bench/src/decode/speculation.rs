//! Speculative decoding: what it gives, beside what its formula says.

use matformer_core::Submodel;
use matformer_engine::{Draft, DraftCache, DraftLen, Drafted, Engine, Request};
use matformer_eval::stats::median;
use matformer_run::Result;
use serde::Serialize;

use super::{
    Bench,
    text::{PROMPT, Text},
    timed,
};

/// Numbers of drafted tokens that are measured.
const LENS: [usize; 4] = [1, 2, 4, 7];
/// How often passes are repeated before they are timed.
const CYCLES: usize = 16;
/// Tokens that are drafted at most where the length is chosen while generating.
const MOST: usize = 8;

/// What speculation with a pair of submodels gives. Times are in passes of a token through the verifier.
#[derive(Debug, Serialize)]
pub struct Speculation {
    /// The text that is continued.
    pub text: String,
    /// The size that verifies.
    pub verifier: String,
    /// The size that drafts.
    pub draft: String,
    /// The format of the weights.
    pub dtype: String,
    /// `shared` or `own`: the cache of the drafts.
    pub cache: &'static str,
    /// Tokens that are drafted at a time; absent where the length is chosen while generating.
    pub k: Option<usize>,
    /// Share of the drafted tokens that were judged and kept.
    pub acceptance: f64,
    /// Of drafting a token, with `own` also of what its cache lacks of a draft that was kept whole; absent as `k`.
    pub c: Option<f64>,
    /// Of verifying k + 1 tokens; absent as `k`.
    pub v: Option<f64>,
    /// Speed-up that the formula says: (1 + tokens kept at a time) / (k·c + v).
    pub predicted: Option<f64>,
    /// Tokens per second over those of plain decoding.
    pub measured: f64,
}

pub(super) fn measure(bench: &Bench<'_>, text: &Text) -> Result<Vec<Speculation>> {
    let widest = |size: &&Submodel| size.widths().iter().sum::<usize>();
    let Some(verifier) = bench.sizes.iter().max_by_key(widest) else { return Ok(Vec::new()) };
    let plain: Vec<Request> = text
        .prompts
        .iter()
        .take(bench.question.prompts)
        .map(|prompt| Request::new(prompt.clone(), verifier.clone(), bench.question.tokens))
        .collect();
    let mut engine = bench.engine(1, PROMPT + bench.question.tokens)?;
    let mut found = Vec::new();
    for draft in bench.sizes.iter().filter(|size| *size != verifier) {
        let name = &text.name;
        let pair = Pair { bench, engine: &mut engine, verifier, draft, plain: &plain, name };
        found.extend(pair.all()?);
    }
    Ok(found)
}

/// Times of passes, in passes of a token through the verifier.
#[derive(Clone, Copy)]
struct Times {
    /// A token through the draft.
    c: f64,
    /// A second one beside it, which only a cache of its own lacks.
    second: f64,
    /// Verifying.
    v: f64,
}

struct Pair<'a> {
    bench: &'a Bench<'a>,
    engine: &'a mut Engine,
    verifier: &'a Submodel,
    draft: &'a Submodel,
    plain: &'a [Request],
    name: &'a str,
}

impl Pair<'_> {
    fn all(mut self) -> Result<Vec<Speculation>> {
        let lens = LENS.map(DraftLen::Fixed).into_iter().chain([DraftLen::Auto { most: MOST }]);
        let mut found = Vec::new();
        for len in lens {
            for cache in [DraftCache::Shared, DraftCache::Own] {
                found.push(self.one(len, cache)?);
            }
        }
        Ok(found)
    }

    /// The times where k tokens are drafted at a time, in the middle of an answer. Each pass follows the one that it
    /// follows there: of what one has left in the caches of the processor, the next finds as much.
    fn times(&mut self, k: usize, cache: DraftCache) -> Result<Times> {
        let context = self.bench.model.config().context;
        let room = (PROMPT + self.bench.question.tokens).min(context);
        let past = room.saturating_sub((self.bench.question.tokens / 2).max(k + 1));
        let (draft, verifier) = (self.draft, self.verifier);
        let drafting = |first: usize| {
            let mut passes = vec![vec![(draft, first)]];
            passes.resize(k, vec![(draft, 1)]);
            passes.push(vec![(verifier, k + 1)]);
            passes
        };
        let one = self.steady(&[vec![(verifier, 1)]], past)?[0];
        let seconds = self.steady(&drafting(1), past)?;
        let c = seconds[..k].iter().sum::<f64>() / k as f64 / one;
        let second = match cache {
            DraftCache::Own => (self.steady(&drafting(2), past)?[0] - seconds[0]).max(0.0) / one,
            DraftCache::Shared => 0.0,
        };
        Ok(Times { c, second, v: seconds[k] / one })
    }

    /// Seconds of each of these passes when they are repeated so often that the caches of the processor hold what they
    /// hold while generating: the prompt has left its own values there.
    fn steady(&mut self, passes: &[Vec<(&Submodel, usize)>], past: usize) -> Result<Vec<f64>> {
        let mut seconds = self.engine.seconds(&vec![passes; CYCLES].concat(), past)?;
        Ok(seconds.split_off((CYCLES - 1) * passes.len()))
    }

    fn one(&mut self, len: DraftLen, cache: DraftCache) -> Result<Speculation> {
        let draft = Draft { cache, ..Draft::new(self.draft.clone(), len) };
        let drafted = |request: &Request| Request { draft: Some(draft.clone()), ..request.clone() };
        let requests: Vec<Request> = self.plain.iter().map(drafted).collect();
        let k = match len {
            DraftLen::Fixed(k) => Some(k),
            DraftLen::Auto { .. } => None,
        };
        let (mut ratios, mut times) = (Vec::new(), Vec::new());
        let mut all = Drafted::default();
        for _ in 0..self.bench.question.rounds {
            // In turn, so that a slower moment of the machine strikes all.
            let plain = self.rate(self.plain, &mut Drafted::default())?;
            times.extend(k.map(|k| self.times(k, cache)).transpose()?);
            all = Drafted::default();
            ratios.push(self.rate(&requests, &mut all)? / plain);
        }
        let passes = all.kept_at_once.iter().sum::<usize>().max(1) as f64;
        let kept = all.kept as f64 / passes;
        // The last of a draft that was kept whole has not been through the draft model: its own cache lacks it.
        let whole = k.and_then(|k| all.kept_at_once.get(k)).map_or(0.0, |n| *n as f64 / passes);
        let drafting = |t: &Times| t.c + whole * t.second / k.unwrap_or(1) as f64;
        let predicted = |t: &Times| (1.0 + kept) / (k.unwrap_or(0) as f64 * drafting(t) + t.v);
        let of_rounds = |value: &dyn Fn(&Times) -> f64| {
            k.map(|_| median(times.iter().map(value).collect::<Vec<_>>()))
        };
        Ok(Speculation {
            text: self.name.to_owned(),
            verifier: self.bench.label(self.verifier),
            draft: self.bench.label(self.draft),
            dtype: self.bench.format.to_string(),
            cache: if cache == DraftCache::Own { "own" } else { "shared" },
            k,
            acceptance: all.acceptance(),
            c: of_rounds(&drafting),
            v: of_rounds(&|t| t.v),
            predicted: of_rounds(&predicted),
            measured: median(ratios),
        })
    }

    /// Tokens per second of all requests, one after the other.
    fn rate(&mut self, requests: &[Request], drafted: &mut Drafted) -> Result<f64> {
        let (mut tokens, mut seconds) = (0, 0.0);
        for request in requests {
            let timed = timed(self.engine, std::slice::from_ref(request))?;
            tokens += timed.tokens;
            seconds += timed.seconds - timed.first;
            timed.answers.iter().for_each(|answer| drafted.join(&answer.drafted));
        }
        Ok(tokens as f64 / seconds)
    }
}
