//! Accuracy of many submodels on held-out images, and what the pixels alone give.

use burn::tensor::{Device, Tensor, TensorData};
use matformer_core::Submodel;
use matformer_data::{ImageBatch, ImageBatches, ImageSet, spread};
use matformer_exchange::Exchange;
use matformer_nn::{Elastic, Output, Walked, likeliest};
use matformer_vit::MatVit;

use crate::{
    DocumentLoss, Documents, Error, Evaluation, HeldOutBatch, HeldOutSet, Hits, Measured,
    Reference, Result, Subject, Unit, Walks, evaluate::FEW, measure,
};

impl Measured for MatVit {
    fn ranks(
        &self,
        walked: &Walked,
        unit: usize,
        target: &Self::Target,
    ) -> Result<Option<Vec<usize>>> {
        Ok(Some(MatVit::ranks(self, &walked.of(unit), target)?))
    }

    fn choices(&self, output: &Output, _: &Self::Target) -> Result<Vec<Vec<u32>>> {
        let classes = likeliest(self.head(output))?;
        Ok(classes.into_iter().map(|class| vec![class]).collect())
    }
}

/// Images of a batch, with their places among those that are measured on.
struct Places {
    batch: ImageBatch,
    documents: Vec<usize>,
}

impl HeldOutBatch<MatVit> for Places {
    fn documents(&self) -> &[usize] {
        &self.documents
    }

    fn targets(&self) -> usize {
        self.documents.len()
    }

    fn on(&self, model: &MatVit) -> Result<(matformer_vit::Images, matformer_vit::VitTarget)> {
        let input = model.images(self.batch.rows, &self.batch.pixels)?;
        Ok((input, model.soft_labels(&self.batch.weights)?))
    }
}

/// Hidden positions of a batch: a forward pass through 16 submodels holds 16 copies.
const POSITIONS: usize = 4096;

/// What suits few submodels of `model`.
pub fn image_walks(model: &MatVit) -> Walks {
    Walks { rows: (POSITIONS / model.config().tokens()).max(1), submodels: FEW }
}

/// Measures `submodels` on the held-out images at `places`, as [`measure`], in batches as `walks` says
/// ([`image_walks`]): each image is a document of one target.
///
/// # Errors
/// [`Error::Nothing`] for no images, [`Error::Vit`] where they do not fit the model; as [`measure`].
pub fn evaluate_images<'a>(
    subject: impl Into<Subject<'a, MatVit>>,
    images: &ImageBatches,
    places: &[usize],
    submodels: &[Submodel],
    walks: Walks,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Evaluation> {
    if places.is_empty() {
        return Err(Error::Nothing { unit: "images" });
    }
    let documents = Documents {
        unread: places.iter().map(|place| unread(images.set(), *place)).collect(),
        name: &|index| format!("image {}", places[index]),
        whole: places.len() == images.set().len(),
        context: None,
    };
    let rows = walks.rows.max(1);
    let batches = places.chunks(rows).enumerate().map(|(chunk, places)| {
        let first = chunk * rows;
        let documents = (first..first + places.len()).collect();
        Ok(Places { batch: images.plain(places)?, documents })
    });
    measure(subject, batches, places.len(), &documents, submodels, walks.submodels, progress)
}

/// Held-out images as a store measures them.
pub struct ImagePlaces<'a> {
    /// All of them.
    pub images: &'a ImageBatches,
    /// Those that are measured on.
    pub places: &'a [usize],
    /// How a measurement is cut up.
    pub walks: Walks,
    /// What submodels are compared with; by their losses where there is none.
    pub reference: Option<Reference<'a, MatVit>>,
    /// The ranks that measure together.
    pub ranks: Exchange,
}

impl HeldOutSet<MatVit> for ImagePlaces<'_> {
    fn units(&self) -> Vec<(Unit, DocumentLoss)> {
        image_units(self.images.set(), self.places)
    }

    fn is_whole(&self) -> bool {
        self.places.len() == self.images.set().len()
    }

    fn context(&self) -> Option<usize> {
        None
    }

    fn piece(&self) -> usize {
        1024
    }

    fn measure(
        &self,
        model: &MatVit,
        places: &[usize],
        submodels: &[Submodel],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Evaluation> {
        let places: Vec<usize> = places.iter().map(|at| self.places[*at]).collect();
        let subject = Subject { model, reference: self.reference, ranks: self.ranks.clone() };
        evaluate_images(subject, self.images, &places, submodels, self.walks, progress)
    }
}

/// Images at some places of a set, each with its loss before it is read.
pub fn image_units(set: &ImageSet, places: &[usize]) -> Vec<(Unit, DocumentLoss)> {
    let unit = |place: &usize| (Unit { start: *place, targets: 1 }, unread(set, *place));
    places.iter().map(unit).collect()
}

/// A held-out image before it is measured.
fn unread(set: &ImageSet, place: usize) -> DocumentLoss {
    DocumentLoss { cluster: set.cluster(place), ..DocumentLoss::default() }
}

/// Most gallery images and queries of [`nearest_neighbour`].
const GALLERY: usize = 60_000;
const QUERIES: usize = 10_000;
/// Most comparisons of two values: those of that many images of 28 by 28 in grey. Larger images are
/// fewer.
const COMPARISONS: f64 = (GALLERY * QUERIES * 28 * 28) as f64;
/// Most gallery images and queries of one product, and values of either.
const CHUNK: [usize; 2] = [8192, 512];
const VALUES: usize = 1 << 23;

/// What the nearest training images say.
#[derive(Debug, Clone, PartialEq)]
pub struct Nearest {
    /// Of each held-out image that was looked at, whether they are of its class.
    pub documents: Vec<DocumentLoss>,
    /// Training images that each was compared with.
    pub gallery: usize,
}

/// What a query has found so far: likeness and label.
type Best = (f32, usize);

/// The class of the training image whose pixels are the nearest, for held-out images: what accuracy
/// costs nothing to learn. At most 10,000 images against 60,000, spread evenly; of images larger than
/// 28 by 28 as many fewer of both as keep the work the same.
///
/// # Errors
/// [`Error::Nothing`] for no images, [`Error::Nn`] if the device cannot be read.
pub fn nearest_neighbour(
    gallery: &ImageSet,
    queries: &ImageSet,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Nearest> {
    let counts = counts([gallery.len(), queries.len()], gallery.shape().bytes());
    let places = [spread(gallery.len(), counts[0]), spread(queries.len(), counts[1])];
    if places.iter().any(Vec::is_empty) {
        return Err(Error::Nothing { unit: "images" });
    }
    let chunk_of = CHUNK.map(|most| (VALUES / gallery.shape().bytes()).clamp(1, most));
    let [gallery_places, query_places] = &places;
    let mut best: Vec<Best> = vec![(f32::NEG_INFINITY, 0); query_places.len()];
    for (done, chunk) in gallery_places.chunks(chunk_of[0]).enumerate() {
        progress(done * chunk_of[0], gallery_places.len());
        let images = tensor(gallery, chunk, device);
        let squares = images.clone().powi_scalar(2).sum_dim(1).transpose(); // [1, gallery]
        let images = images.transpose() * 2.0;
        for (i, queried) in query_places.chunks(chunk_of[1]).enumerate() {
            // -|q - g|² + |q|²: the same order.
            let likeness = tensor(queries, queried, device).matmul(images.clone());
            let (value, index) = (likeness - squares.clone()).max_dim_with_indices(1);
            let (values, indices) = (floats("likeness", value)?, floats("nearest", index.float())?);
            let found = best[i * chunk_of[1]..].iter_mut().zip(values.into_iter().zip(indices));
            for (best, (value, index)) in found {
                if value > best.0 {
                    *best = (value, gallery.label(chunk[index as usize]));
                }
            }
        }
    }
    let of = |(place, (_, label)): (&usize, Best)| {
        let hit = usize::from(queries.label(*place) == label);
        DocumentLoss {
            tokens: 1,
            hits: Some(Hits { top1: hit, top5: hit }),
            ..unread(queries, *place)
        }
    };
    let documents = query_places.iter().zip(best).map(of).collect();
    Ok(Nearest { documents, gallery: gallery_places.len() })
}

/// How many gallery images and queries are looked at, of images of so many values.
fn counts(there: [usize; 2], values: usize) -> [usize; 2] {
    let [gallery, queries] = [there[0].min(GALLERY), there[1].min(QUERIES)];
    let work = gallery as f64 * queries as f64 * values as f64;
    // Both shrink alike.
    let share = (COMPARISONS / work.max(1.0)).sqrt().min(1.0);
    [gallery, queries].map(|n| (n as f64 * share).ceil() as usize)
}

/// Images as rows of numbers from -0.5 to 0.5.
fn tensor(set: &ImageSet, places: &[usize], device: &Device) -> Tensor<2> {
    let values: Vec<f32> = places
        .iter()
        .flat_map(|place| set.pixels(*place).iter().map(|value| f32::from(*value) / 255.0 - 0.5))
        .collect();
    let pixels = values.len() / places.len();
    Tensor::from_data(TensorData::new(values, [places.len(), pixels]), device)
}

/// Values of a tensor, called `name` in an error.
pub(crate) fn floats(name: &str, tensor: Tensor<2>) -> Result<Vec<f32>> {
    tensor
        .into_data()
        .convert::<f32>()
        .try_into_vec::<f32>()
        .map_err(|error| matformer_nn::Error::read(name, error).into())
}

#[cfg(test)]
mod tests {
    use matformer_data::ImageShape;

    use super::*;

    #[test]
    fn work_and_memory_are_bounded_whatever_the_size_of_the_images() {
        assert_eq!(counts([60_000, 10_000], 784), [60_000, 10_000]);
        assert_eq!(counts([100, 20], 784), [100, 20]);
        assert_eq!(counts([0, 20], 784), [0, 20]);
        let [gallery, queries] = counts([1_281_167, 50_000], 3 * 224 * 224);
        assert!((4_000..5_000).contains(&gallery) && (700..800).contains(&queries));
    }

    #[test]
    fn the_nearest_image_says_the_class() {
        let folder = tempfile::tempdir().unwrap();
        let shape = ImageShape { size: 2, channels: 1 };
        let set = |name: &str, images: &[(usize, [u8; 4])]| {
            let path = folder.path().join(name);
            ImageSet::write(&path, shape, 2, images.iter().copied()).unwrap();
            ImageSet::open(&path, vec!["dark".into(), "light".into()]).unwrap()
        };
        // More than a chunk: the light ones lie in the second.
        let mut gallery = vec![(0, [10, 20, 10, 0]); CHUNK[0] + 3];
        gallery.extend([(1, [200, 210, 220, 230]); 3]);
        let gallery = set("gallery", &gallery);
        let queries = set("queries", &[(1, [190; 4]), (0, [30; 4]), (0, [180; 4])]);
        let found = nearest_neighbour(&gallery, &queries, &Device::flex(), &mut |_, _| {}).unwrap();
        let hits: Vec<usize> = found.documents.iter().map(|d| d.hits.unwrap().top1).collect();
        assert_eq!((hits, found.gallery), (vec![1, 1, 0], CHUNK[0] + 6));
        let none = set("none", &[]);
        let error = nearest_neighbour(&none, &queries, &Device::flex(), &mut |_, _| {});
        assert!(matches!(error, Err(Error::Nothing { .. })));
    }
}
