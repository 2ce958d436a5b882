//! What a submodel may cost.

use matformer_core::{Budget, Named};
use matformer_search::{Limit, Problem};

use matformer_run::{Error, Kind, ModelFolder, Result};
use matformer_train::say;

/// The tightest budget of each resource, and what is within all of them.
pub struct Budgets {
    /// As typed, in one order: they name files and the winner.
    pub typed: Vec<String>,
    /// What the best within them is called.
    pub best: String,
    pub problem: Problem,
}

impl Budgets {
    pub fn new<K: Kind>(folder: &ModelFolder<K>, asked: &[Budget]) -> Result<Self> {
        let mut all = Vec::new();
        for budget in asked {
            let limited = budget.limit(folder.space(), &folder.costs);
            let (table, most) = limited.map_err(|error| folder.explained(error))?;
            all.push((*budget, Limit { table: table.clone(), most }));
        }
        // Of one resource the tightest first.
        all.sort_by(|(_, a), (_, b)| {
            a.table.resource.cmp(&b.table.resource).then(a.most.total_cmp(&b.most))
        });
        all.dedup_by(|(looser, a), (tighter, b)| {
            let same = a.table.resource == b.table.resource;
            if same && looser != tighter {
                say!("note: {looser} has no effect beside {tighter}");
            }
            same
        });
        all.sort_by_cached_key(|(budget, _)| budget.to_string());
        let (budgets, limits): (Vec<Budget>, Vec<Limit>) = all.into_iter().unzip();
        let problem = Problem::new(folder.space(), limits).map_err(Error::refused)?;
        for (budget, limit) in budgets.iter().zip(problem.limits()) {
            let largest = limit.table.cost(&folder.space().largest())?;
            if limit.most > largest {
                let cost = limit.table.resource.describe(largest);
                say!("note: {budget} is more than the largest submodel costs: {cost}");
            }
        }
        let typed = budgets.iter().map(ToString::to_string).collect();
        Ok(Self { typed, best: Named::best_within(&budgets), problem })
    }
}
