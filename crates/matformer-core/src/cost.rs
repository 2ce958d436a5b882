//! Costs of submodels.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Plan, Result, Submodel};

/// The quantity that a cost measures. In text and in files, variants are written in `snake_case`; milliseconds are
/// written `ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// All parameters. A tied embedding counts once.
    Params,
    /// All parameters except the embeddings (input and output).
    NonEmbedding,
    /// Parameters of the FFN matrices and their biases.
    Ffn,
    /// Floating point operations of a forward pass per token, at a given context length.
    Flops,
    /// Bytes of keys and values in the cache, per token.
    KvBytes,
    /// Measured milliseconds.
    #[serde(rename = "ms")]
    Millis,
}

impl Resource {
    /// All resources.
    pub const ALL: [Self; 6] =
        [Self::Params, Self::NonEmbedding, Self::Ffn, Self::Flops, Self::KvBytes, Self::Millis];

    fn name(self) -> &'static str {
        match self {
            Self::Params => "params",
            Self::NonEmbedding => "non_embedding",
            Self::Ffn => "ffn",
            Self::Flops => "flops",
            Self::KvBytes => "kv_bytes",
            Self::Millis => "ms",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Params => "parameters",
            Self::NonEmbedding => "non-embedding parameters",
            Self::Ffn => "FFN parameters",
            Self::Flops => "FLOPs",
            Self::KvBytes => "bytes of keys and values per token",
            Self::Millis => "ms",
        }
    }

    /// A cost with up to three decimals: `188743680 non-embedding parameters`.
    pub(crate) fn describe_exactly(self, cost: f64) -> String {
        format!("{} {}", (1000.0 * cost).round() / 1000.0, self.unit())
    }

    /// A cost with three significant digits: `189M non-embedding parameters`, `8.25 ms`.
    pub fn describe(self, cost: f64) -> String {
        let unit = self.unit();
        if self == Self::Millis {
            // Decimals for three significant digits.
            let places = (2.0 - cost.abs().max(1e-9).log10().floor()).clamp(0.0, 9.0) as usize;
            return format!("{cost:.places$} {unit}");
        }
        let giga = if matches!(self, Self::Flops | Self::KvBytes) { "G" } else { "B" };
        let scales = [(1e12, "T"), (1e9, giga), (1e6, "M"), (1e3, "k")];
        let number = match scales.into_iter().find(|(scale, _)| cost >= *scale) {
            Some((scale, letter)) => {
                let scaled = cost / scale;
                let decimals = if scaled < 9.995 { 2 } else { usize::from(scaled < 99.95) };
                format!("{scaled:.decimals$}{letter}")
            }
            None => format!("{cost:.0}"),
        };
        format!("{number} {unit}")
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Resource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let names = || Self::ALL.map(|resource| format!("`{resource}`")).join(", ");
        let found = Self::ALL.into_iter().find(|resource| resource.name() == text);
        found.ok_or_else(|| Error::Parse {
            what: "resource",
            found: text.to_owned(),
            expected: format!("one of {}", names()),
        })
    }
}

/// A cost table: a constant plus one number per layer and width.
///
/// Between two widths of the table, costs are interpolated linearly, which is exact for parameters
/// and FLOPs. Outside the range of its widths the table has no costs.
#[derive(Debug, Clone, PartialEq)]
pub struct CostTable {
    /// What the table counts.
    pub resource: Resource,
    /// The part that no layer's width changes (embeddings, final norm, head).
    pub constant: f64,
    /// The widths of the table's columns, ascending.
    pub widths: Vec<usize>,
    /// `layers[i][j]` is the cost of layer i at `widths[j]`.
    pub layers: Vec<Vec<f64>>,
}

impl CostTable {
    /// A table of linear costs: layer i costs `fixed + per_unit · width` for widths from 0 to `d_ff`,
    /// where `per_layer[i]` is `(fixed, per_unit)`.
    pub fn affine(
        resource: Resource,
        constant: f64,
        per_layer: &[(f64, f64)],
        d_ff: usize,
    ) -> Self {
        let ends = |&(fixed, per_unit): &(f64, f64)| vec![fixed, fixed + per_unit * d_ff as f64];
        let layers = per_layer.iter().map(ends).collect();
        Self { resource, constant, widths: vec![0, d_ff], layers }
    }

    /// The cost of a submodel.
    ///
    /// # Errors
    /// [`Error::LayerCount`] if the table has another number of layers, [`Error::OutsideTable`] if
    /// the table does not cover a width.
    pub fn cost(&self, submodel: &Submodel) -> Result<f64> {
        if submodel.n_layers() != self.layers.len() {
            return Err(Error::LayerCount {
                submodel: submodel.to_string(),
                found: submodel.n_layers(),
                expected: self.layers.len(),
            });
        }
        let mut total = self.constant;
        for (layer, &width) in submodel.widths().iter().enumerate() {
            total += self.at(layer, width)?;
        }
        Ok(total)
    }

    /// The cost of walking a plan, per unit of its input. What submodels share is counted once.
    ///
    /// In each layer, the part that no width changes counts once per unit of the layer's input, and
    /// the part that depends on the width counts once per distinct input, at the widest block that
    /// reads it. The constant (the head) counts once per unit of the last layer's output. This is
    /// exact for FLOPs. The table must start at width 0.
    ///
    /// # Errors
    /// [`Error::LayerCount`] if the table has another number of layers, [`Error::OutsideTable`] if
    /// the table does not cover a width, 0 included.
    pub fn plan(&self, plan: &Plan) -> Result<f64> {
        if plan.n_layers() != self.layers.len() {
            return Err(Error::LayerCount {
                submodel: format!("a plan of {}", plan.submodels().len()),
                found: plan.n_layers(),
                expected: self.layers.len(),
            });
        }
        let mut total = self.constant * plan.output_units() as f64;
        for layer in 0..plan.n_layers() {
            let fixed = self.at(layer, 0)?;
            total += fixed * plan.input_units(layer) as f64;
            for block in plan.widest(layer) {
                total += (self.at(layer, block.width)? - fixed) * block.units() as f64;
            }
        }
        Ok(total)
    }

    /// The cost of one layer at one width.
    ///
    /// # Errors
    /// [`Error::OutsideTable`].
    pub fn at(&self, layer: usize, width: usize) -> Result<f64> {
        let outside = || Error::OutsideTable {
            resource: self.resource,
            layer,
            width,
            expected: match (self.widths.first(), self.widths.last()) {
                (Some(first), Some(last)) => {
                    format!("layers below {}, widths {first} to {last}", self.layers.len())
                }
                _ => "a table with widths".into(),
            },
        };
        let column = |j: usize| {
            let cost = self.layers.get(layer)?.get(j)?;
            Some((*self.widths.get(j)?, *cost))
        };
        let right = self.widths.partition_point(|&w| w < width);
        let (w1, c1) = column(right).ok_or_else(outside)?;
        if w1 == width {
            return Ok(c1);
        }
        let (w0, c0) = right.checked_sub(1).and_then(column).ok_or_else(outside)?;
        // Multiplied before divided, so that whole numbers stay exact.
        Ok(c0 + (c1 - c0) * (width - w0) as f64 / (w1 - w0) as f64)
    }
}

/// The cost tables of one model, at most one per resource.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Costs {
    tables: BTreeMap<Resource, CostTable>,
}

impl Costs {
    /// Collects tables by resource. Of two tables for one resource the later one is kept.
    pub fn new(tables: Vec<CostTable>) -> Self {
        let by_resource = tables.into_iter().map(|table| (table.resource, table));
        Self { tables: by_resource.collect() }
    }

    /// Adds a table, or replaces the one for the same resource.
    pub fn with(mut self, table: CostTable) -> Self {
        self.tables.insert(table.resource, table);
        self
    }

    /// The table of a resource.
    ///
    /// # Errors
    /// [`Error::UnknownCost`] if there is no table for it.
    pub fn get(&self, resource: Resource) -> Result<&CostTable> {
        self.tables
            .get(&resource)
            .ok_or_else(|| Error::UnknownCost { resource, known: self.resources() })
    }

    /// The resources that have a table.
    pub fn resources(&self) -> Vec<Resource> {
        self.tables.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affine_tables_are_exact_at_every_width() {
        let table = CostTable::affine(Resource::Params, 7.0, &[(3.0, 5.0), (4.0, 768.0)], 6144);
        for width in [0, 1, 31, 4096, 6143, 6144] {
            let expected = 7.0 + 3.0 + 5.0 * width as f64 + 4.0 + 768.0 * width as f64;
            assert_eq!(table.cost(&Submodel::uniform(width, 2)).unwrap(), expected);
        }
    }

    #[test]
    fn a_plan_counts_what_its_submodels_share_once() {
        let table = CostTable::affine(Resource::Flops, 100.0, &[(10.0, 1.0), (20.0, 2.0)], 64);
        let submodel = |widths: [usize; 2]| Submodel::new(widths.to_vec());
        let cost = |submodels: &[Submodel]| table.plan(&Plan::merged(submodels).unwrap()).unwrap();
        let (small, large) = (submodel([8, 8]), submodel([64, 64]));
        assert_eq!(cost(std::slice::from_ref(&small)), table.cost(&small).unwrap());
        // Layer 0 runs once, at its widest. The rest runs twice.
        let separate = table.cost(&small).unwrap() + table.cost(&large).unwrap();
        assert_eq!(cost(&[small.clone(), large.clone()]), separate - (10.0 + 8.0));
        // Only the last layer differs, and its input is shared.
        assert_eq!(
            cost(&[submodel([8, 8]), submodel([8, 64])]),
            (10.0 + 8.0) + (20.0 + 2.0 * 64.0) + 2.0 * 100.0
        );
        let rows = Plan::rows(&[small.clone(), large]).unwrap();
        assert_eq!(table.plan(&rows).unwrap(), separate);
        let short = Plan::one(&Submodel::uniform(8, 1));
        assert!(matches!(table.plan(&short), Err(Error::LayerCount { .. })));
    }

    #[test]
    fn measured_tables_interpolate_within_their_range_only() {
        let table = CostTable {
            resource: Resource::Millis,
            constant: 1.0,
            widths: vec![10, 20, 40],
            layers: vec![vec![1.0, 2.0, 8.0]],
        };
        assert_eq!(table.at(0, 15).unwrap(), 1.5);
        assert_eq!(table.at(0, 30).unwrap(), 5.0);
        assert_eq!(table.cost(&Submodel::uniform(40, 1)).unwrap(), 9.0);
        for (layer, width) in [(0, 9), (0, 41), (1, 20)] {
            let error = table.at(layer, width).unwrap_err();
            assert!(matches!(error, Error::OutsideTable { .. }), "{error}");
        }
        assert!(matches!(table.cost(&Submodel::uniform(20, 2)), Err(Error::LayerCount { .. })));
    }

    #[test]
    fn a_missing_table_is_an_error_that_names_the_known_ones() {
        let costs = Costs::new(vec![CostTable::affine(Resource::Ffn, 0.0, &[(0.0, 1.0)], 8)]);
        assert_eq!(costs.get(Resource::Ffn).unwrap().resource, Resource::Ffn);
        let error = costs.get(Resource::Millis).unwrap_err();
        assert_eq!(
            error.to_string(),
            "nothing was measured in `ms` for this model; known costs: `ffn`"
        );
        assert!(error.hint().unwrap().contains("no measurement"));
    }

    #[test]
    fn resources_have_one_text_form_in_print_and_in_files() {
        for resource in Resource::ALL {
            assert_eq!(resource.to_string().parse::<Resource>().unwrap(), resource);
            assert_eq!(serde_json::to_value(resource).unwrap(), resource.to_string());
        }
        assert!("joules".parse::<Resource>().is_err());
    }

    #[test]
    fn costs_are_described_with_three_significant_digits() {
        let describe = |cost| Resource::NonEmbedding.describe(cost);
        assert_eq!(describe(188_743_680.0), "189M non-embedding parameters");
        assert_eq!(describe(1_234_567.0), "1.23M non-embedding parameters");
        assert_eq!(describe(1.2e9), "1.20B non-embedding parameters");
        assert_eq!(Resource::Flops.describe(1.2e9), "1.20G FLOPs");
        assert_eq!(describe(12.0), "12 non-embedding parameters");
        assert_eq!(
            Resource::KvBytes.describe(196_608.0),
            "197k bytes of keys and values per token"
        );
        assert_eq!(Resource::Millis.describe(8.25), "8.25 ms");
        assert_eq!(Resource::Millis.describe(0.0522), "0.0522 ms");
        assert_eq!(Resource::Millis.describe(1234.5), "1234 ms");
    }
}
