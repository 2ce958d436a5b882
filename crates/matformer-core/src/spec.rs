//! Submodels and budgets as a user types them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::submodel::write_runs;
use crate::{CostTable, Costs, Error, Resource, Result, Space, Submodel, mix};

/// A submodel as typed. It is parsed without a model; [`resolve`](SubmodelSpec::resolve) needs one.
///
/// | text | meaning |
/// |---|---|
/// | `S` | the granularity with this name in all layers |
/// | `128` | this width in all layers |
/// | `64x1+128x4` | width 64 in the first layer, 128 in the next four |
/// | `60%`, `60%flops`, `1.2B`, `8ms` | the largest submodel within a [`Budget`] |
///
/// The same text is printed and stored in files. The first character decides the form: names start
/// with a letter, all others with a digit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SubmodelSpec {
    /// The name of a granularity: `S`.
    Name(String),
    /// The same width in all layers: `128`.
    Uniform(usize),
    /// `(width, number of layers)` runs from the first layer to the last: `64x1+128x4`.
    Widths(Vec<(usize, usize)>),
    /// The largest submodel within a budget.
    Budget(Budget),
}

/// An upper limit on the cost of a submodel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// A percentage of the cost of the largest submodel: `60%` of its non-embedding parameters, or
    /// `60%flops`, `60%params`, `60%ffn`, `60%ms`.
    Percent {
        /// 60 for `60%`.
        percent: f64,
        /// The resource that is limited.
        of: Resource,
    },
    /// A number of parameters, embeddings included: `300k`, `600M`, `1.2B`.
    Params(u64),
    /// Floating point operations of a forward pass per token: `1.5Gflops`.
    Flops(u64),
    /// Measured milliseconds: `8ms`.
    Millis(f64),
}

impl SubmodelSpec {
    /// Parses a list of submodels separated by commas: `S,M,60%,64x1+128x4`.
    ///
    /// # Errors
    /// [`Error::Parse`] for the first item that is not valid.
    pub fn parse_list(text: &str) -> Result<Vec<Self>> {
        text.split(',').map(|item| item.trim().parse()).collect()
    }

    /// The submodel that this means for a model.
    ///
    /// # Errors
    /// [`Error::UnknownName`], [`Error::LayerCount`], [`Error::Width`], [`Error::UnknownCost`] or
    /// [`Error::BudgetTooSmall`].
    pub fn resolve(&self, space: &Space, costs: &Costs) -> Result<Submodel> {
        let submodel = match self {
            Self::Name(name) => space.uniform(name)?,
            Self::Uniform(width) => Submodel::uniform(*width, space.n_layers),
            Self::Widths(runs) => {
                let layers = runs.iter().fold(0usize, |sum, run| sum.saturating_add(run.1));
                if layers != space.n_layers {
                    // Checked before the runs are expanded: the typed number may be huge.
                    return Err(Error::LayerCount {
                        submodel: self.to_string(),
                        found: layers,
                        expected: space.n_layers,
                    });
                }
                let run = |&(width, layers)| std::iter::repeat_n(width, layers);
                Submodel::new(runs.iter().flat_map(run).collect())
            }
            Self::Budget(budget) => {
                let (table, limit) = budget.limit(space, costs)?;
                mix::mix_n_match(space, table, limit)?
            }
        };
        space.check(&submodel)?;
        Ok(submodel)
    }
}

impl Budget {
    /// The cost table of the limited resource, and the limit in its unit.
    ///
    /// # Errors
    /// [`Error::UnknownCost`]; [`Error::OutsideTable`] if the table does not cover the largest submodel.
    pub fn limit<'a>(&self, space: &Space, costs: &'a Costs) -> Result<(&'a CostTable, f64)> {
        let table = costs.get(self.resource())?;
        let limit = match *self {
            Self::Percent { percent, .. } => percent / 100.0 * table.cost(&space.largest())?,
            Self::Params(count) | Self::Flops(count) => count as f64,
            Self::Millis(ms) => ms,
        };
        Ok((table, limit))
    }

    /// The resource that is limited.
    pub fn resource(&self) -> Resource {
        match self {
            Self::Percent { of, .. } => *of,
            Self::Params(_) => Resource::Params,
            Self::Flops(_) => Resource::Flops,
            Self::Millis(_) => Resource::Millis,
        }
    }
}

/// Scales of numbers of parameters, as (letter, power of ten).
const PARAMS: [(&str, u32); 4] = [("T", 12), ("B", 9), ("M", 6), ("k", 3)];
/// Scales of numbers of FLOPs.
const FLOPS: [(&str, u32); 5] = [("T", 12), ("G", 9), ("M", 6), ("k", 3), ("", 0)];

impl FromStr for SubmodelSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let spec = if text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            let fits = |c: char| c.is_ascii_alphanumeric() || "-_.@%".contains(c);
            text.chars().all(fits).then(|| Self::Name(text.to_owned()))
        } else if text.contains('x') {
            parse_runs(text).map(Self::Widths)
        } else if let Some(width) = parse_whole(text) {
            (width > 0).then_some(Self::Uniform(width))
        } else {
            text.parse().ok().map(Self::Budget)
        };
        spec.ok_or_else(|| Error::Parse {
            what: "submodel",
            found: text.to_owned(),
            expected:
                "a name `S`, a width `128`, runs `64x1+128x4` or a budget `60%`, `60%flops`, \
                       `1.2B`, `1.5Gflops`, `8ms`"
                    .into(),
        })
    }
}

impl FromStr for Budget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let budget = if let Some((percent, of)) = text.split_once('%') {
            let of = if of.is_empty() { Resource::NonEmbedding } else { of.parse()? };
            parse_decimal(percent).map(|percent| Self::Percent { percent, of })
        } else if let Some(ms) = text.strip_suffix("ms") {
            parse_decimal(ms).map(Self::Millis)
        } else if let Some(count) = text.strip_suffix("flops") {
            parse_scaled(count, &FLOPS).map(Self::Flops)
        } else {
            parse_scaled(text, &PARAMS).map(Self::Params)
        };
        budget.ok_or_else(|| Error::Parse {
            what: "budget",
            found: text.to_owned(),
            expected: "`60%`, `60%flops`, `1.2B`, `1.5Gflops` or `8ms`".into(),
        })
    }
}

impl fmt::Display for SubmodelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Uniform(width) => write!(f, "{width}"),
            Self::Widths(runs) => write_runs(f, runs),
            Self::Budget(budget) => budget.fmt(f),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Percent { percent, of: Resource::NonEmbedding } => write!(f, "{percent}%"),
            Self::Percent { percent, of } => write!(f, "{percent}%{of}"),
            Self::Params(count) => write_scaled(f, count, &PARAMS),
            Self::Flops(count) => {
                write_scaled(f, count, &FLOPS)?;
                f.write_str("flops")
            }
            Self::Millis(ms) => write!(f, "{ms}ms"),
        }
    }
}

impl TryFrom<String> for SubmodelSpec {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<SubmodelSpec> for String {
    fn from(spec: SubmodelSpec) -> Self {
        spec.to_string()
    }
}

/// Parses `64x1+128x4`. Adjacent runs of equal width are merged, so that equal specs have equal text
/// forms.
fn parse_runs(text: &str) -> Option<Vec<(usize, usize)>> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for run in text.split('+') {
        let (width, layers) = run.split_once('x')?;
        let (width, layers) = (parse_whole(width)?, parse_whole(layers)?);
        if width == 0 || layers == 0 {
            return None;
        }
        match runs.last_mut() {
            Some(last) if last.0 == width => last.1 = last.1.checked_add(layers)?,
            _ => runs.push((width, layers)),
        }
    }
    Some(runs)
}

/// Parses digits only: `parse` alone would accept `+64`.
fn parse_whole(text: &str) -> Option<usize> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// Parses digits with at most one point: `parse` alone would accept `-1`, `1e3` and `inf`.
fn parse_decimal(text: &str) -> Option<f64> {
    let plain = text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|value: &f64| plain && value.is_finite())
}

/// Parses `1.2B` as 1,200,000,000, without rounding through floating point.
fn parse_scaled(text: &str, scales: &[(&str, u32)]) -> Option<u64> {
    let scaled = |&(letter, power): &(&str, u32)| Some((text.strip_suffix(letter)?, power));
    let (number, power) = scales.iter().find_map(scaled)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let padding = (power as usize).checked_sub(fraction.len())?;
    let all_digits = [whole, fraction].iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()));
    if whole.is_empty() || number.ends_with('.') || !all_digits {
        return None;
    }
    format!("{whole}{fraction}{}", "0".repeat(padding)).parse().ok()
}

/// Writes the shortest text that [`parse_scaled`] reads as `count`, in the largest scale below it.
fn write_scaled(f: &mut fmt::Formatter<'_>, count: u64, scales: &[(&str, u32)]) -> fmt::Result {
    let fits = scales.iter().find(|(_, power)| count >= 10u64.pow(*power));
    let Some(&(letter, power)) = fits.or(scales.last()) else {
        return Ok(()); // not reached: neither list of scales is empty
    };
    let (whole, rest) = (count / 10u64.pow(power), count % 10u64.pow(power));
    let fraction = format!("{rest:0width$}", width = power as usize);
    match fraction.trim_end_matches('0') {
        "" => write!(f, "{whole}{letter}"),
        fraction => write!(f, "{whole}.{fraction}{letter}"),
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
