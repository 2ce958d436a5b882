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
    let candidates = [Some(llama), solved(factors, factor, theta)];
    let fits = |rule: &Llama3| {
        let expected = rule.factors(factors.len(), theta);
        let near = |(a, b): (&f32, &f32)| {
            let (a, b) = (f64::from(*a), f64::from(*b));
            (a - b).abs() <= TOLERANCE * b
        };
        factor.is_finite() && factors.iter().zip(&expected).all(near)
    };
    candidates.into_iter().flatten().find(fits)
}

/// The rule from the two factors in between that are furthest apart: there the share of the fast
/// rotation is a linear function of the turns. `low` is 1, of rules that are the same.
fn solved(factors: &[f32], factor: f64, theta: f64) -> Option<Llama3> {
    let between = |(pair, found): (usize, &f32)| {
        let share = (1.0 / f64::from(*found) - 1.0 / factor) / (1.0 - 1.0 / factor);
        let inside = (1e-4..1.0 - 1e-4).contains(&share);
        inside.then(|| (turns(pair, factors.len(), theta), share))
    };
    let points: Vec<(f64, f64)> = factors.iter().enumerate().filter_map(between).collect();
    let ((x0, y0), (x1, y1)) = (*points.first()?, *points.last()?);
    let slope = (y1 - y0) / (x1 - x0);
    let at_zero = y0 - slope * x0;
    // share = (original × turns − 1) / (high − 1)
    let span = -1.0 / at_zero;
    let rule = Llama3 {
        factor,
        low: 1.0,
        high: ((1.0 + span) * 1e3).round() / 1e3,
        original: (slope * span).round(),
    };
    (rule.high > 1.0 && rule.original >= 1.0 && rule.original < 1e9).then_some(rule)
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
