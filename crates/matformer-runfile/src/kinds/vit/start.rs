//! A first run on images.

use matformer_data::{ImageSurvey, Source, survey_images};
use toml::Table;

use super::{Tables, Vit};
use crate::{
    Result,
    first_run::{FirstRun, paths_of, rounded, table, whole},
};

/// The largest images that the preset of small ones is for, in pixels.
const SMALL: usize = 40;
/// Passes over the images.
const EPOCHS: f64 = 30.0;

/// A run on these images.
pub(super) fn first_run(sources: &[Source], asked: Option<&str>) -> Result<FirstRun> {
    let survey = paths_of(sources).map(|folders| survey_images(&folders)).transpose()?;
    let is_small = survey.is_some_and(|survey| survey.side <= SMALL);
    let preset = asked.unwrap_or(if is_small { "small28" } else { "small64" });
    // A preset that is not there is said by the caller.
    let base = Vit::preset(preset).unwrap_or_default();
    let mut shape = Table::new();
    if let Some(ImageSurvey { side, channels, .. }) = survey {
        let patch = base.patch_size;
        let size = (side / patch * patch).max(patch);
        if asked.is_none() && is_small && side > 0 && size != base.image_size {
            shape.insert("image_size".to_owned(), whole(size as u64));
        }
        if channels != base.channels {
            shape.insert("channels".to_owned(), whole(channels as u64));
        }
    }
    let images = survey.map_or(10_000, |survey| survey.images);
    let images_per_step = (images / 8).clamp(4, 128);
    let images_per_step = 1 << images_per_step.ilog2();
    let steps =
        rounded((EPOCHS * images as f64 / images_per_step as f64) as u64).clamp(100, 10_000);
    let mut augment = table([("smoothing", 0.1.into())]);
    if base.image_size <= SMALL {
        augment.insert("pad".to_owned(), whole(1));
    } else {
        augment.insert("crop_scale".to_owned(), toml::Value::from(vec![0.5, 1.0]));
    }
    let train = table([
        ("steps", whole(steps)),
        ("images_per_step", whole(images_per_step)),
        ("learning_rate", 1e-3.into()),
        ("min_lr", 0.01.into()),
        ("warmup", whole((steps / 10).min(500))),
        ("weight_decay", 0.05.into()),
        ("ema", if steps >= 1000 { 0.998 } else { 0.98 }.into()),
        ("eval_every", whole(steps / 10)),
        ("eval_images", whole(2000)),
        ("checkpoint_every", whole(steps / 10)),
    ]);
    let data = table([("augment", augment.into())]);
    Ok(FirstRun { preset: preset.to_owned(), shape, data, train, found: found(survey) })
}

fn found(survey: Option<ImageSurvey>) -> String {
    let Some(ImageSurvey { images, classes, side, channels }) = survey else {
        return "images of a named source".to_owned();
    };
    let colors = if channels == 3 { "in color" } else { "in grey" };
    format!("{images} images of {classes} classes, short side {side} pixels, {colors}")
}
