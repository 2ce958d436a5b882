//! The divergence to a teacher against its definition, forward and gradient by gradient.

use burn::tensor::{Int, Tensor, TensorData};
use proptest::prelude::*;

use super::{
    tests::{Input, assert_same, device, random},
    *,
};

proptest! {
    // PROPTEST_CASES may ask for fewer: a GPU compiles kernels for every shape.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.min(24)))]

    #[test]
    fn divergence_equals_its_definition(
        n in 1usize..40,
        classes in 2usize..40,
        d_model in 1usize..6,
        temperature in 0.5f64..3.0,
        reverse in any::<bool>(),
        seed in 0u64..1000,
    ) {
        let device = device();
        let direction = if reverse { Direction::Reverse } else { Direction::Forward };
        let rule = Divergence { temperature, direction };
        let headed = |seed| Headed {
            hidden: random([n, d_model], seed, &device),
            weight: random([classes, d_model], seed + 1000, &device),
        };
        let (student, teacher) = (headed(seed), headed(seed + 2000));
        let logits = |h: &Headed| h.hidden.clone().matmul(h.weight.clone().transpose());
        // Relative errors of a sum that may be near 0 say nothing: compare with 1 added.
        let ours = || divergence(student.clone(), teacher.clone(), rule) + 1.0;
        let theirs = || divergence_of_logits(logits(&student), logits(&teacher), rule) + 1.0;
        let inputs = [&student.hidden, &student.weight].map(|t| Input::Two(t.clone()));
        // With another gradient for each row, and with one for all.
        assert_same(ours(), theirs(), &inputs);
        assert_same(ours().mean(), theirs().mean(), &inputs);
        // No gradient goes to the teacher.
        let grads = ours().sum().backward();
        prop_assert!(teacher.hidden.grad(&grads).is_none());
        prop_assert!(teacher.weight.grad(&grads).is_none());
    }
}

#[test]
fn divergence_in_several_chunks_is_that_in_one_and_that_to_itself_is_zero() {
    let (device, n, classes) = (device(), 40, 200_000);
    let rule = Divergence { temperature: 2.0, direction: Direction::Forward };
    let headed = |seed| Headed {
        hidden: random([n, 2], seed, &device),
        weight: random([classes, 2], seed + 1, &device),
    };
    let (student, teacher) = (headed(1), headed(3));
    let logits = |h: &Headed| h.hidden.clone().matmul(h.weight.clone().transpose());
    let inputs = [&student.hidden, &student.weight].map(|t| Input::Two(t.clone()));
    let theirs = divergence_of_logits(logits(&student), logits(&teacher), rule);
    assert_same(divergence(student.clone(), teacher, rule) + 1.0, theirs + 1.0, &inputs);
    let none: Tensor<1> = divergence(student.clone(), student, rule);
    assert!(super::tests::values(&none).iter().all(|kl| kl.abs() < 1e-4));
}

#[test]
fn divergence_of_two_classes_is_that_of_the_book() {
    // Probabilities 3/4 and 1/4 against 1/2 and 1/2.
    let device = device();
    let tensor = |values: [f32; 2]| Tensor::<2>::from_data([values], &device);
    let (teacher, student) = (tensor([3f32.ln(), 0.0]), tensor([0.0, 0.0]));
    let kl = |direction| {
        let rule = Divergence { temperature: 1.0, direction };
        super::tests::values(&divergence_of_logits(student.clone(), teacher.clone(), rule))[0]
    };
    let forward = 0.75 * 1.5f32.ln() + 0.25 * 0.5f32.ln();
    let reverse = 0.5 * (0.5f32 / 0.75).ln() + 0.5 * 2f32.ln();
    assert!((kl(Direction::Forward) - forward).abs() < 1e-6);
    assert!((kl(Direction::Reverse) - reverse).abs() < 1e-6);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.min(24)))]

    #[test]
    fn distillation_is_both_losses_weighted_and_added(
        n in 1usize..40,
        classes in 2usize..40,
        d_model in 1usize..6,
        ce in 0.0f64..2.0,
        kl in 0.0f64..2.0,
        seed in 0u64..1000,
    ) {
        let device = device();
        let rule = Divergence { temperature: 1.0, direction: Direction::Forward };
        let headed = |seed| Headed {
            hidden: random([n, d_model], seed, &device),
            weight: random([classes, d_model], seed + 1000, &device),
        };
        let (student, teacher) = (headed(seed), headed(seed + 2000));
        let ids: Vec<i32> = (0..n).map(|i| ((i * 7 + 3) % classes) as i32).collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(ids, [n]), &device);
        let weights = DistillationWeights { cross_entropy: ce, divergence: kl };
        let ours = || distillation(student.clone(), teacher.clone(), targets.clone(), weights);
        let nats = || {
            let Headed { hidden, weight } = student.clone();
            cross_entropy(hidden, weight, targets.clone())
        };
        let apart = || divergence(student.clone(), teacher.clone(), rule);
        let theirs = || nats() * ce + apart() * kl + 1.0;
        let inputs = [&student.hidden, &student.weight].map(|t| Input::Two(t.clone()));
        // With another gradient for each row, and with one for all.
        assert_same(ours().total + 1.0, theirs(), &inputs);
        assert_same((ours().total + 1.0).mean(), theirs().mean(), &inputs);
        let values = |x: Tensor<1>| x.try_into_vec_as::<f32>().unwrap();
        for (found, expected) in [(ours().nats, nats()), (ours().divergence, apart())] {
            for (a, b) in values(found).into_iter().zip(values(expected)) {
                prop_assert!((a - b).abs() < 1e-5 * (1.0 + b.abs()), "{a} against {b}");
            }
        }
        prop_assert!(!ours().nats.is_require_grad());
        let grads = ours().total.sum().backward();
        prop_assert!(teacher.hidden.grad(&grads).is_none());
    }
}

#[test]
fn a_frozen_head_has_no_gradient_and_that_of_the_hidden_states_stays() {
    let (device, n, classes) = (device(), 5, 7);
    let headed = |seed| Headed {
        hidden: random([n, 4], seed, &device),
        weight: random([classes, 4], seed + 1, &device),
    };
    let (student, teacher) = (headed(1), headed(3));
    let rule = Divergence { temperature: 2.0, direction: Direction::Forward };
    let weights = DistillationWeights { cross_entropy: 0.7, divergence: 0.6 };
    let targets = Tensor::<1, Int>::from_data([0, 3, 6, 1, 1], &device);
    let losses: [&dyn Fn(Headed) -> Tensor<1>; 3] = [
        &|Headed { hidden, weight }| cross_entropy(hidden, weight, targets.clone()),
        &|student| divergence(student, teacher.clone(), rule),
        &|student| distillation(student, teacher.clone(), targets.clone(), weights).total,
    ];
    for loss in losses {
        // With one gradient for all rows, and with another for each.
        for rows in [Tensor::ones([n], &device), random([n], 9, &device).detach()] {
            let grads = |head: &Tensor<2>| {
                let student = Headed { hidden: student.hidden.clone(), weight: head.clone() };
                (loss(student) * rows.clone()).sum().backward()
            };
            let head = student.weight.clone().set_require_grad(false);
            let (trained, frozen) = (grads(&student.weight), grads(&head));
            assert!(student.weight.grad(&trained).is_some());
            assert!(head.grad(&frozen).is_none());
            let hidden = Input::Two(student.hidden.clone());
            assert_eq!(hidden.grad(&trained), hidden.grad(&frozen));
        }
    }
}
