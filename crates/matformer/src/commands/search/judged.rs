//! What methods came to, judged on the half that did not choose.

use anyhow::Result;
use matformer::{
    core::{Named, Names, Resource, Submodel, SubmodelSpec},
    eval::{EvalResults, Found, Scored, budget, stats},
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

/// What a method came to, on the half that it chose by.
pub struct Won {
    pub method: String,
    pub winner: Submodel,
    pub a: f64,
    /// The best that it tried, which need not be what the method names.
    pub best: (Submodel, f64),
    pub seed: u64,
    pub tried: Vec<Scored>,
    pub measured: usize,
    pub seconds: f64,
}

impl Won {
    /// Whether another call came to the same in the same way: its times are those of a search that knew
    /// less.
    fn repeats(&self, old: &Self) -> bool {
        let labels =
            |won: &Self| won.tried.iter().map(|s| s.submodel.clone()).collect::<Vec<String>>();
        self.method == old.method && self.seed == old.seed && labels(self) == labels(old)
    }
}

/// What was found before, within the same budgets on the same data.
pub fn known<K: Kind>(
    folder: &ModelFolder<K>,
    problem: &Problem,
    budgets: &[String],
    halves: &Halves<'_, K>,
) -> Result<Vec<Won>> {
    let all = Found::load_all(&folder.dir, &folder.manifest.weights_sha256)?.into_iter();
    let same = all.filter(|found| {
        found.budgets == budgets && found.data == halves.hash && found.tokens == halves.tokens()
    });
    let read = |found: Found| -> Option<Won> {
        found.method.parse::<Method>().ok()?;
        let fits = |s: &Scored| {
            let spec = s.submodel.parse::<SubmodelSpec>().ok()?;
            let submodel = spec.resolve(folder.space(), &folder.costs).ok()?;
            problem.fits(&submodel).then_some((submodel, s.a))
        };
        let best = found.tried.iter().filter_map(fits).min_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(Won {
            method: found.method,
            winner: found.widths,
            a: found.a,
            best,
            seed: found.seed,
            tried: found.tried,
            measured: found.measured,
            seconds: found.seconds,
        })
    };
    Ok(same.filter_map(read).collect())
}

/// What was searched now, with the times of those calls that knew less, and what other methods found before.
pub fn with_known(mut won: Vec<Won>, known: Vec<Won>, problem: &Problem) -> Vec<Won> {
    for old in known {
        match won.iter_mut().find(|new| new.method == old.method) {
            Some(new) if new.repeats(&old) => {
                (new.measured, new.seconds) = (old.measured, old.seconds);
            }
            Some(_) => {}
            // What `ms` mean may have changed.
            None if problem.fits(&old.winner) => won.push(old),
            None => {}
        }
    }
    won
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
    /// Its name from now on; `null` where it got none.
    pub name: Option<String>,
    /// One entry per method.
    pub found: Vec<Found>,
    /// The winners, and the largest submodel, on the half that judges.
    pub judged: EvalResults,
}

/// Measures the winners on the other half, and how far each is above the best.
pub fn judged<K: Kind>(
    folder: &ModelFolder<K>,
    problem: &Problem,
    halves: &Halves<'_, K>,
    budgets: &[String],
    won: Vec<Won>,
) -> Result<(Printed, Named)> {
    let space = folder.space();
    let Some(best) = won.iter().min_by(|a, b| a.best.1.total_cmp(&b.best.1)) else {
        return Err(Hinted {
            message: "no method found a submodel within the budget".to_owned(),
            hint: "search by another --method".to_owned(),
        })
        .bad_input();
    };
    let named = Named {
        weights: folder.manifest.weights_sha256.clone(),
        widths: best.best.0.clone(),
        found_by: best.method.clone(),
        data: halves.chosen_by(),
        budgets: budgets.to_vec(),
    };
    let best = named.widths.clone();
    let mut submodels: Vec<Submodel> = won.iter().map(|won| won.winner.clone()).collect();
    submodels.extend([best.clone(), space.largest()]);
    submodels.sort();
    submodels.dedup();
    let evaluation = halves.judge(&submodels)?;
    let non_embedding = folder.costs.get(Resource::NonEmbedding)?;
    let found = won
        .into_iter()
        .map(|won| {
            let losses = evaluation.losses(&won.winner)?;
            let above = stats::difference(losses, evaluation.losses(&best)?)?;
            let costs = problem.limits().iter().map(|limit| limit.table.cost(&won.winner));
            Ok(Found {
                budgets: budgets.to_vec(),
                seed: won.seed,
                weights: folder.manifest.weights_sha256.clone(),
                data: halves.hash.clone(),
                tokens: halves.tokens(),
                winner: space.label(&won.winner),
                costs: costs.collect::<matformer::core::Result<_>>()?,
                non_embedding: non_embedding.cost(&won.winner)? as u64,
                b: stats::loss(losses)?,
                regret: above.value,
                stderr: above.stderr,
                method: won.method,
                widths: won.winner,
                a: won.a,
                tried: won.tried,
                measured: won.measured,
                seconds: won.seconds,
            })
        })
        .collect::<Result<Vec<Found>>>()?;
    let printed = Printed {
        model: folder.dir.display().to_string(),
        submodels: problem.size(),
        documents: evaluation.n_documents(),
        best: space.label(&best),
        name: None,
        judged: EvalResults::new(
            &folder.dir.display().to_string(),
            &halves.hash,
            &evaluation,
            space,
            &folder.costs,
            Some(&space.largest()),
        )?,
        found,
    };
    Ok((printed, named))
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
    let name = format!("best@{}", budget(&named.budgets));
    let names = Names::load(&folder.dir)?;
    let old = names.iter().find(|(old, _)| *old == name).map(|(_, old)| old);
    if let Some(old) = old.filter(|old| old.weights == named.weights) {
        let label = |named: &Named| folder.space().label(&named.widths);
        // All of the model's own data counts for more than a part, or than other data.
        if old.data != named.data && named.data != format!("{own}/a") {
            say!("note: `{name}` stays {}, which other held-out data chose", label(old));
            return Ok(None);
        }
        if old.widths != named.widths {
            say!("note: `{name}` was {}", label(old));
        }
    }
    Names::add(&folder.dir, &name, named)?;
    Ok(Some(name))
}
