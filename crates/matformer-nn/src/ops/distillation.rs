//! What a student learns from data and from a teacher at once: cross-entropy and divergence from one
//! product with the head instead of two.

use burn::backend::{
    Dispatch, TensorMetadata,
    tensor::{FloatTensor, IntTensor},
};
use burn::tensor::{Int, Shape, Tensor};

use super::{
    Direction, Divergence, DivergenceTensors, Head, HeadGradients, Headed, NnBackend, RowBackend,
    cross_entropy::targets_of,
    divergence::Chunk,
    head::HeadSum,
    nested_ffn::{cat, rows_of},
};

/// Weights of the two parts of a distillation loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DistillationWeights {
    /// Of the cross-entropy with the targets.
    pub cross_entropy: f64,
    /// Of KL(teacher ‖ student).
    pub divergence: f64,
}

/// The loss of each row, and what it is made of; `[n]` each.
#[derive(Clone, Debug)]
pub struct Distilled {
    /// The weighted sum of the two, with its gradient.
    pub total: Tensor<1>,
    /// Cross-entropy in nats, without a gradient.
    pub nats: Tensor<1>,
    /// KL(teacher ‖ student) in nats, without a gradient.
    pub divergence: Tensor<1>,
}

/// The rule of its divergence.
const RULE: Divergence = Divergence { temperature: 1.0, direction: Direction::Forward };

/// As [`cross_entropy`](super::cross_entropy()) and [`divergence`](super::divergence()) at temperature
/// 1, weighted and added. No gradient goes to the teacher.
///
/// # Shapes
/// - student, teacher: n rows, the same number of classes
/// - targets: `[n]`, each below the number of classes
pub fn distillation(
    student: Headed,
    teacher: Headed,
    targets: Tensor<1, Int>,
    weights: DistillationWeights,
) -> Distilled {
    let [n] = targets.dims();
    let tensors = DivergenceTensors {
        hidden: student.hidden.into_dispatch(),
        weight: student.weight.into_dispatch(),
        teacher: teacher.hidden.into_dispatch(),
        teacher_weight: teacher.weight.into_dispatch(),
    };
    let targets = targets.into_dispatch();
    let all = <Dispatch as NnBackend>::distillation(tensors, targets, weights);
    let all = Tensor::<2>::from_dispatch(all); // [3, n]
    let row = |i: usize| all.clone().slice([i..i + 1, 0..n]).reshape([n]);
    Distilled { total: row(0), nats: row(1).detach(), divergence: row(2).detach() }
}

/// `[3, n]`: the loss, the cross-entropy, the divergence.
pub(super) fn forward<B: RowBackend>(
    tensors: &DivergenceTensors<B>,
    targets: IntTensor<B>,
    weights: &DistillationWeights,
) -> FloatTensor<B> {
    let [n, _] = tensors.hidden.shape().dims();
    let of_chunk = |chunk: Chunk<B>| {
        let targets = targets_of::<B>(&targets, &chunk.rows);
        let (nats, _) = B::logit_nats(chunk.student.clone(), targets);
        (nats, B::logit_divergence(chunk.student, chunk.teacher, RULE))
    };
    let (nats, kl): (Vec<_>, Vec<_>) = tensors.chunks().map(of_chunk).unzip();
    let row = |parts| B::float_reshape(cat::<B>(parts, 0), Shape::new([1, n]));
    let (nats, kl) = (row(nats), row(kl));
    let total = B::float_add(
        B::float_mul_scalar(nats.clone(), weights.cross_entropy.into()),
        B::float_mul_scalar(kl.clone(), weights.divergence.into()),
    );
    B::float_cat(vec![total, nats, kl], 0)
}

/// Gradients of the student; `grad` is that of the loss, `[n]`.
pub(super) fn backward<B: RowBackend>(
    tensors: &DivergenceTensors<B>,
    targets: IntTensor<B>,
    grad: FloatTensor<B>,
    weights: &DistillationWeights,
    head: Head,
) -> HeadGradients<B> {
    let [n, _] = tensors.hidden.shape().dims();
    let grad = B::float_reshape(grad, Shape::new([n, 1]));
    let mut found = HeadSum::<B>::of(head);
    for Chunk { rows, hidden, student, teacher } in tensors.chunks() {
        let part = |weight: f64| B::float_mul_scalar(rows_of::<B>(&grad, &rows), weight.into());
        let targets = targets_of::<B>(&targets, &rows);
        let (_, lse) = B::logit_nats(student.clone(), targets.clone());
        let grad = part(weights.cross_entropy);
        let of_data = B::logit_nats_backward(student.clone(), targets, lse, grad);
        let grad = part(weights.divergence);
        let of_teacher = B::logit_divergence_backward(student, teacher, grad, RULE);
        found.add(B::float_add(of_data, of_teacher), hidden, tensors.weight.clone());
    }
    found.finish(&tensors.weight)
}
