//! The results of the methods, evaluated on the test half.

use std::{collections::BTreeMap, path::Path};

use matformer_core::{Named, Names, Resource, Space, Submodel};
use matformer_eval::{Estimate, EvalResults, Evaluation, Found, Outcome, SubmodelLosses, stats};
use matformer_search::{Method, Problem};
use serde::{Serialize, Serializer};

use super::{budgets::Budgets, halves::Halves};
use matformer_run::{Hinted, Kind, ModelFolder, OrBadInput, Result};
use matformer_train::say;

/// What was ever found with a folder's weights; says which files cannot be read.
pub fn all_found<K: Kind>(folder: &ModelFolder<K>) -> Result<Vec<Found>> {
    let passed_over = |path: &Path| {
        say!("note: {} is not what a search writes: passed over", path.display());
    };
    Ok(Found::load_all(&folder.dir, &folder.manifest.weights_sha256, passed_over)?)
}

/// What was found before, within the same budgets on the same data.
pub fn known<K: Kind>(
    folder: &ModelFolder<K>,
    budgets: &Budgets,
    halves: &Halves<'_, K>,
) -> Result<Vec<Found>> {
    let mut all = all_found(folder)?;
    let [tokens, _] = halves.tokens();
    all.retain(|found| {
        found.budgets == budgets.typed && found.data == halves.hash && found.tokens == tokens
    });
    // Files are named after methods.
    all.retain(|found| found.outcome.method.parse::<Method>().is_ok());
    Ok(all)
}

/// The results of this search, plus the known results of other methods. A result that repeats a known one keeps the
/// known time and number of evaluations, which were measured with fewer cached losses.
pub fn with_known(mut all: Vec<Outcome>, known: Vec<Outcome>, problem: &Problem) -> Vec<Outcome> {
    for old in known {
        match all.iter_mut().find(|new| new.method == old.method) {
            Some(new) if new.repeats(&old) => {
                (new.measured, new.seconds) = (old.measured, old.seconds);
            }
            Some(_) => {}
            // What `ms` mean may have changed.
            None if problem.fits(&old.widths) => all.push(old),
            None => {}
        }
    }
    all
}

/// The best of all that was measured within the budgets on the half that chooses, now and before, as it gets
/// its name: no shorter search takes it from a longer one.
pub fn best<K: Kind>(
    folder: &ModelFolder<K>,
    budgets: &Budgets,
    halves: &Halves<'_, K>,
    outcomes: &[Outcome],
) -> Result<Named> {
    let known = halves.known(&budgets.problem)?;
    let best = known.iter().min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    let Some((widths, _)) = best else {
        return Err(Hinted {
            message: "no method found a submodel within the budget".to_owned(),
            hint: "search by another --method".to_owned(),
        })
        .bad_input();
    };
    // Whether the names can be read is said when they are written.
    let names = Names::load(&folder.dir).unwrap_or_default();
    let weights = &folder.manifest.weights_sha256;
    let old = names.get(&budgets.best, weights).ok().flatten().filter(|old| old.widths == *widths);
    let label = folder.space().label(widths);
    let by = outcomes.iter().find(|o| o.tried.iter().any(|tried| tried.submodel == label));
    let by = old.map(|old| &old.found_by).or(by.map(|outcome| &outcome.method));
    Ok(Named {
        weights: weights.clone(),
        widths: widths.clone(),
        found_by: by.map_or("another search", String::as_str).to_owned(),
        data: halves.chosen_by(),
        budgets: budgets.typed.clone(),
    })
}

/// What a search found, as `search --json` prints it.
#[derive(Serialize)]
pub struct Judged {
    /// The model's folder.
    pub model: String,
    /// Submodels that there are, limits aside.
    #[serde(serialize_with = "whole")]
    pub submodels: f64,
    /// Documents, or images, that judged.
    pub documents: usize,
    /// How many were measured within the budgets on the half that chooses, now and before.
    pub known: usize,
    /// The best of them.
    pub best: String,
    /// What it costs, by each of the budgets.
    pub best_costs: Vec<f64>,
    /// Its name from now on; `null` where it got none.
    pub name: Option<String>,
    /// One entry per method.
    pub found: Vec<Found>,
    /// The winners, and the largest submodel, on the half that judges.
    pub judged: EvalResults,
    /// How far each method's winner is above the Mix'n'Match submodel of another search, paired by document,
    /// where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above: Option<BTreeMap<String, Estimate>>,
    /// Nats and targets of each document that judged, for each of these, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_document: Option<BTreeMap<String, Vec<(f64, usize)>>>,
    /// With these, the number of each document's cluster, if any; left out where each document stands for
    /// itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clusters: Option<Vec<Option<usize>>>,
}

/// A count as a whole number, as long as it is known to the last digit.
fn whole<S: Serializer>(count: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    const EXACT: f64 = (1_u64 << f64::MANTISSA_DIGITS) as f64;
    if *count < EXACT {
        serializer.serialize_u64(*count as u64)
    } else {
        count.serialize(serializer)
    }
}

/// Measures what was found on the other half, and how far it is above the best.
pub fn judged<K: Kind>(
    folder: &ModelFolder<K>,
    budgets: &Budgets,
    halves: &mut Halves<'_, K>,
    (outcomes, best): (Vec<Outcome>, &Submodel),
) -> Result<(Judged, Evaluation)> {
    let (space, problem) = (folder.space(), &budgets.problem);
    let mut submodels: Vec<Submodel> =
        outcomes.iter().map(|outcome| outcome.widths.clone()).collect();
    submodels.extend([best.clone(), space.largest()]);
    submodels.sort();
    submodels.dedup();
    let evaluation = halves.judge(&submodels)?;
    let non_embedding = folder.costs.get(Resource::NonEmbedding)?;
    let [tokens, judge_tokens] = halves.tokens();
    let costs = |submodel: &Submodel| -> matformer_core::Result<Vec<f64>> {
        problem.limits().iter().map(|limit| limit.table.cost(submodel)).collect()
    };
    let found = |outcome: Outcome| -> Result<Found> {
        let losses = evaluation.losses(&outcome.widths)?;
        let above = stats::difference(losses, evaluation.losses(best)?)?;
        Ok(Found {
            budgets: budgets.typed.clone(),
            weights: folder.manifest.weights_sha256.clone(),
            data: halves.hash.clone(),
            context: folder.context(),
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
    let judged = Judged {
        model: folder.dir.display().to_string(),
        submodels: problem.size(),
        documents: evaluation.n_documents(),
        known: halves.known(problem)?.len(),
        best: space.label(best),
        best_costs: costs(best)?,
        name: None,
        found: outcomes.into_iter().map(found).collect::<Result<_>>()?,
        judged: EvalResults::new(
            &folder.dir.display().to_string(),
            &halves.judged_by(),
            &evaluation,
            space,
            &folder.costs,
            Some(&space.largest()),
        )?,
        above: None,
        per_document: None,
        clusters: None,
    };
    Ok((judged, evaluation))
}

impl Judged {
    /// Adds losses document by document, as `--per-document` prints them.
    pub fn add_documents(&mut self, evaluation: &Evaluation, space: &Space) {
        let of = |losses: &SubmodelLosses| {
            let documents = losses.documents.iter().map(|d| (d.nats, d.tokens)).collect();
            (space.label(&losses.submodel), documents)
        };
        self.per_document = Some(evaluation.submodels.iter().map(of).collect());
        let first = evaluation.submodels.first().filter(|_| evaluation.n_clusters().is_some());
        self.clusters = first.map(|first| first.documents.iter().map(|d| d.cluster).collect());
    }
}

/// Writes what was found into the folder, and gives the best its name, which is returned unless it stays
/// another's.
pub fn keep<K: Kind>(
    folder: &ModelFolder<K>,
    name: &str,
    found: &[Found],
    named: Named,
) -> Result<Option<String>> {
    for found in found {
        found.save(&folder.dir, &folder.manifest.provenance.data_hash)?;
    }
    let names = Names::load(&folder.dir)?;
    let space = folder.space();
    if let Ok(Some(old)) = names.get(name, &named.weights) {
        if more_of_the_same(&old.data, &named.data) && old.check(name, space, &folder.costs).is_ok()
        {
            let label = space.label(&old.widths);
            say!("note: `{name}` stays {label}, which more of the same data chose");
            return Ok(None);
        }
        if old.widths != named.widths {
            say!("note: `{name}` was {}", space.label(&old.widths));
        }
    }
    Names::add(&folder.dir, name, named)?;
    Ok(Some(name.to_owned()))
}

/// Whether one part of the data that chooses is more than another of the same, in windows of the same
/// length: `aa/a:500@256`.
fn more_of_the_same(a: &str, b: &str) -> bool {
    fn split(name: &str) -> (&str, Option<&str>, usize) {
        let (part, context) = name.split_once('@').map_or((name, None), |(p, c)| (p, Some(c)));
        let n = part.rsplit_once(':').and_then(|(of, n)| Some((of, n.parse().ok()?)));
        let (of, n) = n.unwrap_or((part, usize::MAX));
        (of, context, n)
    }
    let (a, b) = (split(a), split(b));
    (a.0, a.1) == (b.0, b.1) && a.2 > b.2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_less_than_a_larger_one_or_all_of_the_same() {
        for (a, b) in [("aa/a", "aa/a:10"), ("aa/a:11", "aa/a:10"), ("aa/a:11@256", "aa/a:10@256")]
        {
            assert!(more_of_the_same(a, b) && !more_of_the_same(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("aa/a", "bb/a:10"),
            ("aa/a", "aa/a"),
            ("aa/a:10", "bb/a:11"),
            ("aa/a@256", "aa/a:10@512"),
        ] {
            assert!(!more_of_the_same(a, b) && !more_of_the_same(b, a), "{a} {b}");
        }
    }
}
