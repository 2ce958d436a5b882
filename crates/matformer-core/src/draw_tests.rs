//! Tests of `draw.rs`.

use proptest::prelude::*;

use super::*;
use crate::Granularities;

fn space() -> Space {
    Space::new(5, 512, 32, Granularities::default_for(512).unwrap()).unwrap()
}

fn labels(draw: &str, seed: u64, step: u64) -> Vec<String> {
    let space = space();
    let draw: Draw = draw.parse().unwrap();
    draw.validate(&space).unwrap();
    draw.at(&space, seed, step).terms.iter().map(|(s, _)| space.label(s)).collect()
}

/// How often each granularity is a term in the first 4000 steps.
fn counts(draw: &str) -> [usize; 4] {
    let all: Vec<_> = (0..4000).flat_map(|step| labels(draw, 1, step)).collect();
    ["S", "M", "L", "XL"].map(|name| all.iter().filter(|label| *label == name).count())
}

#[test]
fn sampling_follows_its_probabilities() {
    for (draw, expected) in [
        ("sampled", [1000, 1000, 1000, 1000]),
        ("sampled-xl-heavy", [680, 800, 880, 1640]),
        ("sampled:0/0.5/0.5/0", [0, 2000, 2000, 0]),
        ("sandwich", [4000, 2000, 2000, 4000]),
    ] {
        let counts = counts(draw);
        let far = |(a, b): (&usize, &usize)| a.abs_diff(*b) > 120 || (*b == 0 && *a > 0);
        assert!(!counts.iter().zip(&expected).any(far), "{draw}: {counts:?}");
    }
}

#[test]
fn fixed_draws_have_the_same_terms_in_every_step() {
    assert_eq!(labels("joint", 3, 4), ["S", "M", "L", "XL"]);
    assert_eq!(labels("sandwich:0", 3, 4), ["S", "XL"]);
    assert_eq!(labels("sandwich:2", 3, 4), ["S", "M", "L", "XL"]);
    assert_eq!(labels("baseline:L", 3, 4), ["L"]);
    assert!(Draw::JointSeparate.at(&space(), 0, 0).separate_batches);
    assert!(!Draw::Joint.at(&space(), 0, 0).separate_batches);
}

#[test]
fn layers_draw_independently() {
    let space = space();
    let mixed = |step| Draw::PerLayer.at(&space, 0, step).terms[0].0.uniform_width().is_none();
    assert!((0..100).filter(|&step| mixed(step)).count() > 90);
}

#[test]
fn the_sequence_is_pinned() {
    // If this changes, every training run changes.
    let drawn: Vec<_> = (0..8).flat_map(|step| labels("sampled", 0, step)).collect();
    assert_eq!(drawn, ["M", "S", "XL", "M", "S", "S", "S", "S"]);
}

#[test]
fn the_end_of_the_range_never_draws_a_probability_of_zero() {
    assert_eq!(weighted(&[0.5, 0.4999, 0.0], 0.99999), 1);
    assert_eq!(weighted(&[0.0, 1.0], 0.0), 1);
    assert_eq!(weighted(&[], 0.5), 0);
}

#[test]
fn draws_that_do_not_fit_the_granularities_are_refused() {
    let space = space();
    for (draw, expected) in [
        ("sampled:0.5/0.5", "draw `sampled:0.5/0.5`: 2 probabilities, expected 4"),
        ("sampled:0.5/0.5/0.5/0.5", "sum 2, expected numbers from 0 to 1 with sum 1"),
        ("sampled:-1/1/1/0", "expected numbers from 0 to 1"),
        ("sampled:NaN/1/0/0", "expected numbers from 0 to 1"),
        ("sandwich:3", "draw `sandwich:3`: 4 granularities, expected at least 5"),
        ("sandwich:18446744073709551615", "expected at least 18446744073709551615"),
        ("baseline:XS", "draw `baseline:XS`: granularity `XS`, expected one of S, M, L, XL"),
    ] {
        let draw: Draw = draw.parse().unwrap();
        let message = draw.validate(&space).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert!(draw.at(&space, 0, 0).terms.iter().all(|(s, _)| space.check(s).is_ok()));
    }
    let one = Space::new(1, 8, 1, Granularities::new(&[8]).unwrap()).unwrap();
    assert!(Draw::Sandwich { random: 0 }.validate(&one).is_err());
}

#[test]
fn texts_and_tables_are_read() {
    let read = |json: &str| serde_json::from_str::<Draw>(json).map_err(|error| error.to_string());
    let sampled = Draw::Sampled { probabilities: Some(vec![0.25, 0.75]) };
    let table = r#"{"kind":"sampled","probabilities":[0.25,0.75]}"#;
    assert_eq!(read(table).unwrap(), sampled);
    assert_eq!(read(r#""sampled:0.25/0.75""#).unwrap(), sampled);
    assert_eq!(read(r#"{"kind":"sandwich"}"#).unwrap(), Draw::Sandwich { random: 1 });
    assert_eq!(read(r#"{"kind":"per-layer"}"#).unwrap(), Draw::PerLayer);
    let baseline = Draw::Baseline { granularity: "S".into() };
    assert_eq!(read(r#"{"kind":"baseline","granularity":"S"}"#).unwrap(), baseline);
    for bad in [
        r#""sampled:""#,
        r#""joint:2""#,
        r#""baseline""#,
        r#""baseline:""#,
        r#""sandwich:-1""#,
        r#""Sampled""#,
        r#"{"kind":"joint","random":1}"#,
        r#"{"kind":"sandwich","randon":1}"#,
        r#"{"probabilities":[1]}"#,
        "3",
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
    assert!(read(r#""smapled""#).unwrap_err().contains("draw: `smapled`, expected `sampled`"));
}

fn draws() -> impl Strategy<Value = Draw> {
    prop_oneof![
        Just(Draw::default()),
        Just(Draw::sampled_xl_heavy()),
        prop::collection::vec(0.01..1.0, 4).prop_map(|list| {
            let sum: f64 = list.iter().sum();
            Draw::Sampled { probabilities: Some(list.iter().map(|p| p / sum).collect()) }
        }),
        Just(Draw::Joint),
        Just(Draw::JointSeparate),
        (0usize..3).prop_map(|random| Draw::Sandwich { random }),
        Just(Draw::PerLayer),
        prop::sample::select(vec!["S", "M", "L", "XL"])
            .prop_map(|name| Draw::Baseline { granularity: name.into() }),
    ]
}

proptest! {
    #[test]
    fn draws_are_pure_and_stay_in_the_space(draw in draws(), seed: u64, step: u64) {
        let space = space();
        prop_assert!(draw.validate(&space).is_ok());
        let drawn = draw.at(&space, seed, step);
        prop_assert_eq!(&drawn, &draw.at(&space, seed, step));
        prop_assert!(!drawn.terms.is_empty());
        prop_assert!(drawn.terms.is_sorted_by(|a, b| a.0 < b.0), "distinct and ascending");
        let sum: f64 = drawn.terms.iter().map(|term| term.1).sum();
        prop_assert!((sum - 1.0).abs() < 1e-12);
        for (submodel, _) in &drawn.terms {
            prop_assert!(space.check(submodel).is_ok());
            let names = &space.granularities;
            prop_assert!(submodel.widths().iter().all(|width| names.name_of(*width).is_some()));
        }
    }

    #[test]
    fn draws_round_trip(draw in draws()) {
        prop_assert_eq!(draw.to_string().parse::<Draw>().unwrap(), draw.clone());
        let json = serde_json::to_string(&draw).unwrap();
        prop_assert_eq!(serde_json::from_str::<Draw>(&json).unwrap(), draw);
    }
}
