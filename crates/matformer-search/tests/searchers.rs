//! What every search keeps to, whatever is searched.

use matformer_core::{CostTable, Granularities, Resource, Space, Submodel, rng};
use matformer_search::{
    Error, Evolution, EvolutionConfig, Limit, Listed, Method, Problem, Search, Searcher, Surrogate,
    optimum, run, shapes,
};
use proptest::prelude::*;

const WIDTHS: [usize; 4] = [8, 16, 32, 64];

fn space(n_layers: usize, widths: usize) -> Space {
    Space::new(n_layers, 64, 8, Granularities::new(&WIDTHS[..widths]).unwrap()).unwrap()
}

fn params(n_layers: usize) -> CostTable {
    CostTable::affine(Resource::Params, 7.0, &vec![(30.0, 1.0); n_layers], 64)
}

/// A problem whose limit is a share of the largest submodel's cost.
fn problem(n_layers: usize, share: f64) -> Problem {
    let (space, table) = (space(n_layers, 4), params(n_layers));
    let most = share * table.cost(&space.largest()).unwrap();
    Problem::new(&space, vec![Limit { table, most }]).unwrap()
}

/// A score in which neighbouring layers matter to each other.
fn score(submodel: &Submodel) -> f64 {
    let widths = submodel.widths();
    let own = |(i, w): (usize, &usize)| (2 + (5 * i) % 7) as f64 / (*w as f64).sqrt();
    let pairs = widths.windows(2).map(|p| (p[0] as f64 - p[1] as f64).abs() / 500.0);
    widths.iter().enumerate().map(own).sum::<f64>() + pairs.sum::<f64>()
}

fn scored(asked: &[Submodel]) -> Result<Vec<f64>, Error> {
    Ok(asked.iter().map(score).collect())
}

fn searched(method: Method, problem: &Problem, evaluations: usize, seed: u64) -> Search {
    let mut search = method.begin(problem, evaluations, seed).unwrap();
    run(&mut search, problem, scored).unwrap();
    search
}

#[test]
fn every_method_returns_what_fits_and_none_beats_exhaustion() {
    for share in [0.45, 0.6, 0.9, 1.0] {
        let problem = problem(5, share);
        let exhaustive = searched(Method::Exhaustive, &problem, 0, 0);
        let (_, least) = exhaustive.tried().best(&problem).unwrap().clone();
        for method in Method::all() {
            let search = searched(method, &problem, 60, 1);
            let (best, found) = search.best(&problem).unwrap();
            assert!(problem.fits(&best), "{method} {best}");
            assert!(found >= least, "{method}: {found} below {least}");
            assert_eq!(searched(method, &problem, 60, 1), search, "{method}");
            match method {
                Method::Evolution | Method::Random => assert!(search.tried().len() <= 60),
                Method::Mix => assert_eq!(search.tried().len(), 1),
                _ => {}
            }
        }
        // Sixty of a few hundred, led by scores, come close.
        let evolved = searched(Method::Evolution, &problem, 60, 1);
        assert!(evolved.tried().best(&problem).unwrap().1 < 1.05 * least, "{share}");
    }
}

#[test]
fn evolution_and_random_search_stay_within_the_limits() {
    for share in [0.42, 0.5, 0.77] {
        let problem = problem(9, share);
        for method in [Method::Evolution, Method::Random, Method::NonDecreasing, Method::Mix] {
            let search = searched(method, &problem, 150, 3);
            assert!(search.tried().iter().all(|(s, _)| problem.fits(s)), "{method}");
        }
    }
}

#[test]
fn a_search_that_was_written_out_goes_on_where_it_was() {
    let problem = problem(6, 0.6);
    for method in Method::SEARCHING {
        let whole = searched(method, &problem, 80, 5);
        let mut search = method.begin(&problem, 80, 5).unwrap();
        loop {
            let text = serde_json::to_string(&search).unwrap();
            search = serde_json::from_str(&text).unwrap();
            let asked = search.ask(&problem).unwrap();
            assert_eq!(search.ask(&problem).unwrap(), asked, "asked twice");
            let text = serde_json::to_string(&search).unwrap();
            search = serde_json::from_str(&text).unwrap();
            if asked.is_empty() {
                break;
            }
            let scores = scored(&asked).unwrap();
            search.tell(&asked.into_iter().zip(scores).collect::<Vec<_>>()).unwrap();
        }
        assert_eq!(search, whole, "{method}");
    }
}

#[test]
fn another_seed_is_another_search() {
    let problem = problem(8, 0.6);
    for method in [Method::Evolution, Method::Random, Method::Predictor, Method::ExactSurrogate] {
        let of = |seed| searched(method, &problem, 60, seed).tried().clone();
        assert_ne!(of(0), of(1), "{method}");
    }
}

#[test]
fn a_score_that_is_no_number_is_named() {
    let problem = problem(3, 1.0);
    for method in Method::SEARCHING {
        let mut search = method.begin(&problem, 20, 0).unwrap();
        let asked = search.ask(&problem).unwrap();
        let told: Vec<_> = asked.iter().map(|s| (s.clone(), f64::NAN)).collect();
        let error = search.tell(&told).unwrap_err().to_string();
        let expected = format!("score of submodel `{}`: NaN, expected a finite number", asked[0]);
        assert_eq!(error, expected, "{method}");
        assert!(search.tried().is_empty());
        assert_eq!(search.ask(&problem).unwrap(), asked);
    }
}

#[test]
fn budgets_that_nothing_meets_are_refused() {
    let (space, table) = (space(2, 4), params(2));
    let error = |limits: Vec<Limit>| Problem::new(&space, limits).unwrap_err().to_string();
    let limit = |table: &CostTable, most| Limit { table: table.clone(), most };
    assert_eq!(
        error(vec![limit(&table, 80.0)]),
        "budget: 80 parameters (41.0 % of the largest submodel), the smallest submodel `S` costs 83 \
         parameters (42.6 %)"
    );
    assert!(error(vec![limit(&table, f64::NAN)]).starts_with("budget: NaN"));
    // The wider the cheaper: only in another unit.
    let odd = CostTable {
        resource: Resource::Millis,
        constant: 0.0,
        widths: WIDTHS.to_vec(),
        layers: vec![vec![4.0, 3.0, 2.0, 1.0]; 2],
    };
    assert_eq!(
        error(vec![limit(&odd, 1.5)]),
        "budget: 1.50 ms, expected from 2.00 ms (the least that a submodel costs) to 8.00 ms (the most)"
    );
    assert_eq!(
        error(vec![limit(&table, 100.0), limit(&odd, 2.0)]),
        "budgets: 100 parameters, 2.00 ms: no submodel meets all of them"
    );
    let both = Problem::new(&space, vec![limit(&table, 150.0), limit(&odd, 5.0)]).unwrap();
    assert!(both.fits(both.feasible()) && !both.fits(&space.smallest()));
    for method in Method::SEARCHING {
        let search = searched(method, &both, 20, 0);
        assert!(search.best(&both).is_some() || method == Method::Mix, "{method}");
    }
    let other = params(3);
    assert!(matches!(
        Problem::new(&space, vec![limit(&other, 1e9)]),
        Err(Error::Core(matformer_core::Error::LayerCount { .. }))
    ));
}

#[test]
fn settings_and_names_are_checked() {
    let error = Evolution::new(EvolutionConfig { tournament: 0, ..Default::default() });
    assert_eq!(error.unwrap_err().to_string(), "tournament is 0; expected at least 1");
    for method in Method::all() {
        assert_eq!(method.to_string().parse::<Method>().unwrap(), method);
        assert_eq!(serde_json::to_value(method).unwrap(), method.to_string());
    }
    let message = "annealing".parse::<Method>().unwrap_err().to_string();
    assert!(message.starts_with("method `annealing`, expected one of `mix`, `exact`"), "{message}");
    let many = problem(12, 1.0);
    let error = Method::Exhaustive.begin(&many, 0, 0).unwrap_err();
    assert_eq!(error.to_string(), "16777216 submodels in all, expected at most 16384");
    let error = Method::Predictor.begin(&many, 2, 0).unwrap_err().to_string();
    let expected = "evaluations is 2; expected at least 3 for a method that fits a surrogate";
    assert_eq!(error, expected);
    assert!(Method::Predictor.begin(&many, 3, 0).is_ok());
}

#[test]
fn a_separable_score_is_fitted_and_solved() {
    let problem = problem(6, 0.6);
    let weight = |layer: usize, width: usize| (1 + (layer * 5) % 7) as f64 / width as f64;
    let score = |s: &Submodel| -> f64 {
        0.3 + s.widths().iter().enumerate().map(|(i, w)| weight(i, *w)).sum::<f64>()
    };
    let draw = |i| problem.unlimited(&mut rng::keyed(9, "fit", i));
    let samples: Vec<_> = (0..200).map(draw).map(|s| (s.clone(), score(&s))).collect();
    let surrogate = Surrogate::fit(&problem, &samples, 1e-6).unwrap();
    for s in problem.all(10_000).unwrap() {
        assert!((surrogate.predict(&s) - score(&s)).abs() < 1e-6, "{s}");
    }
    let all = problem.all(10_000).unwrap();
    let best = all.iter().min_by(|a, b| score(a).total_cmp(&score(b))).unwrap();
    assert_eq!(optimum(&problem, surrogate.weights()).unwrap().as_ref(), Some(best));
    assert!(matches!(
        Surrogate::fit(&problem, &samples[..1], 0.1),
        Err(Error::TooFew { found: 1, expected: 2 })
    ));
}

#[test]
fn families_have_their_shapes() {
    let problem = problem(5, 1.0);
    let at = |shape: shapes::Shape| shape.family(&problem)[3].to_string();
    let found = shapes::Shape::ALL.map(at);
    assert_eq!(found, ["8x2+16x3", "16x3+8x2", "8x1+16x3+8x1", "16x1+8x2+16x2", "8x2+64x3"]);
    for shape in shapes::Shape::ALL {
        let family = shape.family(&problem);
        let costs: Vec<f64> = family.iter().map(|s| params(5).cost(s).unwrap()).collect();
        assert!(costs.is_sorted(), "{shape}");
        assert_eq!(shape.largest(&problem), Some(Submodel::uniform(64, 5)));
    }
    // C(5 + 3, 3) sequences never fall.
    assert_eq!(shapes::non_decreasing(&problem, 56).unwrap().len(), 56);
    assert_eq!(shapes::count_non_decreasing(&problem).round(), 56.0);
    assert!(matches!(shapes::non_decreasing(&problem, 55), Err(Error::TooMany { most: 55, .. })));
    // The heuristic's family is that of the core crate.
    assert_eq!(shapes::Shape::Increasing.family(&problem), matformer_core::curve(&space(5, 4)));
    let mixed = Listed::mix_n_match(&problem).ask(&problem).unwrap();
    assert_eq!(mixed, [Submodel::uniform(64, 5)]);
}

#[test]
fn large_problems_with_several_budgets_are_solved_at_once() {
    // 40 layers, three budgets, costs of no pattern: 4^40 submodels.
    let space = space(40, 4);
    let mut random = rng::keyed(1, "large", 0);
    let mut one = || rng::unit(&mut random);
    let mut table = |resource| CostTable {
        resource,
        // Most of what a submodel costs no width changes.
        constant: 400.0,
        widths: WIDTHS.to_vec(),
        layers: (0..40)
            .map(|_| WIDTHS.map(|w| w as f64 * (0.8 + 0.4 * one()) / 64.0).to_vec())
            .collect(),
    };
    let tables = [Resource::Params, Resource::Flops, Resource::Millis].map(&mut table);
    let limits: Vec<Limit> = tables
        .into_iter()
        .zip([0.5, 0.52, 0.49])
        .map(|(table, share)| {
            let most = 400.0 + share * (table.cost(&space.largest()).unwrap() - 400.0);
            Limit { table, most }
        })
        .collect();
    let problem = Problem::new(&space, limits).unwrap();
    let scores: Vec<Vec<f64>> = (0..40)
        .map(|layer| WIDTHS.map(|w| (1 + layer % 5) as f64 / (w as f64).sqrt()).to_vec())
        .collect();
    let sum = |s: &Submodel| -> f64 {
        let at = |w: &usize| WIDTHS.iter().position(|x| x == w).unwrap();
        s.widths().iter().zip(&scores).map(|(w, layer)| layer[at(w)]).sum()
    };
    let best = optimum(&problem, &scores).unwrap().unwrap();
    assert!(problem.fits(&best));
    for index in 0..2000 {
        let other = problem.random(&mut rng::keyed(2, "other", index));
        assert!(sum(&best) <= sum(&other) + 1e-9);
    }
}

/// Tables and scores of no pattern, and limits as shares between the least and the most.
fn instances() -> impl Strategy<Value = (Vec<CostTable>, Vec<f64>, Vec<Vec<f64>>)> {
    (1usize..6, 1usize..5, 0usize..4).prop_flat_map(|(n_layers, widths, limits)| {
        let numbers = || {
            let number = prop_oneof![(0u8..6).prop_map(f64::from), -3.0..9.0];
            prop::collection::vec(prop::collection::vec(number, widths), n_layers)
        };
        let table = (numbers(), -2.0..2.0).prop_map(move |(layers, constant)| CostTable {
            resource: Resource::Flops,
            constant,
            widths: WIDTHS[..widths].to_vec(),
            layers,
        });
        (
            prop::collection::vec(table, limits),
            prop::collection::vec(0.0..1.0f64, limits),
            numbers(),
        )
    })
}

proptest! {
    #[test]
    fn the_exact_optimum_is_that_of_brute_force((tables, shares, scores) in instances()) {
        let (n_layers, n_widths) = (scores.len(), scores[0].len());
        let space = space(n_layers, n_widths);
        let sum = |submodel: &Submodel| -> f64 {
            let at = |w: &usize| WIDTHS.iter().position(|x| x == w).unwrap();
            submodel.widths().iter().zip(&scores).map(|(w, layer)| layer[at(w)]).sum()
        };
        let all = Problem::new(&space, Vec::new()).unwrap().all(10_000).unwrap();
        let limits: Vec<Limit> = tables.iter().zip(&shares).map(|(table, share)| {
            let costs: Vec<f64> = all.iter().map(|s| table.cost(s).unwrap()).collect();
            let (least, most) = costs.iter().fold((f64::MAX, f64::MIN), |(a, b), c| (a.min(*c), b.max(*c)));
            // Sometimes met exactly.
            let most = match costs.len() % 2 {
                0 => costs[(share * costs.len() as f64) as usize],
                _ => least + share * (most - least),
            };
            Limit { table: table.clone(), most }
        }).collect();
        let within = |s: &&Submodel| limits.iter().all(|l| l.table.cost(s).unwrap() <= l.most);
        let expected = all.iter().filter(within).map(sum).min_by(f64::total_cmp);
        match (Problem::new(&space, limits.clone()), expected) {
            (Ok(problem), Some(expected)) => {
                let best = optimum(&problem, &scores).unwrap().unwrap();
                prop_assert!(problem.fits(&best));
                prop_assert_eq!(sum(&best), expected);
            }
            (Err(Error::Together { .. } | Error::Infeasible { .. }), None) => {}
            (problem, expected) => prop_assert!(false, "{problem:?} {expected:?}"),
        }
    }

    #[test]
    fn evolution_never_asks_for_what_is_over_budget(share in 0.42..1.0f64, seed in any::<u64>()) {
        let problem = problem(7, share);
        let search = searched(Method::Evolution, &problem, 60, seed);
        prop_assert!(search.tried().iter().all(|(submodel, _)| problem.fits(submodel)));
        prop_assert_eq!(searched(Method::Evolution, &problem, 60, seed), search);
    }
}
