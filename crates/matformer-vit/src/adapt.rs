//! A model for other images or classes than it was trained on.

use burn::tensor::TensorData;
use matformer_nn::{Error as NnError, converted};

use crate::{MatVit, MatVitConfig, Result};

/// The same weights in a model of another configuration. `classes` has the place of each of its classes
/// among the model's; without it, its head starts at zero. If its images have another size, its positions
/// are interpolated. Granularities may differ too.
///
/// # Errors
/// [`matformer_nn::Error::Config`] names the first key that other weights would be needed for.
pub fn adapted(model: &MatVit, config: &MatVitConfig, classes: Option<&[usize]>) -> Result<MatVit> {
    let from = model.config();
    let comparable = MatVitConfig {
        classes: from.classes,
        image_size: from.image_size,
        class_names: None,
        ..config.clone()
    };
    let extra = from.extra_tokens();
    Ok(converted(model, config, &comparable, |path, shape, data| {
        if path.contains("head.") {
            let Some(classes) = classes else {
                return Ok(TensorData::zeros::<f32, _>(shape.to_vec()));
            };
            let old: Vec<f32> =
                data.convert::<f32>().try_into_vec().map_err(|e| NnError::read(path, e))?;
            let rows: Vec<&[f32]> = old.chunks(old.len() / from.classes).collect();
            let new: Vec<f32> = classes.iter().flat_map(|class| rows[*class]).copied().collect();
            return Ok(TensorData::new(new, shape.to_vec()));
        }
        if path != "positions" || data.shape().as_slice() == shape {
            return Ok(data);
        }
        let old: Vec<f32> =
            data.convert::<f32>().try_into_vec().map_err(|e| NnError::read(path, e))?;
        let sides = [from, config].map(|c| c.image_size / c.patch_size);
        Ok(TensorData::new(positions(&old, from.d_model, extra, sides), shape.to_vec()))
    })?)
}

/// Learned positions of a grid of patches on a grid of another size, as Hugging Face's
/// `interpolate_pos_encoding` and timm's `resample_abs_pos_embed` without antialiasing: bicubic with
/// a = -0.75, corners not aligned. The positions of `extra` tokens in front stay.
///
/// # Shapes
/// - old: `[extra + sides[0]², d]`, output: `[extra + sides[1]², d]`
fn positions(old: &[f32], d: usize, extra: usize, sides: [usize; 2]) -> Vec<f32> {
    let (own, grid) = old.split_at(extra * d);
    let [from, to] = sides;
    let taps: Vec<[(usize, f64); 4]> = (0..to).map(|at| taps(at, from, to)).collect();
    let mut new = own.to_vec();
    new.reserve(to * to * d);
    for rows in &taps {
        for columns in &taps {
            for channel in 0..d {
                let at = |row: usize, column: usize| {
                    f64::from(grid[(row * from + column) * d + channel])
                };
                let line =
                    |row: usize| -> f64 { columns.iter().map(|(c, w)| w * at(row, *c)).sum() };
                new.push(rows.iter().map(|(row, w)| w * line(*row)).sum::<f64>() as f32);
            }
        }
    }
    new
}

/// The four places that a new one is made of, and their weights (Keys 1981).
fn taps(at: usize, from: usize, to: usize) -> [(usize, f64); 4] {
    const A: f64 = -0.75;
    let place = (at as f64 + 0.5) * from as f64 / to as f64 - 0.5;
    let (floor, t) = (place.floor(), place - place.floor());
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
    std::array::from_fn(|i| {
        let place = (floor + i as f64 - 1.0).clamp(0.0, (from - 1) as f64);
        (place as usize, weights[i])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_interpolated_as_torch_does() {
        // torch.nn.functional.interpolate(x, size=(3, 3), mode="bicubic", align_corners=False)
        // of [[0, 1], [2, 4]] and of its negative, with one token in front.
        let old: Vec<f32> = [9.0, -9.0]
            .into_iter()
            .chain([0.0, 1.0, 2.0, 4.0].into_iter().flat_map(|v| [v, -v]))
            .collect();
        let new = positions(&old, 2, 1, [2, 3]);
        let expected: [f32; 9] =
            [-0.252882, 0.282986, 0.818854, 0.869792, 1.75, 2.630208, 1.992465, 3.217014, 4.441563];
        assert_eq!(new[..2], [9.0, -9.0]);
        for (i, value) in expected.into_iter().enumerate() {
            assert!((new[2 + 2 * i] - value).abs() < 1e-5, "{i}: {} {value}", new[2 + 2 * i]);
            assert_eq!(new[3 + 2 * i], -new[2 + 2 * i]);
        }
        assert_eq!(new.len(), 2 + 18);
    }

    #[test]
    fn the_same_grid_stays_and_a_level_one_is_level() {
        let old: Vec<f32> = (0..9).map(|v| (v * v) as f32).collect();
        assert_eq!(positions(&old, 1, 0, [3, 3]), old);
        for to in [1, 2, 7] {
            let level = positions(&[0.5; 16], 1, 0, [4, to]);
            assert!(level.iter().all(|v| (v - 0.5).abs() < 1e-6) && level.len() == to * to);
        }
    }
}
