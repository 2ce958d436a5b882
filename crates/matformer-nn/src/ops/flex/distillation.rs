//! Cross-entropy and divergence in chunks of rows, from one product with the student's head.

use burn::backend::{Flex, TensorMetadata, flex::FlexTensor};
use rayon::prelude::*;

use super::{
    cross_entropy::{chunk, chunk_gradients, ids},
    divergence::forward_row,
    kernel::{Values, exp, log_sum_exp, tensor, vectorised, zeros},
    product::{Mat, Size, Write, product},
};
use crate::ops::{DistillationWeights, DivergenceTensors};

vectorised! {
    /// The student's logits become the gradient of both losses but for the target's share:
    /// `factors[0]·p_student − factors[1]·p_teacher`.
    fn gradient(student: &mut [f32], teacher: &[f32], shifts: [f32; 2], factors: [f32; 2]) {
        for (s, t) in student.iter_mut().zip(teacher) {
            *s = factors[0] * exp(*s - shifts[0]) - factors[1] * exp(*t - shifts[1]);
        }
    }
}

/// Total, cross-entropy and divergence of each row, `[3, n]`; and, if they are wanted, the gradients of
/// the student's hidden states and head for a gradient of one at every total.
pub(super) fn pass(
    tensors: DivergenceTensors<Flex>,
    targets: FlexTensor,
    weights: &DistillationWeights,
    gradients: bool,
) -> (FlexTensor, Option<[FlexTensor; 2]>) {
    let [of_hidden, of_weight] = [&tensors.hidden, &tensors.weight].map(|t| t.shape().to_vec());
    let (n, d, classes) = (of_hidden[0], of_hidden[1], of_weight[0]);
    let ids = ids(targets);
    let DivergenceTensors { hidden, weight, teacher, teacher_weight } = tensors;
    let [hidden, weight, teacher, teacher_weight] =
        [hidden, weight, teacher, teacher_weight].map(Values::of);
    let mut found = gradients.then(|| [zeros(n * d), zeros(classes * d)]);
    let mut parts = vec![[0.0f32; 2]; n]; // cross-entropy and divergence
    let [ce, kl] = [weights.cross_entropy as f32, weights.divergence as f32];
    let chunk = chunk(n, classes);
    let [mut student_logits, mut teacher_logits] = [(); 2].map(|()| zeros(chunk * classes));
    for first in (0..n).step_by(chunk.max(1)) {
        let rows = chunk.min(n - first);
        let size = Size { m: rows, n: classes, k: d };
        let (h, w) = (Mat::rows(&hidden.get()[first * d..], d), Mat::rows(weight.get(), d));
        product(&mut student_logits, classes, h, w.t(), size, Write::PARALLEL);
        let (t, tw) =
            (Mat::rows(&teacher.get()[first * d..], d), Mat::rows(teacher_weight.get(), d));
        product(&mut teacher_logits, classes, t, tw.t(), size, Write::PARALLEL);
        student_logits[..rows * classes]
            .par_chunks_mut(classes)
            .zip(teacher_logits[..rows * classes].par_chunks(classes))
            .zip(ids[first..first + rows].par_iter().zip(&mut parts[first..first + rows]))
            .for_each(|((student, teacher), (id, parts))| {
                let picked = student[*id];
                let shifts = [log_sum_exp(student), log_sum_exp(teacher)];
                *parts = [shifts[0] - picked, forward_row(student, teacher, shifts)];
                if gradients {
                    gradient(student, teacher, shifts, [ce + kl, kl]);
                    student[*id] -= ce;
                }
            });
        if let Some([d_hidden, d_weight]) = &mut found {
            let d_hidden = &mut d_hidden[first * d..];
            chunk_gradients(&student_logits, h, w, [rows, classes, d], d_hidden, d_weight);
        }
    }
    let total = parts.iter().map(|[nats, divergence]| ce * nats + kl * divergence);
    let all: Vec<f32> = total
        .chain(parts.iter().map(|parts| parts[0]))
        .chain(parts.iter().map(|parts| parts[1]))
        .collect();
    let ahead = found.map(|[dh, dw]| [tensor(dh, &of_hidden), tensor(dw, &of_weight)]);
    (tensor(all, &[3, n]), ahead)
}
