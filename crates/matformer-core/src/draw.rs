//! Draws: which submodels an optimizer step trains, as a pure function of (seed, step).

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Serialize, Serializer};

use crate::{Error, Result, Space, Submodel, rng};

/// The paper's second choice of probabilities, with which all four granularities of the 850M model
/// beat baselines of the same size (arXiv 2310.07707v2 table 6, last row).
const XL_HEAVY: [f64; 4] = [0.17, 0.20, 0.22, 0.41];

/// A training objective: which submodels a step trains, and with which loss weights.
///
/// In files it has its text form: `"sampled"`, `"sampled-xl-heavy"`, `"sampled:0.1/0.2/0.3/0.4"`,
/// `"joint"`, `"joint-separate"`, `"sandwich"`, `"sandwich:2"`, `"per-layer"`, `"baseline:S"`;
/// a table such as `{ kind = "sampled", probabilities = [0.1, 0.2, 0.3, 0.4] }` can be read too.
#[derive(Debug, Clone, PartialEq)]
pub enum Draw {
    /// One granularity per step, in all layers: the objective of the paper (arXiv 2310.07707v2 p. 5).
    Sampled {
        /// One probability per granularity, from the narrowest to the widest. `None` is uniform.
        probabilities: Option<Vec<f64>>,
    },
    /// All granularities on the same batch.
    Joint,
    /// All granularities, each on its own batch (DynaBERT-style, arXiv 2310.07707v2 p. 16).
    JointSeparate,
    /// The narrowest, the widest and some random others on the same batch (US-Nets, arXiv
    /// 1903.05134).
    Sandwich {
        /// The number of different granularities between the two.
        random: usize,
    },
    /// One submodel per step, for which each layer draws its own granularity uniformly (OFA-style,
    /// arXiv 2310.07707v2 p. 16).
    PerLayer,
    /// One fixed granularity: the baseline for elastic training.
    Baseline {
        /// The granularity's name.
        granularity: String,
    },
}

/// What one optimizer step trains.
#[derive(Debug, Clone, PartialEq)]
pub struct StepDraw {
    /// Submodels in ascending order, with loss weights that sum to 1: the step's loss is the mean of
    /// the submodels' losses. MatFormer-OLMo and scenic's MatViT use the sum of the losses. With n
    /// terms its gradient is up to n times as large, and so gradient clipping acts differently.
    pub terms: Vec<(Submodel, f64)>,
    /// Whether each term has its own batch. Otherwise all terms share one batch.
    pub separate_batches: bool,
}

impl Default for Draw {
    /// `sampled` with uniform probabilities.
    fn default() -> Self {
        Self::Sampled { probabilities: None }
    }
}

impl Draw {
    /// `sampled-xl-heavy`: four granularities with probabilities 0.17, 0.20, 0.22, 0.41
    /// (arXiv 2310.07707v2 table 6).
    pub fn sampled_xl_heavy() -> Self {
        Self::Sampled { probabilities: Some(XL_HEAVY.to_vec()) }
    }

    /// Checks that the objective fits the granularities.
    ///
    /// # Errors
    /// [`Error::Draw`].
    pub fn validate(&self, space: &Space) -> Result<()> {
        let n = space.granularities.len();
        let refuse = |found: String, expected: String| {
            Err(Error::Draw { draw: self.to_string(), found, expected })
        };
        match self {
            Self::Sampled { probabilities: Some(list) } => {
                let sum: f64 = list.iter().sum();
                if list.len() != n {
                    return refuse(
                        format!("{} probabilities", list.len()),
                        format!("{n}, one per granularity"),
                    );
                }
                if !list.iter().all(|p| (0.0..=1.0).contains(p)) || (sum - 1.0).abs() > 1e-6 {
                    return refuse(
                        format!("probabilities with sum {sum}"),
                        "numbers from 0 to 1 with sum 1".into(),
                    );
                }
                Ok(())
            }
            Self::Sandwich { random } if n < random.saturating_add(2) => refuse(
                format!("{n} granularities"),
                format!("at least {}", random.saturating_add(2)),
            ),
            Self::Baseline { granularity } if space.granularities.get(granularity).is_none() => {
                refuse(
                    format!("granularity `{granularity}`"),
                    format!("one of {}", space.granularities.names().join(", ")),
                )
            }
            _ => Ok(()),
        }
    }

    /// What this step trains. It is a pure function, so every rank gets the same result.
    ///
    /// There may be no terms if [`validate`](Draw::validate) refuses the objective.
    pub fn at(&self, space: &Space, seed: u64, step: u64) -> StepDraw {
        let mut rng = rng::keyed(seed, "draw", step);
        let mut uniforms = space.uniforms();
        let submodels = match self {
            Self::Sampled { probabilities } => {
                let at = match probabilities {
                    Some(list) => weighted(list, rng::unit(&mut rng)),
                    None => rng::index(&mut rng, uniforms.len()),
                };
                uniforms.into_iter().skip(at).take(1).collect()
            }
            Self::Joint | Self::JointSeparate => uniforms,
            Self::Sandwich { random } => {
                // Removes random ones between the two ends; the rest is a uniform choice.
                while uniforms.len().saturating_sub(2) > *random {
                    let inner = uniforms.len() - 2;
                    uniforms.remove(1 + rng::index(&mut rng, inner));
                }
                uniforms
            }
            Self::PerLayer => {
                let widths = space.granularities.widths();
                let width = |_| widths[rng::index(&mut rng, widths.len())]; // never empty
                vec![space.cut(Submodel::new((0..space.n_layers).map(width).collect()))]
            }
            Self::Baseline { granularity } => space.uniform(granularity).into_iter().collect(),
        };
        let weight = 1.0 / submodels.len() as f64;
        StepDraw {
            terms: submodels.into_iter().map(|submodel| (submodel, weight)).collect(),
            separate_batches: *self == Self::JointSeparate,
        }
    }

    /// The objective that a table describes.
    fn from_table(table: Table) -> Result<Self> {
        let Table { kind, probabilities, random, granularity } = table;
        let given = (probabilities.is_some(), random.is_some(), granularity.is_some());
        match (kind.as_str(), given) {
            ("sampled", (_, false, false)) => Ok(Self::Sampled { probabilities }),
            ("sampled-xl-heavy", (false, false, false)) => Ok(Self::sampled_xl_heavy()),
            ("joint", (false, false, false)) => Ok(Self::Joint),
            ("joint-separate", (false, false, false)) => Ok(Self::JointSeparate),
            ("sandwich", (false, _, false)) => Ok(Self::Sandwich { random: random.unwrap_or(1) }),
            ("per-layer", (false, false, false)) => Ok(Self::PerLayer),
            ("baseline", (false, false, true)) => {
                Ok(Self::Baseline { granularity: granularity.unwrap_or_default() })
            }
            (_, (false, false, false)) => Err(unreadable(&kind)),
            _ => Err(unreadable(&format!("{kind} with keys of another kind"))),
        }
    }
}

/// The first index at which the running sum exceeds `u`. If rounding keeps the sum below `u`, the
/// last index with a probability above 0.
fn weighted(probabilities: &[f64], u: f64) -> usize {
    let mut sum = 0.0;
    let exceeds = |p: &f64| {
        sum += p;
        sum > u
    };
    let last = || probabilities.iter().rposition(|&p| p > 0.0).unwrap_or(0);
    probabilities.iter().position(exceeds).unwrap_or_else(last)
}

fn unreadable(found: &str) -> Error {
    Error::Parse {
        what: "draw",
        found: found.to_owned(),
        expected: "`sampled`, `sampled:0.1/0.2/0.3/0.4`, `sampled-xl-heavy`, `joint`, \
                   `joint-separate`, `sandwich`, `sandwich:2`, `per-layer` or `baseline:S`"
            .into(),
    }
}

impl fmt::Display for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sampled { probabilities: None } => f.write_str("sampled"),
            Self::Sampled { probabilities: Some(list) } if *list == XL_HEAVY => {
                f.write_str("sampled-xl-heavy")
            }
            Self::Sampled { probabilities: Some(list) } => {
                let list: Vec<_> = list.iter().map(f64::to_string).collect();
                write!(f, "sampled:{}", list.join("/"))
            }
            Self::Joint => f.write_str("joint"),
            Self::JointSeparate => f.write_str("joint-separate"),
            Self::Sandwich { random: 1 } => f.write_str("sandwich"),
            Self::Sandwich { random } => write!(f, "sandwich:{random}"),
            Self::PerLayer => f.write_str("per-layer"),
            Self::Baseline { granularity } => write!(f, "baseline:{granularity}"),
        }
    }
}

impl FromStr for Draw {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (kind, detail) = match text.split_once(':') {
            Some((kind, detail)) => (kind, Some(detail)),
            None => (text, None),
        };
        let mut table = Table { kind: kind.to_owned(), ..Table::default() };
        let unreadable = || unreadable(text);
        match (kind, detail) {
            (_, None) => {}
            ("sampled", Some(list)) => {
                let numbers: Result<_, _> = list.split('/').map(str::parse).collect();
                table.probabilities = Some(numbers.map_err(|_| unreadable())?);
            }
            ("sandwich", Some(random)) => {
                table.random = Some(random.parse().map_err(|_| unreadable())?);
            }
            ("baseline", Some(name)) if !name.is_empty() => {
                table.granularity = Some(name.to_owned());
            }
            _ => return Err(unreadable()),
        }
        Self::from_table(table)
    }
}

impl Serialize for Draw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Draw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrTable)
    }
}

/// The keys of a table.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    kind: String,
    probabilities: Option<Vec<f64>>,
    random: Option<usize>,
    granularity: Option<String>,
}

/// A visitor: the errors of an untagged enum would not say what is wrong.
struct TextOrTable;

impl<'de> Visitor<'de> for TextOrTable {
    type Value = Draw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a draw such as \"sampled\", or a table with `kind`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Draw, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Draw, A::Error> {
        let table = Table::deserialize(MapAccessDeserializer::new(map))?;
        Draw::from_table(table).map_err(de::Error::custom)
    }
}

#[cfg(test)]
#[path = "draw_tests.rs"]
mod tests;
