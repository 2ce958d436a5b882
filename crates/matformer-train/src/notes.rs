//! What is unusual about a `[train]` table without being wrong.

use matformer_core::Space;

use crate::{Schedule, TrainConfig, flops::passes, learning_rate};

/// Steps whose draws are looked at.
const DRAWS: u64 = 64;

impl TrainConfig {
    /// Settings that are valid but rarely meant, each in a sentence: a warm-up that takes most of the
    /// run, a learning rate that never comes down, distillation from which nothing learns.
    pub fn notes(&self, space: &Space) -> Vec<String> {
        [self.note_on_warmup(), self.note_on_decay(), self.note_on_distillation(space)]
            .into_iter()
            .flatten()
            .collect()
    }

    fn note_on_warmup(&self) -> Option<String> {
        let Self { warmup, steps, learning_rate: peak, .. } = *self;
        let keys = format!("`train.warmup` is {warmup} and `train.steps` is {steps}");
        if warmup >= steps {
            let last = learning_rate(self, steps.saturating_sub(1));
            return Some(format!(
                "{keys}: the learning rate rises until the last step, to {last:.2e} of {peak:.2e}, and \
                 never comes down"
            ));
        }
        (warmup > steps / 2).then(|| format!("{keys}: the warm-up takes most of the run"))
    }

    fn note_on_decay(&self) -> Option<String> {
        let Self { warmup, steps, decay, min_lr, .. } = *self;
        if warmup >= steps {
            return None;
        }
        if min_lr >= 1.0 {
            return Some(format!(
                "`train.min_lr` is {min_lr}: the learning rate never comes down from its peak"
            ));
        }
        if self.schedule != Schedule::Wsd {
            return None;
        }
        let decaying = decay * steps as f64;
        if decaying < 1.0 {
            return Some(format!(
                "`train.decay` is {decay}, less than one of {steps} steps: `wsd` never lowers the \
                 learning rate"
            ));
        }
        let begins = steps as f64 - decaying;
        (warmup as f64 > begins).then(|| {
            format!(
                "the warm-up ends at step {warmup}, but `wsd` lowers the learning rate from step \
                 {begins:.0} on (`train.decay` is {decay}): it falls at once behind the warm-up"
            )
        })
    }

    fn note_on_distillation(&self, space: &Space) -> Option<String> {
        let distill = self.distill.as_ref()?;
        if distill.weight == 0.0 {
            return Some("`train.distill.weight` is 0: nothing is distilled".to_owned());
        }
        let mut drawn = (0..self.steps.min(DRAWS)).flat_map(|step| passes(self, space, step));
        let learns = |submodels: Vec<_>| {
            distill.students(space, &submodels).is_ok_and(|students| !students.is_empty())
        };
        if drawn.any(learns) {
            return None;
        }
        let trains = match (&distill.students, distill.own_teacher(space).ok()?) {
            (None, Some(teacher)) => format!("its teacher, {}, alone", space.label(&teacher)),
            _ => "none of its students".to_owned(),
        };
        Some(format!("`train.distill` teaches nothing: the draw `{}` trains {trains}", self.draw))
    }
}

#[cfg(test)]
mod tests {
    use matformer_core::Granularities;

    use super::*;
    use crate::Distill;

    fn notes(config: TrainConfig) -> String {
        let space = Space::new(2, 256, 32, Granularities::default_for(256).unwrap()).unwrap();
        config.notes(&space).join("\n")
    }

    #[test]
    fn a_warm_up_of_most_of_the_run_is_noted() {
        let of = |steps, schedule| notes(TrainConfig { steps, schedule, ..Default::default() });
        for schedule in [Schedule::Cosine, Schedule::Wsd] {
            assert_eq!(of(1000, schedule), "");
            let expected = "`train.warmup` is 100 and `train.steps` is 100: the learning rate rises \
                            until the last step, to 3.00e-3 of 3.00e-3, and never comes down";
            assert_eq!(of(100, schedule), expected);
            assert!(of(50, schedule).contains("to 1.50e-3 of 3.00e-3"));
            assert!(of(150, schedule).contains("the warm-up takes most of the run"));
        }
        assert_eq!(of(1, Schedule::Cosine).lines().count(), 1);
    }

    #[test]
    fn a_learning_rate_that_never_comes_down_is_noted() {
        let flat = notes(TrainConfig { min_lr: 1.0, ..Default::default() });
        assert_eq!(flat, "`train.min_lr` is 1: the learning rate never comes down from its peak");
        let wsd = |decay, warmup| {
            let schedule = Schedule::Wsd;
            notes(TrainConfig { schedule, decay, warmup, ..Default::default() })
        };
        assert_eq!(wsd(0.2, 100), "");
        for decay in [0.0, 0.0009] {
            assert!(wsd(decay, 100).contains("`wsd` never lowers the learning rate"), "{decay}");
        }
        let early = wsd(0.7, 400);
        assert!(
            early.contains("ends at step 400") && early.contains("from step 300 on"),
            "{early}"
        );
    }

    #[test]
    fn distillation_that_teaches_nothing_is_noted() {
        let of = |draw: &str, from: Option<&str>| {
            let distill = Some(Distill { from: from.map(str::to_owned), ..Distill::default() });
            notes(TrainConfig { draw: draw.parse().unwrap(), distill, ..Default::default() })
        };
        for draw in ["sampled", "joint", "sandwich", "per-layer", "joint-separate", "baseline:S"] {
            assert_eq!(of(draw, None), "", "{draw}");
        }
        for (draw, from) in [("baseline:XL", None), ("sampled:0/1/0/0", Some("M"))] {
            assert!(of(draw, from).starts_with("`train.distill` teaches nothing"), "{draw}");
        }
        let teacher = Some("base".into());
        let named =
            Distill { teacher, students: Some(vec!["XL".to_owned()]), ..Distill::default() };
        let of = |draw: &str| {
            let distill = Some(named.clone());
            notes(TrainConfig { draw: draw.parse().unwrap(), distill, ..Default::default() })
        };
        assert_eq!(of("sampled"), "");
        assert!(of("baseline:S").ends_with("trains none of its students"), "{}", of("baseline:S"));
        let off = Some(Distill { weight: 0.0, ..Distill::default() });
        assert!(notes(TrainConfig { distill: off, ..Default::default() }).contains("is 0"));
    }
}
