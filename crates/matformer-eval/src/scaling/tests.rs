use super::*;

/// One of the paper's models at S, M, L and XL (arXiv 2310.07707v2 tables 4 and 9 to 13).
struct Row {
    /// Parameters without embeddings.
    millions: [f64; 4],
    /// Tokens per width.
    billions: f64,
    /// Losses of the baselines.
    alone: [f64; 4],
    /// Losses of MatLM.
    elastic: [f64; 4],
}

const PAPER: [Row; 5] = [
    Row {
        millions: [5.3, 6.3, 8.4, 12.6],
        billions: 10.0,
        alone: [4.011, 3.966, 3.905, 3.830],
        elastic: [3.874, 3.820, 3.776, 3.740],
    },
    Row {
        millions: [21.1, 25.3, 33.7, 50.0],
        billions: 20.0,
        alone: [3.548, 3.513, 3.456, 3.354],
        elastic: [3.484, 3.430, 3.387, 3.348],
    },
    Row {
        millions: [47.0, 56.0, 75.0, 113.0],
        billions: 30.0,
        alone: [3.316, 3.299, 3.225, 3.160],
        elastic: [3.290, 3.235, 3.190, 3.150],
    },
    Row {
        millions: [84.0, 100.0, 134.0, 201.0],
        billions: 40.0,
        alone: [3.205, 3.160, 3.096, 3.023],
        elastic: [3.162, 3.107, 3.060, 3.020],
    },
    Row {
        millions: [189.0, 227.0, 302.0, 453.0],
        billions: 80.0,
        alone: [3.017, 2.971, 2.910, 2.840],
        elastic: [2.987, 2.934, 2.886, 2.843],
    },
];

fn paper(elastic: bool) -> Vec<Point> {
    let points = |row: &Row| {
        let losses = if elastic { row.elastic } else { row.alone };
        let tokens = row.billions * 1e9;
        let of = |(millions, loss)| Point { params: millions * 1e6, tokens, loss };
        row.millions.into_iter().zip(losses).map(of).collect::<Vec<_>>()
    };
    PAPER.iter().flat_map(points).collect()
}

/// Losses of a law at 20 points, with noise of this size.
fn synthetic(law: Law, noise: f64) -> Vec<Point> {
    let mut points = paper(true);
    let mut rng = rng::keyed(7, "noise", 0);
    for point in &mut points {
        // A sum of 12 uniform numbers is nearly normal.
        let normal: f64 = (0..12).map(|_| rng::unit(&mut rng)).sum::<f64>() - 6.0;
        point.loss = law.loss(point.params, point.tokens) + noise * normal;
    }
    points
}

const LAWS: [Law; 3] = [
    Law { a: 60.0, b: -0.1, c: 1.7 },
    Law { a: 400.0, b: -0.16, c: 2.3 },
    Law { a: 6.0e4, b: -0.3, c: 2.8 },
];

#[test]
fn exact_losses_give_their_law_back() {
    for law in LAWS {
        let found = fit(&synthetic(law, 0.0), 0, 0).unwrap();
        assert!((found.law.b - law.b).abs() < 1e-4, "{found:?}");
        assert!((found.law.c - law.c).abs() < 1e-3, "{found:?}");
        assert!((found.law.a / law.a - 1.0).abs() < 5e-3, "{found:?}");
        assert!(found.rmse < 1e-5 && !found.at_limit && found.intervals.is_none(), "{found:?}");
    }
}

#[test]
fn intervals_hold_the_law_and_grow_with_the_noise() {
    for law in LAWS {
        let width = |noise| {
            let found = fit(&synthetic(law, noise), 200, 0).unwrap();
            let Intervals { b, c, .. } = found.intervals.unwrap();
            assert!(b[0] <= law.b && law.b <= b[1], "{law:?} {found:?}");
            assert!(c[0] <= law.c && law.c <= c[1], "{law:?} {found:?}");
            b[1] - b[0]
        };
        assert!(width(0.001) < width(0.005));
    }
}

#[test]
fn a_loss_that_is_far_off_moves_nothing() {
    let law = LAWS[1];
    let mut points = synthetic(law, 0.002);
    let clean = fit(&points, 0, 0).unwrap().law;
    points[3].loss += 1.0;
    let found = fit(&points, 0, 0).unwrap().law;
    assert!((found.b - clean.b).abs() < 0.01 && (found.c - clean.c).abs() < 0.05, "{found:?}");
}

#[test]
fn units_change_only_the_factor() {
    let mut points = paper(true);
    let raw = fit(&points, 0, 0).unwrap();
    for point in &mut points {
        point.params /= 1e6;
        point.tokens /= 1e9;
    }
    let scaled = fit(&points, 0, 0).unwrap();
    assert!((raw.law.b - scaled.law.b).abs() < 1e-6 && (raw.law.c - scaled.law.c).abs() < 1e-5);
    assert!((raw.law.a * 1e15_f64.powf(raw.law.b) / scaled.law.a - 1.0).abs() < 1e-4);
}

#[test]
fn the_same_seed_gives_the_same_intervals() {
    let of = |seed| fit(&paper(false), 50, seed).unwrap().intervals;
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
}

#[test]
fn what_cannot_be_fitted_is_an_error() {
    let points = paper(true);
    let said = |points: &[Point]| fit(points, 0, 0).unwrap_err().to_string();
    let few = [points[0], points[1], points[2], points[0]];
    assert_eq!(said(&few), "scaling law: 3 different products N·D, expected at least 4");
    let mut bad = points.clone();
    bad[2].loss = f64::NAN;
    assert_eq!(said(&bad), "scaling law: loss is NaN, expected a finite number above 0");
    let mut rising = points;
    for point in &mut rising {
        point.loss = (point.params * point.tokens).ln();
    }
    assert_eq!(said(&rising), "scaling law: the losses do not fall as N·D grows");
}

/// The rows of `docs/results/scaling.md` are what the fit gives for the paper's losses.
#[test]
fn the_page_has_the_fits_of_the_papers_losses() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/results/scaling.md");
    let page = std::fs::read_to_string(page).unwrap();
    for (name, elastic) in [("Baseline", false), ("MatFormer", true)] {
        let found = fit(&paper(elastic), 1000, 0).unwrap();
        let Fit { law, rmse, intervals, .. } = found;
        let Intervals { a, b, c, .. } = intervals.unwrap();
        let row = format!(
            "| {name} | {:.0} ({:.0} to {:.0}) | {:.3} ({:.3} to {:.3}) | {:.2} ({:.2} to {:.2}) | {rmse:.3} |",
            law.a, a[0], a[1], law.b, b[0], b[1], law.c, c[0], c[1]
        );
        assert!(page.contains(&row), "{row}");
    }
}
