//! What methods came to, judged on the half that did not choose.

use std::collections::BTreeMap;

use anyhow::Result;
use matformer::{
    core::{Named, Names, Resource, Space, Submodel, SubmodelSpec},
    eval::{EvalResults, Evaluation, Found, Outcome, Scored, SubmodelLosses, budget, stats},
    search::{Method, Problem},
};
use serde::Serialize;

use super::halves::Halves;
use crate::{
    failure::{self, Hinted, OrBadInput},
    folder::ModelFolder,
    kind::Kind,
    logging::say,
};

/// The best submodel that is known within the budgets.
pub struct Best {
    submodel: Submodel,
    a: f64,
    found_by: String,
}

impl Best {
    pub fn submodel(&self) -> &Submodel {
        &self.submodel
    }

    /// As it gets a name.
    pub fn named<K: Kind>(
        self,
        folder: &ModelFolder<K>,
        budgets: &[String],
        halves: &Halves<'_, K>,
    ) -> Named {
        Named {
            weights: folder.manifest.weights_sha256.clone(),
            widths: self.submodel,
            found_by: self.found_by,
            data: halves.chosen_by(),
            budgets: budgets.to_vec(),
        }
    }
}

/// What was found before, within the same budgets on the same data.
pub fn known<K: Kind>(
    folder: &ModelFolder<K>,
    budgets: &[String],
    halves: &Halves<'_, K>,
) -> Result<Vec<Found>> {
    let mut all = Found::load_all(&folder.dir, &folder.manifest.weights_sha256)?;
    let [tokens, _] = halves.tokens();
    all.retain(|found| {
        found.budgets == budgets && found.data == halves.hash && found.tokens == tokens
    });
    // Files are named after methods.
    all.retain(|found| found.outcome.method.parse::<Method>().is_ok());
    Ok(all)
}

/// What was searched now, with the times of those calls that knew less, and what other methods found before,
/// unless more judged them than judges now.
pub fn with_known(
    mut all: Vec<Outcome>,
    known: Vec<Found>,
    problem: &Problem,
    judge_tokens: Option<usize>,
) -> Vec<Outcome> {
    let judges = |tokens: Option<usize>| tokens.unwrap_or(usize::MAX);
    for Found { outcome: old, judge_tokens: judged, .. } in known {
        match all.iter_mut().find(|new| new.method == old.method) {
            Some(new) if new.repeats(&old) => {
                (new.measured, new.seconds) = (old.measured, old.seconds);
            }
            Some(_) => {}
            // What `ms` mean may have changed.
            None if problem.fits(&old.widths) && judges(judged) <= judges(judge_tokens) => {
                all.push(old);
            }
            None => {}
        }
    }
    all
}

/// The best, by the half that chooses, of what has the name and of all `outcomes`, the first of equals: a
/// shorter search does not take the name from a longer one.
pub fn best<'a, K: Kind>(
    folder: &ModelFolder<K>,
    problem: &Problem,
    budgets: &[String],
    halves: &mut Halves<'_, K>,
    outcomes: impl Iterator<Item = &'a Outcome>,
) -> Result<Best> {
    let mut found: Vec<Best> = Vec::new();
    // Whether the names can be read is said when they are written.
    let names = Names::load(&folder.dir).unwrap_or_default();
    if let Ok(Some(named)) = names.get(&name(budgets), &folder.manifest.weights_sha256)
        && named.data == halves.chosen_by()
        && problem.fits(&named.widths)
    {
        let submodel = named.widths.clone();
        let a = halves.losses(std::slice::from_ref(&submodel))?[0];
        found.push(Best { submodel, a, found_by: named.found_by.clone() });
    }
    for Outcome { method, tried, .. } in outcomes {
        let resolved = |s: &Scored| {
            let spec = s.submodel.parse::<SubmodelSpec>().ok()?;
            let submodel = spec.resolve(folder.space(), &folder.costs).ok()?;
            problem.fits(&submodel).then(|| Best { submodel, a: s.a, found_by: method.clone() })
        };
        found.extend(tried.iter().filter_map(resolved).min_by(|a, b| a.a.total_cmp(&b.a)));
    }
    let nothing = || Hinted {
        message: "no method found a submodel within the budget".to_owned(),
        hint: "search by another --method".to_owned(),
    };
    found.into_iter().min_by(|a, b| a.a.total_cmp(&b.a)).ok_or_else(nothing).bad_input()
}

/// What `--json` prints.
#[derive(Serialize)]
pub struct Printed {
    pub model: String,
    /// Submodels that there are, limits aside.
    pub submodels: f64,
    /// Documents, or images, that judged.
    pub documents: usize,
    /// The best submodel that any method tried, by the half that chooses.
    pub best: String,
    /// What it costs, by each of the budgets.
    pub best_costs: Vec<f64>,
    /// Its name from now on; `null` where it got none.
    pub name: Option<String>,
    /// One entry per method.
    pub found: Vec<Found>,
    /// The winners, and the largest submodel, on the half that judges.
    pub judged: EvalResults,
    /// Nats and targets of each document that judged, for each of these, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_document: Option<BTreeMap<String, Vec<(f64, usize)>>>,
}

/// Measures what was found on the other half, and how far it is above the best.
pub fn judged<K: Kind>(
    folder: &ModelFolder<K>,
    problem: &Problem,
    halves: &Halves<'_, K>,
    budgets: &[String],
    (outcomes, best): (Vec<Outcome>, &Submodel),
) -> Result<(Printed, Evaluation)> {
    let space = folder.space();
    let mut submodels: Vec<Submodel> =
        outcomes.iter().map(|outcome| outcome.widths.clone()).collect();
    submodels.extend([best.clone(), space.largest()]);
    submodels.sort();
    submodels.dedup();
    let evaluation = halves.judge(&submodels)?;
    let non_embedding = folder.costs.get(Resource::NonEmbedding)?;
    let [tokens, judge_tokens] = halves.tokens();
    let costs = |submodel: &Submodel| -> matformer::core::Result<Vec<f64>> {
        problem.limits().iter().map(|limit| limit.table.cost(submodel)).collect()
    };
    let found = |outcome: Outcome| -> Result<Found> {
        let losses = evaluation.losses(&outcome.widths)?;
        let above = stats::difference(losses, evaluation.losses(best)?)?;
        Ok(Found {
            budgets: budgets.to_vec(),
            weights: folder.manifest.weights_sha256.clone(),
            data: halves.hash.clone(),
            tokens,
            judge_tokens,
            winner: space.label(&outcome.widths),
            costs: costs(&outcome.widths)?,
            non_embedding: non_embedding.cost(&outcome.widths)? as u64,
            b: stats::loss(losses)?,
            regret: above.value,
            stderr: above.stderr,
            outcome,
        })
    };
    let printed = Printed {
        model: folder.dir.display().to_string(),
        submodels: problem.size(),
        documents: evaluation.n_documents(),
        best: space.label(best),
        best_costs: costs(best)?,
        name: None,
        found: outcomes.into_iter().map(found).collect::<Result<_>>()?,
        judged: EvalResults::new(
            &folder.dir.display().to_string(),
            &halves.hash,
            &evaluation,
            space,
            &folder.costs,
            Some(&space.largest()),
        )?,
        per_document: None,
    };
    Ok((printed, evaluation))
}

/// Losses document by document, as `--per-document` prints them.
pub fn per_document(evaluation: &Evaluation, space: &Space) -> BTreeMap<String, Vec<(f64, usize)>> {
    let of = |losses: &SubmodelLosses| {
        let documents = losses.documents.iter().map(|d| (d.nats, d.tokens)).collect();
        (space.label(&losses.submodel), documents)
    };
    evaluation.submodels.iter().map(of).collect()
}

fn name(budgets: &[String]) -> String {
    format!("best@{}", budget(budgets))
}

/// Writes what was found into the folder, and gives the best its name, which is returned. A folder that cannot
/// be written to does not cost the result.
pub fn keep<K: Kind>(folder: &ModelFolder<K>, found: &[Found], named: Named) -> Option<String> {
    match try_to_keep(folder, found, named) {
        Ok(name) => name,
        Err(error) => {
            say!("note: not kept: {}", failure::said(&error));
            None
        }
    }
}

fn try_to_keep<K: Kind>(
    folder: &ModelFolder<K>,
    found: &[Found],
    named: Named,
) -> Result<Option<String>> {
    let own = &folder.manifest.provenance.data_hash;
    for found in found {
        found.save(&folder.dir, own)?;
    }
    let name = name(&named.budgets);
    let names = Names::load(&folder.dir)?;
    let space = folder.space();
    if let Ok(Some(old)) = names.get(&name, &named.weights) {
        let counts_more = old.data != named.data && rank(&old.data, own) > rank(&named.data, own);
        if counts_more && old.check(&name, space, &folder.costs).is_ok() {
            let label = space.label(&old.widths);
            say!("note: `{name}` stays {label}, which more held-out data chose");
            return Ok(None);
        }
        if old.widths != named.widths {
            say!("note: `{name}` was {}", space.label(&old.widths));
        }
    }
    Names::add(&folder.dir, &name, named)?;
    Ok(Some(name))
}

/// What counts more to choose by: all of the model's own data, then all of other data, then the larger part.
fn rank(chosen_by: &str, own: &str) -> (bool, bool, usize) {
    let part = chosen_by.rsplit_once(':').and_then(|(_, targets)| targets.parse().ok());
    (chosen_by == format!("{own}/a"), part.is_none(), part.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_own_data_counts_most() {
        let ascending = ["ff/a:10", "aa/a:500", "ff/a", "aa/a"].map(|data| rank(data, "aa"));
        assert!(ascending.is_sorted_by(|a, b| a < b), "{ascending:?}");
    }
}
