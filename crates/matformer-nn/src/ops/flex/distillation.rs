//! Cross-entropy and divergence in chunks of rows, from one product with the student's head.

use burn::backend::{Flex, flex::FlexTensor};

use super::{
    cross_entropy::ids,
    divergence::{self, forward_row},
    kernel::{exp, log_sum_exp, tensor, vectorised},
};
use crate::ops::{DistillationWeights, DivergenceTensors, Head, HeadGradients};

vectorised! {
    /// The student's logits become the gradient of both losses but for the target's share:
    /// `factors[0]·p_student − factors[1]·p_teacher`.
    fn gradient(student: &mut [f32], teacher: &[f32], shifts: [f32; 2], factors: [f32; 2]) {
        for (s, t) in student.iter_mut().zip(teacher) {
            *s = factors[0] * exp(*s - shifts[0]) - factors[1] * exp(*t - shifts[1]);
        }
    }
}

/// Total, cross-entropy and divergence of each row, `[3, n]`; and, if `wanted`, the student's gradients for a
/// gradient of one at every total.
pub(super) fn pass(
    tensors: DivergenceTensors<Flex>,
    targets: FlexTensor,
    weights: &DistillationWeights,
    wanted: Option<Head>,
) -> (FlexTensor, Option<HeadGradients<Flex>>) {
    let ids = ids(targets);
    let [ce, kl] = [weights.cross_entropy as f32, weights.divergence as f32];
    let (rows, ahead) = divergence::pass(tensors, wanted, |i, student, teacher| {
        let picked = student[ids[i]];
        let shifts = [log_sum_exp(student), log_sum_exp(teacher)];
        let found = [shifts[0] - picked, forward_row(student, teacher, shifts)];
        if wanted.is_some() {
            gradient(student, teacher, shifts, [ce + kl, kl]);
            student[ids[i]] -= ce;
        }
        found
    });
    let total = rows.iter().map(|[nats, divergence]| ce * nats + kl * divergence);
    let part = |at: usize| rows.iter().map(move |row| row[at]);
    let all: Vec<f32> = total.chain(part(0)).chain(part(1)).collect();
    (tensor(all, &[3, rows.len()]), ahead)
}
