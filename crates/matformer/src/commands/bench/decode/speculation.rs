//! Speculative decoding: what it gives, beside what its formula says.

use anyhow::Result;
use matformer::{
    core::Submodel,
    engine::{Draft, DraftCache, DraftLen, Drafted, Engine, Request},
    timing::median,
};
use serde::Serialize;

use super::{
    Bench,
    text::{PROMPT, Text},
    timed,
};

/// Numbers of drafted tokens that are measured.
const LENS: [usize; 4] = [1, 2, 4, 7];
/// Tokens that are drafted at most where the length is chosen while generating.
const MOST: usize = 8;

/// What speculation with a pair of submodels gives. Times are in passes of a token through the verifier.
#[derive(Serialize)]
pub(super) struct Speculation {
    pub(super) text: String,
    pub(super) verifier: String,
    pub(super) draft: String,
    pub(super) dtype: String,
    /// `shared` or `own`: the cache of the drafts.
    pub(super) cache: &'static str,
    /// Tokens that are drafted at a time; absent where the length is chosen while generating.
    pub(super) k: Option<usize>,
    /// Share of the drafted tokens that were judged and kept.
    pub(super) acceptance: f64,
    /// Of drafting a token.
    pub(super) c: f64,
    /// Of verifying k + 1 tokens.
    pub(super) v: Option<f64>,
    /// Speed-up that the formula says: (1 + tokens kept at a time) / (k·c + v).
    pub(super) predicted: Option<f64>,
    /// Tokens per second over those of plain decoding.
    pub(super) measured: f64,
}

pub(super) fn measure(bench: &Bench<'_>, text: &Text) -> Result<Vec<Speculation>> {
    let widest = |size: &&Submodel| size.widths().iter().sum::<usize>();
    let Some(verifier) = bench.sizes.iter().max_by_key(widest) else { return Ok(Vec::new()) };
    let plain: Vec<Request> = text
        .prompts
        .iter()
        .take(bench.args.prompts)
        .map(|prompt| Request::new(prompt.clone(), verifier.clone(), bench.args.tokens))
        .collect();
    let mut engine = bench.engine(1, PROMPT + bench.args.tokens)?;
    let mut found = Vec::new();
    for draft in bench.sizes.iter().filter(|size| *size != verifier) {
        let name = &text.name;
        let pair = Pair { bench, engine: &mut engine, verifier, draft, plain: &plain, name };
        found.extend(pair.all()?);
    }
    Ok(found)
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
        let one = self.engine.seconds(&[(self.verifier, 1)])?;
        let c = self.engine.seconds(&[(self.draft, 1)])? / one;
        let lens = LENS.map(DraftLen::Fixed).into_iter().chain([DraftLen::Auto { most: MOST }]);
        let mut found = Vec::new();
        for len in lens {
            for cache in [DraftCache::Shared, DraftCache::Own] {
                let v = match len {
                    DraftLen::Fixed(k) => {
                        Some(self.engine.seconds(&[(self.verifier, k + 1)])? / one)
                    }
                    DraftLen::Auto { .. } => None,
                };
                found.push(self.one(len, cache, c, v)?);
            }
        }
        Ok(found)
    }

    fn one(
        &mut self,
        len: DraftLen,
        cache: DraftCache,
        c: f64,
        v: Option<f64>,
    ) -> Result<Speculation> {
        let draft = Draft { cache, ..Draft::new(self.draft.clone(), len) };
        let drafted = |request: &Request| Request { draft: Some(draft.clone()), ..request.clone() };
        let requests: Vec<Request> = self.plain.iter().map(drafted).collect();
        let mut ratios = Vec::new();
        let mut all = Drafted::default();
        for _ in 0..self.bench.args.rounds {
            // In turn, so that a slower moment of the machine strikes both.
            let plain = self.rate(self.plain, &mut Drafted::default())?;
            all = Drafted::default();
            ratios.push(self.rate(&requests, &mut all)? / plain);
        }
        let passes = all.kept_at_once.iter().sum::<usize>().max(1) as f64;
        let kept = all.kept as f64 / passes;
        let k = match len {
            DraftLen::Fixed(k) => Some(k),
            DraftLen::Auto { .. } => None,
        };
        let predicted = k.zip(v).map(|(k, v)| (1.0 + kept) / (k as f64 * c + v));
        Ok(Speculation {
            text: self.name.to_owned(),
            verifier: self.bench.label(self.verifier),
            draft: self.bench.label(self.draft),
            dtype: self.bench.format.to_string(),
            cache: if cache == DraftCache::Own { "own" } else { "shared" },
            k,
            acceptance: all.acceptance(),
            c,
            v,
            predicted,
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
