//! A submodel is the same model seen narrower: plans, costs and patches agree.

use matformer_core::{Plan, Resource, Submodel};
use matformer_nn::{Elastic, State, params, row_losses, walk};
use matformer_vit::{MatVit, MatVitConfig, Pooling, costs};

use crate::{
    compare::{device, values, worst},
    support::{config, logits, model, pixels},
};

const POOLINGS: [Pooling; 2] = [Pooling::ClassToken, Pooling::Mean];

fn submodels() -> Vec<Submodel> {
    [[4, 32, 8], [16, 16, 16], [4, 32, 20], [4, 32, 8]].map(|w| Submodel::new(w.to_vec())).to_vec()
}

#[test]
fn merged_and_row_plans_equal_separate_walks() {
    for pooling in POOLINGS {
        let config = MatVitConfig { pooling, ..config() };
        let (model, submodels) = (model(&config, &device()), submodels());
        let n = submodels.len();
        let batch = pixels(n * config.pixels(), 1);
        let merged = logits(&model, &Plan::merged(&submodels).unwrap(), n, &batch);
        // A plan of rows gives each image to a submodel of its own.
        let images = model.images(n, &batch).unwrap();
        let plan = Plan::rows(&submodels).unwrap();
        let walked = walk(&model, &images, &plan, &mut State::new()).unwrap();
        let by_row = values(model.logits(walked.hidden()));
        for (i, submodel) in submodels.iter().enumerate() {
            let alone = logits(&model, &Plan::one(submodel), n, &batch).remove(0);
            assert!(worst(&merged[i], &alone) < 1e-5, "{pooling:?} {submodel}");
            let row = i * config.classes..(i + 1) * config.classes;
            assert!(worst(&by_row[row.clone()], &alone[row]) < 1e-5, "{pooling:?} {submodel}");
        }
    }
}

#[test]
fn costs_are_counted_elements() {
    for pooling in POOLINGS {
        let config = MatVitConfig { pooling, ..config() };
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
