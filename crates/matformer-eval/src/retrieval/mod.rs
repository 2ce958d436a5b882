//! Adaptive retrieval (the paper's section 4.2.2 and Figure 5): a gallery is embedded once, by one
//! submodel, and queried with others.

mod outcome;
mod results;
mod search;

use matformer_core::Submodel;
use matformer_data::ImageBatches;
use matformer_nn::{State, walk};
use matformer_vit::MatVit;

pub use outcome::{Outcome, Query, RECALL, Retrieved, retrieve};
pub use results::{SearchResult, SearchResults};
pub use search::{Gallery, Neighbour, top_k};

use crate::{
    Error, Result,
    evaluate::plans_of,
    images::{floats, image_walks},
};

/// Vectors of length 1, row-major: the product of two is the cosine of their angle.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vectors {
    /// Size of one.
    pub d: usize,
    /// `[n, d]`
    pub values: Vec<f32>,
}

impl Vectors {
    /// Rows of `d` values, each scaled to length 1.
    ///
    /// # Errors
    /// [`Error::Embedding`] for values that are no numbers, and for a row of zeros.
    pub fn of(rows: &[f32], d: usize) -> Result<Self> {
        let mut vectors = Self { d, values: Vec::with_capacity(rows.len()) };
        vectors.extend(rows)?;
        Ok(vectors)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len() / self.d.max(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Adds rows.
    fn extend(&mut self, rows: &[f32]) -> Result<()> {
        for row in rows.chunks_exact(self.d.max(1)) {
            let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            if !(length.is_finite() && length > 0.0) {
                return Err(Error::Embedding { index: self.len(), length });
            }
            self.values.extend(row.iter().map(|v| (f64::from(*v) / length) as f32));
        }
        Ok(())
    }
}

/// Embeddings of the images at `places` by each of `submodels`: what the head sees (the class token, or
/// the mean of the patches, behind the last norm), scaled to length 1. Every batch goes through all
/// submodels in one forward pass (at most 16 of them). `progress(done, total)` counts images, once per forward pass.
///
/// # Errors
/// [`Error::Core`] for a submodel that the model cannot run, [`Error::Embedding`] for one that cannot be
/// scaled; what reading an image or the device says.
pub fn embed_images(
    model: &MatVit,
    images: &ImageBatches,
    places: &[usize],
    submodels: &[Submodel],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Vectors>> {
    let walks = image_walks(model);
    let (distinct, plans) = plans_of(model, submodels, walks.submodels)?;
    let empty = Vectors { d: model.config().d_model, values: Vec::new() };
    let mut found = vec![empty; distinct.len()];
    let (mut done, total) = (0, places.len() * plans.len());
    for places in places.chunks(walks.rows) {
        let batch = images.plain(places)?;
        let input = model.images(batch.rows, &batch.pixels)?;
        let mut left = found.iter_mut();
        for plan in &plans {
            let walked = walk(model, &input, plan, &mut State::new())?;
            for (unit, found) in left.by_ref().take(plan.submodels().len()).enumerate() {
                found.extend(&floats("embeddings", model.pooled(&walked.of(unit)))?)?;
            }
            done += places.len();
            progress(done, total);
        }
    }
    let of =
        |submodel: &Submodel| found[distinct.partition_point(|other| other < submodel)].clone();
    Ok(submodels.iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one() {
        let mut vectors = Vectors { d: 2, values: Vec::new() };
        vectors.extend(&[3.0, 4.0, 0.0, -1e-30]).unwrap();
        assert_eq!(vectors.values, [0.6, 0.8, 0.0, -1.0]);
        for row in [[0.0, 0.0], [f32::NAN, 1.0], [f32::INFINITY, 1.0]] {
            let message = vectors.extend(&row).unwrap_err().to_string();
            assert!(message.starts_with("embedding 2 has length "), "{message}");
        }
        assert_eq!(vectors.len(), 2);
    }
}
