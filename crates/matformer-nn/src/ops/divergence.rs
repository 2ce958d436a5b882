//! Kullback-Leibler divergence to a teacher's distribution, straight from hidden states: never
//! more logits in memory than one chunk.

use std::ops::Range;

use burn::backend::{Backend, Dispatch, ExtensionType, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{Shape, Tensor, activation::log_softmax};

use super::{
    Head, HeadGradients, NnBackend, cross_entropy::chunks, head::HeadSum, nested_ffn::rows_of,
    precision::wide,
};

/// How a student is compared with its teacher.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Divergence {
    /// Softens both distributions: logits are divided by it.
    pub temperature: f64,
    /// Which way the divergence is taken.
    pub direction: Direction,
}

/// Which way a divergence is taken.
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

/// Hidden states and log-probabilities of one chunk of rows.
struct Chunk<B: Backend> {
    /// Hidden states of the student, `[chunk, d_model]`.
    hidden: FloatTensor<B>,
    /// Log-probabilities of student and teacher, `[chunk, classes]`.
    student: FloatTensor<B>,
    teacher: FloatTensor<B>,
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

impl<B: Backend> DivergenceTensors<B> {
    fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<B> {
        chunks(self.hidden.shape()[0], self.weight.shape()[0])
    }

    fn chunk(&self, range: &Range<usize>, rule: &Divergence) -> Chunk<B> {
        let log_softmax = |hidden: FloatTensor<B>, weight: &FloatTensor<B>| {
            let logits = B::float_matmul(hidden, B::float_transpose(weight.clone()));
            let logits = wide::<B>(logits);
            let logits = B::float_mul_scalar(logits, (1.0 / rule.temperature).into());
            let logits = B::float_sub(logits.clone(), B::float_max_dim(logits, 1));
            let sum = B::float_sum_dim(B::float_exp(logits.clone()), 1);
            B::float_sub(logits, B::float_log(sum))
        };
        let hidden = rows_of::<B>(&self.hidden, range);
        Chunk {
            student: log_softmax(hidden.clone(), &self.weight),
            teacher: log_softmax(rows_of::<B>(&self.teacher, range), &self.teacher_weight),
            hidden,
        }
    }
}

impl<B: Backend> Chunk<B> {
    /// KL of each row, `[chunk, 1]`.
    fn divergence(&self, direction: Direction) -> FloatTensor<B> {
        let (from, to) = match direction {
            Direction::Forward => (&self.teacher, &self.student),
            Direction::Reverse => (&self.student, &self.teacher),
        };
        let difference = B::float_sub(from.clone(), to.clone());
        B::float_sum_dim(B::float_mul(B::float_exp(from.clone()), difference), 1)
    }

    /// Gradient of KL with respect to the student's logits divided by the temperature,
    /// `[chunk, classes]`.
    fn gradient(&self, direction: Direction) -> FloatTensor<B> {
        let student = B::float_exp(self.student.clone());
        match direction {
            Direction::Forward => B::float_sub(student, B::float_exp(self.teacher.clone())),
            Direction::Reverse => {
                let difference = B::float_sub(self.student.clone(), self.teacher.clone());
                B::float_mul(student, B::float_sub(difference, self.divergence(direction)))
            }
        }
    }
}

pub(super) fn forward<B: Backend>(
    tensors: &DivergenceTensors<B>,
    rule: &Divergence,
) -> FloatTensor<B> {
    let [n, _] = tensors.hidden.shape().dims();
    let parts = tensors
        .chunks()
        .map(|range| tensors.chunk(&range, rule).divergence(rule.direction))
        .collect();
    let sum = B::float_reshape(B::float_cat(parts, 0), Shape::new([n]));
    B::float_mul_scalar(sum, rule.temperature.powi(2).into())
}

/// Gradients of the student.
pub(super) fn backward<B: Backend>(
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
    for range in tensors.chunks() {
        let chunk = tensors.chunk(&range, rule);
        let d_logits = B::float_mul(chunk.gradient(rule.direction), rows_of::<B>(&grad, &range));
        found.add(d_logits, chunk.hidden, tensors.weight.clone());
    }
    found.finish(&tensors.weight)
}
