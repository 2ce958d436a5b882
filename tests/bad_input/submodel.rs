//! Submodels and slices.

use crate::support::Place;

#[test]
fn malformed_submodel() {
    let place = Place::trained();
    snapshot!(place.refused(&["score", "run", "--text", "a", "--submodel", "64x"]), @"
    error: invalid value '64x' for '--submodel <SUBMODEL>': submodel: `64x`, expected a name `S`, a width `128`, runs `64x1+128x4` or a budget `60%`, `60%flops`, `1.2B`, `1.5Gflops`, `8ms`

    For more information, try '--help'.
    ");
    snapshot!(place.refused(&["eval", "run", "--submodels", "S,,M"]), @"error: submodel: ``, expected a name `S`, a width `128`, runs `64x1+128x4` or a budget `60%`, `60%flops`, `1.2B`, `1.5Gflops`, `8ms`");
}

#[test]
fn submodel_that_does_not_fit() {
    let place = Place::trained();
    let with = |submodel| place.refused(&["score", "run", "--text", "a", "--submodel", submodel]);
    snapshot!(with("64x3"), @"error: layers of submodel `64x3`: 3, expected 2");
    snapshot!(with("33"), @"error: width in submodel `33x2`: `33`, expected a granularity or a multiple of 32 from 32 to 256");
    snapshot!(with("512"), @"error: width in submodel `512x2`: `512`, expected a granularity or a multiple of 32 from 32 to 256");
    snapshot!(with("XXL"), @"
    error: unknown submodel: `XXL`, expected one of `S`, `M`, `L`, `XL`
    hint: a width `128`, runs of layers `64x1+128x4` or a budget `60%` also work
    ");
    snapshot!(with("8ms"), @"
    error: nothing was measured in `ms` for this model; known costs: `params`, `non_embedding`, `ffn`, `flops`, `kv_bytes`
    hint: run `matformer bench layers` first, or use a budget such as `60%`, `60%flops` or `1.2B`
    ");
    snapshot!(place.refused(&["eval", "run", "--submodels", "S", "--paired-to", "64x5"]), @"error: layers of submodel `64x5`: 5, expected 2");
}

#[test]
fn budget_below_the_smallest() {
    let place = Place::trained();
    snapshot!(place.refused(&["score", "run", "--text", "a", "--submodel", "10%"]), @"
    error: budget: 5.55k non-embedding parameters (10.0 % of the largest submodel), the smallest submodel `S` costs 12.4k non-embedding parameters (22.4 %)
    hint: `22.5%` is enough
    ");
    // Numbers that differ look different.
    snapshot!(place.refused(&["score", "run", "--text", "a", "--submodel", "22.4%"]), @"
    error: budget: 12422.144 non-embedding parameters (22.40 % of the largest submodel), the smallest submodel `S` costs 12448 non-embedding parameters (22.45 %)
    hint: `22.5%` is enough
    ");
    // What the hint says is enough.
    place.matformer(&["score", "run", "--text", "a", "--submodel", "22.5%"]).ok();
}

#[test]
fn slices_that_cannot_be() {
    let place = Place::trained();
    let slice =
        |submodel, out| place.refused(&["slice", "run", "--submodel", submodel, "--out", out]);
    let said = slice("S", "text/story-00.txt/slim");
    assert!(said.starts_with("error: cannot create `text/story-00.txt"), "{said}");
    snapshot!(slice("S", "run"), @"
    error: run: exists
    hint: choose another --out, or remove it
    ");
}
