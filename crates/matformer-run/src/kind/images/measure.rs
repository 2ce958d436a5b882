//! How good a vision model is on held-out images.

use super::*;

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

impl Measure for Vit {
    type Floor = Nearest;

    const MEASURED_AT_END: bool = true;

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
        studied(folder, prepared, (store, submodels, part), None, progress)
    }

    fn beside(
        folder: &ModelFolder<Self>,
        prepared: &PreparedImages,
        store: &mut Store,
        submodels: &[Submodel],
        part: &Part,
        against: Against<'_, MatVit>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<Studied>> {
        if against.continued {
            return Ok(None);
        }
        let reference = Some(against.reference);
        studied(folder, prepared, (store, submodels, part), reference, progress).map(Some)
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

/// Submodels measured on a part of the held-out images, beside a reference if there is one.
fn studied(
    folder: &ModelFolder<Vit>,
    prepared: &PreparedImages,
    (store, submodels, part): (&mut Store, &[Submodel], &Part),
    reference: Option<Reference<'_, MatVit>>,
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
    let ranks = store.ranks();
    let set = ImagePlaces { images: &images, places: &places, walks, reference, ranks };
    store.evaluate(&folder.model, &set, submodels, progress).bad_input()
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

#[cfg(test)]
mod tests;
