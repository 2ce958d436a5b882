//! Mix'n'Match in closed form: selects the submodel for a budget without a search (arXiv 2310.07707v2, pp. 5 and 18).
//!
//! The paper recommends widths that never decrease from layer to layer and change as little as
//! possible ("least slope"). With ascending granularities m_1 … m_g and n layers this gives one
//! family: the first layers have width m_k, the others m_{k+1}. It has n·(g − 1) + 1 members, and
//! the submodel for a budget is the largest member within it.

use crate::{CostTable, Error, Result, Space, Submodel};

/// The largest member of [`curve`] whose cost is within the budget (in the table's unit).
///
/// # Errors
/// [`Error::BudgetTooSmall`] if the smallest granularity costs more; [`Error::OutsideTable`] if the
/// table does not cover a member.
pub fn mix_n_match(space: &Space, table: &CostTable, budget: f64) -> Result<Submodel> {
    for submodel in curve(space).into_iter().rev() {
        if table.cost(&submodel)? <= budget {
            return Ok(submodel);
        }
    }
    Err(Error::BudgetTooSmall {
        resource: table.resource,
        budget,
        submodel: space.label(&space.smallest()),
        cost: table.cost(&space.smallest())?,
        largest: table.cost(&space.largest())?,
    })
}

/// The least-slope family in ascending order: n_layers·(g − 1) + 1 submodels from the smallest
/// granularity to the largest, or fewer where layers differ in their largest width.
pub fn curve(space: &Space) -> Vec<Submodel> {
    let n_layers = space.n_layers;
    let widths = space.granularities.widths();
    let mut family = Vec::with_capacity(n_layers * (widths.len() - 1) + 1);
    for pair in widths.windows(2) {
        for wide in 0..n_layers {
            let mut layers = vec![pair[0]; n_layers - wide];
            layers.resize(n_layers, pair[1]);
            family.push(space.cut(Submodel::new(layers)));
        }
    }
    family.push(space.largest());
    // Where a layer is narrower than both, nothing changes.
    family.dedup();
    family
}

/// The members of [`curve`] that mix two granularities, in ascending order.
pub fn in_between(space: &Space) -> Vec<Submodel> {
    let uniforms = space.uniforms();
    curve(space).into_iter().filter(|submodel| !uniforms.contains(submodel)).collect()
}

/// The two granularities that a submodel returned by [`in_between`] mixes, as uniform submodels: the narrower first.
/// `None` for any other submodel.
pub fn neighbours(space: &Space, submodel: &Submodel) -> Option<(Submodel, Submodel)> {
    if submodel.n_layers() != space.n_layers {
        return None;
    }
    let [(narrow, _), (wide, _)] = submodel.runs()[..] else {
        return None;
    };
    let uniform = |width| Submodel::uniform(width, space.n_layers);
    let adjacent = space.granularities.widths().windows(2).any(|pair| pair == [narrow, wide]);
    adjacent.then(|| (uniform(narrow), uniform(wide)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Granularities, Resource};

    /// The paper's 850M model in its two-matrix form: 4·d² for attention and 2·d per neuron and
    /// layer, norms not counted (arXiv 2310.07707 table 4).
    fn paper_850m() -> (Space, CostTable) {
        let (d_model, d_ff, n_layers) = (1536.0, 6144, 16);
        let layer = (4.0 * d_model * d_model, 2.0 * d_model);
        let table = CostTable::affine(Resource::NonEmbedding, 0.0, &[layer; 16], d_ff);
        let granularities = Granularities::default_for(d_ff).unwrap();
        (Space::new(n_layers, d_ff, 32, granularities).unwrap(), table)
    }

    #[test]
    fn finds_the_papers_table_5() {
        // The paper truncates budgets to whole millions: all-M is 226.49M, printed as 226M.
        let (space, table) = paper_850m();
        for (budget, expected) in [
            (226.5e6, "1536x16"),
            (245.5e6, "1536x12+3072x4"),
            (278.5e6, "1536x5+3072x11"),
            (377.5e6, "3072x8+6144x8"),
        ] {
            assert_eq!(mix_n_match(&space, &table, budget).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn the_cost_table_gives_the_papers_model_sizes() {
        let (space, table) = paper_850m();
        let millions = |name| table.cost(&space.uniform(name).unwrap()).unwrap() / 1e6;
        for (name, printed) in [("S", 188.7), ("M", 226.5), ("L", 302.0), ("XL", 453.0)] {
            assert!((millions(name) - printed).abs() < 0.05, "{name}: {}", millions(name));
        }
    }

    #[test]
    fn the_family_lies_between_neighbouring_granularities() {
        let space = Space::new(2, 8, 1, Granularities::new(&[2, 4, 8]).unwrap()).unwrap();
        let printed: Vec<_> = curve(&space).iter().map(|s| space.label(s)).collect();
        assert_eq!(printed, ["g1", "2x1+4x1", "g2", "4x1+8x1", "g3"]);
        let printed: Vec<_> = in_between(&space).iter().map(|s| space.label(s)).collect();
        assert_eq!(printed, ["2x1+4x1", "4x1+8x1"]);
        let (space, _) = paper_850m();
        assert_eq!(curve(&space).len(), 49);
        let one = Space::new(3, 8, 1, Granularities::new(&[8]).unwrap()).unwrap();
        assert_eq!(curve(&one), [one.largest()]);
    }

    #[test]
    fn only_mixed_members_of_the_family_have_neighbours() {
        let space = Space::new(3, 8, 1, Granularities::new(&[2, 4, 8]).unwrap()).unwrap();
        for mixed in in_between(&space) {
            let (below, above) = neighbours(&space, &mixed).unwrap();
            assert!(below < mixed && mixed < above);
            assert!(below.uniform_width().is_some() && above.uniform_width().is_some());
        }
        for other in [vec![2, 2, 2], vec![2, 8, 8], vec![4, 2, 2], vec![2, 4, 8], vec![2, 4]] {
            assert_eq!(neighbours(&space, &Submodel::new(other)), None);
        }
    }

    #[test]
    fn a_budget_that_is_too_small_is_an_error_with_the_smallest_cost() {
        let (space, table) = paper_850m();
        let error = mix_n_match(&space, &table, 45.3e6).unwrap_err();
        assert_eq!(
            error.to_string(),
            "budget: 45.3M non-embedding parameters (10.0 % of the largest submodel), \
             the smallest submodel `S` costs 189M non-embedding parameters (41.7 %)"
        );
        assert_eq!(error.hint().unwrap(), "`41.7%` is enough");
        // Numbers that differ are printed with as many digits as they need to differ.
        let message = mix_n_match(&space, &table, 188_743_679.0).unwrap_err().to_string();
        assert_eq!(
            message,
            "budget: 188743679 non-embedding parameters (41.666666 % of the largest submodel), \
             the smallest submodel `S` costs 188743680 non-embedding parameters (41.666667 %)"
        );
        let enough = 0.417 * table.cost(&space.largest()).unwrap();
        assert_eq!(mix_n_match(&space, &table, enough).unwrap(), space.smallest());
    }

    fn spaces() -> impl Strategy<Value = Space> {
        (1usize..9, prop::collection::btree_set(1usize..65, 1..6)).prop_map(|(n_layers, widths)| {
            let widths: Vec<_> = widths.into_iter().collect();
            Space::new(n_layers, 64, 1, Granularities::new(&widths).unwrap()).unwrap()
        })
    }

    proptest! {
        #[test]
        fn the_result_fits_and_the_next_does_not(
            space in spaces(),
            layers in prop::collection::vec((0.0..100.0, 0.01..10.0), 8),
            share in 0.0..1.1,
        ) {
            let layers = &layers[..space.n_layers];
            let table = CostTable::affine(Resource::Millis, 5.0, layers, space.d_ff);
            let cost = |submodel: &Submodel| table.cost(submodel).unwrap();
            let budget = share * cost(&space.largest());
            let family = curve(&space);
            prop_assert!(family.is_sorted_by(|a, b| cost(a) < cost(b)));
            match mix_n_match(&space, &table, budget) {
                Ok(submodel) => {
                    prop_assert!(cost(&submodel) <= budget);
                    let at = family.iter().position(|member| *member == submodel);
                    let next = family.get(at.expect("a member of the family") + 1);
                    prop_assert!(next.is_none_or(|next| cost(next) > budget));
                }
                Err(_) => prop_assert!(cost(&space.smallest()) > budget),
            }
        }
    }
}
