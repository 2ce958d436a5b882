//! A first run on images.

use matformer_data::{ImageSurvey, Source, survey_images};
use toml::Table;

use super::{
    Sized,
    page::{Key, shared},
    paths_of, rounded, table, whole,
};
use crate::{Result, Tables, Vit};

/// The largest images that the preset of small ones is for, in pixels.
const SMALL: usize = 40;
/// Passes over the images.
const EPOCHS: f64 = 30.0;

/// The keys that a run on images shows.
pub(super) const KEYS: &[Key] = &[
    Key::new(
        "model.preset",
        "named shape: small28, small64, ti16, …; `matformer info --preset NAME` shows its sizes",
    ),
    Key::new(
        "model.vit.image_size",
        "height and width that images are resized to; a multiple of patch_size",
    ),
    Key::new("model.vit.channels", "1: grey, 3: colors"),
    Key::new(
        "model.vit.patch_size",
        "height and width of a patch: halving it makes four times as many tokens",
    ),
    Key::new("model.vit.d_model", "size of the hidden state"),
    Key::new("model.vit.n_layers", "number of layers"),
    Key::new("model.vit.n_heads", "attention heads; divides d_model"),
    Key::new("model.vit.d_ff", "widest feed-forward width: that of XL"),
    Key::like(
        "model.vit.granularities",
        "",
        "widths of S, M, L and XL; default: d_ff/8, /4, /2, /1",
    ),
    Key::new(
        "model.vit.drop_path",
        "probability that training leaves out a branch of the last layer",
    ),
    Key::new(
        "data.path",
        "folder with a folder per class, or files of MNIST or CIFAR, or fetch:NAME",
    ),
    Key::like("data.also", "[\"more\"]", "further folders of the same classes"),
    Key::new(
        "data.held_out",
        "share that is kept apart for evaluation, if there is no val or test folder",
    ),
    Key::new("data.augment.pad", "pixels by which a training image may be shifted"),
    Key::like(
        "data.augment.crop_scale",
        "[0.5, 1.0]",
        "share of a training image that a random crop has",
    ),
    Key::new(
        "data.augment.flip",
        "share of training images that are mirrored, such as 0.5; not for letters or digits",
    ),
    Key::new("data.augment.smoothing", "label smoothing"),
    Key::new("data.augment.mixup", "strength of mixup, such as 0.2; 0: none"),
    shared::STEPS,
    Key::new("train.images_per_step", "batch size"),
    Key::like(
        "train.batch_rows",
        "32",
        "images of one pass: fewer take less memory; default: all of a step",
    ),
    shared::LEARNING_RATE,
    shared::SCHEDULE,
    Key::new("train.min_lr", "last learning rate as a share of the peak"),
    shared::WARMUP,
    Key::new("train.weight_decay", "decay of matrices"),
    shared::DRAW,
    Key::new(
        "train.ema",
        "decay of a moving average of the weights, which is what is evaluated; 0: none",
    ),
    shared::DTYPE,
    shared::SEED,
    shared::INIT,
    Key::new("train.eval_every", "steps between two evaluations on held-out images"),
    Key::new("train.eval_images", "held-out images of each of them"),
    shared::CHECKPOINT_EVERY,
    shared::KEEP,
    shared::TENSORBOARD,
];

/// A run on these images.
pub(super) fn sized(sources: &[Source], asked: Option<&str>) -> Result<Sized> {
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
    Ok(Sized { preset: preset.to_owned(), shape, data, train, found: found(survey) })
}

fn found(survey: Option<ImageSurvey>) -> String {
    let Some(ImageSurvey { images, classes, side, channels }) = survey else {
        return "images of a named source".to_owned();
    };
    let colors = if channels == 3 { "in color" } else { "in grey" };
    format!("{images} images of {classes} classes, short side {side} pixels, {colors}")
}
