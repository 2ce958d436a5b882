//! Attention and rotation against their definitions, forward and gradient by gradient.

use burn::tensor::{Tensor, TensorData, activation};
use matformer_core::{Span, Spans};
use proptest::prelude::*;

#[cfg(feature = "flex")]
use super::tests::assert_same_kinds;
use super::{
    tests::{Input, assert_same, device, random},
    *,
};
use crate::DeviceSpec;

/// The definition: row by row and head by head, with a mask of large negative numbers.
fn plain_attention(q: &Tensor<2>, k: &Tensor<2>, v: &Tensor<2>, s: &AttentionSpec) -> Tensor<2> {
    let (hd, group) = (s.head_dim, s.heads / s.kv_heads);
    let rows = s.spans.iter().enumerate().map(|(row, span)| {
        let queries = s.spans.tokens_of(row..row + 1);
        let (keys, start) = match s.capacity {
            None => (queries.clone(), 0),
            Some(capacity) => {
                let first = span.slot.unwrap() * capacity;
                (first..first + span.start + span.len, span.start)
            }
        };
        let heads = (0..s.heads).map(|h| {
            let part = |t: &Tensor<2>, rows: &std::ops::Range<usize>, at: usize| {
                t.clone().slice([rows.clone(), at * hd..(at + 1) * hd])
            };
            let (k, v) = (part(k, &keys, h / group), part(v, &keys, h / group));
            let scores = part(q, &queries, h).matmul(k.transpose()) * s.scale;
            let sees = |i: usize, j: usize| match s.mask {
                Mask::Full => true,
                Mask::Causal => j <= start + i,
                Mask::Window { size } => j <= start + i && j + size > start + i,
            };
            let bias: Vec<f32> = (0..queries.len())
                .flat_map(|i| (0..keys.len()).map(move |j| (i, j)))
                .map(|(i, j)| if sees(i, j) { 0.0 } else { -1e9 })
                .collect();
            let bias = TensorData::new(bias, [queries.len(), keys.len()]);
            let scores = scores + Tensor::from_data(bias, &q.device());
            activation::softmax(scores, 1).matmul(v)
        });
        Tensor::cat(heads.collect(), 1)
    });
    Tensor::cat(rows.collect(), 0)
}

fn mask() -> impl Strategy<Value = Mask> {
    prop_oneof![
        Just(Mask::Full),
        Just(Mask::Causal),
        (1usize..5).prop_map(|size| Mask::Window { size }),
    ]
}

/// Compares ours with the definition for rows of these spans.
fn check(
    spans: Spans,
    capacity: Option<usize>,
    [kv_heads, group]: [usize; 2],
    mask: Mask,
    seed: u64,
) {
    let (device, head_dim, heads) = (device(), 4, kv_heads * group);
    let slots = spans.iter().filter_map(|span| span.slot).max().map_or(0, |slot| slot + 1);
    let keys = capacity.map_or(spans.tokens(), |capacity| slots * capacity);
    let q = random([spans.tokens(), heads * head_dim], seed, &device);
    let [k, v] = [1000, 2000].map(|more| random([keys, kv_heads * head_dim], seed + more, &device));
    let spec = AttentionSpec { spans, capacity, heads, kv_heads, head_dim, scale: 0.4, mask };
    let theirs = plain_attention(&q, &k, &v, &spec);
    let inputs = [&q, &k, &v].map(|t| Input::Two(t.clone()));
    assert_same(attention(q.clone(), k, v, spec), theirs, &inputs);
}

proptest! {
    // PROPTEST_CASES may ask for fewer: a GPU compiles kernels for every shape.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.min(24)))]

    #[test]
    fn attention_equals_its_definition(
        lens in prop::collection::vec(1usize..7, 1..4),
        kv_heads in 1usize..3,
        group in 1usize..3,
        mask in mask(),
        seed in 0u64..1000,
    ) {
        let span = |len| Span { slot: None, start: 3, len };
        let spans = Spans::new(lens.iter().map(|len| span(*len)).collect());
        check(spans, None, [kv_heads, group], mask, seed);
        check(Spans::equal(lens.len(), lens[0]), None, [kv_heads, group], mask, seed);
    }

    #[test]
    fn attention_over_a_cache_equals_its_definition(
        rows in prop::collection::vec((0usize..5, 1usize..5), 1..4),
        shift in 0usize..5,
        mask in mask(),
        seed in 0u64..1000,
    ) {
        let row = |(i, (start, len)): (usize, &(usize, usize))| {
            Span { slot: Some((i * 3 + shift) % 5), start: *start, len: *len }
        };
        let spans = Spans::new(rows.iter().enumerate().map(row).collect());
        check(spans, Some(9), [2, 2], mask, seed);
    }
}

#[test]
fn attention_over_several_blocks_of_queries() {
    // Blocks hold 64 queries: none, one and two borders, with and without earlier keys, and windows
    // that end within a block and beyond it.
    let cases = [
        (64, 0, Mask::Causal),
        (65, 3, Mask::Causal),
        (130, 0, Mask::Causal),
        (130, 7, Mask::Full),
        (130, 0, Mask::Window { size: 10 }),
        (130, 70, Mask::Window { size: 90 }),
    ];
    // On another device than the CPU every shape is compiled: two of them.
    let named = DeviceSpec::from_env().map(|device| device.to_string()).unwrap_or_default();
    let tried = if ["auto", "flex"].contains(&&named[..]) { cases.len() } else { 2 };
    for (len, start, mask) in cases.into_iter().take(tried) {
        let row = |slot| Span { slot: Some(slot), start, len };
        check(Spans::new(vec![row(1), row(0)]), Some(len + start), [1, 2], mask, 1);
        check(Spans::equal(2, len), None, [1, 2], mask, 1);
    }
}

// Other devices may take all numbers for finite.
#[cfg(feature = "flex")]
#[test]
fn nan_and_infinity_come_through_attention_as_in_the_definition() {
    let device = "flex".parse::<DeviceSpec>().unwrap().resolve().unwrap().autodiff();
    let (rows, d) = (300, 6);
    let mut values = super::tests::values(&random([rows, d], 1, &device));
    (values[2 * d], values[150 * d + 1]) = (f32::NAN, f32::INFINITY);
    let x = Tensor::<2>::from_data(TensorData::new(values, [rows, d]), &device).require_grad();
    // Without a mask, because ours keeps NaN out that the mask hides, and adding a large negative
    // number does not.
    let spec = AttentionSpec {
        spans: Spans::equal(1, rows),
        capacity: None,
        heads: 1,
        kv_heads: 1,
        head_dim: d,
        scale: 0.4,
        mask: Mask::Full,
    };
    let (k, v) = (random([rows, d], 8, &device), random([rows, d], 9, &device));
    let inputs = [&x, &k, &v].map(|t| Input::Two(t.clone()));
    let theirs = plain_attention(&x, &k, &v, &spec);
    assert_same_kinds(attention(x, k, v, spec), theirs, &inputs);
}

fn table(spans: &Spans, head_dim: usize, theta: f64, device: &burn::tensor::Device) -> RopeTable {
    RopeTable::new(spans, &RopeRule::Default { theta }.frequencies(head_dim), device)
}

#[test]
fn rotation_is_that_of_complex_numbers_and_goes_on_from_its_start() {
    let device = device().inner();
    let spans = Spans::new(vec![Span { slot: None, start: 3, len: 2 }]);
    let x = Tensor::<2>::from_data([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]], &device);
    let rotated = table(&spans, 4, 10_000.0, &device).rotate(x);
    let rotated: Vec<f32> = rotated.try_into_vec_as().unwrap();
    for (row, position) in [3.0f64, 4.0].iter().enumerate() {
        for pair in 0..2 {
            let angle = position * 10_000f64.powf(-2.0 * pair as f64 / 4.0);
            let (a, b) = ([1.0, 2.0][pair], [3.0, 4.0][pair]);
            let expected = [a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()];
            let found = [rotated[row * 4 + pair], rotated[row * 4 + 2 + pair]];
            for (e, f) in expected.iter().zip(found) {
                assert!((e - f64::from(f)).abs() < 1e-5, "{expected:?} {found:?}");
            }
        }
    }
}

#[test]
fn rotation_by_table_is_that_by_parts_with_its_gradient() {
    let device = device();
    // Rows that are alike, and rows that are not; two copies of the batch.
    let span = |start, len| Span { slot: None, start, len };
    for (spans, heads) in [
        (Spans::equal(3, 5), 2),
        (Spans::new(vec![span(0, 70), span(4, 70)]), 1),
        (Spans::new(vec![span(2, 3), span(0, 6)]), 2),
    ] {
        let table = table(&spans, 6, 100.0, &device);
        let positions: Vec<usize> =
            spans.repeat(2).iter().flat_map(|span| span.start..span.start + span.len).collect();
        let x = random([positions.len(), heads * 6], 1, &device);
        let parts = positions.iter().enumerate().map(|(row, position)| {
            let heads = (0..heads).map(|head| {
                let pair =
                    |at: usize, i: usize| x.clone().slice([row..row + 1, at + i..at + i + 1]);
                let (a, b) = (head * 6, head * 6 + 3);
                let angle = |i: usize| *position as f64 * 100f64.powf(-2.0 * i as f64 / 6.0);
                let left = |i| pair(a, i) * angle(i).cos() - pair(b, i) * angle(i).sin();
                let right = |i| pair(b, i) * angle(i).cos() + pair(a, i) * angle(i).sin();
                Tensor::cat((0..3).map(left).chain((0..3).map(right)).collect(), 1)
            });
            Tensor::cat(heads.collect(), 1)
        });
        let theirs = Tensor::cat(parts.collect(), 0);
        assert_same(table.rotate(x.clone()), theirs, &[Input::Two(x)]);
    }
}
