//! What methods came to, judged on the half that did not choose.

use anyhow::Result;
use matformer::{
    core::{Named, Names, Resource, Submodel},
    eval::{EvalResults, Found, Scored, budget, stats},
    search::Problem,
};
use serde::Serialize;

use super::halves::Halves;
use crate::{
    failure::{Hinted, OrBadInput},
    folder::ModelFolder,
    kind::Kind,
    logging::say,
};

/// What a method came to, on the half that it chose by.
pub struct Won {
    pub method: String,
    pub winner: Submodel,
    pub a: f64,
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
    budgets: &[String],
    halves: &Halves<'_, K>,
) -> Result<Vec<Won>> {
    let all = Found::load_all(&folder.dir, &folder.manifest.weights_sha256)?.into_iter();
    let same = all.filter(|found| {
        found.budgets == budgets && found.data == halves.hash && found.tokens == halves.tokens()
    });
    Ok(same
        .map(|found| Won {
            method: found.method,
            winner: found.widths,
            a: found.a,
            seed: found.seed,
            tried: found.tried,
            measured: found.measured,
            seconds: found.seconds,
        })
        .collect())
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
    /// The best submodel that any method found, on the half that chooses.
    pub best: String,
    /// Its name from now on.
    pub name: String,
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
) -> Result<Printed> {
    let space = folder.space();
    let Some(best) = won.iter().min_by(|a, b| a.a.total_cmp(&b.a)) else {
        return Err(Hinted {
            message: "no method found a submodel within the budget".to_owned(),
            hint: "search by another --method".to_owned(),
        })
        .bad_input();
    };
    let best = best.winner.clone();
    let mut submodels: Vec<Submodel> = won.iter().map(|won| won.winner.clone()).collect();
    submodels.push(space.largest());
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
    Ok(Printed {
        model: folder.dir.display().to_string(),
        submodels: problem.size(),
        documents: evaluation.n_documents(),
        best: space.label(&best),
        name: format!("best@{}", budget(budgets)),
        judged: EvalResults::new(
            &folder.dir.display().to_string(),
            &halves.hash,
            &evaluation,
            space,
            &folder.costs,
            Some(&space.largest()),
        )?,
        found,
    })
}

/// Writes what was found into the folder, and gives the best its name; a folder that cannot be written
/// to does not cost the result.
pub fn keep<K: Kind>(folder: &ModelFolder<K>, printed: &Printed) {
    let keep = || -> Result<()> {
        for found in &printed.found {
            found.save(&folder.dir)?;
        }
        if let Some(best) = printed.found.iter().find(|found| found.winner == printed.best) {
            let named = Named {
                weights: best.weights.clone(),
                widths: best.widths.clone(),
                found_by: best.method.clone(),
            };
            let names = Names::load(&folder.dir)?;
            let before = names.iter().find(|(name, _)| *name == printed.name);
            if let Some((name, old)) = before.filter(|(_, old)| old.widths != named.widths) {
                let old = folder.space().label(&old.widths);
                say!("note: `{name}` was {old}, and is {} now", printed.best);
            }
            Names::add(&folder.dir, &printed.name, named)?;
        }
        Ok(())
    };
    if let Err(error) = keep() {
        say!("note: not kept: {error:#}");
    }
}
