//! Runs of language models.

mod rows;
mod start;

use matformer_data::{DataConfig, Source};
use matformer_lm::{MatLm, MatLmConfig, Preset};
use matformer_nn::Folder;
use toml::{Table, Value};

use super::{Called, RunKind, Tables, model_table};
use crate::{Result, RunFile, first_run::FirstRun};

/// A run of a MatLM.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lm;

model_table!(LmTable, "The `[model]` table of a MatLM.", lm: MatLmConfig);

impl Tables for Lm {
    const KIND: RunKind = RunKind::Lm;
    const CALLED: Called = Called {
        name: "lm",
        manifest: MatLm::KIND,
        model: "a language model",
        data: "text",
        data_for: "Text, for a language model",
    };
    type Shape = MatLmConfig;
    type Model = LmTable;
    type Data = DataConfig;

    fn preset(name: &str) -> Option<MatLmConfig> {
        Some(name.parse::<Preset>().ok()?.config())
    }

    fn presets() -> Vec<String> {
        Preset::all().into_iter().map(|preset| preset.name()).collect()
    }

    fn splits_freely(_: &RunFile<Self>) -> bool {
        true
    }

    fn context(shape: &MatLmConfig) -> Option<usize> {
        Some(shape.context)
    }

    fn with_context(shape: &MatLmConfig, context: usize) -> MatLmConfig {
        MatLmConfig { context, ..shape.clone() }
    }

    fn data_at(places: &[String]) -> Table {
        [("paths".to_owned(), Value::from(places.to_vec()))].into_iter().collect()
    }

    fn sampled_as(was: &DataConfig, now: &DataConfig) -> DataConfig {
        let mut sampled = was.clone();
        if now.sources.len() == was.sources.len() {
            let both = sampled.sources.iter_mut().zip(&now.sources);
            both.for_each(|(was, now)| was.weight = now.weight);
        } else {
            sampled.sources.clone_from(&now.sources);
        }
        sampled
    }

    fn first_run(sources: &[Source], preset: Option<&str>) -> Result<FirstRun> {
        start::first_run(sources, preset)
    }
}
