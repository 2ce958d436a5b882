//! Composed attention in tiles against itself in one, on the CPU.

use burn::backend::{Flex, flex::FlexTensor, ops::FloatTensorOps};
use matformer_core::{Span, Spans};

use super::*;
use crate::ops::Mask;

fn tensor(rows: usize, d: usize, seed: usize) -> FlexTensor {
    let value = |i: usize| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1000.0 - 1.0;
    let data = TensorData::new((0..rows * d).map(value).collect(), [rows, d]);
    Flex::float_from_data(data, &Default::default())
}

fn values(t: FlexTensor) -> Vec<f32> {
    let data = burn::tensor::read_sync(Flex::float_into_data(t)).unwrap();
    data.convert::<f32>().try_into_vec().unwrap()
}

/// Output, log-sum-exp and gradients with so many scores at a time.
fn all(spec: &AttentionSpec, elements: usize) -> [Vec<f32>; 5] {
    let (tokens, slots) = (spec.spans.tokens(), spec.spans.iter().count());
    let keys = spec.capacity.map_or(tokens, |capacity| slots * capacity);
    let kv = spec.kv_dim();
    let qkv = || [tensor(tokens, spec.q_dim(), 1), tensor(keys, kv, 2), tensor(keys, kv, 3)];
    let (out, lse) = forward_in_tiles::<Flex>(qkv(), spec, elements);
    let grad = tensor(tokens, spec.q_dim(), 4);
    let saved = [out.clone(), lse.clone(), grad];
    let (dq, dk, dv) = backward_in_tiles::<Flex>(qkv(), saved, spec, elements);
    [out, lse, dq, dk, dv].map(values)
}

#[test]
fn tiles_give_what_one_pass_gives() {
    let row = |slot, start, len| Span { slot, start, len };
    let batch = Spans::new(vec![row(None, 0, 40), row(None, 0, 33), row(None, 0, 1)]);
    let cached = Spans::new(vec![row(Some(1), 9, 35), row(Some(0), 0, 20)]);
    for (spans, capacity) in [(batch, None), (Spans::equal(2, 50), None), (cached, Some(44))] {
        for mask in [Mask::Full, Mask::Causal, Mask::Window { size: 7 }] {
            let spec = AttentionSpec {
                spans: spans.clone(),
                capacity,
                heads: 4,
                kv_heads: 2,
                head_dim: 6,
                scale: 0.4,
                mask,
            };
            let (tiles, whole) = (all(&spec, 1), all(&spec, usize::MAX));
            for (i, (a, b)) in tiles.iter().zip(&whole).enumerate() {
                let most = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(a.len() == b.len() && most < 1e-5, "{mask:?}, {i}: {most}");
            }
        }
    }
}

#[test]
fn a_tile_has_the_keys_that_its_queries_see() {
    let mut spec = AttentionSpec {
        spans: Spans::equal(1, 40),
        capacity: None,
        heads: 1,
        kv_heads: 1,
        head_dim: 2,
        scale: 1.0,
        mask: Mask::Causal,
    };
    let keys = |spec: &AttentionSpec| {
        let tiles = Padded::new(spec).tiles(0).into_iter();
        tiles.map(|tile| (tile.queries, tile.keys)).collect::<Vec<_>>()
    };
    assert_eq!(keys(&spec), [(0..16, 0..16), (16..32, 0..32), (32..40, 0..40)]);
    spec.mask = Mask::Window { size: 4 };
    assert_eq!(keys(&spec), [(0..16, 0..16), (16..32, 13..32), (32..40, 29..40)]);
}

#[test]
fn scores_that_are_held_grow_no_faster_than_the_context() {
    for (heads, head_dim) in [(2, 32), (16, 64)] {
        let held = |context: usize| {
            let spec = AttentionSpec {
                spans: Spans::equal(1, context),
                capacity: None,
                heads,
                kv_heads: heads,
                head_dim,
                scale: 1.0,
                mask: Mask::Causal,
            };
            let tiles = Padded::new(&spec).tiles(tile_elements(&spec)).into_iter();
            let numbers = tiles.map(|tile| heads * tile.queries.len() * tile.keys.len());
            numbers.max().unwrap()
        };
        for context in [2048, 4096, 8192, 16_384] {
            let [short, long] = [context, 2 * context].map(held);
            assert!(long <= 2 * short, "{heads} heads, {context}: {short}, then {long}");
            assert!(long <= 1 << 25);
        }
    }
}
