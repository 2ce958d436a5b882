//! Rows of any length, start, slot and submodel in one batch: each gives what it gives alone.

use burn::tensor::Tensor;
use matformer_core::{Plan, Span, Spans, Submodel};
use matformer_lm::{MatLm, MatLmConfig, Window};
use matformer_nn::{Elastic, Error, KvCache, State, row_losses, walk};
use proptest::prelude::*;

use super::{
    compare::{device, values, worst},
    support::{config, ids, model, one},
};

/// Longest row of the property test, which is also the context of its model.
const LONGEST: usize = 40;

/// A row of a batch: which text, how much of it the cache holds already, in which parts the rest
/// comes.
#[derive(Clone, Debug)]
struct Row {
    text: Vec<u32>,
    submodel: Submodel,
    parts: Vec<usize>,
}

fn submodel() -> impl Strategy<Value = Submodel> {
    prop::collection::vec((1usize..=8).prop_map(|n| 8 * n), 2).prop_map(Submodel::new)
}

fn row() -> impl Strategy<Value = Row> {
    let parts = prop::collection::vec(1usize..=LONGEST, 1..4);
    (0usize..99, submodel(), parts).prop_map(|(seed, submodel, mut parts)| {
        // As many parts as the context has room for.
        let mut room = LONGEST;
        parts.retain_mut(|part| {
            *part = (*part).min(room);
            room -= *part;
            *part > 0
        });
        Row { text: ids(parts.iter().sum(), 50, seed), submodel, parts }
    })
}

/// A model of two layers; with `options`, a window and no rotary embedding in the second, and a
/// base of its own for it in the first.
fn wide(options: bool) -> MatLm {
    let mut config = MatLmConfig { context: LONGEST, n_layers: 2, ..config() };
    if options {
        config.window = Some(Window { size: 7, layers: None, rope_theta: Some(100.0) });
        config.nope_layers = Some(vec![1]);
        (config.qkv_bias, config.qk_norm, config.post_norms) = (true, true, true);
        (config.norm_plus_one, config.scale_embeddings) = (true, true);
    }
    MatLm::new(&config, 7, &device()).unwrap()
}

/// Walks each row's part number `round`, in the slots that `slots` names, in one batch; logits of
/// each row that has such a part.
fn step(
    model: &MatLm,
    rows: &[Row],
    slots: &[usize],
    round: usize,
    state: &mut State,
) -> Vec<(usize, Vec<f32>)> {
    let live: Vec<usize> = (0..rows.len()).filter(|i| round < rows[*i].parts.len()).collect();
    if live.is_empty() {
        return Vec::new();
    }
    let (mut spans, mut tokens, mut submodels) = (Vec::new(), Vec::new(), Vec::new());
    for &i in &live {
        let row = &rows[i];
        let start: usize = row.parts[..round].iter().sum();
        let len = row.parts[round];
        spans.push(Span { slot: Some(slots[i]), start, len });
        tokens.extend_from_slice(&row.text[start..start + len]);
        submodels.push(row.submodel.clone());
    }
    let input = model.tokens_of(&Spans::new(spans), &tokens).unwrap();
    let walked = walk(model, &input, &Plan::rows(&submodels).unwrap(), state).unwrap();
    let logits = |(at, row): (usize, usize)| (row, values(model.head(&walked.of(at))));
    live.into_iter().enumerate().map(logits).collect()
}

proptest! {
    // PROPTEST_CASES may ask for fewer: a GPU compiles kernels for every shape, and here every case
    // has many.
    #![proptest_config(ProptestConfig::with_cases((ProptestConfig::default().cases / 3).clamp(2, 24)))]

    #[test]
    fn any_mix_of_spans_gives_each_row_what_it_gives_alone(
        rows in prop::collection::vec(row(), 1..6),
        shift in 0usize..6,
        options in any::<bool>(),
    ) {
        let model = wide(options);
        let slots: Vec<usize> = (0..rows.len()).map(|i| (i * 5 + shift) % 7).collect();
        let mut state = State::with_cache(7, LONGEST);
        let mut found = vec![Vec::new(); rows.len()];
        for round in 0..3 {
            for (row, logits) in step(&model, &rows, &slots, round, &mut state) {
                found[row].extend(logits);
            }
        }
        for (row, found) in rows.iter().zip(found) {
            let alone = one(&model, &row.submodel, 1, &row.text);
            prop_assert!(worst(&found, &alone) < 1e-4, "{row:?}");
        }
        // Without a cache: whole texts of unequal length, losses and all.
        let spans = Spans::new(
            rows.iter().map(|row| Span { slot: None, start: 0, len: row.text.len() }).collect(),
        );
        let text: Vec<u32> = rows.iter().flat_map(|row| row.text.clone()).collect();
        let submodels: Vec<Submodel> = rows.iter().map(|row| row.submodel.clone()).collect();
        let input = model.tokens_of(&spans, &text).unwrap();
        let target = model.targets_of(&spans, &text, None).unwrap();
        let plan = Plan::rows(&submodels).unwrap();
        let walked = walk(&model, &input, &plan, &mut State::new()).unwrap();
        for (i, loss) in row_losses(&model, &walked, &target).into_iter().enumerate() {
            let text = &rows[i].text;
            let input = model.tokens(1, text).unwrap();
            let target = model.targets(1, text, None).unwrap();
            let walked = walk(&model, &input, &Plan::one(&submodels[i]), &mut State::new()).unwrap();
            let alone = row_losses(&model, &walked, &target).remove(0);
            prop_assert_eq!(&loss.counts, &alone.counts);
            prop_assert!(worst(&values(loss.nats), &values(alone.nats)) < 1e-5);
        }
    }
}

#[test]
fn gradients_of_rows_of_unequal_length_are_those_of_the_rows_alone() {
    let model = model(&device().autodiff());
    let large = model.space().largest();
    let lens = [7, 1, 12, 12];
    let spans =
        Spans::new(lens.iter().map(|len| Span { slot: None, start: 0, len: *len }).collect());
    let text = ids(spans.tokens(), 50, 4);
    let loss = |spans: &Spans, text: &[u32]| -> Tensor<1> {
        let input = model.tokens_of(spans, text).unwrap();
        let target = model.targets_of(spans, text, None).unwrap();
        let walked = walk(&model, &input, &Plan::one(&large), &mut State::new()).unwrap();
        row_losses(&model, &walked, &target).remove(0).nats.sum()
    };
    let together = super::compare::gradients(&model, &loss(&spans, &text).backward());
    let mut alone = together.clone();
    alone.values_mut().for_each(|grad| grad.fill(0.0));
    for row in 0..lens.len() {
        let grads = loss(&spans.select(row..row + 1), &text[spans.tokens_of(row..row + 1)]);
        for (path, grad) in super::compare::gradients(&model, &grads.backward()) {
            alone.get_mut(&path).unwrap().iter_mut().zip(grad).for_each(|(sum, g)| *sum += g);
        }
    }
    for (path, grad) in together {
        let off = super::compare::distance(&grad, &alone[&path]);
        assert!(off < 1e-5, "{path}: {off}");
    }
}

/// Logits of the next tokens of slot 0.
fn decode(model: &MatLm, state: &mut State, submodel: &Submodel, part: &[u32]) -> Vec<f32> {
    let spans = state.cache().unwrap().spans(&[part.len()]);
    let tokens = model.tokens_of(&spans, part).unwrap();
    values(model.head(&walk(model, &tokens, &Plan::one(submodel), state).unwrap().all()))
}

#[test]
fn decoding_with_the_cache_equals_the_full_walk() {
    let model = model(&device());
    let mut sizes: Vec<Submodel> = model.space().uniforms();
    sizes.push(Submodel::new(vec![8, 64, 24]));
    let text = ids(16, 50, 3);
    for submodel in &sizes {
        let full = one(&model, submodel, 1, &text);
        let mut state = State::with_cache(1, 16);
        // A prompt, then token by token.
        let parts = [&text[..5]].into_iter().chain(text[5..].chunks(1));
        let found: Vec<f32> =
            parts.flat_map(|part| decode(&model, &mut state, submodel, part)).collect();
        assert!(worst(&found, &full) < 1e-4, "{submodel}");
    }
}

#[test]
fn a_row_may_change_its_size_and_take_tokens_back() {
    // The cache after S is what S wrote, and XL goes on from it exactly as it does when S's keys
    // and values came there by any other way.
    let model = model(&device());
    let (small, large) = (model.space().uniform("S").unwrap(), model.space().largest());
    let text = ids(12, 50, 4);
    let (mut by_token, mut at_once) = (State::with_cache(1, 12), State::with_cache(1, 12));
    text[..8].iter().for_each(|id| {
        decode(&model, &mut by_token, &small, &[*id]);
    });
    decode(&model, &mut at_once, &small, &text[..8]);
    let next = |id| decode(&model, &mut by_token, &large, &[id]);
    let a: Vec<f32> = text[8..].iter().copied().flat_map(next).collect();
    let b = decode(&model, &mut at_once, &large, &text[8..]);
    assert!(worst(&a, &b) < 1e-4);
    // A slot that is truncated goes on as if the rest had never been.
    by_token.cache_mut().unwrap().truncate(0, 8);
    let c = decode(&model, &mut by_token, &large, &text[8..]);
    assert!(worst(&c, &b) < 1e-4);
    // Positions may be written anew, as a verifier rewrites what a draft wrote.
    let spans = Spans::new(vec![Span { slot: Some(0), start: 8, len: 4 }]);
    let tokens = model.tokens_of(&spans, &text[8..]).unwrap();
    let walked = walk(&model, &tokens, &Plan::one(&large), &mut by_token).unwrap();
    assert!(worst(&values(model.head(&walked.all())), &b) < 1e-4);
    assert_eq!(by_token.cache().unwrap().lens(), [12]);
    // And an emptied slot is as good as new.
    by_token.cache_mut().unwrap().truncate(0, 0);
    let d = decode(&model, &mut by_token, &large, &text[..8]);
    assert!(worst(&d, &one(&model, &large, 1, &text[..8])) < 1e-4);
}

#[test]
fn batches_and_plans_that_do_not_fit_the_cache_are_refused_and_change_nothing() {
    let model = model(&device());
    let sizes = [model.space().smallest(), model.space().largest()];
    let mut state = State::with_cache(2, 6);
    decode(&model, &mut state, &sizes[1], &ids(3, 50, 1));
    let span = |slot, start, len| Span { slot, start, len };
    let mut refused = |spans: Vec<Span>, plan: &Plan| {
        let spans = Spans::new(spans);
        let tokens = model.tokens_of(&spans, &ids(spans.tokens(), 50, 2)).unwrap();
        let error = walk(&model, &tokens, plan, &mut state).unwrap_err();
        assert_eq!(state.cache().unwrap().lens(), [3, 0]);
        error.to_string()
    };
    let one = Plan::one(&sizes[1]);
    assert_eq!(
        refused(vec![span(Some(0), 3, 4)], &one),
        "cache slot 0 holds 6 positions, 7 are needed"
    );
    assert_eq!(refused(vec![span(Some(2), 0, 1)], &one), "cache slot 2: the cache has 2 slots");
    assert_eq!(
        refused(vec![span(Some(1), 0, 1), span(Some(1), 0, 1)], &one),
        "cache slot 1 is named by two rows of the batch; expected one"
    );
    assert_eq!(
        refused(vec![span(Some(0), 4, 1)], &one),
        "cache slot 0 holds 3 positions, the row starts at 4"
    );
    assert_eq!(
        refused(vec![span(Some(0), 3, 1), span(None, 0, 1)], &one),
        "row 1 names no cache slot; the state has a cache, where every row needs one"
    );
    assert_eq!(
        refused(vec![span(Some(0), 3, 1), span(Some(1), 0, 0)], &one),
        "row 1 has no tokens; expected at least 1"
    );
    // Several submodels of one row would need several slots.
    let merged = Plan::merged(&sizes).unwrap();
    assert_eq!(
        refused(vec![span(Some(0), 3, 1)], &merged),
        "plan has 2 copies of the batch in layer 1; with a cache, expected 1"
    );
    // After all of that the slot goes on, and a merged walk without a cache is as before.
    decode(&model, &mut state, &sizes[0], &ids(1, 50, 3));
    assert_eq!(state.cache().unwrap().lens(), [4, 0]);
    let spans = Spans::new(vec![span(Some(0), 0, 2)]);
    let tokens = model.tokens_of(&spans, &ids(2, 50, 2)).unwrap();
    let error = walk(&model, &tokens, &one, &mut State::new()).unwrap_err();
    assert_eq!(error.to_string(), "row 0 names a cache slot; the state has no cache");
    let long = model.tokens(1, &ids(25, 50, 2)).unwrap();
    let error = walk(&model, &long, &one, &mut State::new()).unwrap_err();
    assert_eq!(error.to_string(), "row 0 ends at position 25, the context holds 24");
}

#[test]
fn a_slot_holds_what_its_rows_wrote() {
    let cache = KvCache::new(3, 8);
    assert_eq!((cache.lens(), cache.capacity()), (&[0, 0, 0][..], 8));
    let spans = cache.spans(&[2, 5]);
    assert_eq!(spans.row(1), Span { slot: Some(1), start: 0, len: 5 });
    assert!(cache.check(&spans).is_ok());
    let again = Spans::new(vec![Span { slot: None, start: 0, len: 1 }]);
    assert!(matches!(cache.check(&again), Err(Error::NoSlot { row: 0 })));
}

#[test]
fn tokens_and_masks_are_as_many_as_the_rows_say_and_nan_logits_end_generation() {
    let model = model(&device());
    let spans = Spans::new(vec![Span { slot: None, start: 0, len: 3 }; 2]);
    let message = |error: matformer_lm::Error| error.to_string();
    assert_eq!(
        message(model.tokens_of(&spans, &[1; 5]).unwrap_err()),
        "token ids of a batch: 5; its rows have 6 tokens"
    );
    assert_eq!(
        message(model.targets_of(&spans, &[1; 6], Some(&[true; 4])).unwrap_err()),
        "mask of a batch: 4; its rows have 6 tokens"
    );
    assert!(model.tokens_of(&Spans::new(Vec::new()), &[]).is_err());
}
