//! Runs of vision models.

mod start;

use matformer_data::{ImageConfig, Source, holds_images};
use matformer_nn::Folder;
use matformer_sources::Content;
use matformer_vit::{MatVit, MatVitConfig, PRESETS, preset};
use toml::{Table, Value};

use super::{Called, RunKind, Tables, model_table};
use crate::{
    Result, RunFile,
    first_run::{FirstRun, named},
};

/// A run of a MatViT.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vit;

model_table!(VitTable, "The `[model]` table of a MatViT.", vit: MatVitConfig);

impl Tables for Vit {
    const KIND: RunKind = RunKind::Vit;
    const CALLED: Called = Called {
        name: "vit",
        manifest: MatVit::KIND,
        model: "a vision model",
        data: "images",
        data_for: "Labelled images, for a vision transformer",
    };
    type Shape = MatVitConfig;
    type Model = VitTable;
    type Data = ImageConfig;

    fn preset(name: &str) -> Option<MatVitConfig> {
        preset(name)
    }

    fn presets() -> Vec<String> {
        PRESETS.map(str::to_owned).to_vec()
    }

    fn train_key(key: &'static str) -> &'static str {
        match key {
            "tokens_per_step" => "images_per_step",
            "eval_tokens" => "eval_images",
            same => same,
        }
    }

    fn context(_: &MatVitConfig) -> Option<usize> {
        None
    }

    fn with_context(shape: &MatVitConfig, _: usize) -> MatVitConfig {
        shape.clone()
    }

    fn data_at(places: &[String]) -> Table {
        let path = places.first().map(|first| ("path".to_owned(), Value::from(first.clone())));
        let also = places.get(1..).filter(|also| !also.is_empty());
        let also = also.map(|also| ("also".to_owned(), Value::from(also.to_vec())));
        path.into_iter().chain(also).collect()
    }

    fn sampled_as(was: &ImageConfig, now: &ImageConfig) -> ImageConfig {
        ImageConfig { augment: now.augment.clone(), ..was.clone() }
    }

    /// Mixing pairs the images of a pass, and drop-path draws for them in their order.
    fn splits_freely(run: &RunFile<Self>) -> bool {
        let augment = &run.data.augment;
        augment.mixup == 0.0 && augment.cutmix == 0.0 && run.shape().drop_path == 0.0
    }

    fn is_data(source: &Source) -> Result<bool> {
        Ok(match source {
            Source::Path(path) => holds_images(path)?,
            Source::Fetched(name) => named(name)?.content == Content::Images,
            _ => false,
        })
    }

    fn is_table(data: &Table) -> bool {
        data.contains_key("path")
    }

    fn first_run(sources: &[Source], preset: Option<&str>) -> Result<FirstRun> {
        start::first_run(sources, preset)
    }
}
