//! Divergence to a teacher in chunks of rows: logits of one chunk at a time.

use burn::backend::{Flex, TensorMetadata, flex::FlexTensor};
use rayon::prelude::*;

use super::{
    cross_entropy::chunk,
    head::HeadValues,
    kernel::{LANES, Values, exp, log_sum_exp, scale_by, tensor, vectorised, zeros},
    product::{Mat, Size, Write, product},
};
use crate::ops::{Direction, Divergence, DivergenceTensors, Head, HeadGradients};

impl DivergenceTensors<Flex> {
    /// All of them.
    pub(super) fn all(&self) -> [&FlexTensor; 4] {
        [&self.hidden, &self.weight, &self.teacher, &self.teacher_weight]
    }
}

/// One value of KL(p ‖ q), of log-probabilities. What p has no share in counts nothing.
#[inline(always)]
fn term(log_p: f32, log_q: f32) -> f32 {
    let p = exp(log_p);
    if p == 0.0 { 0.0 } else { p * (log_p - log_q) }
}

/// KL(p ‖ q) in lanes; `shifts` turn logits into log-probabilities.
#[inline(always)]
fn divergence(p: &[f32], q: &[f32], shifts: [f32; 2]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (p_chunks, q_chunks) = (p.chunks_exact(LANES), q.chunks_exact(LANES));
    let rest = p_chunks.remainder().iter().zip(q_chunks.remainder());
    let rest: f32 = rest.map(|(p, q)| term(p - shifts[0], q - shifts[1])).sum();
    for (p, q) in p_chunks.zip(q_chunks) {
        for (lane, (p, q)) in lanes.iter_mut().zip(p.iter().zip(q)) {
            *lane += term(p - shifts[0], q - shifts[1]);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

vectorised! {
    /// KL(teacher ‖ student).
    fn forward_row(student: &[f32], teacher: &[f32], shifts: [f32; 2]) -> f32 {
        divergence(teacher, student, [shifts[1], shifts[0]])
    }
}

vectorised! {
    fn reverse_row(student: &[f32], teacher: &[f32], shifts: [f32; 2]) -> f32 {
        divergence(student, teacher, shifts)
    }
}

vectorised! {
    /// The student's logits become p_student − p_teacher, times `factor`.
    fn forward_gradient(student: &mut [f32], teacher: &[f32], shifts: [f32; 2], factor: f32) {
        for (s, t) in student.iter_mut().zip(teacher) {
            *s = factor * (exp(*s - shifts[0]) - exp(*t - shifts[1]));
        }
    }
}

vectorised! {
    /// The student's logits become p_student·(log p_student − log p_teacher − KL), times `factor`.
    fn reverse_gradient(
        student: &mut [f32],
        teacher: &[f32],
        shifts: [f32; 2],
        kl: f32,
        factor: f32,
    ) {
        for (s, t) in student.iter_mut().zip(teacher) {
            let (log_p, log_q) = (*s - shifts[0], *t - shifts[1]);
            *s = factor * (term(log_p, log_q) - exp(log_p) * kl);
        }
    }
}

pub(super) fn forward(tensors: DivergenceTensors<Flex>, rule: &Divergence) -> FlexTensor {
    let (nats, _) = pass(tensors, None, |_, s, t| row(s, t, rule, false));
    let n = nats.len();
    tensor(nats, &[n])
}

/// Divergences, and the student's gradients for a gradient of one at every row: logits are computed once a
/// step instead of twice.
pub(super) fn ahead(
    tensors: DivergenceTensors<Flex>,
    rule: &Divergence,
    head: Head,
) -> (FlexTensor, Option<HeadGradients<Flex>>) {
    let (nats, ahead) = pass(tensors, Some(head), |_, s, t| row(s, t, rule, true));
    let n = nats.len();
    (tensor(nats, &[n]), ahead)
}

/// What `row(index, student, teacher)` makes of the logits of each row. If gradients are `wanted`, it turns
/// the student's into theirs, of which those of the student's hidden states and head follow.
pub(super) fn pass<R: Clone + Default + Send>(
    tensors: DivergenceTensors<Flex>,
    wanted: Option<Head>,
    row: impl Fn(usize, &mut [f32], &mut [f32]) -> R + Sync,
) -> (Vec<R>, Option<HeadGradients<Flex>>) {
    let [of_hidden, of_weight] = [&tensors.hidden, &tensors.weight].map(|t| t.shape().to_vec());
    let (n, d, classes) = (of_hidden[0], of_hidden[1], of_weight[0]);
    let DivergenceTensors { hidden, weight, teacher, teacher_weight } = tensors;
    let [hidden, weight, teacher, teacher_weight] =
        [hidden, weight, teacher, teacher_weight].map(Values::of);
    let mut rows = vec![R::default(); n];
    let mut found = wanted.map(|head| HeadValues::zeros(head, n, classes, d));
    let chunk = chunk(n, classes);
    let [mut student_logits, mut teacher_logits] = [(); 2].map(|()| zeros(chunk * classes));
    for first in (0..n).step_by(chunk.max(1)) {
        let m = chunk.min(n - first);
        let size = Size { m, n: classes, k: d };
        let (h, w) = (Mat::rows(&hidden.get()[first * d..], d), Mat::rows(weight.get(), d));
        product(&mut student_logits, classes, h, w.t(), size, Write::PARALLEL);
        let (t, tw) =
            (Mat::rows(&teacher.get()[first * d..], d), Mat::rows(teacher_weight.get(), d));
        product(&mut teacher_logits, classes, t, tw.t(), size, Write::PARALLEL);
        student_logits[..m * classes]
            .par_chunks_mut(classes)
            .zip(teacher_logits[..m * classes].par_chunks_mut(classes))
            .zip(&mut rows[first..first + m])
            .enumerate()
            .for_each(|(i, ((student, teacher), found))| *found = row(first + i, student, teacher));
        if let Some(found) = &mut found {
            found.add(first, &student_logits, h, w, [m, classes, d]);
        }
    }
    (rows, found.map(|found| found.into_tensors(&of_hidden, &of_weight)))
}

/// temperature²·KL of one row of logits; the student's become their gradient, if it is wanted.
fn row(student: &mut [f32], teacher: &mut [f32], rule: &Divergence, gradients: bool) -> f32 {
    let temperature = rule.temperature as f32;
    scale_by(student, 1.0 / temperature);
    scale_by(teacher, 1.0 / temperature);
    let shifts = [log_sum_exp(student), log_sum_exp(teacher)];
    let kl = match rule.direction {
        Direction::Forward => forward_row(student, teacher, shifts),
        Direction::Reverse => reverse_row(student, teacher, shifts),
    };
    if gradients {
        match rule.direction {
            Direction::Forward => forward_gradient(student, teacher, shifts, temperature),
            Direction::Reverse => reverse_gradient(student, teacher, shifts, kl, temperature),
        }
    }
    kl * temperature * temperature
}
