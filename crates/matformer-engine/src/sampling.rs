//! How a token is chosen from logits.

use matformer_core::rng;

use crate::{Error, Result};

/// What changes the distribution of the next token, in the order of the fields: penalties and biases on the
/// logits, then the temperature, then what is left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Repetition penalty: for tokens in the prompt or the answer so far, positive logits are divided by this value and
    /// negative logits multiplied by it (Keskar et al. 2019, arXiv 1909.05858). 1 has no effect.
    pub repetition_penalty: f64,
    /// Subtracted from a token's logit for each time that it is in the answer so far; from −2 to 2.
    pub frequency_penalty: f64,
    /// Subtracted once from the logit of a token that is in the answer so far; from −2 to 2.
    pub presence_penalty: f64,
    /// Added to the logits of tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// 0: the most likely token. Otherwise logits are divided by it.
    pub temperature: f64,
    /// Only the so many most likely tokens are left (0: all).
    pub top_k: usize,
    /// Only the most likely tokens that together have this probability are left (1: all).
    pub top_p: f64,
    /// Only tokens with at least this share of the most likely one's probability are left (0: all).
    pub min_p: f64,
    /// Seed; each position has a draw of its own.
    pub seed: u64,
}

impl Default for Sampling {
    /// The most likely token.
    fn default() -> Self {
        Self {
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: 0,
        }
    }
}

impl Sampling {
    /// Checks every field; `vocab_size` is that of the model.
    ///
    /// # Errors
    /// [`Error::Option`] names the first that is out of range.
    pub fn validate(&self, vocab_size: usize) -> Result<()> {
        let check = |option, found: f64, fits: bool, expected| {
            if fits {
                Ok(())
            } else {
                Err(Error::Option { option, found: found.to_string(), expected })
            }
        };
        let t = self.temperature;
        check("temperature", t, t >= 0.0 && t.is_finite(), "0 or more")?;
        let p = self.top_p;
        check("top_p", p, p > 0.0 && p <= 1.0, "above 0, at most 1")?;
        check("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "from 0 to 1")?;
        let r = self.repetition_penalty;
        check("repetition_penalty", r, r > 0.0 && r.is_finite(), "above 0")?;
        for (option, found) in [
            ("frequency_penalty", self.frequency_penalty),
            ("presence_penalty", self.presence_penalty),
        ] {
            check(option, found, (-2.0..=2.0).contains(&found), "from -2 to 2")?;
        }
        for (token, bias) in &self.logit_bias {
            if *token as usize >= vocab_size {
                let expected = "tokens of the vocabulary";
                return Err(Error::Option {
                    option: "logit_bias",
                    found: token.to_string(),
                    expected,
                });
            }
            check("logit_bias", f64::from(*bias), !bias.is_nan(), "numbers")?;
        }
        Ok(())
    }

    /// Whether the most likely token is always chosen.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Whether penalties or biases change any logit.
    pub(crate) fn adjusts(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.frequency_penalty != 0.0
            || self.presence_penalty != 0.0
            || !self.logit_bias.is_empty()
    }

    /// Applies penalties and biases. `answer` is what was generated so far.
    pub(crate) fn adjust(&self, logits: &mut [f32], prompt: &[u32], answer: &[u32]) {
        if self.repetition_penalty != 1.0 {
            let mut seen: Vec<u32> = prompt.iter().chain(answer).copied().collect();
            seen.sort_unstable();
            seen.dedup();
            let by = self.repetition_penalty as f32;
            for token in seen {
                let logit = &mut logits[token as usize];
                *logit = if *logit > 0.0 { *logit / by } else { *logit * by };
            }
        }
        if self.frequency_penalty != 0.0 || self.presence_penalty != 0.0 {
            let mut seen = answer.to_vec();
            seen.sort_unstable();
            for same in seen.chunk_by(|a, b| a == b) {
                let times = same.len() as f64;
                let less = self.frequency_penalty * times + self.presence_penalty;
                logits[same[0] as usize] -= less as f32;
            }
        }
        for (token, bias) in &self.logit_bias {
            logits[*token as usize] += bias;
        }
    }

    /// The distribution that a token is drawn from, from adjusted logits.
    pub(crate) fn distribution(&self, logits: &[f32]) -> Distribution {
        if self.is_greedy() {
            return Distribution { tokens: vec![(most_likely(logits), 1.0)] };
        }
        let tokens = candidates(logits, self.top_k);
        let largest = tokens.iter().fold(f32::NEG_INFINITY, |max, (_, logit)| max.max(*logit));
        let weight = |logit: f32| (f64::from(logit - largest) / self.temperature).exp();
        let mut tokens: Vec<(u32, f64)> =
            tokens.into_iter().map(|(token, logit)| (token, weight(logit))).collect();
        if self.min_p > 0.0 {
            // The largest weight is 1.
            tokens.retain(|(_, weight)| *weight >= self.min_p);
        }
        if self.top_p < 1.0 {
            nucleus(&mut tokens, self.top_p);
            tokens.sort_unstable_by_key(|(token, _)| *token);
        }
        let total: f64 = tokens.iter().map(|(_, weight)| weight).sum();
        tokens.iter_mut().for_each(|(_, weight)| *weight /= total);
        Distribution { tokens }
    }

    /// A number from 0 to below 1 for a position; `what` tells draws of one position apart.
    pub(crate) fn draw(&self, what: &str, position: usize) -> f64 {
        rng::unit(&mut rng::keyed(self.seed, what, position as u64))
    }
}

/// Probabilities of the tokens that are left, by token; they add up to 1, or are all that is left of another.
#[derive(Clone, Debug)]
pub(crate) struct Distribution {
    tokens: Vec<(u32, f64)>,
}

impl Distribution {
    /// The token at a draw from 0 to below 1.
    pub(crate) fn at(&self, draw: f64) -> u32 {
        let mut left = draw * self.tokens.iter().map(|(_, p)| p).sum::<f64>();
        for (token, p) in &self.tokens {
            left -= p;
            if left < 0.0 {
                return *token;
            }
        }
        // Rounding: the last that has any.
        self.tokens.iter().rev().find(|(_, p)| *p > 0.0).map_or(0, |(token, _)| *token)
    }

    /// The probability of a token.
    pub(crate) fn of(&self, token: u32) -> f64 {
        let at = self.tokens.binary_search_by_key(&token, |(token, _)| *token);
        at.map_or(0.0, |at| self.tokens[at].1)
    }

    /// What is left of it where another distribution has less: what a rejected draft is replaced from.
    pub(crate) fn beyond(&self, other: &Self) -> Self {
        let rest = |(token, p): &(u32, f64)| (*token, (p - other.of(*token)).max(0.0));
        Self { tokens: self.tokens.iter().map(rest).collect() }
    }
}

/// The largest logit's token; of several the first.
pub(crate) fn most_likely(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// The `k` largest logits, or all, by token; of equal ones at the border those of the lower tokens.
fn candidates(logits: &[f32], k: usize) -> Vec<(u32, f32)> {
    let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    if k > 0 && k < all.len() {
        all.select_nth_unstable_by(k - 1, |a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all.truncate(k);
        all.sort_unstable_by_key(|(token, _)| *token);
    }
    all
}

/// Leaves the heaviest tokens that together have the share `p`; only as many are sorted as are needed.
fn nucleus(tokens: &mut Vec<(u32, f64)>, p: f64) {
    let heavier = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let needed = p * tokens.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut tried = 64;
    loop {
        let n = tried.min(tokens.len());
        if n < tokens.len() {
            tokens.select_nth_unstable_by(n - 1, heavier);
        }
        tokens[..n].sort_unstable_by(heavier);
        let mut sum = 0.0;
        let enough = tokens[..n].iter().position(|(_, weight)| {
            sum += weight;
            sum >= needed
        });
        if let Some(last) = enough {
            tokens.truncate(last + 1);
            return;
        }
        if n == tokens.len() {
            return;
        }
        tried *= 8;
    }
}

/// Log-probabilities of the softmax of logits: that of a token, and the `n` largest with their tokens.
pub(crate) fn logprobs(logits: &[f32], token: u32, n: usize) -> (f32, Vec<(u32, f32)>) {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |max, logit| max.max(*logit));
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    let lse = f64::from(largest) + sum.ln();
    let of = |logit: f32| (f64::from(logit) - lse) as f32;
    let mut top: Vec<(u32, f32)> = if n == 0 { Vec::new() } else { candidates(logits, n) };
    top.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    top.truncate(n);
    top.iter_mut().for_each(|(_, logit)| *logit = of(*logit));
    (of(logits[token as usize]), top)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled(temperature: f64) -> Sampling {
        Sampling { temperature, ..Sampling::default() }
    }

    /// χ² of counts against expected shares.
    fn chi_square(counts: &[usize], shares: &[f64]) -> f64 {
        let n: usize = counts.iter().sum();
        let of = |(count, share): (&usize, &f64)| {
            let expected = share * n as f64;
            if expected == 0.0 {
                assert_eq!(*count, 0);
                0.0
            } else {
                (*count as f64 - expected).powi(2) / expected
            }
        };
        counts.iter().zip(shares).map(of).sum()
    }

    #[test]
    fn every_rule_draws_from_its_definition() {
        let logits = [1.0f32, 3.0, 2.0, 0.0, 2.5, -1.0];
        let softmax = |temperature: f64, kept: &[usize]| -> Vec<f64> {
            let weight = |i: usize| {
                if kept.contains(&i) { (f64::from(logits[i]) / temperature).exp() } else { 0.0 }
            };
            let total: f64 = (0..6).map(weight).sum();
            (0..6).map(|i| weight(i) / total).collect()
        };
        let cases = [
            (sampled(1.0), softmax(1.0, &[0, 1, 2, 3, 4, 5])),
            (sampled(0.5), softmax(0.5, &[0, 1, 2, 3, 4, 5])),
            (Sampling { top_k: 3, ..sampled(1.0) }, softmax(1.0, &[1, 2, 4])),
            // Shares 0.46, 0.28, 0.17, 0.06, …: the third passes 0.8.
            (Sampling { top_p: 0.8, ..sampled(1.0) }, softmax(1.0, &[1, 2, 4])),
            (Sampling { top_p: 0.3, ..sampled(1.0) }, softmax(1.0, &[1])),
            // e^(−1) is 0.37 of the largest, e^(−2) is 0.14.
            (Sampling { min_p: 0.2, ..sampled(1.0) }, softmax(1.0, &[1, 2, 4])),
            (
                Sampling { top_k: 4, top_p: 0.9, min_p: 0.01, ..sampled(2.0) },
                softmax(2.0, &[0, 1, 2, 4]),
            ),
        ];
        for (sampling, shares) in cases {
            let distribution = sampling.distribution(&logits);
            let mut counts = [0; 6];
            for position in 0..20_000 {
                counts[distribution.at(sampling.draw("token", position)) as usize] += 1;
            }
            // 5 degrees of freedom: above 20.5 once in a thousand.
            let found = chi_square(&counts, &shares);
            assert!(found < 20.5, "{sampling:?}: {found}, {counts:?}, {shares:?}");
        }
        assert_eq!(sampled(0.0).distribution(&logits).at(0.99), 1);
        assert_eq!(most_likely(&[0.0, 3.0, 3.0, -1.0]), 1, "of equal ones the first");
    }

    #[test]
    fn penalties_and_biases_change_the_logits_that_they_name() {
        let adjusted = |sampling: Sampling| {
            let mut logits = [2.0f32, -2.0, 1.0, 1.0];
            sampling.adjust(&mut logits, &[0, 1], &[2, 2, 0]);
            logits
        };
        let none = Sampling::default();
        assert_eq!(adjusted(none.clone()), [2.0, -2.0, 1.0, 1.0]);
        assert_eq!(
            adjusted(Sampling { repetition_penalty: 2.0, ..none.clone() }),
            [1.0, -4.0, 0.5, 1.0]
        );
        assert_eq!(
            adjusted(Sampling { frequency_penalty: 0.5, ..none.clone() }),
            [1.5, -2.0, 0.0, 1.0]
        );
        assert_eq!(
            adjusted(Sampling { presence_penalty: 0.5, ..none.clone() }),
            [1.5, -2.0, 0.5, 1.0]
        );
        assert_eq!(
            adjusted(Sampling { logit_bias: vec![(3, -9.0)], ..none }),
            [2.0, -2.0, 1.0, -8.0]
        );
    }

    #[test]
    fn a_nucleus_of_a_large_vocabulary_is_that_of_a_whole_sort() {
        let logits: Vec<f32> =
            (0..5000).map(|i| ((i * 7919 % 5003) as f32 / 900.0).sin() * 3.0).collect();
        for (top_k, top_p) in [(0, 0.01), (0, 0.5), (0, 0.999), (100, 0.9), (4999, 1.0)] {
            let sampling = Sampling { top_k, top_p, ..sampled(1.0) };
            let mut sorted: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
            sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            sorted.truncate(if top_k > 0 { top_k } else { 5000 });
            let weights: Vec<f64> = sorted.iter().map(|(_, l)| f64::from(*l).exp()).collect();
            let total: f64 = weights.iter().sum();
            let mut sum = 0.0;
            let n = weights
                .iter()
                .take_while(|w| {
                    let go = sum < top_p * total;
                    sum += **w;
                    go
                })
                .count();
            let mut expected: Vec<u32> = sorted[..n].iter().map(|(token, _)| *token).collect();
            let mut found: Vec<u32> =
                sampling.distribution(&logits).tokens.iter().map(|(t, _)| *t).collect();
            expected.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, expected, "top_k {top_k}, top_p {top_p}");
        }
    }

    #[test]
    fn what_is_left_beyond_another_is_by_token() {
        let logits =
            |by: f32| (0..300).map(|i| ((i * 37 % 101) as f32 * by).sin()).collect::<Vec<f32>>();
        let nucleus = Sampling { top_p: 0.7, ..sampled(0.5) };
        let (ours, theirs) =
            (nucleus.distribution(&logits(0.3)), nucleus.distribution(&logits(0.31)));
        let rest = ours.beyond(&theirs);
        let mut some = 0;
        for token in 0..300 {
            let expected = (ours.of(token) - theirs.of(token)).max(0.0);
            assert_eq!(rest.of(token), expected, "{token}");
            some += usize::from(expected > 0.0 && theirs.of(token) > 0.0);
        }
        assert!(some > 10, "{some}");
        assert!((0..300).map(|token| ours.of(token)).sum::<f64>() > 0.999);
    }

    #[test]
    fn log_probabilities_are_those_of_the_softmax() {
        let logits = [1.0f32, 3.0, 2.0];
        let total: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        let (found, top) = logprobs(&logits, 2, 2);
        assert!((f64::from(found) - (2.0 - total.ln())).abs() < 1e-6);
        assert_eq!(top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [1, 2]);
        assert!(
            (top.iter().map(|(_, p)| f64::from(*p).exp()).sum::<f64>() - 1.0
                + (1.0f64.exp() / total))
                .abs()
                < 1e-6
        );
    }

    #[test]
    fn options_out_of_range_are_named() {
        let none = Sampling::default();
        let cases = [
            (
                Sampling { temperature: -1.0, ..none.clone() },
                "`temperature` is -1, expected 0 or more",
            ),
            (Sampling { top_p: 0.0, ..none.clone() }, "`top_p` is 0, expected above 0, at most 1"),
            (Sampling { min_p: 1.5, ..none.clone() }, "`min_p` is 1.5, expected from 0 to 1"),
            (
                Sampling { repetition_penalty: 0.0, ..none.clone() },
                "`repetition_penalty` is 0, expected above 0",
            ),
            (
                Sampling { frequency_penalty: 3.0, ..none.clone() },
                "`frequency_penalty` is 3, expected from -2 to 2",
            ),
            (
                Sampling { logit_bias: vec![(9, 1.0)], ..none.clone() },
                "`logit_bias` is 9, expected tokens of the vocabulary",
            ),
        ];
        for (sampling, expected) in cases {
            assert_eq!(sampling.validate(5).unwrap_err().to_string(), expected);
        }
        none.validate(5).unwrap();
    }
}
