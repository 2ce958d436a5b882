//! Baselines of a run that are there, measured beside it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use matformer::{
    core::{Manifest, Submodel},
    eval::{Estimate, EvalResults, Evaluation, SubmodelResult, report::AlonePoint, stats},
};
use serde::{Deserialize, Serialize};

use crate::{
    args::Budget,
    commands::{
        Context, count,
        measured::{Measured, measure, measured},
        table,
    },
    folder::ModelFolder,
    kind::Kind,
    output::out,
};

/// A granularity that was trained alone, measured on what its elastic run was measured on.
#[derive(Clone, Serialize, Deserialize)]
pub struct Alone {
    pub budget: Budget,
    pub result: SubmodelResult,
    /// Loss of the elastic size minus this one's, or its accuracy minus this one's, paired.
    pub elastic_above: Estimate,
}

impl Alone {
    /// As a page has it.
    pub fn on_page(&self) -> AlonePoint {
        AlonePoint {
            name: format!("{} alone", self.result.submodel),
            budget: self.budget.name().to_owned(),
            result: self.result.clone(),
            elastic_above: self.elastic_above,
        }
    }
}

/// Where a run's baseline is.
pub fn dir(run: &Path, budget: Budget, name: &str) -> PathBuf {
    run.join("baselines").join(budget.name()).join(name)
}

/// Each of a run's granularities that was trained alone to its end, with its budget and folder.
pub fn ended<K: Kind>(folder: &ModelFolder<K>) -> Vec<(Budget, Submodel, PathBuf)> {
    let of_budget = |budget: Budget| {
        folder.trained().into_iter().map(move |uniform| {
            let dir = dir(&folder.dir, budget, &folder.space().label(&uniform));
            (budget, uniform, dir)
        })
    };
    let all = Budget::ALL.into_iter().flat_map(of_budget);
    all.filter(|(_, _, dir)| dir.join(Manifest::FILE).exists()).collect()
}

/// The baselines of a run that have ended, as they and the run were measured for a report.
pub fn alone<K: Kind>(
    folder: &ModelFolder<K>,
    elastic: &Measured<K>,
    tokens: Option<usize>,
    context: &Context,
) -> Result<Vec<Alone>> {
    let mut found = Vec::new();
    for (budget, uniform, dir) in ended(folder) {
        let name = folder.space().label(&uniform);
        let baseline = ModelFolder::<K>::load(&dir, &context.device)?;
        let measured = measured(&baseline, tokens)?;
        let same = measured.results.data == elastic.results.data;
        let documents = (elastic.documents.get(&name), measured.documents.get(&name));
        if let ((Some(ours), Some(theirs)), true) = (documents, same) {
            let elastic_above = stats::judged_difference(ours, theirs)?;
            let result = measured.results.results.into_iter().find(|r| r.submodel == name);
            found.extend(result.map(|result| Alone { budget, result, elastic_above }));
        }
    }
    Ok(found)
}

/// The baselines of those `submodels` that are granularities, measured on the data that the run was
/// measured on.
pub fn beside<K: Kind>(
    folder: &ModelFolder<K>,
    prepared: &K::Prepared,
    elastic: &Evaluation,
    submodels: &[Submodel],
    tokens: Option<usize>,
    context: &Context,
) -> Result<Vec<Alone>> {
    let mut found = Vec::new();
    for (budget, uniform, dir) in ended(folder) {
        if !submodels.contains(&uniform) {
            continue;
        }
        let baseline = ModelFolder::<K>::load(&dir, &context.device)?;
        let theirs = measure(&baseline, prepared, &baseline.trained(), tokens)?;
        let results = EvalResults::new(
            &dir.display().to_string(),
            &K::facts(prepared).hash.to_string(),
            &theirs,
            baseline.space(),
            &baseline.costs,
            None,
        )?;
        let losses = theirs.losses(&baseline.trained()[0])?;
        let elastic_above = stats::judged_difference(elastic.losses(&uniform)?, losses)?;
        let result = results.results.into_iter().next();
        found.extend(result.map(|result| Alone { budget, result, elastic_above }));
    }
    Ok(found)
}

/// A table of them.
pub fn print(alone: &[Alone]) -> Result<()> {
    if alone.is_empty() {
        return Ok(());
    }
    let head = table::columns(alone.iter().map(|alone| &alone.result));
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    let above = format!("elastic {} above", head.metric.short());
    table.set_header(["alone", "budget", "params", head.columns[0], head.columns[1], &above]);
    for Alone { budget, result, elastic_above } in alone {
        let [value, second] = head.cells(result);
        table.add_row([
            result.submodel.clone(),
            budget.name().to_owned(),
            count(result.params.total as f64),
            value,
            second,
            head.difference(*elastic_above),
        ]);
    }
    out!("{table}")
}
