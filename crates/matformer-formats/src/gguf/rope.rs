//! The rule `llama3` of the rotary embedding, which GGUF has as a factor per pair of a head.

use serde_json::{Value, json};

/// How far factors may be from those of a rule, as a part of one.
const TOLERANCE: f64 = 1e-6;

/// Slows slow rotations down, as Llama 3.1 does: pairs that turn fewer than `low` times in
/// `original` positions by `factor`, those that turn more than `high` times not, others in between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Llama3 {
    pub(super) factor: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) original: f64,
}

impl Llama3 {
    /// What divides the angle of each pair of a head of `2 × pairs`.
    pub(super) fn factors(self, pairs: usize, theta: f64) -> Vec<f32> {
        (0..pairs).map(|pair| self.divisor(turns(pair, pairs, theta)) as f32).collect()
    }

    /// The factor of a pair that turns so many times per position.
    fn divisor(self, turns: f64) -> f64 {
        let turns = self.original * turns;
        if turns > self.high {
            1.0
        } else if turns < self.low {
            self.factor
        } else {
            let smooth = (turns - self.low) / (self.high - self.low);
            1.0 / ((1.0 - smooth) / self.factor + smooth)
        }
    }

    /// What `rope_scaling` in `config.json` holds, if the rule changes anything.
    pub(super) fn config(self) -> Option<Value> {
        let changes = self.factor != 1.0;
        changes.then(|| {
            json!({
                "rope_type": "llama3",
                "factor": self.factor,
                "low_freq_factor": self.low,
                "high_freq_factor": self.high,
                "original_max_position_embeddings": self.original as u64,
            })
        })
    }
}

/// How many times a pair turns per position.
fn turns(pair: usize, pairs: usize, theta: f64) -> f64 {
    theta.powf(-(pair as f64) / pairs as f64) / std::f64::consts::TAU
}

/// The rule that gives these factors, to within [`TOLERANCE`].
pub(super) fn llama3_rule(factors: &[f32], theta: f64) -> Option<Llama3> {
    let factor = factors.iter().map(|f| f64::from(*f)).fold(1.0, f64::max);
    let factor = super::container::shortest(factor as f32);
    let llama = Llama3 { factor, low: 1.0, high: 4.0, original: 8192.0 };
    let between = Between::find(factors, factor, theta);
    let others = between.into_iter().flat_map(|between| [between.as_llama(), between.solved()]);
    let fits = |rule: &Llama3| {
        let expected = rule.factors(factors.len(), theta);
        let near = |(a, b): (&f32, &f32)| {
            let (a, b) = (f64::from(*a), f64::from(*b));
            (a - b).abs() <= TOLERANCE * b
        };
        let sane = rule.high > 1.0 && (1.0..1e9).contains(&rule.original);
        sane && factor.is_finite() && factors.iter().zip(&expected).all(near)
    };
    std::iter::once(llama).chain(others).find(fits)
}

/// The two pairs in between that are furthest apart: how often each turns per position, and its share
/// of the fast rotation, which is a linear function of the turns.
#[derive(Clone, Copy)]
struct Between {
    factor: f64,
    fast: (f64, f64),
    slow: (f64, f64),
}

impl Between {
    fn find(factors: &[f32], factor: f64, theta: f64) -> Option<Self> {
        let between = |(pair, found): (usize, &f32)| {
            let share = (1.0 / f64::from(*found) - 1.0 / factor) / (1.0 - 1.0 / factor);
            let inside = (1e-4..1.0 - 1e-4).contains(&share);
            inside.then(|| (turns(pair, factors.len(), theta), share))
        };
        let points: Vec<(f64, f64)> = factors.iter().enumerate().filter_map(between).collect();
        Some(Self { factor, fast: *points.first()?, slow: *points.last()? })
    }

    /// The rule with the bounds of Llama 3.1, from one of the pairs.
    fn as_llama(self) -> Llama3 {
        let (turns, share) = self.fast;
        let original = ((3.0 * share + 1.0) / turns).round();
        Llama3 { factor: self.factor, low: 1.0, high: 4.0, original }
    }

    /// The rule from both: share = (original × turns − 1) / (high − 1). `low` is 1, which any rule
    /// can be written with.
    fn solved(self) -> Llama3 {
        let slope = (self.fast.1 - self.slow.1) / (self.fast.0 - self.slow.0);
        let span = -1.0 / (self.slow.1 - slope * self.slow.0);
        let high = ((1.0 + span) * 1e3).round() / 1e3;
        Llama3 { factor: self.factor, low: 1.0, high, original: (slope * span).round() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_give_their_rule_back() {
        for rule in [
            Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 },
            Llama3 { factor: 32.0, low: 1.0, high: 4.0, original: 8192.0 },
            Llama3 { factor: 4.0, low: 1.0, high: 8.0, original: 4096.0 },
        ] {
            let factors = rule.factors(32, 5e5);
            assert_eq!(llama3_rule(&factors, 5e5), Some(rule));
        }
        let small = Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 16.0 };
        assert_eq!(llama3_rule(&small.factors(2, 1e4), 1e4), Some(small), "one pair in between");
    }

    #[test]
    fn factors_of_another_rule_are_not_taken_for_it() {
        let rule = Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };
        let mut factors = rule.factors(32, 5e5);
        factors[14] *= 1.001;
        assert_eq!(llama3_rule(&factors, 5e5), None);
        assert_eq!(llama3_rule(&[f32::NAN; 32], 5e5), None);
        assert_eq!(llama3_rule(&[0.0; 32], 5e5), None);
    }
}
