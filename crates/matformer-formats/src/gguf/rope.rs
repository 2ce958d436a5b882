//! The rule `llama3` of the rotary embedding, which GGUF has as a factor per pair of a head.

use matformer_lm::RopeScaling;
use matformer_nn::ops::RopeRule;

/// How far factors may be from those of a rule, as a part of one.
const TOLERANCE: f64 = 1e-6;

/// What divides the angle of each pair of a head of `head_dim`.
pub(super) fn factors(scaling: RopeScaling, head_dim: usize, theta: f64) -> Vec<f32> {
    let plain = RopeRule::Default { theta }.frequencies(head_dim);
    let scaled = RopeScaling::rule(Some(scaling), theta).frequencies(head_dim);
    plain.iter().zip(scaled).map(|(plain, scaled)| (plain / scaled) as f32).collect()
}

/// Key of the rule in JSON, as run files have it in `rope_scaling`. It is believed if it gives the file's factors.
pub(super) const RULE: &str = "matformer.rope_scaling";

/// Whether a rule gives these factors, to within [`TOLERANCE`].
pub(super) fn gives(rule: RopeScaling, found: &[f32], theta: f64) -> bool {
    let near = |(a, b): (&f32, f32)| {
        let (a, b) = (f64::from(*a), f64::from(b));
        (a - b).abs() <= TOLERANCE * b
    };
    found.iter().zip(factors(rule, 2 * found.len(), theta)).all(near)
}

/// The rule `llama3` that gives these factors, where they tell it.
pub(super) fn llama3_rule(found: &[f32], theta: f64) -> Option<RopeScaling> {
    let factor = found.iter().map(|f| f64::from(*f)).fold(1.0, f64::max);
    let factor = super::container::shortest(factor as f32);
    let between = Between::find(found, factor, theta);
    let others = between.into_iter().flat_map(|between| [between.as_llama(), between.solved()]);
    let fits = |rule: &RopeScaling| factor.is_finite() && gives(*rule, found, theta);
    let all = std::iter::once(llama3(factor, 4.0, 8192.0)).chain(others);
    all.flatten().find(fits)
}

/// The rule with a low bound of 1, which any rule can be written with; `None` for numbers that no
/// model has.
fn llama3(factor: f64, high_freq_factor: f64, original_context: f64) -> Option<RopeScaling> {
    let sane = high_freq_factor > 1.0 && (1.0..1e9).contains(&original_context);
    let original_context = original_context as usize;
    sane.then_some(RopeScaling::Llama3 {
        factor,
        low_freq_factor: 1.0,
        high_freq_factor,
        original_context,
    })
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
        let turns =
            |pair: usize| theta.powf(-(pair as f64) / factors.len() as f64) / std::f64::consts::TAU;
        let between = |(pair, found): (usize, &f32)| {
            let share = (1.0 / f64::from(*found) - 1.0 / factor) / (1.0 - 1.0 / factor);
            let inside = (1e-4..1.0 - 1e-4).contains(&share);
            inside.then(|| (turns(pair), share))
        };
        let points: Vec<(f64, f64)> = factors.iter().enumerate().filter_map(between).collect();
        Some(Self { factor, fast: *points.first()?, slow: *points.last()? })
    }

    /// The rule with the bounds of Llama 3.1, from one of the pairs.
    fn as_llama(self) -> Option<RopeScaling> {
        let (turns, share) = self.fast;
        llama3(self.factor, 4.0, ((3.0 * share + 1.0) / turns).round())
    }

    /// The rule from both: share = (original × turns − 1) / (high − 1).
    fn solved(self) -> Option<RopeScaling> {
        let slope = (self.fast.1 - self.slow.1) / (self.fast.0 - self.slow.0);
        let span = -1.0 / (self.slow.1 - slope * self.slow.0);
        let high = ((1.0 + span) * 1e3).round() / 1e3;
        llama3(self.factor, high, (slope * span).round())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(factor: f64, high: f64, original: f64) -> RopeScaling {
        llama3(factor, high, original).unwrap()
    }

    #[test]
    fn factors_give_their_rule_back() {
        for rule in [rule(8.0, 4.0, 8192.0), rule(32.0, 4.0, 8192.0), rule(4.0, 8.0, 4096.0)] {
            assert_eq!(llama3_rule(&factors(rule, 64, 5e5), 5e5), Some(rule));
        }
        let small = rule(8.0, 4.0, 16.0);
        assert_eq!(llama3_rule(&factors(small, 4, 1e4), 1e4), Some(small), "one pair in between");
    }

    #[test]
    fn a_rule_is_told_from_others_by_its_factors() {
        let of_a_short_context = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 2.0,
            high_freq_factor: 4.0,
            original_context: 32,
        };
        let found = factors(of_a_short_context, 16, 1e4);
        assert!(gives(of_a_short_context, &found, 1e4));
        assert!(!gives(rule(8.0, 4.0, 8192.0), &found, 1e4));
        assert_eq!(llama3_rule(&found, 1e4), None, "factors alone do not tell it");
    }

    #[test]
    fn factors_of_another_rule_are_not_taken_for_it() {
        let mut other = factors(rule(8.0, 4.0, 8192.0), 64, 5e5);
        other[14] *= 1.001;
        assert_eq!(llama3_rule(&other, 5e5), None);
        assert_eq!(llama3_rule(&[f32::NAN; 32], 5e5), None);
        assert_eq!(llama3_rule(&[0.0; 32], 5e5), None);
    }
}
