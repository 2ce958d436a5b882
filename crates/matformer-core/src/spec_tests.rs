//! Tests of `spec.rs`.

use proptest::prelude::*;

use super::*;
use crate::Granularities;

/// Five layers of 100 non-embedding parameters and 1 more per neuron; the embedding has 1000.
fn demo() -> (Space, Costs) {
    let space = Space::new(5, 512, 32, Granularities::default_for(512).unwrap()).unwrap();
    let table = |resource, constant| CostTable::affine(resource, constant, &[(100.0, 1.0); 5], 512);
    let tables = vec![table(Resource::NonEmbedding, 0.0), table(Resource::Params, 1000.0)];
    (space, Costs::new(tables))
}

fn resolve(text: &str) -> Result<String> {
    let (space, costs) = demo();
    Ok(text.parse::<SubmodelSpec>()?.resolve(&space, &costs)?.to_string())
}

#[test]
fn every_form_is_resolved() {
    for (text, expected) in [
        ("S", "64x5"),
        ("XL", "512x5"),
        ("96", "96x5"),
        ("64x1+128x4", "64x1+128x4"),
        ("512x2+32x3", "512x2+32x3"),
        ("100%", "512x5"),
        ("250%", "512x5"),
        ("60%", "256x5"),   // 1836 of 3060: L is 1780, one XL layer would add 256
        ("2.78k", "256x5"), // L with its embedding, exactly
        ("2.779k", "128x1+256x4"), // one parameter less
        ("50%params", "64x2+128x3"), // 2030 of 4060: S is 1820, each M layer adds 64
    ] {
        assert_eq!(resolve(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn what_cannot_be_resolved_is_an_error_that_says_why() {
    for (text, expected) in [
        ("best@60%", "unknown submodel: `best@60%`, expected one of `S`, `M`, `L`, `XL`"),
        ("64x4", "layers of submodel `64x4`: 4, expected 5"),
        ("64x18446744073709551615+32x9", "layers of submodel `64x18446744073709551615+32x9`"),
        ("65", "width in submodel `65x5`: `65`"),
        ("1024", "width in submodel `1024x5`: `1024`"),
        ("10%", "the smallest submodel `S` costs 820 non-embedding parameters (26.8 %)"),
        (
            "8ms",
            "nothing was measured in `ms` for this model; known costs: `params`, `non_embedding`",
        ),
    ] {
        let message = resolve(text).unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn text_that_is_no_submodel_is_refused() {
    for text in [
        "",
        " ",
        "0",
        "-1",
        "+64",
        "64x",
        "64x0",
        "0x4",
        "64x1+",
        "64x1,",
        "%",
        ".5%",
        "1e3%",
        "60%joules",
        "1.2.3%",
        "1.2",
        "1.2345k",
        "1.B",
        "8 ms",
        "S M",
        "S+M",
        "Größe",
        "64×1",
        "99999999999999999999",
        "99999999999T",
        "1.5flops",
    ] {
        let parsed = text.parse::<SubmodelSpec>();
        assert!(matches!(parsed, Err(Error::Parse { .. })), "{text}: {parsed:?}");
    }
    assert!(SubmodelSpec::parse_list("S,,M").is_err());
}

#[test]
fn lists_are_read_and_numbers_are_printed_in_canonical_form() {
    let list = SubmodelSpec::parse_list("S, M,60%,64x1+64x1+128x3,0.5k,1200M,1.50Gflops").unwrap();
    let printed: Vec<_> = list.iter().map(ToString::to_string).collect();
    assert_eq!(printed, ["S", "M", "60%", "64x2+128x3", "0.5k", "1.2B", "1.5Gflops"]);
    assert_eq!(list[5], SubmodelSpec::Budget(Budget::Params(1_200_000_000)));
    let json = serde_json::to_string(&list[2]).unwrap();
    assert_eq!(json, r#""60%""#);
    assert_eq!(serde_json::from_str::<SubmodelSpec>(&json).unwrap(), list[2]);
}

fn budgets() -> impl Strategy<Value = Budget> {
    let amount = || prop_oneof![0.0..1e3, (0u32..1000).prop_map(f64::from)];
    let count =
        || prop_oneof![0u64..10_000, any::<u64>(), (0u64..2000).prop_map(|n| n * 1_000_000)];
    prop_oneof![
        (amount(), prop::sample::select(Resource::ALL.to_vec()))
            .prop_map(|(percent, of)| Budget::Percent { percent, of }),
        count().prop_map(Budget::Params),
        count().prop_map(Budget::Flops),
        amount().prop_map(Budget::Millis),
    ]
}

fn specs() -> impl Strategy<Value = SubmodelSpec> {
    prop_oneof![
        "[A-Za-z][A-Za-z0-9_.@%-]{0,12}".prop_map(SubmodelSpec::Name),
        (1usize..10_000).prop_map(SubmodelSpec::Uniform),
        prop::collection::vec((1usize..10_000, 1usize..100), 1..6).prop_map(|mut runs| {
            runs.dedup_by_key(|run| run.0);
            SubmodelSpec::Widths(runs)
        }),
        budgets().prop_map(SubmodelSpec::Budget),
    ]
}

proptest! {
    #[test]
    fn specs_round_trip(spec in specs()) {
        let text = spec.to_string();
        prop_assert_eq!(text.parse::<SubmodelSpec>().unwrap(), spec.clone(), "{}", text);
        let list = format!("{text},{text}");
        prop_assert_eq!(SubmodelSpec::parse_list(&list).unwrap(), vec![spec.clone(), spec]);
    }

    #[test]
    fn submodels_round_trip(widths in prop::collection::vec(1usize..513, 5)) {
        let (_, costs) = demo();
        let space = Space::new(5, 512, 1, Granularities::default_for(512).unwrap()).unwrap();
        let submodel = Submodel::new(widths);
        for text in [submodel.to_string(), space.label(&submodel)] {
            let resolved = text.parse::<SubmodelSpec>().unwrap().resolve(&space, &costs).unwrap();
            prop_assert_eq!(&resolved, &submodel);
        }
    }

    #[test]
    fn parsing_never_panics(text in "\\PC{0,24}") {
        let _ = text.parse::<SubmodelSpec>();
        let _ = text.parse::<crate::Draw>();
    }

    #[test]
    fn parsing_text_that_looks_valid_never_panics(text in "[0-9.xkMBTGflops%ms+]{0,40}") {
        if let Ok(spec) = text.parse::<SubmodelSpec>() {
            let (space, costs) = demo();
            let _ = spec.resolve(&space, &costs);
            prop_assert_eq!(spec.to_string().parse::<SubmodelSpec>().unwrap(), spec);
        }
    }
}
