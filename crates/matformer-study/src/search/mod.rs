//! Which submodel to run within a budget: chosen by one half of the held-out data, judged by the other.

mod budgets;
mod halves;
mod judged;
mod other;

use std::{path::PathBuf, time::Instant};

use matformer_core::{Budget, Submodel};
use matformer_eval::{Found, Outcome, Scored};
use matformer_run::{Error, Hinted, Kind, ModelFolder, Result};
use matformer_search::{
    Method, Problem, Search, Searcher, run as run_search, shapes::count_non_decreasing,
};
use matformer_train::say;

pub use self::judged::{Judged, all_found};
use self::{budgets::Budgets, halves::Halves, other::Other};

/// Most submodels that are listed without being asked for.
const LISTED: f64 = 1024.0;

/// What is searched for, and how.
#[derive(Clone, Debug)]
pub struct Question {
    /// What the submodel may cost: all hold at once.
    pub budgets: Vec<Budget>,
    /// How to search; all methods that are feasible if none.
    pub methods: Option<Vec<Method>>,
    /// Submodels that a method may try, where it has a choice.
    pub evaluations: usize,
    /// Random seed of the search.
    pub seed: u64,
    /// Held-out targets of the half that chooses; all if none.
    pub tokens: Option<usize>,
    /// The same of the half that judges; as many as choose if none.
    pub judge_tokens: Option<usize>,
    /// Whether losses of each document that judged are wanted.
    pub per_document: bool,
    /// What another search printed, whose Mix'n'Match submodel the winners are compared with.
    pub paired_to: Option<PathBuf>,
    /// Bytes for the hidden states of one sweep of submodels.
    pub memory: usize,
}

/// What a search found, the problem that it solved, and whether it is kept in the folder.
pub struct Searched {
    /// What was found.
    pub judged: Judged,
    /// The problem.
    pub problem: Problem,
    /// Why what was found is not kept in the folder, where it is not.
    pub kept: Result<()>,
}

/// Refuses a model in which there is nothing to search.
///
/// # Errors
/// When the model has one size, or layers of different widths.
pub fn check<K: Kind>(folder: &ModelFolder<K>) -> Result<()> {
    let dir = folder.dir.display();
    if folder.only_trained().is_some() || folder.trained().len() < 2 {
        return Err(Hinted {
            message: format!("{dir}: a model of one size"),
            hint: "search needs a model of several granularities".to_owned(),
        }
        .into());
    }
    if folder.space().layer_d_ff.is_some() {
        return Err(Hinted {
            message: format!("{dir}: its layers differ in width"),
            hint: "search the model that it was cut out of".to_owned(),
        }
        .into());
    }
    Ok(())
}

/// Searches a model on held-out data, which `data` gives once all else was checked.
///
/// # Errors
/// When a budget or method does not fit the model, or something fails while measuring.
pub fn search<K: Kind>(
    folder: &ModelFolder<K>,
    question: &Question,
    data: impl FnOnce() -> Result<K::Prepared>,
) -> Result<Searched> {
    check(folder)?;
    let other = question.paired_to.as_deref().map(Other::read).transpose()?;
    let budgets = Budgets::new(folder, &question.budgets)?;
    let problem = &budgets.problem;
    let methods = methods(question, problem);
    let begin = |method: &Method| method.begin(problem, question.evaluations, question.seed);
    let searches: Vec<Search> =
        methods.iter().map(begin).collect::<Result<_, _>>().map_err(Error::refused)?;
    let prepared = data()?;
    let mut halves = Halves::new(folder, &prepared, question)?;
    let mut all = Vec::new();
    for (method, search) in methods.into_iter().zip(searches) {
        say!("{method}");
        match searched(folder, problem, &mut halves, (method, question), search)? {
            Some(new) => all.push(new),
            None => say!("note: {method} found nothing within the budget"),
        }
    }
    halves.say_not_kept();
    // One search at a time reads what the folder has and writes it anew; where it cannot be written to, that
    // is said below.
    let _lock = Found::lock(&folder.dir);
    halves.refresh()?;
    let known = judged::known(folder, &budgets, &halves)?;
    halves.judge_as(&known);
    let known = known.into_iter().map(|found| found.outcome).collect();
    let all = judged::with_known(all, known, problem);
    let best = judged::best(folder, &budgets, &halves, &all)?;
    let (mut judged, losses) =
        judged::judged(folder, &budgets, &mut halves, (all, &best.widths.clone()))?;
    let kept = judged::keep(folder, &budgets.best, &judged.found, best);
    judged.name = kept.as_ref().ok().cloned().flatten();
    judged.above = other.map(|other| other.above(&judged.found, &losses)).transpose()?;
    if question.per_document {
        judged.add_documents(&losses, folder.space());
    }
    let kept = kept.map(drop).map_err(|error| error.at("not kept"));
    Ok(Searched { judged, problem: budgets.problem, kept })
}

/// The result of a search; `None` if no submodel that it tried is within the budgets.
fn searched<K: Kind>(
    folder: &ModelFolder<K>,
    problem: &Problem,
    halves: &mut Halves<'_, K>,
    (method, question): (Method, &Question),
    mut search: Search,
) -> Result<Option<Outcome>> {
    let (started, before) = (Instant::now(), halves.measured());
    let measure = |asked: &[Submodel]| halves.losses(asked).map_err(Failed);
    run_search(&mut search, problem, measure).map_err(|Failed(error)| error)?;
    let scored = |(submodel, a): &(Submodel, f64)| Scored {
        submodel: folder.space().label(submodel),
        a: *a,
    };
    let tried: Vec<Scored> = search.tried().iter().map(scored).collect();
    let all = || problem.all(LISTED as usize).is_ok_and(|all| all.len() <= tried.len());
    if method == Method::Evolution && tried.len() < question.evaluations && !all() {
        say!("note: evolution ended after {}: no new submodels are in reach", tried.len());
    }
    Ok(search.best(problem).map(|(widths, a)| Outcome {
        method: method.to_string(),
        seed: question.seed,
        tried,
        widths,
        a,
        measured: halves.measured() - before,
        seconds: started.elapsed().as_secs_f64(),
    }))
}

fn methods(question: &Question, problem: &Problem) -> Vec<Method> {
    let feasible = |method: &Method| match method {
        Method::Exhaustive => problem.size() <= LISTED,
        Method::NonDecreasing => count_non_decreasing(problem) <= LISTED,
        _ => true,
    };
    match &question.methods {
        Some(methods) => {
            let mut once = Vec::new();
            methods.iter().for_each(|method| {
                if !once.contains(method) {
                    once.push(*method);
                }
            });
            once
        }
        None => Method::SEARCHING.into_iter().filter(feasible).collect(),
    }
}

/// Why a search stopped: the searcher's own error, or that of what measures for it.
struct Failed(Error);

impl From<matformer_search::Error> for Failed {
    fn from(error: matformer_search::Error) -> Self {
        Self(Error::failed(error))
    }
}
