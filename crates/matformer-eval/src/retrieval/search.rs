//! Exact search: every query against every vector of a gallery.

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use super::Vectors;
use crate::{Error, Result, images::floats};

/// Likenesses that are held at once: 128 MiB.
const VALUES: usize = 1 << 25;
/// Most queries of one product.
const QUERIES: usize = 512;

/// Vectors to be searched, on a device.
#[derive(Debug)]
pub struct Gallery {
    vectors: Tensor<2>, // [n, d]
}

/// A vector of the gallery, and how like it is to a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// Its place in the gallery.
    pub index: usize,
    /// Cosine of the angle between the two.
    pub likeness: f32,
}

impl Gallery {
    /// Brings vectors onto a device.
    ///
    /// # Errors
    /// [`Error::Empty`] for none.
    pub fn new(vectors: Vectors, device: &Device) -> Result<Self> {
        if vectors.is_empty() {
            return Err(Error::Empty { what: "vectors of the gallery" });
        }
        let shape = [vectors.len(), vectors.d];
        Ok(Self { vectors: Tensor::from_data(TensorData::new(vectors.values, shape), device) })
    }

    /// How many vectors it has.
    pub fn len(&self) -> usize {
        self.vectors.dims()[0]
    }

    /// Whether it has none: never.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What `of(query, likenesses)` makes of each query's likeness to every vector of the gallery.
    /// Queries are taken in blocks, of which 128 MiB of likenesses are held at once, and those of a block
    /// on all cores. `progress(done, total)` counts queries.
    ///
    /// # Errors
    /// [`Error::Dimensions`] for vectors of another size; what reading the device says.
    pub fn search<T: Send>(
        &self,
        queries: &Vectors,
        of: impl Fn(usize, &[f32]) -> T + Sync,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<T>> {
        let [n, d] = self.vectors.dims();
        if queries.d != d {
            return Err(Error::Dimensions { found: queries.d, expected: d });
        }
        let (device, total) = (self.vectors.device(), queries.len());
        let block = (VALUES / n).clamp(1, QUERIES);
        let gallery = self.vectors.clone().transpose();
        let mut found = Vec::with_capacity(total);
        for values in queries.values.chunks(block * d) {
            let rows = values.len() / d;
            let data = TensorData::new(values.to_vec(), [rows, d]);
            let products = Tensor::<2>::from_data(data, &device).matmul(gallery.clone());
            let likeness = floats("likeness", products)?;
            let first = found.len();
            found.par_extend(
                likeness
                    .par_chunks_exact(n)
                    .enumerate()
                    .map(|(row, likeness)| of(first + row, likeness)),
            );
            progress(found.len(), total);
        }
        Ok(found)
    }
}

/// The `k` most alike, the likeliest first; of equal ones the first in the gallery.
pub fn top_k(likenesses: &[f32], k: usize) -> Vec<Neighbour> {
    let mut best: Vec<Neighbour> = Vec::with_capacity(k + 1);
    for (index, &likeness) in likenesses.iter().enumerate() {
        if best.len() == k && best.last().is_none_or(|worst| likeness <= worst.likeness) {
            continue;
        }
        // Behind those that are as alike: they come first in the gallery.
        let at = best.partition_point(|other| other.likeness >= likeness);
        best.insert(at, Neighbour { index, likeness });
        best.truncate(k);
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ties_go_to_the_first() {
        let indices = |likenesses: &[f32], k| -> Vec<usize> {
            top_k(likenesses, k).iter().map(|found| found.index).collect()
        };
        assert_eq!(indices(&[0.5, 0.7, 0.5, 0.7], 3), [1, 3, 0]);
        assert_eq!(indices(&[0.5, 0.5, 0.5], 2), [0, 1]);
        assert_eq!(indices(&[0.1, 0.2], 5), [1, 0]);
        assert!(indices(&[], 2).is_empty() && indices(&[1.0], 0).is_empty());
    }

    proptest! {
        #[test]
        fn the_most_alike_are_those_of_a_sort(
            likenesses in prop::collection::vec((-4_i8..4).prop_map(f32::from), 0..40),
            k in 0_usize..12,
        ) {
            let mut order: Vec<usize> = (0..likenesses.len()).collect();
            order.sort_by(|a, b| likenesses[*b].total_cmp(&likenesses[*a]));
            order.truncate(k);
            let found: Vec<usize> = top_k(&likenesses, k).iter().map(|n| n.index).collect();
            prop_assert_eq!(found, order);
        }

        /// Against the definition, in f64, over more than a block.
        #[test]
        fn search_finds_what_brute_force_finds(seed in 0_u64..1000, n in 1_usize..70, m in 1_usize..600) {
            let d = 5;
            let vectors = |seed: u64, n: usize| {
                let mut random = matformer_core::rng::keyed(seed, "vectors", 0);
                let rows: Vec<f32> =
                    (0..n * d).map(|_| matformer_core::rng::unit(&mut random) as f32 - 0.5).collect();
                Vectors::of(&rows, d).unwrap()
            };
            let (gallery, queries) = (vectors(seed, n), vectors(seed + 1, m));
            let device = Device::flex();
            let found = Gallery::new(gallery.clone(), &device)
                .unwrap()
                .search(&queries, |_, likenesses| top_k(likenesses, 1)[0], &mut |_, _| {})
                .unwrap();
            prop_assert_eq!(found.len(), m);
            for (query, found) in queries.values.chunks(d).zip(found) {
                let product = |other: &[f32]| -> f64 {
                    query.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
                };
                let best = gallery.values.chunks(d).map(product).fold(f64::MIN, f64::max);
                prop_assert!((product(&gallery.values[found.index * d..][..d]) - best).abs() < 1e-6);
                prop_assert!((f64::from(found.likeness) - best).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn vectors_of_another_size_are_refused() {
        let one = |d| Vectors { d, values: vec![1.0; d] };
        let gallery = Gallery::new(one(3), &Device::flex()).unwrap();
        let error = gallery.search(&one(2), |_, _| (), &mut |_, _| {}).unwrap_err();
        assert_eq!(error.to_string(), "queries of 2 values; the gallery's vectors have 3");
        assert!(Gallery::new(Vectors::default(), &Device::flex()).is_err());
    }
}
