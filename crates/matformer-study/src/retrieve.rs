//! Held-out images as queries into other images: by class, or across folders.

use std::collections::{HashMap, HashSet};

use matformer_core::{Resource, Submodel, SubmodelSpec, fs};
use matformer_data::{AugmentConfig, ImageBatches, ImageSet, PreparedImages, spread};
use matformer_eval::{
    retrieval::{
        Gallery, Outcome, Query, Retrieved, SearchResult, SearchResults, Vectors, retrieve,
    },
    stats,
};
use matformer_run::{Data, Hinted, ModelFolder, OrBadInput, Result, Session};
use matformer_runfile::Vit;
use matformer_train::say;

use crate::{Budget, alone, embed};

/// What is searched for in what.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Submodels that embed the queries; every granularity if none.
    pub submodels: Option<Vec<SubmodelSpec>>,
    /// The submodel that embeds the gallery; the largest if none.
    pub gallery: Option<SubmodelSpec>,
    /// Whether also a gallery is searched that the query's own encoder embedded.
    pub symmetric: bool,
    /// Whether the held-out images of the first folder are searched for those of the others.
    pub across: bool,
    /// Queries, spread evenly over the held-out images; all if none.
    pub images: Option<usize>,
    /// Gallery images, spread evenly over the training images; all if none.
    pub gallery_images: Option<usize>,
}

/// Its files in the folder of the report: by class, across folders.
pub const KEPT: [&str; 2] = ["retrieval.json", "retrieval-across.json"];

/// What embeds images: a submodel of a folder.
struct Encoder<'a> {
    folder: &'a ModelFolder<Vit>,
    submodel: Submodel,
    /// The budget of a model that was trained at this width alone.
    alone: Option<Budget>,
}

impl<'a> Encoder<'a> {
    fn new(folder: &'a ModelFolder<Vit>, submodel: &Submodel, alone: Option<Budget>) -> Self {
        Self { folder, submodel: submodel.clone(), alone }
    }

    fn name(&self) -> String {
        let label = self.folder.space().label(&self.submodel);
        if self.alone.is_some() { format!("{label} alone") } else { label }
    }
}

/// Images of one side of the search.
struct Side {
    set: ImageSet,
    places: Vec<usize>,
    labels: Vec<usize>,
}

impl Side {
    /// As what is searched for.
    fn queries(&self) -> Vec<Query> {
        let query = |(place, label): (&usize, &usize)| Query {
            label: *label,
            cluster: self.set.cluster(*place),
        };
        self.places.iter().zip(&self.labels).map(query).collect()
    }
}

/// Searches images of a model's data, with the model's submodels and with those that were trained alone.
/// What is found is kept for the report; a folder that cannot be written to does not cost the result.
///
/// # Errors
/// When nothing is relevant for a query, or something fails while embedding.
pub fn search(
    folder: &ModelFolder<Vit>,
    question: &Question,
    data: impl FnOnce() -> Result<PreparedImages>,
) -> Result<SearchResults> {
    let queries = folder.submodels(question.submodels.as_deref())?;
    let encoder = folder.submodel(question.gallery.as_ref())?;
    let prepared = data()?;
    let Sides { gallery, queries: asked, relevant, described } = match question.across {
        true => Sides::across(&prepared)?,
        false => Sides::by_class(&prepared, question)?,
    };
    let search = Search {
        gallery,
        queries: asked,
        symmetric: question.symmetric,
        session: folder.session.clone(),
    };
    // What is wrong is said before minutes of embedding.
    search.check_labels(&prepared).bad_input()?;
    let mut ended = alone::ended(folder)?;
    ended.retain(|e| queries.contains(&e.submodel) || e.submodel == encoder);
    for alone in &ended {
        drop(ModelFolder::<Vit>::load(&alone.dir, &folder.session)?);
    }
    let of = |submodel: &Submodel| Encoder::new(folder, submodel, None);
    let encoders: Vec<Encoder<'_>> = queries.iter().map(of).collect();
    let mut results = search.rows(&of(&encoder), &encoders)?;

    // The same with models of their own, which do not share a space: what adaptive retrieval spares.
    for budget in Budget::ALL {
        let models = ended
            .iter()
            .filter(|e| e.budget == budget)
            .map(|e| Ok((&e.submodel, ModelFolder::load(&e.dir, &folder.session)?)))
            .collect::<Result<Vec<(&Submodel, ModelFolder<Vit>)>>>()?;
        let all =
            || models.iter().map(|(submodel, folder)| Encoder::new(folder, submodel, Some(budget)));
        if let Some(own) = all().find(|model| model.submodel == encoder) {
            let asked: Vec<Encoder<'_>> = all().filter(|m| queries.contains(&m.submodel)).collect();
            results.extend(search.rows(&own, &asked)?);
        }
    }
    if question.across {
        results.extend(search.pixels(folder)?);
    }
    let printed = SearchResults {
        model: folder.dir.display().to_string(),
        weights: folder.manifest.weights_sha256.clone(),
        searched: described,
        data: Vit::facts(&prepared).hash.to_string(),
        gallery_images: search.gallery.places.len(),
        queries: search.queries.places.len(),
        clusters: stats::clusters(search.queries.queries().iter().map(|query| query.cluster)),
        relevant: relevant.to_owned(),
        chance: search.chance(),
        results,
    };
    // For the report; a folder that cannot be written to does not cost the result.
    let dir = folder.dir.join("report");
    let kept = dir.join(KEPT[usize::from(question.across)]);
    let text = serde_json::to_string(&printed)?;
    let kept = fs::create_dir_all(&dir).and_then(|()| fs::write_atomic(kept, text.as_bytes()));
    if let Err(error) = kept {
        say!("note: not kept: {error}");
    }
    Ok(printed)
}

/// What is searched for in what.
struct Sides {
    gallery: Side,
    queries: Side,
    /// What a relevant image shares with the query: `class`, `name`.
    relevant: &'static str,
    described: String,
}

/// What `--across` needs.
const ACROSS: &str = "it needs several folders, `data.path` and `data.also`, whose images have the same \
                      names";

impl Sides {
    /// Held-out images into those that were trained on: images of one class are relevant.
    fn by_class(prepared: &PreparedImages, question: &Question) -> Result<Self> {
        let side = |set: ImageSet, images: Option<usize>| {
            let places = spread(set.len(), images.unwrap_or(usize::MAX));
            let labels = places.iter().map(|place| set.label(*place)).collect();
            Side { set, places, labels }
        };
        let gallery = side(prepared.train().bad_input()?, question.gallery_images);
        let queries = side(prepared.held_out().bad_input()?, question.images);
        let (n, m) = (queries.places.len(), gallery.places.len());
        let described = format!("{n} held-out images as queries into {m} training images");
        Ok(Self { gallery, queries, relevant: "class", described })
    }

    /// Held-out images of the other folders into those of the first: the image of the same name is
    /// relevant.
    fn across(prepared: &PreparedImages) -> Result<Self> {
        let Some(first) = prepared.summary.folders.first() else {
            return Err(Hinted {
                message: "--across: the run's data is of one folder".to_owned(),
                hint: ACROSS.to_owned(),
            })
            .bad_input();
        };
        let names = prepared.held_out_names().bad_input()?;
        let parts: Vec<(&str, &str)> =
            names.iter().map(|name| name.split_once('/').unwrap_or(("", name))).collect();
        let ids: HashMap<&str, usize> = parts
            .iter()
            .filter(|(folder, _)| folder == first)
            .enumerate()
            .map(|(id, (_, name))| (*name, id))
            .collect();
        let set = prepared.held_out().bad_input()?;
        let side = |of_first: bool| {
            let mut side = Side { set: set.clone(), places: Vec::new(), labels: Vec::new() };
            for (place, (folder, name)) in parts.iter().enumerate() {
                if let Some(id) = ids.get(name).filter(|_| (folder == first) == of_first) {
                    side.places.push(place);
                    side.labels.push(*id);
                }
            }
            side
        };
        let (gallery, queries) = (side(true), side(false));
        let (n, m) = (queries.places.len(), gallery.places.len());
        if n == 0 {
            return Err(Hinted {
                message: "--across: no held-out image has the name of one in another folder"
                    .to_owned(),
                hint: ACROSS.to_owned(),
            })
            .bad_input();
        }
        let described =
            format!("{n} held-out images of other folders as queries into {m} of `{first}`");
        Ok(Self { gallery, queries, relevant: "name", described })
    }
}

struct Search {
    gallery: Side,
    queries: Side,
    symmetric: bool,
    session: Session,
}

impl Search {
    /// Each of `queries` into the gallery that `encoder` embedded; with `symmetric` also into one that it
    /// embedded itself.
    fn rows(&self, encoder: &Encoder<'_>, queries: &[Encoder<'_>]) -> Result<Vec<SearchResult>> {
        let (own_queries, embedded_queries) =
            (embedded(&self.queries, encoder)?, self.embedded_queries(queries)?);
        let gallery = self.gallery(encoder)?;
        let own = self.found(&gallery, &own_queries)?;
        let mut rows = Vec::new();
        for (query, vectors) in queries.iter().zip(&embedded_queries) {
            match query.submodel == encoder.submodel {
                true => rows.push(row(query, encoder, &own, None)?),
                false => {
                    let found = self.found(&gallery, vectors)?;
                    rows.push(row(query, encoder, &found, Some(&own))?);
                }
            }
        }
        drop(gallery);
        for (query, vectors) in queries.iter().zip(&embedded_queries) {
            if self.symmetric && query.submodel != encoder.submodel {
                let found = self.found(&self.gallery(query)?, vectors)?;
                rows.push(row(query, query, &found, Some(&own))?);
            }
        }
        Ok(rows)
    }

    /// The queries as each of `encoders` embeds them: submodels of one folder in one forward pass.
    fn embedded_queries(&self, encoders: &[Encoder<'_>]) -> Result<Vec<Vectors>> {
        let Side { set, places, .. } = &self.queries;
        let of_one_folder = |a: &Encoder<'_>, b: &Encoder<'_>| std::ptr::eq(a.folder, b.folder);
        let mut all = Vec::new();
        for encoders in encoders.chunk_by(of_one_folder) {
            let submodels: Vec<Submodel> = encoders.iter().map(|e| e.submodel.clone()).collect();
            all.extend(embed::embed(encoders[0].folder, set.clone(), places, &submodels)?);
        }
        Ok(all)
    }

    /// Refuses queries for which nothing in the gallery is relevant.
    fn check_labels(&self, prepared: &PreparedImages) -> Result<(), Hinted> {
        let there: HashSet<usize> = self.gallery.labels.iter().copied().collect();
        let lost = |label: &&usize| !there.contains(label);
        let Some(first) = self.queries.labels.iter().find(lost) else {
            return Ok(());
        };
        let n = self.queries.labels.iter().filter(lost).count();
        // Across folders labels are names, and every query has one in the gallery.
        let class = prepared.summary.classes.get(*first).map_or("", String::as_str);
        Err(Hinted {
            message: format!(
                "of {} queries, {n} are of classes of which the {} gallery images have none, such as \
                 `{class}`",
                self.queries.labels.len(),
                self.gallery.labels.len()
            ),
            hint: "search more training images (--gallery-images), or leave such classes out"
                .to_owned(),
        })
    }

    /// What a query finds at random.
    fn chance(&self) -> f64 {
        let mut of_label: HashMap<usize, f64> = HashMap::new();
        self.gallery.labels.iter().for_each(|label| *of_label.entry(*label).or_default() += 1.0);
        let relevant: f64 =
            self.queries.labels.iter().filter_map(|label| of_label.get(label)).sum();
        let pairs = self.gallery.labels.len() * self.queries.labels.len();
        relevant / pairs.max(1) as f64
    }

    /// The same search by pixels, less the mean of each image, without a model; nothing where an image
    /// is of one color.
    fn pixels(&self, folder: &ModelFolder<Vit>) -> Result<Option<SearchResult>> {
        let size = folder.model.config().image_size;
        let of = |side: &Side| -> Result<Option<Vectors>> {
            let plain = AugmentConfig::default();
            let images = ImageBatches::new(side.set.clone(), &plain, size, 1, 0).bad_input()?;
            let mut pixels = images.plain(&side.places).bad_input()?.pixels;
            let values = folder.model.config().pixels();
            for image in pixels.chunks_mut(values) {
                let mean = image.iter().sum::<f32>() / values as f32;
                image.iter_mut().for_each(|value| *value -= mean);
            }
            Ok(Vectors::of(&pixels, values).ok())
        };
        let (Some(gallery), Some(queries)) = (of(&self.gallery)?, of(&self.queries)?) else {
            return Ok(None);
        };
        let found = self.found(&Gallery::new(gallery, &self.session.device)?, &queries)?;
        Ok(Some(SearchResult {
            query: "pixels".to_owned(),
            gallery: "pixels".to_owned(),
            alone: None,
            query_params: 0,
            query_flops: 0.0,
            found: Retrieved::of(&found)?,
            above: None,
        }))
    }

    fn gallery(&self, by: &Encoder<'_>) -> Result<Gallery> {
        Ok(Gallery::new(embedded(&self.gallery, by)?, &self.session.device)?)
    }

    /// What every query finds.
    fn found(&self, gallery: &Gallery, queries: &Vectors) -> Result<Vec<Outcome>> {
        let mut bar = self.session.bar("searching");
        let (labels, asked) = (&self.gallery.labels, self.queries.queries());
        let found = retrieve(gallery, labels, queries, &asked, &mut |done, total| {
            bar.at(done as u64, total as u64);
        });
        drop(bar);
        found.bad_input()
    }
}

fn embedded(side: &Side, by: &Encoder<'_>) -> Result<Vectors> {
    let submodels = std::slice::from_ref(&by.submodel);
    Ok(embed::embed(by.folder, side.set.clone(), &side.places, submodels)?.remove(0))
}

fn row(
    query: &Encoder<'_>,
    gallery: &Encoder<'_>,
    found: &[Outcome],
    own: Option<&[Outcome]>,
) -> Result<SearchResult> {
    let cost =
        |resource| -> Result<f64> { Ok(query.folder.costs.get(resource)?.cost(&query.submodel)?) };
    Ok(SearchResult {
        query: query.name(),
        gallery: gallery.name(),
        alone: query.alone.map(|budget| budget.name().to_owned()),
        query_params: cost(Resource::Params)? as u64,
        query_flops: cost(Resource::Flops)?,
        found: Retrieved::of(found)?,
        above: own.map(|own| Retrieved::difference(found, own)).transpose()?,
    })
}
