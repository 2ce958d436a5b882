//! Kullback-Leibler divergence to a teacher's distribution, straight from hidden states: never
//! more logits in memory than one chunk.

use std::ops::Range;

use burn::backend::{Backend, Dispatch, ExtensionType, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{Shape, Tensor, activation::log_softmax};

use super::{
    Head, HeadGradients, NnBackend, RowBackend,
    cross_entropy::{chunks, logits},
    head::HeadSum,
    nested_ffn::{cat, rows_of},
    precision::{stored_as, wide},
};

/// How a student is compared with its teacher.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Divergence {
    /// Softens both distributions: logits are divided by it.
    pub temperature: f64,
    /// Which way the divergence is taken.
    pub direction: Direction,
}

/// Direction of the KL divergence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// `KL(teacher ‖ student)`: the student covers all that the teacher finds likely.
    #[default]
    Forward,
    /// `KL(student ‖ teacher)`: the student keeps to what the teacher finds likely.
    Reverse,
}

/// Hidden states and the output head; the logits are `hidden · weightᵀ`.
#[derive(Clone, Debug)]
pub struct Headed {
    /// `[n, d_model]`
    pub hidden: Tensor<2>,
    /// `[classes, d_model]`
    pub weight: Tensor<2>,
}

/// `temperature² · KL` between the distributions of a teacher and a student, in nats, row by row.
/// The factor keeps gradients as large as those of the cross-entropy (Hinton et al., arXiv
/// 1503.02531). No gradient goes to the teacher.
///
/// # Shapes
/// - student, teacher: n rows, the same number of classes
/// - output: `[n]`
pub fn divergence(student: Headed, teacher: Headed, rule: Divergence) -> Tensor<1> {
    let tensors = DivergenceTensors {
        hidden: student.hidden.into_dispatch(),
        weight: student.weight.into_dispatch(),
        teacher: teacher.hidden.into_dispatch(),
        teacher_weight: teacher.weight.into_dispatch(),
    };
    Tensor::from_dispatch(<Dispatch as NnBackend>::divergence(tensors, rule))
}

/// As [`divergence`], from logits instead of hidden states.
///
/// # Shapes
/// - student, teacher: `[n, classes]`
/// - output: `[n]`
pub fn divergence_of_logits(student: Tensor<2>, teacher: Tensor<2>, rule: Divergence) -> Tensor<1> {
    let [n, _] = student.dims();
    let student = log_softmax(student / rule.temperature, 1);
    let teacher = log_softmax(teacher.detach() / rule.temperature, 1);
    let (from, to) = match rule.direction {
        Direction::Forward => (teacher, student),
        Direction::Reverse => (student, teacher),
    };
    let sum = (from.clone().exp() * (from - to)).sum_dim(1).reshape([n]);
    sum * rule.temperature.powi(2)
}

/// The tensors of a call on a backend.
#[derive(Clone, Debug, ExtensionType)]
pub struct DivergenceTensors<B: Backend> {
    /// Hidden states of the student, `[n, d_model]`.
    pub hidden: FloatTensor<B>,
    /// Head of the student, `[classes, d_model]`.
    pub weight: FloatTensor<B>,
    /// Hidden states of the teacher, `[n, d_model]`.
    pub teacher: FloatTensor<B>,
    /// Head of the teacher, `[classes, d_model]`.
    pub teacher_weight: FloatTensor<B>,
}

/// Hidden states and logits of one chunk of rows.
pub(super) struct Chunk<B: Backend> {
    pub(super) rows: Range<usize>,
    /// Hidden states of the student, `[chunk, d_model]`.
    pub(super) hidden: FloatTensor<B>,
    /// Logits of student and teacher, `[chunk, classes]`.
    pub(super) student: FloatTensor<B>,
    pub(super) teacher: FloatTensor<B>,
}

impl<B: Backend> DivergenceTensors<B> {
    pub(super) fn chunks(&self) -> impl Iterator<Item = Chunk<B>> + use<'_, B> {
        let all = chunks(self.hidden.shape()[0], self.weight.shape()[0]);
        all.map(|rows| {
            let hidden = rows_of::<B>(&self.hidden, &rows);
            let teacher = rows_of::<B>(&self.teacher, &rows);
            Chunk {
                student: logits::<B>(hidden.clone(), &self.weight),
                teacher: logits::<B>(teacher, &self.teacher_weight),
                hidden,
                rows,
            }
        })
    }
}

/// Log-probabilities of rows of logits at a temperature, in f32.
fn log_probabilities<B: Backend>(logits: FloatTensor<B>, rule: &Divergence) -> FloatTensor<B> {
    let logits = B::float_mul_scalar(wide::<B>(logits), (1.0 / rule.temperature).into());
    let logits = B::float_sub(logits.clone(), B::float_max_dim(logits, 1));
    let sum = B::float_sum_dim(B::float_exp(logits.clone()), 1);
    B::float_sub(logits, B::float_log(sum))
}

/// KL of each row between log-probabilities, `[rows, 1]`.
fn kl<B: Backend>(from: FloatTensor<B>, to: FloatTensor<B>) -> FloatTensor<B> {
    let difference = B::float_sub(from.clone(), to);
    B::float_sum_dim(B::float_mul(B::float_exp(from), difference), 1)
}

/// The reference of [`RowBackend::logit_divergence`].
pub(super) fn of_logits<B: Backend>(
    student: FloatTensor<B>,
    teacher: FloatTensor<B>,
    rule: &Divergence,
) -> FloatTensor<B> {
    let [student, teacher] = [student, teacher].map(|t| log_probabilities::<B>(t, rule));
    match rule.direction {
        Direction::Forward => kl::<B>(teacher, student),
        Direction::Reverse => kl::<B>(student, teacher),
    }
}

/// The reference of [`RowBackend::logit_divergence_backward`].
pub(super) fn gradient_of_logits<B: Backend>(
    student: FloatTensor<B>,
    teacher: FloatTensor<B>,
    grad: FloatTensor<B>,
    rule: &Divergence,
) -> FloatTensor<B> {
    let dtype = student.dtype();
    let [student, teacher] = [student, teacher].map(|t| log_probabilities::<B>(t, rule));
    let p = B::float_exp(student.clone());
    let found = match rule.direction {
        Direction::Forward => B::float_sub(p, B::float_exp(teacher)),
        Direction::Reverse => {
            let of_row = kl::<B>(student.clone(), teacher.clone());
            B::float_mul(p, B::float_sub(B::float_sub(student, teacher), of_row))
        }
    };
    stored_as::<B>(B::float_mul(found, grad), dtype)
}

pub(super) fn forward<B: RowBackend>(
    tensors: &DivergenceTensors<B>,
    rule: &Divergence,
) -> FloatTensor<B> {
    let [n, _] = tensors.hidden.shape().dims();
    let of_chunk = |chunk: Chunk<B>| B::logit_divergence(chunk.student, chunk.teacher, *rule);
    let all = cat::<B>(tensors.chunks().map(of_chunk).collect(), 0);
    let all = B::float_reshape(all, Shape::new([n]));
    B::float_mul_scalar(all, rule.temperature.powi(2).into())
}

/// Gradients of the student.
pub(super) fn backward<B: RowBackend>(
    tensors: &DivergenceTensors<B>,
    grad: FloatTensor<B>,
    rule: &Divergence,
    head: Head,
) -> HeadGradients<B> {
    let [n, _] = tensors.hidden.shape().dims();
    // temperature² of the divergence, 1/temperature of its logits.
    let grad = B::float_mul_scalar(grad, rule.temperature.into());
    let grad = B::float_reshape(grad, Shape::new([n, 1]));
    let mut found = HeadSum::<B>::of(head);
    for Chunk { rows, hidden, student, teacher } in tensors.chunks() {
        let grad = rows_of::<B>(&grad, &rows);
        let d_logits = B::logit_divergence_backward(student, teacher, grad, *rule);
        found.add(d_logits, hidden, tensors.weight.clone());
    }
    found.finish(&tensors.weight)
}
