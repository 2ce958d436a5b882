//! What a model is, and what its sizes cost.

use matformer_core::{Costs, Names, Resource, Space, Submodel, SubmodelSpec};
use matformer_eval::ParamCounts;
use matformer_lm::{MatLmConfig, PAPER_TABLE, Preset, costs};
use matformer_nn::{ModelConfig, standalone};
use serde::Serialize;

use crate::{
    error::{Error, Result},
    folder::ModelFolder,
    kind::Kind,
};

/// What a size of a model costs, and where it can go.
#[derive(Debug, Serialize)]
pub struct GranularityInfo {
    /// Its name.
    pub name: String,
    /// Its feed-forward width.
    pub width: usize,
    /// Its parameters.
    pub params: ParamCounts,
    /// Of the forward pass of one token at the full context, or of one image.
    pub flops_per_token: f64,
    /// Bytes of keys and values that a token leaves in the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_bytes_per_token: Option<f64>,
    /// Of a token or an image, where `bench layers` measured it here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub millis: Option<f64>,
    /// Where a slice of this width can go.
    pub exports: Vec<&'static str>,
    /// Where it can go besides, with narrower layers padded with zeros.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exports_padded: Vec<&'static str>,
}

/// A submodel that has a name.
#[derive(Debug, Serialize)]
pub struct NamedInfo {
    /// The name.
    pub name: String,
    /// The submodel.
    pub submodel: String,
    /// Its parameters.
    pub params: ParamCounts,
    /// What found it.
    pub found_by: String,
}

/// A size of one of the paper's models: millions of parameters, in all and without the embeddings.
#[derive(Debug, Serialize)]
pub struct PaperRow {
    /// The model, by its number of parameters.
    pub model: &'static str,
    /// The size.
    pub granularity: String,
    /// As the paper prints them.
    pub paper: [f64; 2],
    /// Of our form with two feed-forward matrices.
    pub two_matrix: [f64; 2],
    /// Of our own form.
    pub ours: [f64; 2],
}

/// What the sizes of a model cost.
///
/// # Errors
/// When the shape has no such sizes.
pub fn granularities<K: Kind>(
    shape: &K::Shape,
    space: &Space,
    costs: &Costs,
) -> Result<Vec<GranularityInfo>> {
    space
        .granularities
        .iter()
        .map(|g| {
            let submodel = space.uniform(&g.name)?;
            let of = |submodel: &Submodel| -> Result<Vec<&'static str>> {
                Ok(K::exports(&standalone(shape, space, submodel)?.0))
            };
            let exports = of(&submodel)?;
            let mut exports_padded = of(&submodel.padded())?;
            exports_padded.retain(|program| !exports.contains(program));
            let known = |resource| -> Result<Option<f64>> {
                Ok(costs.get(resource).ok().map(|table| table.cost(&submodel)).transpose()?)
            };
            Ok(GranularityInfo {
                name: g.name.clone(),
                width: g.width,
                params: ParamCounts::of(&submodel, costs)?,
                flops_per_token: costs.get(Resource::Flops)?.cost(&submodel)?,
                kv_bytes_per_token: known(Resource::KvBytes)?,
                millis: known(Resource::Millis)?,
                exports,
                exports_padded,
            })
        })
        .collect()
}

/// The names of a model, and what is wrong with others.
#[derive(Debug, Default)]
pub struct Listed {
    /// The names that mean something for these weights, here.
    pub named: Vec<NamedInfo>,
    /// Why others do not, or all of them.
    pub problems: Vec<(Option<String>, Error)>,
}

/// The names of a model.
///
/// # Errors
/// When a cost is not known.
pub fn named<K: Kind>(folder: &ModelFolder<K>) -> Result<Listed> {
    let mut found = Listed::default();
    // A damaged list does not cost the rest.
    let names = Names::load(&folder.dir).unwrap_or_else(|error| {
        found.problems.push((None, error.into()));
        Names::default()
    });
    for (name, named) in names.iter() {
        match folder.submodel(Some(&SubmodelSpec::Name(name.to_owned()))) {
            Ok(submodel) => found.named.push(NamedInfo {
                name: name.to_owned(),
                submodel: folder.space().label(&submodel),
                params: ParamCounts::of(&submodel, &folder.costs)?,
                found_by: named.found_by.clone(),
            }),
            Err(error) => found.problems.push((Some(name.to_owned()), error)),
        }
    }
    Ok(found)
}

/// The paper's Table 4 beside ours: millions of parameters.
///
/// # Errors
/// When a preset has no such size.
pub fn paper_table() -> Result<Vec<PaperRow>> {
    let mut rows = Vec::new();
    for (i, printed) in PAPER_TABLE.iter().enumerate() {
        let (plain, ours) = (Preset::PaperPlain(i).config(), Preset::Paper(i).config());
        for (at, g) in plain.space()?.granularities.iter().enumerate() {
            let millions = |config: &MatLmConfig| {
                let submodel = config.space()?.uniform(&g.name)?;
                let params = ParamCounts::of(&submodel, &costs(config))?;
                Ok::<_, Error>([params.total, params.non_embedding].map(|n| n as f64 / 1e6))
            };
            rows.push(PaperRow {
                model: printed.name,
                granularity: g.name.clone(),
                paper: [printed.total[at], printed.non_embedding[at]],
                two_matrix: millions(&plain)?,
                ours: millions(&ours)?,
            });
        }
    }
    Ok(rows)
}
