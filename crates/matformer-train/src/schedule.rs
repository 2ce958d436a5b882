//! The learning rate as a pure function of the step.

use crate::{Schedule, TrainConfig};

/// Learning rate of `step` (from 0): linear warm-up, then the schedule.
pub fn learning_rate(config: &TrainConfig, step: u64) -> f64 {
    let c = config;
    if step < c.warmup {
        return c.learning_rate * (step + 1) as f64 / c.warmup as f64;
    }
    let done = (step - c.warmup) as f64 / c.steps.saturating_sub(c.warmup).max(1) as f64;
    let done = done.min(1.0);
    // How far the rate has come from the peak to the last one, from 0 to 1.
    let down = match c.schedule {
        Schedule::Cosine => (1.0 - (std::f64::consts::PI * done).cos()) / 2.0,
        Schedule::Wsd => {
            let left = 1.0 - step as f64 / c.steps as f64;
            (1.0 - left / c.decay.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
        }
    };
    c.learning_rate * (1.0 - down * (1.0 - c.min_lr))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(schedule: Schedule) -> TrainConfig {
        TrainConfig {
            steps: 100,
            warmup: 10,
            learning_rate: 1.0,
            min_lr: 0.1,
            decay: 0.2,
            schedule,
            ..Default::default()
        }
    }

    #[test]
    fn cosine_warms_up_and_comes_down() {
        let c = config(Schedule::Cosine);
        assert_eq!(learning_rate(&c, 0), 0.1);
        assert_eq!(learning_rate(&c, 9), 1.0);
        assert_eq!(learning_rate(&c, 10), 1.0);
        assert!((learning_rate(&c, 55) - 0.55).abs() < 1e-9);
        assert!((learning_rate(&c, 100) - 0.1).abs() < 1e-9);
    }

    #[test]
    fn wsd_is_stable_then_linear() {
        let c = config(Schedule::Wsd);
        assert_eq!(learning_rate(&c, 79), 1.0);
        assert!((learning_rate(&c, 90) - 0.55).abs() < 1e-9);
        assert!((learning_rate(&c, 100) - 0.1).abs() < 1e-9);
    }
}
