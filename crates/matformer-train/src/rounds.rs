//! `train.exchange`: what the ranks of a run exchange, and how often.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

use crate::TrainConfig;

/// What the ranks of a run exchange: the word `every-step`, or a table.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ExchangeRule {
    /// Gradients, in every step: the ranks make the steps of one.
    #[default]
    EveryStep,
    /// Weights, after every round of steps that each rank makes by itself.
    Rounds(Rounds),
}

/// DiLoCo (Douillard et al. 2023, arXiv 2311.08105): each rank makes a round of steps of its own on its share of
/// the rows. Then the mean of the ranks' weight differences is the gradient of an outer step with Nesterov
/// momentum, behind which all ranks have the same weights. Moments of the ranks' optimizers are averaged, so
/// that the state is one and any number of ranks goes on from it.
///
/// One rank makes its rounds and outer steps as well.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rounds {
    /// Steps of a round.
    pub every: u64,
    /// Learning rate of the outer step; with 1 and no momentum, weights become their mean over the ranks.
    pub outer_learning_rate: f64,
    /// Momentum of the outer step.
    pub outer_momentum: f64,
}

impl Default for Rounds {
    fn default() -> Self {
        Self { every: 500, outer_learning_rate: 0.7, outer_momentum: 0.9 }
    }
}

impl ExchangeRule {
    /// The rounds, if there are any.
    pub(crate) fn rounds(self) -> Option<Rounds> {
        match self {
            Self::EveryStep => None,
            Self::Rounds(rounds) => Some(rounds),
        }
    }
}

impl TrainConfig {
    /// Whether all ranks have the same weights after `done` steps.
    pub fn exchanges_at(&self, done: u64) -> bool {
        done.is_multiple_of(self.round()) || done == self.steps
    }

    /// The least number of steps, at least `every`, after which all ranks have the same weights: weights are
    /// evaluated and saved when they do.
    pub fn whole_rounds(&self, every: u64) -> u64 {
        every.next_multiple_of(self.round())
    }

    /// What a person should know about rounds that are as long as the run.
    pub fn only_round(&self) -> Option<String> {
        let every = self.round();
        (every > self.steps).then(|| {
            format!(
                "`train.exchange.every` is {every}, more than the {} steps of the run: ranks exchange \
                 weights only once, at its end",
                self.steps
            )
        })
    }

    fn round(&self) -> u64 {
        self.exchange.rounds().map_or(1, |rounds| rounds.every)
    }
}

impl Serialize for ExchangeRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::EveryStep => serializer.serialize_str(EVERY_STEP),
            Self::Rounds(rounds) => rounds.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ExchangeRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordOrTable)
    }
}

const EVERY_STEP: &str = "every-step";

/// A visitor, because the errors of an untagged enum do not say what is wrong.
struct WordOrTable;

impl<'de> Visitor<'de> for WordOrTable {
    type Value = ExchangeRule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "`every-step`, or a table with `every`, `outer_learning_rate`, `outer_momentum`",
        )
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<ExchangeRule, E> {
        if word == EVERY_STEP {
            Ok(ExchangeRule::EveryStep)
        } else {
            Err(E::invalid_value(Unexpected::Str(word), &self))
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ExchangeRule, A::Error> {
        Rounds::deserialize(MapAccessDeserializer::new(map)).map(ExchangeRule::Rounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_a_word_or_a_table() {
        let read = |text: &str| serde_json::from_str::<ExchangeRule>(text);
        assert_eq!(read("\"every-step\"").unwrap(), ExchangeRule::EveryStep);
        let rounds = Rounds { every: 8, ..Rounds::default() };
        assert_eq!(read("{ \"every\": 8 }").unwrap(), ExchangeRule::Rounds(rounds));
        for rule in [ExchangeRule::EveryStep, ExchangeRule::Rounds(rounds)] {
            assert_eq!(read(&serde_json::to_string(&rule).unwrap()).unwrap(), rule);
        }
        let said = |text: &str| read(text).unwrap_err().to_string();
        assert!(said("\"often\"").starts_with("invalid value: string \"often\", expected `every-"));
        assert!(said("{ \"momentum\": 1 }").starts_with("unknown field `momentum`"));
    }

    #[test]
    fn weights_are_evaluated_and_saved_when_all_ranks_have_the_same() {
        let exchange = ExchangeRule::Rounds(Rounds { every: 6, ..Rounds::default() });
        let config = TrainConfig { steps: 15, exchange, ..TrainConfig::default() };
        let at: Vec<u64> = (1..=15).filter(|done| config.exchanges_at(*done)).collect();
        assert_eq!(at, [6, 12, 15]);
        assert_eq!([1, 6, 7].map(|every| config.whole_rounds(every)), [6, 6, 12]);
        let mut config = TrainConfig::default();
        assert!(config.exchanges_at(1) && config.whole_rounds(7) == 7);
        assert_eq!(config.only_round(), None);
        let rounds = Rounds { every: config.steps + 1, ..Rounds::default() };
        config.exchange = ExchangeRule::Rounds(rounds);
        assert!(config.only_round().unwrap().contains("only once"));
    }
}
