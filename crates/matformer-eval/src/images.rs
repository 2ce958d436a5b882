//! Accuracy of many submodels on held-out images, and what the pixels alone give.

use burn::tensor::{Device, Tensor, TensorData};
use matformer_core::Submodel;
use matformer_data::{ImageBatch, ImageBatches, ImageSet, spread};
use matformer_nn::Walked;
use matformer_vit::MatVit;

use crate::{
    DocumentLoss, Documents, Error, Evaluation, HeldOutBatch, Hits, Measured, Result, measure,
};

impl Measured for MatVit {
    fn ranks(
        &self,
        walked: &Walked,
        unit: usize,
        target: &Self::Target,
    ) -> Result<Option<Vec<usize>>> {
        Ok(Some(MatVit::ranks(self, walked.of(unit), target)?))
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

/// Hidden positions of a batch: a walk through 16 submodels holds 16 copies.
const POSITIONS: usize = 4096;

/// Measures `submodels` on the held-out images at `places`, as [`measure`]: each is a document of
/// one target.
///
/// # Errors
/// [`Error::Nothing`] for no images, [`Error::Vit`] where they do not fit the model; as [`measure`].
pub fn evaluate_images(
    model: &MatVit,
    images: &ImageBatches,
    places: &[usize],
    submodels: &[Submodel],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Evaluation> {
    if places.is_empty() {
        return Err(Error::Nothing { unit: "images" });
    }
    let documents = Documents {
        unread: vec![DocumentLoss::default(); places.len()],
        name: &|index| format!("image {}", places[index]),
        whole: places.len() == images.set().len(),
    };
    let rows = (POSITIONS / model.config().tokens()).max(1);
    let batches = places.chunks(rows).enumerate().map(|(chunk, places)| {
        let first = chunk * rows;
        let documents = (first..first + places.len()).collect();
        Ok(Places { batch: images.plain(places)?, documents })
    });
    measure(model, batches, places.len(), &documents, submodels, progress)
}

/// Most gallery images and queries of [`nearest_neighbour`].
const GALLERY: usize = 60_000;
const QUERIES: usize = 10_000;
/// Gallery images and queries of one product.
const CHUNK: [usize; 2] = [8192, 512];

/// What a query has found so far: likeness and label.
type Best = (f32, usize);

/// The class of the training image whose pixels are the nearest, for each held-out image: what
/// accuracy costs nothing to learn. At most 10,000 images against 60,000, spread evenly.
///
/// # Errors
/// [`Error::Nothing`] for no images, [`Error::Nn`] if the device cannot be read.
pub fn nearest_neighbour(
    gallery: &ImageSet,
    queries: &ImageSet,
    device: &Device,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<DocumentLoss>> {
    let places = [spread(gallery.len(), GALLERY), spread(queries.len(), QUERIES)];
    if places.iter().any(Vec::is_empty) {
        return Err(Error::Nothing { unit: "images" });
    }
    let [gallery_places, query_places] = &places;
    let mut best: Vec<Best> = vec![(f32::NEG_INFINITY, 0); query_places.len()];
    for (done, chunk) in gallery_places.chunks(CHUNK[0]).enumerate() {
        progress(done * CHUNK[0], gallery_places.len());
        let images = tensor(gallery, chunk, device);
        let squares = images.clone().powi_scalar(2).sum_dim(1).transpose(); // [1, gallery]
        let images = images.transpose() * 2.0;
        for (i, queried) in query_places.chunks(CHUNK[1]).enumerate() {
            // -|q - g|² + |q|²: the same order.
            let likeness = tensor(queries, queried, device).matmul(images.clone());
            let (value, index) = (likeness - squares.clone()).max_dim_with_indices(1);
            let (values, indices) = (floats(value)?, floats(index.float())?);
            let found = best[i * CHUNK[1]..].iter_mut().zip(values.into_iter().zip(indices));
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
            ..DocumentLoss::default()
        }
    };
    Ok(query_places.iter().zip(best).map(of).collect())
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

fn floats(tensor: Tensor<2>) -> Result<Vec<f32>> {
    tensor.into_data().convert::<f32>().try_into_vec::<f32>().map_err(|error| {
        matformer_nn::Error::Read { tensor: "likeness".to_owned(), message: error.to_string() }
            .into()
    })
}
