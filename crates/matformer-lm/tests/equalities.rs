//! A submodel is the same model seen narrower: plans, caches, costs and gradients agree.

use burn::tensor::Tensor;
use matformer_core::{Plan, Resource, Submodel};
use matformer_lm::{MatLm, MatLmConfig, Preset, costs, score};
use matformer_nn::{Elastic, State, extract, params, row_losses, walk};
use proptest::prelude::*;

use super::{
    compare::{device, distance, gradients, worst},
    support::{config, ids, logits, model, one},
};

/// Widths that are no granularities too.
fn submodels() -> impl Strategy<Value = Submodel> {
    prop::collection::vec((1usize..=8).prop_map(|n| 8 * n), 3).prop_map(Submodel::new)
}

proptest! {
    // PROPTEST_CASES may ask for fewer: a GPU compiles kernels for every shape.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.min(12)))]

    #[test]
    fn a_plan_of_one_is_the_extracted_model_to_the_bit(submodel in submodels(), seed in 0usize..99) {
        let model = model(&device());
        let ids = ids(2 * 9, 50, seed);
        let standalone = extract(&model, &submodel).unwrap();
        prop_assert_eq!(one(&model, &submodel, 2, &ids), one(&standalone, &submodel, 2, &ids));
    }

    #[test]
    fn merged_and_row_plans_equal_separate_walks(
        submodels in prop::collection::vec(submodels(), 1..5),
        seed in 0usize..99,
    ) {
        let (model, n) = (model(&device()), submodels.len());
        let batch = ids(2 * 9, 50, seed);
        let merged = logits(&model, &Plan::merged(&submodels).unwrap(), 2, &batch);
        let rows = ids(n * 9, 50, seed);
        let by_row = logits(&model, &Plan::rows(&submodels).unwrap(), n, &rows);
        for (i, submodel) in submodels.iter().enumerate() {
            prop_assert!(worst(&merged[i], &one(&model, submodel, 2, &batch)) < 1e-5);
            let row = one(&model, submodel, 1, &rows[i * 9..(i + 1) * 9]);
            prop_assert!(worst(&by_row[i], &row) < 1e-5);
        }
    }

    #[test]
    fn costs_of_submodels_are_counted_elements(submodel in submodels(), tied in any::<bool>()) {
        let config = MatLmConfig { tied_embeddings: tied, ..config() };
        let model = MatLm::new(&config, 0, &device()).unwrap();
        let counted: Vec<(String, usize)> = params::shapes(&extract(&model, &submodel).unwrap())
            .into_iter()
            .map(|(path, shape)| (path, shape.iter().product()))
            .collect();
        let sum = |keep: &dyn Fn(&str) -> bool| -> f64 {
            counted.iter().filter(|(path, _)| keep(path)).map(|(_, n)| *n as f64).sum()
        };
        let costs = costs(&config);
        let cost = |r| costs.get(r).unwrap().cost(&submodel).unwrap();
        prop_assert_eq!(cost(Resource::Params), sum(&|_| true));
        prop_assert_eq!(cost(Resource::NonEmbedding), sum(&|p| p != "embed" && p != "head"));
        prop_assert_eq!(cost(Resource::Ffn), sum(&|p| params::nested_layer(p).is_some()));
    }
}

#[test]
fn costs_of_every_preset_are_counted_elements() {
    for preset in Preset::all() {
        // The vocabulary is cut: the largest embeddings alone would fill a small machine.
        let config = MatLmConfig { vocab_size: 100, ..preset.config() };
        let small = config.d_model <= 256;
        let config = if small { config } else { MatLmConfig { n_layers: 1, ..config } };
        let model = MatLm::new(&config, 0, &device()).unwrap();
        let counted: usize =
            params::shapes(&model).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let cost = costs(&config).get(Resource::Params).unwrap().cost(&model.space().largest());
        assert_eq!(cost.unwrap(), counted as f64, "{}", preset.name());
    }
}

#[test]
fn the_joint_step_has_the_gradients_of_separate_passes() {
    let model = model(&device().autodiff());
    let space = model.space();
    let submodels: Vec<Submodel> =
        ["S", "M", "L", "XL"].map(|name| space.uniform(name).unwrap()).to_vec();
    let (input, target) = (ids(2 * 12, 50, 1), ids(2 * 12, 50, 2));
    let loss = |plan: &Plan| -> Tensor<1> {
        let tokens = model.tokens(2, &input).unwrap();
        let walked = walk(&model, &tokens, plan, &mut State::new()).unwrap();
        let target = model.targets(2, &target, None).unwrap();
        let losses = row_losses(&model, &walked, &target);
        losses.into_iter().map(|l| l.nats.sum()).reduce(|a, b| a + b).unwrap()
    };
    let joint = gradients(&model, &loss(&Plan::merged(&submodels).unwrap()).backward());
    let mut separate = joint.clone();
    separate.values_mut().for_each(|g| g.fill(0.0));
    for submodel in &submodels {
        for (path, grad) in gradients(&model, &loss(&Plan::one(submodel)).backward()) {
            separate.get_mut(&path).unwrap().iter_mut().zip(grad).for_each(|(s, g)| *s += g);
        }
    }
    for (path, grad) in joint {
        let off = distance(&grad, &separate[&path]);
        assert!(off < 1e-5, "{path}: {off}");
    }
}

#[test]
fn a_narrow_step_leaves_the_outer_rows_at_zero() {
    let model = model(&device().autodiff());
    let submodel = Submodel::new(vec![8, 16, 64]);
    let tokens = model.tokens(1, &ids(9, 50, 1)).unwrap();
    let walked = walk(&model, &tokens, &Plan::one(&submodel), &mut State::new()).unwrap();
    let target = model.targets(1, &ids(9, 50, 2), None).unwrap();
    let grads = row_losses(&model, &walked, &target).remove(0).nats.sum().backward();
    for (path, grad) in gradients(&model, &grads) {
        let Some(layer) = params::nested_layer(&path) else { continue };
        for (i, g) in grad.iter().enumerate() {
            let unit = if params::nested_axis(&path) == 1 { i % 64 } else { i / 32 };
            assert_eq!(*g != 0.0, unit < submodel.widths()[layer], "{path} {i}");
        }
    }
}

#[test]
fn tokens_beyond_the_vocabulary_are_named() {
    let error = model(&device()).tokens(1, &[3, 50]).unwrap_err();
    assert_eq!(error.to_string(), "token 50 at position 1; the vocabulary has 50");
}

#[test]
fn a_long_text_is_scored_in_rolling_windows() {
    let model = model(&device());
    let large = model.space().largest();
    let text = ids(70, 50, 5);
    let scores = score(&model, &large, &text).unwrap();
    assert_eq!(scores.len(), 70);
    assert!(scores[0].is_none() && scores[1..].iter().all(Option::is_some));
    // The first window is what the whole context gives; later tokens see at least half of one.
    let first = score(&model, &large, &text[..25]).unwrap();
    assert_eq!(scores[..25], first[..]);
    let log_softmax = |logits: &[f32], id: u32| {
        let max = logits.iter().copied().fold(f32::MIN, f32::max);
        let sum: f32 = logits.iter().map(|l| (l - max).exp()).sum();
        logits[id as usize] - max - sum.ln()
    };
    let logits = one(&model, &large, 1, &text[..24]);
    for (i, row) in logits.chunks(50).enumerate() {
        let expected = log_softmax(row, text[i + 1]);
        assert!((scores[i + 1].unwrap() - expected).abs() < 1e-4);
    }
}

#[test]
fn a_seed_draws_the_weights_that_it_always_drew() {
    // Recorded when q, k, v, o and down were stored `[in, out]`: their values are still drawn in
    // that order. Few and many tokens, which take different kernels.
    let model = model(&device());
    let few = [3.918464025, 3.927092234, 3.916898727, 3.922763189];
    let many = [3.925182025, 3.932301521, 3.928043683, 3.930798531];
    for (rows, expected) in [(2, few), (12, many)] {
        let tokens = model.tokens(rows, &ids(rows * 24, 50, 1)).unwrap();
        let target = model.targets(rows, &ids(rows * 24, 50, 2), None).unwrap();
        for (submodel, expected) in model.space().uniforms().iter().zip(expected) {
            let walked = walk(&model, &tokens, &Plan::one(submodel), &mut State::new()).unwrap();
            let loss = row_losses(&model, &walked, &target).remove(0).nats.mean();
            let found = f64::from(loss.into_scalar::<f32>()) / 24.0;
            assert!((found - expected).abs() < 1e-5, "{rows} rows, {submodel}: {found}");
        }
    }
}
