//! Losses on rows of logits, one cube (workgroup) per row. Gradients overwrite the logits in place.

use burn::tensor::DType;
use burn_cubecl::{
    cubecl::{self, ir::ElemType, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::{cubes, elementwise, empty, indices, lse_of, owned, record, sum_of_cube, units_for};
use crate::ops::{Direction, Divergence};

#[cube(launch)]
fn nats_kernel<F: Float>(
    logits: &Tensor<F>,
    targets: &Tensor<i32>,
    nats: &mut Tensor<f32>,
    lse: &mut Tensor<f32>,
    #[comptime] units: usize,
    #[define(F)] _kind: ElemType,
) {
    let row = CUBE_POS;
    if row >= lse.len() {
        terminate!();
    }
    let classes = logits.shape(1);
    let first = row * classes;
    let total = lse_of(logits, first, first + classes, 1f32, units);
    if UNIT_POS == 0 {
        let target = usize::cast_from(targets[row]);
        lse[row] = total;
        nats[row] = total - f32::cast_from(logits[first + target]);
    }
}

#[cube(launch)]
fn nats_backward_kernel<F: Float>(
    logits: &mut Tensor<F>,
    targets: &Tensor<i32>,
    lse: &Tensor<f32>,
    grad: &Tensor<f32>,
    #[define(F)] _kind: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= logits.len() {
        terminate!();
    }
    let classes = logits.shape(1);
    let row = i / classes;
    let mut slope = (f32::cast_from(logits[i]) - lse[row]).exp();
    if i % classes == usize::cast_from(targets[row]) {
        slope -= 1f32;
    }
    logits[i] = F::cast_from(slope * grad[row]);
}

/// KL between rows of a student's and a teacher's logits times `factor`, whose log-sum-exps are given; both begin at
/// `first`.
#[cube]
fn kl_of_row<F: Float, T: Float>(
    student: &Tensor<F>,
    teacher: &Tensor<T>,
    first: usize,
    of_student: f32,
    of_teacher: f32,
    factor: f32,
    #[comptime] reverse: bool,
    #[comptime] units: usize,
) -> f32 {
    let classes = teacher.shape(1);
    let mut sum = 0f32;
    let mut i = UNIT_POS as usize;
    while i < classes {
        let log_p = f32::cast_from(student[first + i]) * factor - of_student;
        let log_q = f32::cast_from(teacher[first + i]) * factor - of_teacher;
        if comptime![reverse] {
            sum += log_p.exp() * (log_p - log_q);
        } else {
            sum += log_q.exp() * (log_q - log_p);
        }
        i += units;
    }
    sum_of_cube(sum, units)
}

#[cube(launch)]
fn divergence_kernel<F: Float, T: Float>(
    student: &Tensor<F>,
    teacher: &Tensor<T>,
    found: &mut Tensor<f32>,
    factor: f32,
    #[comptime] reverse: bool,
    #[comptime] units: usize,
    #[define(F, T)] _kinds: [ElemType; 2],
) {
    let row = CUBE_POS;
    if row >= found.len() {
        terminate!();
    }
    let first = row * student.shape(1);
    let end = first + student.shape(1);
    let of_student = lse_of(student, first, end, factor, units);
    let of_teacher = lse_of(teacher, first, end, factor, units);
    let kl = kl_of_row(student, teacher, first, of_student, of_teacher, factor, reverse, units);
    if UNIT_POS == 0 {
        found[row] = kl;
    }
}

#[cube(launch)]
fn divergence_backward_kernel<F: Float, T: Float>(
    student: &mut Tensor<F>,
    teacher: &Tensor<T>,
    grad: &Tensor<f32>,
    factor: f32,
    #[comptime] reverse: bool,
    #[comptime] units: usize,
    #[define(F, T)] _kinds: [ElemType; 2],
) {
    let row = CUBE_POS;
    if row >= grad.len() {
        terminate!();
    }
    let classes = student.shape(1);
    let first = row * classes;
    let of_student = lse_of(&*student, first, first + classes, factor, units);
    let of_teacher = lse_of(teacher, first, first + classes, factor, units);
    let mut kl = 0f32;
    if comptime![reverse] {
        kl = kl_of_row(&*student, teacher, first, of_student, of_teacher, factor, reverse, units);
    }
    let g = grad[row];
    let mut i = UNIT_POS as usize;
    while i < classes {
        let log_p = f32::cast_from(student[first + i]) * factor - of_student;
        let log_q = f32::cast_from(teacher[first + i]) * factor - of_teacher;
        let mut slope = log_p.exp();
        if comptime![reverse] {
            slope *= log_p - log_q - kl;
        } else {
            slope -= log_q.exp();
        }
        student[first + i] = F::cast_from(slope * g);
        i += units;
    }
}

pub(super) fn nats(
    logits: CubeTensor,
    targets: CubeTensor,
    kind: ElemType,
) -> (CubeTensor, CubeTensor) {
    let logits = into_contiguous(logits);
    let [rows, classes] = logits.meta.shape().dims();
    let [nats, lse] = [(); 2].map(|()| empty(&logits, [rows, 1], DType::F32));
    let units = units_for(classes);
    record::ran("logit_nats");
    nats_kernel::launch(
        &logits.client.clone(),
        cubes(rows),
        CubeDim::new_1d(units as u32),
        logits.into_tensor_arg(),
        indices(targets).into_tensor_arg(),
        nats.clone().into_tensor_arg(),
        lse.clone().into_tensor_arg(),
        units,
        kind,
    );
    (nats, lse)
}

/// Of log-sum-exps and the gradient of the nats.
pub(super) fn nats_backward(
    logits: CubeTensor,
    targets: CubeTensor,
    lse_and_grad: [CubeTensor; 2],
    kind: ElemType,
) -> CubeTensor {
    let logits = owned(logits);
    let [lse, grad] = lse_and_grad.map(into_contiguous);
    let (count, dim) = elementwise(logits.meta.shape().num_elements());
    record::ran("logit_nats_backward");
    nats_backward_kernel::launch(
        &logits.client.clone(),
        count,
        dim,
        logits.clone().into_tensor_arg(),
        indices(targets).into_tensor_arg(),
        lse.into_tensor_arg(),
        grad.into_tensor_arg(),
        kind,
    );
    logits
}

/// Of a student and a teacher.
pub(super) fn divergence(
    logits: [CubeTensor; 2],
    rule: &Divergence,
    kinds: [ElemType; 2],
) -> CubeTensor {
    let [student, teacher] = logits.map(into_contiguous);
    let [rows, classes] = student.meta.shape().dims();
    let found = empty(&student, [rows, 1], DType::F32);
    let units = units_for(classes);
    record::ran("logit_divergence");
    divergence_kernel::launch(
        &student.client.clone(),
        cubes(rows),
        CubeDim::new_1d(units as u32),
        student.into_tensor_arg(),
        teacher.into_tensor_arg(),
        found.clone().into_tensor_arg(),
        1.0 / rule.temperature as f32,
        rule.direction == Direction::Reverse,
        units,
        kinds,
    );
    found
}

/// Of a student and a teacher, for the student.
pub(super) fn divergence_backward(
    [student, teacher]: [CubeTensor; 2],
    grad: CubeTensor,
    rule: &Divergence,
    kinds: [ElemType; 2],
) -> CubeTensor {
    let (student, teacher, grad) =
        (owned(student), into_contiguous(teacher), into_contiguous(grad));
    let [rows, classes] = student.meta.shape().dims();
    let units = units_for(classes);
    record::ran("logit_divergence_backward");
    divergence_backward_kernel::launch(
        &student.client.clone(),
        cubes(rows),
        CubeDim::new_1d(units as u32),
        student.clone().into_tensor_arg(),
        teacher.into_tensor_arg(),
        grad.into_tensor_arg(),
        1.0 / rule.temperature as f32,
        rule.direction == Direction::Reverse,
        units,
        kinds,
    );
    student
}
