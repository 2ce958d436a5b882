//! Every method on a function that is not separable: `cargo run -p matformer-search --example toy`.

use matformer_core::{CostTable, Granularities, Resource, Space, Submodel};
use matformer_search::{Error, Limit, Method, Problem, Searcher, run};

fn main() -> Result<(), Error> {
    let space = Space::new(8, 512, 32, Granularities::default_for(512)?)?;
    let table = CostTable::affine(Resource::Params, 0.0, &[(400.0, 1.0); 8], 512);
    let budget = 0.7 * table.cost(&space.largest())?;
    let problem = Problem::new(&space, vec![Limit { table, most: budget }])?;
    println!("{} submodels, budget {budget:.0}", problem.size());
    for method in Method::SEARCHING {
        let mut search = method.begin(&problem, 200, 0)?;
        run(&mut search, &problem, |asked| Ok::<_, Error>(asked.iter().map(loss).collect()))?;
        if let Some((best, score)) = search.best(&problem) {
            let n = search.tried().len();
            println!("{method:>15}  {score:.4}  of {n:>5} tried  {}", space.label(&best));
        }
    }
    Ok(())
}

/// Wide layers help, late ones more; a change of width from layer to layer costs a little.
fn loss(submodel: &Submodel) -> f64 {
    let widths = submodel.widths();
    let own = |(i, width): (usize, &usize)| (4 + i) as f64 / (*width as f64).sqrt();
    let jumps = widths.windows(2).map(|pair| 0.02 * (pair[0] as f64 / pair[1] as f64).ln().abs());
    widths.iter().enumerate().map(own).sum::<f64>() + jumps.sum::<f64>()
}
