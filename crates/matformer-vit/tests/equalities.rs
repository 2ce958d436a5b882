//! A submodel is the same model seen narrower: plans, costs and patches agree.

use matformer_core::{Plan, Resource, Submodel};
use matformer_nn::{Elastic, Noise, State, extract, params, row_losses, walk};
use matformer_vit::{MatVit, MatVitConfig, Pooling, adapted, costs};

use super::{
    compare::{device, values, worst},
    support::{config, logits, model, pixels},
};

const POOLINGS: [Pooling; 2] = [Pooling::ClassToken, Pooling::Mean];

/// Every form that a model may have.
fn forms() -> [MatVitConfig; 3] {
    let [class_token, mean] = POOLINGS.map(|pooling| MatVitConfig { pooling, ..config() });
    let distilled = MatVitConfig { distillation_token: true, ..config() };
    [class_token, mean, distilled]
}

fn submodels() -> Vec<Submodel> {
    [[4, 32, 8], [16, 16, 16], [4, 32, 20], [4, 32, 8]].map(|w| Submodel::new(w.to_vec())).to_vec()
}

#[test]
fn merged_and_row_plans_equal_separate_walks() {
    for config in forms() {
        let (model, submodels) = (model(&config, &device()), submodels());
        let n = submodels.len();
        let batch = pixels(n * config.pixels(), 1);
        let merged = logits(&model, &Plan::merged(&submodels).unwrap(), n, &batch);
        // A plan of rows gives each image to a submodel of its own.
        let images = model.images(n, &batch).unwrap();
        let plan = Plan::rows(&submodels).unwrap();
        let walked = walk(&model, &images, &plan, &mut State::new()).unwrap();
        let by_row = values(model.head(&walked.all()));
        let embedded = values(model.pooled(&walked.all()));
        for (i, submodel) in submodels.iter().enumerate() {
            let alone = logits(&model, &Plan::one(submodel), n, &batch).remove(0);
            assert!(worst(&merged[i], &alone) < 1e-5, "{config:?} {submodel}");
            let row = i * config.classes..(i + 1) * config.classes;
            assert!(worst(&by_row[row.clone()], &alone[row]) < 1e-5, "{config:?} {submodel}");
            let walked = walk(&model, &images, &Plan::one(submodel), &mut State::new()).unwrap();
            let alone = values(model.pooled(&walked.of(0)));
            let row = i * config.d_model..(i + 1) * config.d_model;
            assert!(worst(&embedded[row.clone()], &alone[row]) < 1e-5, "{config:?} {submodel}");
        }
    }
}

#[test]
fn an_extracted_submodel_is_the_same_model() {
    for config in forms() {
        let (model, batch) = (model(&config, &device()), pixels(2 * config.pixels(), 3));
        for submodel in submodels() {
            let slim = extract(&model, &submodel).unwrap();
            let alone = logits(&model, &Plan::one(&submodel), 2, &batch);
            let found = logits(&slim, &Plan::one(&submodel), 2, &batch);
            assert!(worst(&found[0], &alone[0]) < 1e-5, "{config:?} {submodel}");
            let counted: f64 = params::shapes(&slim)
                .iter()
                .map(|(_, shape)| shape.iter().product::<usize>() as f64)
                .sum();
            let cost = costs(&config).get(Resource::Params).unwrap().cost(&submodel).unwrap();
            assert_eq!(counted, cost, "{submodel}");
        }
    }
}

#[test]
fn drop_path_loses_the_same_images_in_every_submodel() {
    let config = MatVitConfig { drop_path: 0.5, ..config() };
    let (model, submodels, rows) = (model(&config, &device()), submodels(), 16);
    let images = model.images(rows, &pixels(rows * config.pixels(), 4)).unwrap();
    let walked = |plan: &Plan, state: State| {
        let walked = walk(&model, &images, plan, &mut { state }).unwrap();
        (0..plan.submodels().len()).map(|i| values(model.head(&walked.of(i)))).collect::<Vec<_>>()
    };
    let noise = |index| State::with_noise(Noise { seed: 5, index, part: None });
    let merged = walked(&Plan::merged(&submodels).unwrap(), noise(1));
    for (submodel, together) in submodels.iter().zip(&merged) {
        let plan = Plan::one(submodel);
        let alone = walked(&plan, noise(1)).remove(0);
        assert!(worst(&alone, together) < 1e-5, "{submodel}");
        assert!(worst(&alone, &walked(&plan, noise(2)).remove(0)) > 1e-3, "another key");
        let plain = walked(&plan, State::new()).remove(0);
        assert!(worst(&alone, &plain) > 1e-3, "evaluation loses nothing");
        // The first layer loses nothing, the last every second branch: some images lose nothing.
        let same = |i: usize| {
            let row = i * config.classes..(i + 1) * config.classes;
            worst(&alone[row.clone()], &plain[row]) < 1e-5
        };
        assert!((0..rows).filter(|i| same(*i)).count() < rows / 2, "{submodel}");
    }
    let none = MatVitConfig { drop_path: 0.0, ..config };
    let all: Vec<usize> = (0..none.classes).collect();
    let model = adapted(&model, &none, Some(&all)).unwrap();
    let walked = walk(&model, &images, &Plan::one(&submodels[0]), &mut noise(1)).unwrap();
    let plan = Plan::one(&submodels[0]);
    let plain = logits(&model, &plan, rows, &pixels(rows * none.pixels(), 4)).remove(0);
    assert_eq!(values(model.head(&walked.of(0))), plain);
}

#[test]
fn a_model_is_adapted_to_other_classes_and_sizes() {
    for config in forms() {
        let model = model(&config, &device());
        let batch = pixels(2 * config.pixels(), 6);
        let plan = Plan::one(&model.space().largest());
        let before = logits(&model, &plan, 2, &batch);
        let all: Vec<usize> = (0..config.classes).collect();
        let same = adapted(&model, &config, Some(&all)).unwrap();
        assert_eq!(logits(&same, &plan, 2, &batch), before);
        // Some of its classes, in another order.
        let two = MatVitConfig { classes: 2, class_names: None, ..config.clone() };
        let some = logits(&adapted(&model, &two, Some(&[2, 0])).unwrap(), &plan, 2, &batch);
        let expected: Vec<f32> =
            before[0].chunks(config.classes).flat_map(|row| [row[2], row[0]]).collect();
        assert!(worst(&some[0], &expected) < 1e-6);
        let names = |names: [&str; 2]| Some(names.map(str::to_owned).to_vec());
        let two = MatVitConfig { classes: 2, class_names: names(["cat", "dog"]), ..config.clone() };
        let new_head = adapted(&model, &two, None).unwrap();
        assert_eq!(logits(&new_head, &plan, 2, &batch), [[0.0; 4]]);
        // Twice the size: four times the patches, the same weights.
        let large = MatVitConfig { image_size: 12, ..config.clone() };
        let larger = adapted(&model, &large, Some(&all)).unwrap();
        let found = logits(&larger, &plan, 1, &pixels(large.pixels(), 7));
        assert!(found[0].iter().all(|value| value.is_finite()));
        let wider = MatVitConfig { d_model: 24, ..config };
        let message = adapted(&model, &wider, None).unwrap_err().to_string();
        assert_eq!(message, "`d_model` is 24; expected 12, as in the weights");
    }
}

#[test]
fn ranks_count_the_classes_that_are_as_likely() {
    let (config, device) = (config(), device());
    let model = model(&config, &device);
    let batch = pixels(4 * config.pixels(), 8);
    let images = model.images(4, &batch).unwrap();
    let plan = Plan::one(&model.space().largest());
    let walked = walk(&model, &images, &plan, &mut State::new()).unwrap();
    let all = logits(&model, &plan, 4, &batch).remove(0);
    for label in 0..config.classes {
        let target = model.labels(&[label; 4], 0.1).unwrap();
        let ranks = model.ranks(&walked.of(0), &target).unwrap();
        for (row, rank) in all.chunks(config.classes).zip(ranks) {
            assert_eq!(rank, row.iter().filter(|value| **value > row[label]).count());
        }
    }
    // A head that says nothing finds nothing.
    let fresh = MatVit::new(&config, 0, &device).unwrap();
    let walked = walk(&fresh, &images, &plan, &mut State::new()).unwrap();
    let target = fresh.labels(&[0; 4], 0.0).unwrap();
    assert_eq!(fresh.ranks(&walked.of(0), &target).unwrap(), [4; 4]);
}

#[test]
fn costs_are_counted_elements() {
    for config in forms() {
        let model = MatVit::new(&config, 0, &device()).unwrap();
        let counted = params::shapes(&model);
        let sum = |keep: &dyn Fn(&str) -> bool| -> f64 {
            let kept = counted.iter().filter(|(path, _)| keep(path));
            kept.map(|(_, shape)| shape.iter().product::<usize>() as f64).sum()
        };
        let costs = costs(&config);
        let cost = |r| costs.get(r).unwrap().cost(&model.space().largest()).unwrap();
        assert_eq!(cost(Resource::Params), sum(&|_| true));
        let inner = |path: &str| path.starts_with("layers.") || path.starts_with("norm.");
        assert_eq!(cost(Resource::NonEmbedding), sum(&inner));
        let ffn = |path: &str| path.contains(".ffn.");
        assert_eq!(cost(Resource::Ffn), sum(&ffn));
        // Of a narrower submodel: what its prefix leaves.
        let narrow = model.space().smallest();
        let nested = |path: &str| params::nested_layer(path).is_some();
        let expected = cost(Resource::Params) - sum(&nested) * (1.0 - 4.0 / 32.0);
        assert_eq!(costs.get(Resource::Params).unwrap().cost(&narrow).unwrap(), expected);
    }
}

#[test]
fn losses_are_of_the_labels_weights() {
    let (config, device) = (config(), device());
    let model = model(&config, &device);
    let images = model.images(3, &pixels(3 * config.pixels(), 2)).unwrap();
    let plan = Plan::one(&model.space().largest());
    let walked = walk(&model, &images, &plan, &mut State::new()).unwrap();
    let nats = |target| values(row_losses(&model, &walked, &target).remove(0).nats);
    let by_label: Vec<Vec<f32>> =
        (0..5).map(|label| nats(model.labels(&[label; 3], 0.0).unwrap())).collect();
    for image in 0..3 {
        let sum: f32 = by_label.iter().map(|nats| (-nats[image]).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "probabilities sum to one: {sum}");
        let mean = by_label.iter().map(|nats| nats[image]).sum::<f32>() / 5.0;
        let smoothed = nats(model.labels(&[1; 3], 0.1).unwrap())[image];
        assert!((smoothed - (0.9 * by_label[1][image] + 0.1 * mean)).abs() < 1e-5);
        let mixed = nats(model.soft_labels(&[0.3, 0.0, 0.7, 0.0, 0.0].repeat(3)).unwrap())[image];
        assert!((mixed - (0.3 * by_label[0][image] + 0.7 * by_label[2][image])).abs() < 1e-5);
    }
}

#[test]
fn what_is_no_batch_is_refused() {
    let model = model(&config(), &device());
    let message = |e: matformer_vit::Error| e.to_string();
    assert_eq!(
        message(model.images(2, &[0.0; 72]).unwrap_err()),
        "72 pixel values; 2 images of the model's size have 144"
    );
    assert!(model.images(0, &[]).is_err());
    assert_eq!(
        message(model.labels(&[0, 5], 0.0).unwrap_err()),
        "label 5 of image 1; the model has 5 classes"
    );
    assert!(model.soft_labels(&[0.5; 6]).is_err() && model.soft_labels(&[]).is_err());
}

#[test]
fn a_seed_draws_the_weights_that_it_always_drew() {
    // Recorded when q, k, v, o and down were stored `[in, out]`: their values are still drawn in
    // that order. Few and many tokens, which take different kernels.
    let (config, device) = (config(), device());
    let model = MatVit::new(&config, 7, &device).unwrap();
    let few = [0.823482096, 0.838792145, 0.813016236, 0.770236075];
    let many = [0.832768917, 0.824794173, 0.815317988, 0.809880555];
    for (rows, expected) in [(2, few), (60, many)] {
        let images = model.images(rows, &pixels(rows * config.pixels(), 3)).unwrap();
        for (submodel, expected) in model.space().uniforms().iter().zip(expected) {
            let walked = walk(&model, &images, &Plan::one(submodel), &mut State::new()).unwrap();
            let found = f64::from(model.pooled(&walked.of(0)).abs().mean().into_scalar::<f32>());
            assert!((found - expected).abs() < 1e-5, "{rows} rows, {submodel}: {found}");
        }
    }
}
