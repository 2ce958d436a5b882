//! Vision models on images.

mod export;
mod measure;
mod model;
mod words;

use std::{path::Path, sync::Arc};

use crate::{images::VitBatches, synthetic::OneBatch, synthetic::images};
use burn::tensor::Device;
use matformer_core::{Costs, Submodel, fs};
use matformer_data::{
    Hash, ImageBatches, ImageConfig, ImageShape, PreparedImages, find_prepared_images, spread,
};
use matformer_eval::{
    DocumentLoss, EvalResults, ImagePlaces, Reference, Store, Studied, Unit, image_units,
    image_walks, nearest_neighbour, report::Sample, stats,
};
use matformer_formats::{
    NORM_EPS, Normalization, PREPROCESSOR_FILE, Preprocessor, companions, save_timm_as,
};
use matformer_nn::Slice;
use matformer_runfile::{RunFile, Vit};
use matformer_sources::resolve_images;
use matformer_train::Dims;
use matformer_vit::{self as vit, MatVit, MatVitConfig, Pooling, costs};
use serde::{Deserialize, Serialize};

use super::{
    Against, Data, Export, Facts, GgufOut, Measure, Model, Part, Processor, Source, Words,
    image_data::{self, of_model, places_of, say_once},
    params,
};
use crate::{
    Session,
    cache::{data_cache_of, is_here, prepare_images, with_progress},
    error::{Hinted, OrBadInput, Result, failed},
    folder::{ModelFolder, normalization},
    slice::Format,
};
use matformer_eval::stats::FEW_DOCUMENTS;
use matformer_train::say;

failed!(matformer_vit::Error);

impl Data for Vit {
    type Prepared = PreparedImages;

    fn check_data(run: &RunFile<Self>) -> Result<()> {
        run.data.validate().bad_input()?;
        run.data.augment.validate(run.shape().channels).bad_input()
    }

    fn expected(run: &RunFile<Self>) -> MatVitConfig {
        run.shape().clone()
    }

    fn prepare(run: &RunFile<Self>, cache: &Path, session: &Session) -> Result<PreparedImages> {
        prepare_images(&run.data, image_shape(run.shape()), None, cache, session)
    }

    fn prepared(
        run: &RunFile<Self>,
        cache: &Path,
        session: &Session,
    ) -> Result<Option<PreparedImages>> {
        if !run.data.path.iter().chain(&run.data.also).all(|source| is_here(source, cache)) {
            return Ok(None);
        }
        let shape = image_shape(run.shape());
        with_progress(session, |report| {
            let config = resolve_images(&run.data, cache, report)?;
            Ok(find_prepared_images(&config, shape, None, cache, report)?)
        })
    }

    fn not_prepared(run: &RunFile<Self>) -> String {
        format!(
            "not prepared yet: how many images and classes there are is not known; these numbers are \
             for {} classes",
            run.shape().classes
        )
    }

    fn prepare_for(folder: &ModelFolder<Self>, run: &RunFile<Self>) -> Result<PreparedImages> {
        let shape = image_shape(folder.model.config());
        let kept = folder.preprocessor()?.and_then(|preprocessor| preprocessor.short_side);
        prepare_images(&run.data, shape, kept, &data_cache_of(&folder.dir), &folder.session)
    }

    fn fitted(run: &RunFile<Self>, prepared: &PreparedImages) -> Result<MatVitConfig> {
        let classes = prepared.summary.classes.clone();
        let shape = run.shape().clone();
        Ok(MatVitConfig { classes: classes.len(), class_names: Some(classes), ..shape })
    }

    fn facts(prepared: &PreparedImages) -> Facts {
        Facts {
            hash: prepared.data_hash(),
            tokenizer: None,
            train: prepared.summary.train.images,
            held_out: prepared.summary.held_out.images,
        }
    }

    fn say(_: &ImageConfig, prepared: &PreparedImages) {
        image_data::say(prepared);
    }

    fn files(run: &RunFile<Self>, prepared: &PreparedImages) -> Result<Vec<(String, Vec<u8>)>> {
        let (shape, augment) = (run.shape(), &run.data.augment);
        let (mean, std) = augment.normalization(shape.channels);
        let normalization = Normalization { mean, std };
        let preprocessor = Preprocessor::new(normalization, Some(prepared.summary.size));
        Ok(vec![(PREPROCESSOR_FILE.to_owned(), preprocessor.to_file(shape.image_size))])
    }

    fn tokenizer_of(_: &ModelFolder<Self>) -> Result<Option<Hash>> {
        Ok(None)
    }

    fn files_of(folder: &ModelFolder<Self>) -> Result<Vec<(String, Vec<u8>)>> {
        companions(&folder.dir).bad_input()
    }

    fn batches(
        run: &RunFile<Self>,
        prepared: &PreparedImages,
        rows: usize,
    ) -> Result<Source<Self>> {
        let batches = VitBatches::new(run, prepared, rows).bad_input()?;
        Ok(Source { distinct: batches.distinct(), batches: Arc::new(batches) })
    }

    fn take_open(data: &mut ImageConfig, of: &ImageConfig) {
        let (ours, theirs) = (&mut data.augment, &of.augment);
        ours.mean = ours.mean.take().or_else(|| theirs.mean.clone());
        ours.std = ours.std.take().or_else(|| theirs.std.clone());
    }

    fn take_own_files(_: &mut ImageConfig, _: &Path) {}

    /// The weights have learnt pixels on the folder's scale.
    fn adopt(dir: &Path, run: &mut RunFile<Self>) -> Result<()> {
        let MatVitConfig { image_size, channels, .. } = *run.shape();
        let preprocessor = Preprocessor::read(dir, image_size, channels).bad_input()?;
        let own = ImageConfig { augment: normalization(preprocessor), ..Default::default() };
        Self::take_open(&mut run.data, &own);
        Ok(())
    }

    fn check_adopted(_: &Path, _: &PreparedImages) -> Result<()> {
        Ok(())
    }
}

/// What images are prepared for.
fn image_shape(shape: &MatVitConfig) -> ImageShape {
    ImageShape { size: shape.image_size, channels: shape.channels }
}
