//! The guard against loss spikes: a step whose loss lies far above all before is skipped.

use std::{collections::BTreeMap, fmt};

use matformer_core::Space;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// `train.spike`: when a step's loss is a spike. A number of nats, or a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spike {
    /// The loss must lie at least this many nats per target above its running mean; 0: no guard.
    pub nats: f64,
    /// It must also lie this many running mean deviations above the mean.
    pub deviations: f64,
    /// The run ends when this many steps in a row are skipped.
    pub in_a_row: u64,
}

impl Default for Spike {
    fn default() -> Self {
        Self { nats: 2.0, deviations: 8.0, in_a_row: 5 }
    }
}

/// A label's losses are judged after this many steps.
const STEPS: u64 = 48;
/// Length of the running means' window, in steps.
const WINDOW: f64 = 32.0;

/// State of the guard: running means over the steps that were applied, and counts of skipped ones.
///
/// It is saved with a checkpoint, so a resumed run skips the same steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guard {
    /// Steps skipped so far.
    pub skipped: u64,
    /// Of them, those since the last step that was applied.
    pub in_a_row: u64,
    /// By granularity; all other submodels share one entry.
    losses: BTreeMap<String, Running>,
}

/// Running mean and mean absolute deviation of a loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Running {
    steps: u64,
    mean: f64,
    deviation: f64,
}

/// The value that caused a step to be skipped.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlier {
    /// `loss of S` or `gradient norm`.
    pub what: String,
    /// The value.
    pub value: f64,
    /// The largest value that would have been applied; `None` if the value is not finite.
    pub limit: Option<f64>,
}

impl fmt::Display for Outlier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit {
            Some(limit) => write!(f, "{} is {:.3}, above {limit:.3}", self.what, self.value),
            None => write!(f, "{} is {}", self.what, self.value),
        }
    }
}

impl Guard {
    /// The first of the losses (label, nats per target) that is a spike.
    pub(crate) fn spike(
        &self,
        spike: &Spike,
        space: &Space,
        losses: &[(String, f64)],
    ) -> Option<Outlier> {
        losses.iter().find_map(|(label, loss)| {
            let limit = self.losses.get(key(space, label))?.limit(spike)?;
            let what = format!("loss of {label}");
            (*loss > limit).then_some(Outlier { what, value: *loss, limit: Some(limit) })
        })
    }

    /// Updates the running means with the losses of a step that was applied.
    pub(crate) fn applied(&mut self, space: &Space, losses: &[(String, f64)]) {
        for (label, loss) in losses {
            self.losses.entry(key(space, label).to_owned()).or_default().take_in(*loss);
        }
        self.in_a_row = 0;
    }

    /// Counts a step that was skipped.
    pub(crate) fn left_out(&mut self) {
        self.skipped += 1;
        self.in_a_row += 1;
    }
}

/// There may be thousands of submodels of unequal widths, each drawn a few times: they share one
/// mean.
fn key<'a>(space: &Space, label: &'a str) -> &'a str {
    match space.granularities.get(label) {
        Some(_) => label,
        None => "unequal",
    }
}

impl Running {
    fn limit(&self, spike: &Spike) -> Option<f64> {
        let above = spike.nats.max(spike.deviations * self.deviation);
        (spike.nats > 0.0 && self.steps >= STEPS).then_some(self.mean + above)
    }

    fn take_in(&mut self, loss: f64) {
        self.steps += 1;
        let share = (1.0 / self.steps as f64).max(1.0 / WINDOW);
        // There is no mean before the first loss.
        let off = if self.steps == 1 { 0.0 } else { (loss - self.mean).abs() };
        self.mean += share * (loss - self.mean);
        self.deviation += share * (off - self.deviation);
    }
}

impl Serialize for Spike {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if *self == (Self { nats: self.nats, ..Self::default() }) {
            self.nats.serialize(serializer)
        } else {
            Table::from(*self).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Spike {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrTable)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Table {
    nats: f64,
    deviations: f64,
    in_a_row: u64,
}

impl Default for Table {
    fn default() -> Self {
        Spike::default().into()
    }
}

impl From<Spike> for Table {
    fn from(Spike { nats, deviations, in_a_row }: Spike) -> Self {
        Self { nats, deviations, in_a_row }
    }
}

/// A visitor, because the errors of an untagged enum do not say what is wrong.
struct NumberOrTable;

impl<'de> Visitor<'de> for NumberOrTable {
    type Value = Spike;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of nats, or a table with `nats`, `deviations`, `in_a_row`")
    }

    fn visit_f64<E: de::Error>(self, nats: f64) -> Result<Spike, E> {
        Ok(Spike { nats, ..Spike::default() })
    }

    fn visit_i64<E: de::Error>(self, nats: i64) -> Result<Spike, E> {
        self.visit_f64(nats as f64)
    }

    fn visit_u64<E: de::Error>(self, nats: u64) -> Result<Spike, E> {
        self.visit_f64(nats as f64)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Spike, A::Error> {
        let Table { nats, deviations, in_a_row } =
            Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Spike { nats, deviations, in_a_row })
    }
}

#[cfg(test)]
mod tests {
    use matformer_core::{Granularities, rng};

    use super::*;

    fn space() -> Space {
        Space::new(2, 256, 32, Granularities::default_for(256).unwrap()).unwrap()
    }

    /// How many of the losses the guard skips.
    fn left_out(losses: impl IntoIterator<Item = f64>) -> u64 {
        let (space, spike, mut guard) = (space(), Spike::default(), Guard::default());
        for loss in losses {
            let losses = [("S".to_owned(), loss)];
            match guard.spike(&spike, &space, &losses) {
                Some(_) => guard.left_out(),
                None => guard.applied(&space, &losses),
            }
        }
        guard.skipped
    }

    /// A curve that falls from `first` to `last`, with noise.
    fn curve(first: f64, last: f64, noise: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut random = rng::keyed(7, "noise", 0);
        (0..2000)
            .map(|step| {
                let fallen = last + (first - last) / (1.0 + step as f64 / 30.0);
                fallen + noise(2.0 * rng::unit(&mut random) - 1.0)
            })
            .collect()
    }

    #[test]
    fn healthy_curves_are_left_alone() {
        assert_eq!(left_out(curve(10.5, 3.0, |_| 0.0)), 0);
        assert_eq!(left_out(curve(7.6, 2.5, |u| 0.5 * u)), 0);
        // Batches of a row of mixed text: most within a nat, a few far out.
        assert_eq!(left_out(curve(7.6, 2.5, |u| 0.8 * u + 1.6 * u.powi(15))), 0);
        assert_eq!(left_out(curve(7.6, 0.02, |u| 0.02 * u)), 0);
        // A plateau with a slow climb is no spike.
        assert_eq!(left_out((0..2000).map(|step| 3.0 + f64::from(step) / 500.0)), 0);
    }

    #[test]
    fn a_loss_far_above_all_before_is_left_out() {
        let mut losses = curve(7.6, 2.5, |u| 0.3 * u);
        losses[1000] = 9.0;
        losses[1500] = 6.0;
        assert_eq!(left_out(losses), 2);
        // Not while there is too little to judge by.
        let mut losses = curve(7.6, 2.5, |u| 0.3 * u);
        losses[STEPS as usize - 1] = 60.0;
        assert_eq!(left_out(losses), 0);
    }

    #[test]
    fn submodels_that_are_no_granularity_share_a_mean() {
        let (space, mut guard) = (space(), Guard::default());
        for step in 0..STEPS {
            let label = if step % 2 == 0 { "32x1+64x1" } else { "64x1+32x1" };
            guard.applied(&space, &[(label.to_owned(), 3.0), ("M".to_owned(), 2.0)]);
        }
        assert_eq!(guard.losses.len(), 2);
        let spike = |nats| Spike { nats, ..Spike::default() };
        let outlier =
            |nats, loss| guard.spike(&spike(nats), &space, &[("256x1+32x1".to_owned(), loss)]);
        let found = outlier(2.0, 5.5).unwrap();
        assert_eq!(found.to_string(), "loss of 256x1+32x1 is 5.500, above 5.000");
        assert_eq!(outlier(2.0, 4.9), None);
        assert_eq!(outlier(0.0, 1e9), None, "0 is off");
    }

    #[test]
    fn a_spike_is_a_number_or_a_table() {
        let read = |text: &str| toml_like(text).unwrap();
        assert_eq!(read("1.5"), Spike { nats: 1.5, ..Spike::default() });
        assert_eq!(read("0"), Spike { nats: 0.0, ..Spike::default() });
        let table = Spike { nats: 3.0, in_a_row: 9, ..Spike::default() };
        assert_eq!(read(r#"{"nats": 3, "in_a_row": 9}"#), table);
        for spike in [table, Spike::default()] {
            assert_eq!(read(&serde_json::to_string(&spike).unwrap()), spike);
        }
        let message = toml_like("\"much\"").unwrap_err();
        assert!(message.contains("expected a number of nats, or a table"), "{message}");
        assert!(toml_like(r#"{"nat": 3}"#).unwrap_err().contains("unknown field `nat`"));
    }

    fn toml_like(text: &str) -> Result<Spike, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }
}
