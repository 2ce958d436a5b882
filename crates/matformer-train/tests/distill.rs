//! In-place distillation against its definition.

use std::collections::BTreeMap;

use burn::{
    module::Module,
    tensor::{Tensor, TensorData, activation::log_softmax},
};
use matformer_core::{Plan, Submodel};
use matformer_lm::MatLm;
use matformer_nn::{Elastic, State, params, walk};
use matformer_train::{
    Batch, Batches, BoxError, Distill, MetricsLine, MetricsLog, TrainConfig, Trainer,
};
use matformer_vit::{MatVit, MatVitConfig, Pooling};

use super::support::{
    Counting, ROWS, SEQ, device, model, train, train_config, vision, weights, within,
};

/// Batches of which the first half of every row does not count.
struct HalfMasked(Counting);

impl Batches<MatLm> for HalfMasked {
    fn train(&self, model: &MatLm, index: u64) -> Result<Batch<MatLm>, BoxError> {
        let batch = self.0.train(model, index)?;
        let ids: Vec<u32> = (0..ROWS * SEQ).map(|i| ((i * 7 + 3) % 20) as u32).collect();
        let mask: Vec<bool> = (0..ROWS * SEQ).map(|i| i % SEQ >= SEQ / 2).collect();
        Ok(Batch { target: model.targets(ROWS, &ids, Some(&mask))?, ..batch })
    }

    fn targets_per_batch(&self) -> usize {
        ROWS * SEQ / 2
    }

    fn held_out_len(&self) -> usize {
        0
    }

    fn held_out(&self, model: &MatLm, index: usize) -> Result<Batch<MatLm>, BoxError> {
        self.train(model, index as u64)
    }
}

fn masked() -> HalfMasked {
    HalfMasked(Counting { rows: ROWS, wrong: 0..0, stop_at: None })
}

fn config(draw: &str, distill: Option<Distill>) -> TrainConfig {
    let draw = draw.parse().unwrap();
    TrainConfig { draw, distill, clip: 0.0, tokens_per_step: ROWS * SEQ / 2, ..train_config() }
}

type Gradients = BTreeMap<String, Vec<f32>>;
type Labelled = Vec<(String, f64)>;

/// Gradient of the first step, from the moments that it left, and what it reported.
fn of_step(config: &TrainConfig) -> (Gradients, Labelled, Labelled) {
    of_step_of(model(), &masked(), config)
}

fn of_step_of<M: Elastic + Module>(
    model: M,
    batches: &dyn Batches<M>,
    config: &TrainConfig,
) -> (Gradients, Labelled, Labelled) {
    let mut trainer = Trainer::new(model, config, 1);
    let report = trainer.step(batches).unwrap();
    let share = 1.0 - config.betas[0] as f32;
    let moments = trainer.optimizer().save().unwrap().into_iter();
    let gradients =
        moments.map(|(path, m)| (path, m.first.into_iter().map(|v| v / share).collect()));
    (gradients.collect(), report.losses(), report.divergences())
}

/// The same composed by hand: a forward pass for each submodel, all logits at once.
fn by_hand(submodels: &[Submodel], distill: &Distill) -> (Gradients, Vec<f64>) {
    let model = model();
    let batch = masked().train(&model, 0).unwrap();
    let logits = |submodel: &Submodel| {
        let walked = walk(&model, &batch.input, &Plan::one(submodel), &mut State::new()).unwrap();
        model.head(&walked.of(0))
    };
    let loss = |submodel: &Submodel| {
        let walked = walk(&model, &batch.input, &Plan::one(submodel), &mut State::new()).unwrap();
        model.loss(&walked.of(0), &batch.target).nats.sum()
    };
    let teacher = distill.own_teacher(model.space()).unwrap().unwrap();
    let taught = log_softmax(logits(&teacher).detach() / distill.temperature, 1);
    let counted = (0..ROWS * SEQ).map(|i| f32::from(u8::from(i % SEQ >= SEQ / 2)));
    let counted = TensorData::new(counted.collect::<Vec<_>>(), [ROWS * SEQ, 1]);
    let counted = Tensor::<2>::from_data(counted, &Elastic::device(&model));
    let targets = (ROWS * SEQ / 2) as f64;
    let (mut total, mut divergences): (Option<Tensor<1>>, Vec<f64>) = (None, Vec::new());
    for submodel in submodels {
        let mut term = loss(submodel);
        if *submodel != teacher {
            let student = log_softmax(logits(submodel) / distill.temperature, 1);
            let (from, to) =
                if distill.reverse { (student, taught.clone()) } else { (taught.clone(), student) };
            let divergence = from.clone().exp() * (from - to) * counted.clone();
            let divergence = divergence.sum() * distill.temperature.powi(2);
            divergences.push(divergence.clone().into_scalar::<f64>() / targets);
            term = term + divergence * distill.weight;
        }
        let term = term / (targets * submodels.len() as f64);
        total = Some(match total {
            None => term,
            Some(sum) => sum + term,
        });
    }
    let grads = total.unwrap().backward();
    let mut found = Gradients::new();
    params::read_gradients(&model, &grads, |path, data| {
        found.insert(path.to_owned(), data.try_into_vec().unwrap());
        Ok(())
    })
    .unwrap();
    (found, divergences)
}

fn assert_close(found: &Gradients, expected: &Gradients) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, expected) in expected {
        let largest = expected.iter().fold(0f32, |a, v| a.max(v.abs()));
        for (a, b) in found[path].iter().zip(expected) {
            assert!((a - b).abs() <= 1e-4 * largest + 1e-7, "{path}: {a} against {b}");
        }
    }
}

#[test]
fn the_gradient_is_that_of_the_definition() {
    let space = model().space().clone();
    let distill = Distill { weight: 0.7, temperature: 2.0, ..Distill::default() };
    let (found, _, divergences) = of_step(&config("joint", Some(distill.clone())));
    let (expected, by_hand_divergences) = by_hand(&space.uniforms(), &distill);
    assert_close(&found, &expected);
    let mut labels: Vec<(&str, f64)> =
        ["S", "M", "L"].into_iter().zip(by_hand_divergences).collect();
    labels.sort_by_key(|(label, _)| *label);
    assert_eq!(divergences.len(), 3);
    for ((label, found), (expected_label, expected)) in divergences.iter().zip(labels) {
        assert_eq!(label, expected_label);
        assert!((found - expected).abs() <= 1e-3 * expected + 1e-6, "{label}: {found}, {expected}");
    }
    // The other way round.
    let reverse = Distill { reverse: true, ..distill.clone() };
    let (found, _, _) = of_step(&config("joint", Some(reverse.clone())));
    assert_close(&found, &by_hand(&space.uniforms(), &reverse).0);
    // Any granularity may teach, wider ones too.
    let distill = Distill { from: Some("M".to_owned()), ..distill };
    let (found, _, divergences) = of_step(&config("joint", Some(distill.clone())));
    assert_close(&found, &by_hand(&space.uniforms(), &distill).0);
    let labels: Vec<&str> = divergences.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(labels, ["L", "S", "XL"]);
}

#[test]
fn a_teacher_that_was_not_drawn_walks_without_gradients() {
    let space = model().space().clone();
    let distill = Distill { weight: 0.7, temperature: 0.5, ..Distill::default() };
    let (found, losses, _) = of_step(&config("baseline:S", Some(distill.clone())));
    let small = space.smallest();
    assert_close(&found, &by_hand(std::slice::from_ref(&small), &distill).0);
    for (path, values) in &found {
        if params::nested_layer(path).is_some() {
            let width = small.widths()[0];
            let beyond = |(i, v): (usize, &f32)| within(path, i, width) || *v == 0.0;
            assert!(values.iter().enumerate().all(beyond), "{path}: only S learns");
        }
    }
    // What is reported is the cross-entropy, as without a teacher.
    assert_eq!(losses, of_step(&config("baseline:S", None)).1);
    // The teacher alone learns what it always learns.
    let teacher = |distill| of_step(&config("baseline:XL", distill));
    assert_eq!(teacher(Some(distill)), teacher(None));
}

#[test]
fn the_teacher_takes_no_gradient_of_the_divergence() {
    // Joint with a teacher, minus joint without: what is left comes through the students only. The
    // rows that only XL has must be untouched.
    let with = of_step(&config("joint", Some(Distill::default()))).0;
    let without = of_step(&config("joint", None)).0;
    let mut changed = 0;
    for (path, with) in &with {
        if params::nested_layer(path).is_none() {
            continue;
        }
        let differ = |inside: bool| {
            let mut pairs = with.iter().zip(&without[path]).enumerate();
            pairs.any(|(i, (a, b))| within(path, i, 16) == inside && a != b) // width L
        };
        assert!(!differ(false), "{path}");
        changed += usize::from(differ(true));
    }
    assert_eq!(changed, 6, "the students' rows learn from it");
}

#[test]
fn weight_0_is_off_to_the_bit() {
    let run = |distill: Option<Distill>| {
        let dir = tempfile::tempdir().unwrap();
        let config = TrainConfig { draw: "sandwich".parse().unwrap(), distill, ..train_config() };
        train(dir.path(), &config, None).unwrap();
        let last = matformer_train::Checkpoints::of(dir.path()).latest().unwrap().unwrap();
        let lines = MetricsLog::read(dir.path()).unwrap();
        let terms = lines.iter().filter_map(|line| match line {
            MetricsLine::Train(line) => Some(line.distill.keys().cloned().collect::<Vec<_>>()),
            _ => None,
        });
        let (model, _) =
            matformer_nn::folder::load::<MatLm>(&last.dir, &super::support::device()).unwrap();
        (weights(&model), terms.collect::<Vec<_>>())
    };
    let (off, on) = (run(None), run(Some(Distill::default())));
    assert_eq!(run(Some(Distill { weight: 0.0, ..Distill::default() })), off);
    assert_ne!(on.0, off.0);
    // The smallest and the one between learn from XL.
    assert!(off.1.iter().all(Vec::is_empty));
    assert!(on.1.iter().all(|labels| labels.len() == 2 && labels.contains(&"S".to_owned())));
}

/// A model of images that has learned a little: a fresh head gives no logits to differ in.
fn taught_vision(config: &MatVitConfig) -> MatVit {
    let batches = Counting { rows: 6, wrong: 0..0, stop_at: None };
    let train = TrainConfig { tokens_per_step: 6, warmup: 0, draw: joint(), ..train_config() };
    let model = MatVit::new(config, 3, &device().autodiff()).unwrap();
    let mut trainer = Trainer::new(model, &train, 1);
    (0..4).for_each(|_| drop(trainer.step(&batches).unwrap()));
    trainer.model().clone()
}

fn joint() -> matformer_core::Draw {
    "joint".parse().unwrap()
}

#[test]
fn every_pooling_learns_from_the_teachers_logits_once_per_image() {
    let rows = 6;
    let batches = Counting { rows, wrong: 0..0, stop_at: None };
    for pooling in [Pooling::Mean, Pooling::ClassToken] {
        let model = taught_vision(&MatVitConfig { pooling, drop_path: 0.0, ..vision() });
        let distill = Distill { weight: 0.7, temperature: 2.0, ..Distill::default() };
        let config =
            TrainConfig { tokens_per_step: rows, ..config("joint", Some(distill.clone())) };
        let (found, _, divergences) = of_step_of(model.clone(), &batches, &config);
        // The definition, image by image.
        let batch = Batches::<MatVit>::train(&batches, &model, 0).unwrap();
        let output = |submodel: &Submodel| {
            let plan = Plan::one(submodel);
            walk(&model, &batch.input, &plan, &mut State::new()).unwrap().of(0)
        };
        let log_probabilities =
            |submodel: &Submodel| log_softmax(model.head(&output(submodel)) / 2.0, 1);
        let sizes = model.space().uniforms();
        let taught = log_probabilities(&model.space().largest()).detach();
        let (mut total, mut by_hand) = (Tensor::<1>::zeros([1], &Elastic::device(&model)), vec![]);
        for submodel in &sizes {
            total = total + model.loss(&output(submodel), &batch.target).nats.sum();
            if *submodel != model.space().largest() {
                let student = log_probabilities(submodel);
                let kl = (taught.clone().exp() * (taught.clone() - student)).sum() * 4.0;
                by_hand.push(kl.clone().into_scalar::<f64>() / rows as f64);
                total = total + kl * 0.7;
            }
        }
        let grads = (total / (rows * sizes.len()) as f64).backward();
        let mut expected = Gradients::new();
        params::read_gradients(&model, &grads, |path, data| {
            expected.insert(path.to_owned(), data.try_into_vec().unwrap());
            Ok(())
        })
        .unwrap();
        assert_close(&found, &expected);
        by_hand.reverse(); // labels in their order: L, M, S
        let found: Vec<f64> = divergences.iter().map(|(_, kl)| *kl).collect();
        for (found, expected) in found.iter().zip(&by_hand) {
            assert!((found - expected).abs() <= 1e-3 * expected + 1e-6, "{found}, {expected}");
        }
        assert!(found.iter().any(|kl| *kl > 1e-5), "there is something to learn");
    }
}

#[test]
fn a_distillation_token_learns_from_the_teachers() {
    let model = taught_vision(&MatVitConfig { distillation_token: true, ..vision() });
    let batches = Counting { rows: 6, wrong: 0..0, stop_at: None };
    let gradient = |distill| {
        let config = TrainConfig { tokens_per_step: 6, ..config("joint", distill) };
        of_step_of(model.clone(), &batches, &config).0
    };
    let strong = Distill { weight: 10.0, ..Distill::default() };
    let (with, without) = (gradient(Some(strong)), gradient(None));
    for path in ["distillation_head.weight", "distillation_token", "head.weight", "class_token"] {
        assert_ne!(with[path], without[path], "{path}");
    }
}

/// The same with a teacher that is another model, by hand.
fn by_hand_frozen(submodels: &[Submodel], distill: &Distill, teacher: &MatLm) -> Gradients {
    let model = model();
    let batch = masked().train(&model, 0).unwrap();
    let walked = |model: &MatLm, submodel: &Submodel| {
        walk(model, &batch.input, &Plan::one(submodel), &mut State::new()).unwrap().of(0)
    };
    let taught = teacher.head(&walked(teacher, &teacher.space().largest())).detach();
    let taught = log_softmax(taught, 1);
    let counted = (0..ROWS * SEQ).map(|i| f32::from(u8::from(i % SEQ >= SEQ / 2)));
    let counted = TensorData::new(counted.collect::<Vec<_>>(), [ROWS * SEQ, 1]);
    let counted = Tensor::<2>::from_data(counted, &Elastic::device(&model));
    let targets = (ROWS * SEQ / 2) as f64;
    let term = |submodel: &Submodel| {
        let output = walked(&model, submodel);
        let student = log_softmax(model.head(&output), 1);
        let kl = (taught.clone().exp() * (taught.clone() - student) * counted.clone()).sum();
        let nats = model.loss(&output, &batch.target).nats.sum();
        (nats * distill.cross_entropy + kl * distill.weight) / (targets * submodels.len() as f64)
    };
    let total = submodels.iter().map(term).reduce(|a, b| a + b).unwrap();
    let grads = total.backward();
    let mut found = Gradients::new();
    params::read_gradients(&model, &grads, |path, data| {
        found.insert(path.to_owned(), data.try_into_vec().unwrap());
        Ok(())
    })
    .unwrap();
    found
}

#[test]
fn a_frozen_teacher_teaches_every_size_with_its_own_head() {
    let other = MatLm::new(model().config(), 99, &device().autodiff()).unwrap();
    for cross_entropy in [0.0, 0.3] {
        let distill = Distill {
            teacher: Some("teacher".into()),
            weight: 0.7,
            cross_entropy,
            ..Distill::default()
        };
        for draw in ["joint", "baseline:XL"] {
            let config = config(draw, Some(distill.clone()));
            let mut trainer = Trainer::new(model(), &config, 1).with_teacher(other.clone());
            let before = weights(&other);
            let report = trainer.step(&masked()).unwrap();
            assert_eq!(weights(&other), before, "the teacher does not change");
            let share = 1.0 - config.betas[0] as f32;
            let moments = trainer.optimizer().save().unwrap().into_iter();
            let found: Gradients = moments
                .map(|(path, m)| (path, m.first.into_iter().map(|v| v / share).collect()))
                .collect();
            let space = model().space().clone();
            let drawn = if draw == "joint" { space.uniforms() } else { vec![space.largest()] };
            assert_close(&found, &by_hand_frozen(&drawn, &distill, &other));
            assert_eq!(report.divergences().len(), drawn.len(), "the widest learns too");
        }
    }
    // Where students are named, the others learn from the data alone.
    let students = Some(vec!["XL".to_owned()]);
    let distill = Distill { teacher: Some("teacher".into()), students, ..Distill::default() };
    let steps = |distill: Option<Distill>, draw: &str| {
        let mut trainer =
            Trainer::new(model(), &config(draw, distill), 1).with_teacher(other.clone());
        let report = trainer.step(&masked()).unwrap();
        (weights(trainer.model()), report.divergences().len())
    };
    assert_eq!(steps(Some(distill.clone()), "joint").1, 1);
    assert_eq!(steps(Some(distill.clone()), "baseline:M"), steps(None, "baseline:M"));
    let everyone = Distill { students: None, ..distill.clone() };
    assert_eq!(steps(Some(distill), "baseline:XL"), steps(Some(everyone), "baseline:XL"));
    // From itself there is nothing to learn.
    let distill =
        Distill { teacher: Some("itself".into()), cross_entropy: 0.0, ..Distill::default() };
    let config = config("baseline:XL", Some(distill));
    let mut trainer = Trainer::new(model(), &config, 1).with_teacher(model());
    assert!(trainer.step(&masked()).unwrap().grad_norm < 1e-4);
}

#[test]
fn a_teacher_that_was_not_read_is_an_error() {
    let distill = Some(Distill { teacher: Some("gone".into()), ..Distill::default() });
    let mut trainer = Trainer::new(model(), &config("joint", distill), 1);
    let error = trainer.step(&masked()).unwrap_err().to_string();
    assert!(error.contains("distill.teacher") && error.contains("gone"), "{error}");
}
