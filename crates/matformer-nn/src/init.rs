//! Initial weights from generators keyed by (seed, parameter path): the same on every backend.

use std::convert::Infallible;

use burn::{module::Module, tensor::TensorData};
use matformer_core::rng;

use crate::params;

/// How a parameter starts, by its path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All zeros (biases).
    Zeros,
    /// All ones (norm weights).
    Ones,
    /// Normal with mean 0 and this standard deviation, drawn row by row.
    Normal(f64),
    /// As `Normal`, for a matrix, drawn in column-major order: `[out, in]` gets the values that
    /// `Normal` draws for its transpose.
    NormalColumns(f64),
}

/// Fills every parameter as `rule(path, shape)` says.
pub fn init<M: Module>(module: M, seed: u64, rule: impl Fn(&str, &[usize]) -> Init) -> M {
    let filled = params::fill(module, |path, shape| {
        let n = shape.iter().product();
        let values = match rule(path, shape) {
            Init::Zeros => vec![0.0; n],
            Init::Ones => vec![1.0; n],
            Init::Normal(std) => normal(seed, path, n, std),
            Init::NormalColumns(std) => {
                let (values, rows) = (normal(seed, path, n, std), shape[0]);
                let row = |r| values.iter().skip(r).step_by(rows);
                (0..rows).flat_map(row).copied().collect()
            }
        };
        Ok::<_, Infallible>(TensorData::new(values, shape.to_vec()))
    });
    match filled {
        Ok(module) => module,
        Err(never) => match never {},
    }
}

/// n normal values by Box and Muller's transform.
fn normal(seed: u64, path: &str, n: usize, std: f64) -> Vec<f32> {
    let mut random = rng::keyed(seed, path, 0);
    let mut uniform = || rng::unit_open(&mut random); // above 0: its logarithm is finite
    (0..n.div_ceil(2))
        .flat_map(|_| {
            let (radius, angle) =
                ((-2.0 * uniform().ln()).sqrt(), std::f64::consts::TAU * uniform());
            [radius * angle.cos(), radius * angle.sin()]
        })
        .take(n)
        .map(|z| (z * std) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use burn::{
        module::Param,
        tensor::{Device, Tensor},
    };

    use super::*;

    #[test]
    fn columns_are_drawn_as_rows_of_the_transpose() {
        let matrix = |rule: Init, shape: [usize; 2]| -> Vec<f32> {
            let param = Param::from_tensor(Tensor::<2>::zeros(shape, &Device::flex()));
            init(param, 3, |_, _| rule).val().try_into_vec_as().unwrap()
        };
        let (rows, columns) =
            (matrix(Init::Normal(1.0), [3, 5]), matrix(Init::NormalColumns(1.0), [5, 3]));
        for i in 0..15 {
            assert_eq!(columns[i % 5 * 3 + i / 5], rows[i]);
        }
    }

    #[test]
    fn normal_has_its_moments_and_depends_on_seed_and_path() {
        let values = normal(1, "a", 20_001, 0.5);
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
        let var = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>()
            / values.len() as f64;
        assert!(mean.abs() < 0.02, "{mean}");
        assert!((var.sqrt() - 0.5).abs() < 0.01, "{var}");
        assert_eq!(values[..100], normal(1, "a", 100, 0.5));
        assert_ne!(values[..100], normal(2, "a", 100, 0.5));
        assert_ne!(values[..100], normal(1, "b", 100, 0.5));
    }
}
