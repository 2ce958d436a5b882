//! Vision models on images.

use std::{path::Path, sync::Arc};

use crate::{images::VitBatches, synthetic::OneBatch, synthetic::images};
use burn::tensor::Device;
use matformer_core::{Costs, Submodel, fs};
use matformer_data::{
    Hash, ImageBatches, ImageConfig, ImageShape, PreparedImages, find_prepared_images, spread,
};
use matformer_eval::{
    DocumentLoss, EvalResults, ImagePlaces, Store, Studied, Unit, image_units, image_walks,
    nearest_neighbour, report::Sample, stats,
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
    Facts, GgufOut, Kind, Part, Processor, Source,
    image_data::{self, of_model, places_of, say_once},
    params,
};
use crate::{
    Session,
    error::{Hinted, OrBadInput, Result},
    folder::{ModelFolder, data_cache_of, is_here, normalization, prepare_images, with_progress},
    slice::Format,
};
use matformer_eval::stats::FEW_DOCUMENTS;
use matformer_train::say;

/// Accuracy without a model: the class of the training image whose pixels are the nearest.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Nearest {
    /// Share of the held-out images.
    top1: f64,
    stderr: Option<f64>,
    /// Held-out images that were looked at.
    images: usize,
    /// Training images that they were compared with.
    gallery: usize,
}

impl Kind for Vit {
    type Net = MatVit;
    type Prepared = PreparedImages;
    type Floor = Nearest;

    const MEASURED_AT_END: bool = true;
    const ROWS: &'static str = "images";
    const DOCUMENT: &'static str = "image";
    const ROW: &'static str = "image";
    const SMALLER: &'static str = ", or smaller images";
    const TARGET: &'static str = "image";
    const TARGETS: &'static str = "images";
    const TASK: &'static str = "image-classification";
    const AUTO_CLASS: &'static str = "AutoModelForImageClassification";
    const PROCESSOR: Processor =
        Processor { class: "AutoImageProcessor", variable: "processor", file: PREPROCESSOR_FILE };

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

    fn check_format(format: Format, dir: &Path) -> Result<(), Hinted> {
        match format {
            Format::Hf | Format::Timm => Ok(()),
            Format::Gguf => Err(Hinted {
                message: format!("{}: a vision model; GGUF has language models", dir.display()),
                hint: "--format hf writes a folder of Hugging Face's, --format timm one of timm's"
                    .to_owned(),
            }),
        }
    }

    fn write_timm(folder: &ModelFolder<Self>, slim: Slice<'_, MatVit>, dir: &Path) -> Result<()> {
        let c = slim.model.config();
        let preprocessor = match folder.preprocessor()? {
            Some(preprocessor) => preprocessor,
            None => {
                let (mean, std) = normalization(None).normalization(c.channels);
                Preprocessor::new(Normalization { mean, std }, None)
            }
        };
        if c.norm_eps != NORM_EPS {
            let ours = c.norm_eps;
            say!("note: timm adds {NORM_EPS:e} to the variance in norms, this model {ours:e}");
        }
        save_timm_as(&slim.model, slim.tensors, &preprocessor, dir).bad_input()
    }

    fn write_gguf(folder: &ModelFolder<Self>, _: Slice<'_, MatVit>, _: &GgufOut<'_>) -> Result<()> {
        Self::check_format(Format::Gguf, &folder.dir).bad_input()
    }

    fn batches(
        run: &RunFile<Self>,
        prepared: &PreparedImages,
        rows: usize,
    ) -> Result<Source<Self>> {
        let batches = VitBatches::new(run, prepared, rows).bad_input()?;
        Ok(Source { distinct: batches.distinct(), batches: Arc::new(batches) })
    }

    fn targets_per_row(_: &MatVitConfig) -> usize {
        1
    }

    fn dims(shape: &MatVitConfig) -> Result<Dims> {
        Ok(Dims {
            params: params::<Self>(shape)?,
            seq: shape.tokens(),
            d_model: shape.d_model,
            q_dim: shape.d_model,
            kv_dim: shape.d_model,
            gated: false,
            outputs: shape.classes,
            targets: 1,
        })
    }

    fn create(shape: &MatVitConfig, seed: u64, device: &Device) -> Result<MatVit> {
        MatVit::new(shape, seed, device).bad_input()
    }

    fn costs(shape: &MatVitConfig) -> Costs {
        costs(shape)
    }

    /// timm has every form with equal widths; transformers' `vit` has no mean pooling and no
    /// distillation token.
    fn exports(c: &MatVitConfig) -> Vec<&'static str> {
        let plain = c.pooling == Pooling::ClassToken && !c.distillation_token;
        let mut exports = Vec::new();
        if plain && c.layer_d_ff.is_none() {
            exports.push("transformers");
        }
        if c.layer_d_ff.is_none() {
            exports.push("timm");
        }
        exports
    }

    fn describe(c: &MatVitConfig) -> String {
        format!(
            "images {0}×{0}×{1}, patches {2}×{2}, {3} tokens, d_model {4}, {5} layers, {6} heads, \
             d_ff {7}, {8} classes",
            c.image_size,
            c.channels,
            c.patch_size,
            c.tokens(),
            c.d_model,
            c.n_layers,
            c.n_heads,
            c.d_ff,
            c.classes
        )
    }

    fn like(shape: &MatVitConfig, of: &MatVitConfig) -> MatVitConfig {
        MatVitConfig { classes: of.classes, image_size: of.image_size, ..shape.clone() }
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

    fn start(model: &MatVit, shape: &MatVitConfig) -> Result<MatVit> {
        let names = shape.class_names.as_deref().unwrap_or_default();
        let classes = places_of(model.config(), names);
        say_once(match (&classes, &model.config().class_names) {
            (Some(_), Some(_)) => "the head starts from the weights of the classes of these names",
            (Some(_), None) => {
                "note: the model's classes have no names; the head starts as if they were the data's, \
                 in the same order"
            }
            (None, _) => "the head starts at zero: the classes are not the model's",
        });
        vit::adapted(model, shape, classes.as_deref()).bad_input()
    }

    const MILLIS_OF: &'static str = "forward";

    fn prompt_and_next(_: &MatVit) -> Result<Option<[vit::Images; 2]>> {
        Ok(None)
    }

    fn synthetic(model: &MatVit, _: &MatVitConfig, rows: usize) -> Result<OneBatch<MatVit>> {
        Ok(images(model, rows)?)
    }

    fn units(prepared: &PreparedImages, part: &Part) -> Result<Vec<(Unit, DocumentLoss)>> {
        Ok(image_units(&prepared.held_out().bad_input()?, &places(prepared, part)?))
    }

    fn evaluate(
        folder: &ModelFolder<Self>,
        prepared: &PreparedImages,
        store: &mut Store,
        submodels: &[Submodel],
        part: &Part,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Studied> {
        let set = of_model(folder, prepared.held_out().bad_input()?).bad_input()?;
        let places = places(prepared, part)?;
        let size = folder.model.config().image_size;
        let augment = normalization(folder.preprocessor()?);
        let images = ImageBatches::new(set, &augment, size, 1, 0).bad_input()?;
        let config = folder.model.config();
        let walks = part.walks(config.tokens(), config.d_model, config.d_ff);
        let walks = walks.unwrap_or_else(|| image_walks(&folder.model));
        let set = ImagePlaces { images: &images, places: &places, walks };
        store.evaluate(&folder.model, &set, submodels, progress).bad_input()
    }

    fn floor(prepared: &PreparedImages, _: Option<usize>, session: &Session) -> Result<Nearest> {
        nearest(prepared, session)
    }

    fn compare(floor: &Nearest, results: &EvalResults) -> String {
        let text = format!(
            "The class of the nearest training image, pixel by pixel, is right for {:.2} % of {} \
             held-out images, compared with {} training images.",
            100.0 * floor.top1,
            floor.images,
            floor.gallery
        );
        match best(results) {
            // All of them: nothing can do better.
            Some((submodel, top1)) if top1 > floor.top1 || top1 >= 1.0 => {
                format!("{text} {submodel} is right for {:.2} %.", 100.0 * top1)
            }
            Some((submodel, top1)) => {
                format!("{text} No submodel does better: {submodel} {:.2} %.", 100.0 * top1)
            }
            None => text,
        }
    }

    fn say_floor(floor: &Nearest, results: &EvalResults) -> String {
        let beaten = best(results).is_none_or(|(_, top1)| top1 > floor.top1 || top1 >= 1.0);
        format!(
            "top-1 % without a model: nearest training image by its pixels {:.2} (of {} images \
             against {}){}",
            100.0 * floor.top1,
            floor.images,
            floor.gallery,
            if beaten || floor.images < FEW_DOCUMENTS { "" } else { ": no submodel is better" }
        )
    }

    fn sample(
        _: &ModelFolder<Self>,
        _: &PreparedImages,
        _: Option<usize>,
    ) -> Result<Option<Sample>> {
        Ok(None)
    }
}

/// Places of a part of the held-out images.
fn places(prepared: &PreparedImages, part: &Part) -> Result<Vec<usize>> {
    let set = prepared.held_out().bad_input()?;
    let clusters: Vec<_> = (0..set.len()).map(|place| set.cluster(place)).collect();
    let all = part.half.map_or_else(|| (0..set.len()).collect(), |half| half.places(&clusters));
    let chosen = spread(all.len(), part.targets.unwrap_or(usize::MAX));
    Ok(chosen.into_iter().map(|place| all[place]).collect())
}

/// The submodel that finds the most classes.
fn best(results: &EvalResults) -> Option<(&str, f64)> {
    let top1 = results.results.iter().filter_map(|r| Some((r.submodel.as_str(), r.top1?.value)));
    top1.max_by(|a, b| a.1.total_cmp(&b.1))
}

/// Its file beside prepared images: it takes a while, and is the same for all models.
const KEPT: &str = "nearest.json";

fn nearest(prepared: &PreparedImages, session: &Session) -> Result<Nearest> {
    let kept = prepared.dir().join(KEPT);
    let read = || serde_json::from_slice(&fs::read(&kept).ok()?).ok();
    if let Some(found) = read() {
        return Ok(found);
    }
    let (gallery, queries) = (prepared.train().bad_input()?, prepared.held_out().bad_input()?);
    let mut bar = session.bar("nearest neighbours");
    let found = nearest_neighbour(&gallery, &queries, &session.device, &mut |done, total| {
        bar.at(done as u64, total as u64);
    });
    drop(bar);
    let found = found.bad_input()?;
    let top1 = stats::accuracy(&found.documents, |hits| hits.top1)?;
    let nearest = Nearest {
        top1: top1.map_or(0.0, |top1| top1.value),
        stderr: top1.and_then(|top1| top1.stderr),
        images: found.documents.len(),
        gallery: found.gallery,
    };
    // A cache that cannot be written to does not cost the result.
    if let Err(error) = fs::write_atomic(&kept, serde_json::to_string(&nearest)?.as_bytes()) {
        say!("note: not kept: {error}");
    }
    Ok(nearest)
}

/// What images are prepared for.
fn image_shape(shape: &MatVitConfig) -> ImageShape {
    ImageShape { size: shape.image_size, channels: shape.channels }
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
