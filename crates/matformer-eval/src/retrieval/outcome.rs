//! How good a search is: its nearest neighbours and its whole order against labels.

use serde::{Deserialize, Serialize};

use super::{Gallery, Neighbour, Vectors, top_k};
use crate::{Error, Estimate, Result, stats};

/// Of how many nearest neighbours one must be of the query's label.
pub const RECALL: [usize; 3] = [1, 5, 10];

/// What is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// What it is; vectors of the gallery with this label are relevant.
    pub label: usize,
    /// Number of its cluster, whose queries are not independent; none where it stands for itself.
    pub cluster: Option<usize>,
}

/// What one query found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The nearest.
    pub nearest: Neighbour,
    /// Whether one of the first [`RECALL`] is of its label.
    pub recall: [bool; RECALL.len()],
    /// Mean over the relevant vectors of the share of relevant ones among all that are at least as far
    /// in front.
    pub average_precision: f64,
    /// Cluster of the query.
    pub cluster: Option<usize>,
}

/// How good a search is, over its queries.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Retrieved {
    /// Share of the queries whose nearest neighbour is of their label: 1-NN accuracy, recall@1.
    pub nearest: Estimate,
    /// Share of those that have one among the first five.
    pub recall_5: Estimate,
    /// Share of those that have one among the first ten.
    pub recall_10: Estimate,
    /// Mean average precision over the whole gallery.
    pub map: Estimate,
}

/// Searches a gallery whose vectors have the labels `of_gallery` for `queries`, embedded as `vectors`:
/// the outcome of each. `progress(done, total)` counts queries.
///
/// # Errors
/// [`Error::Relevant`] for a query that no vector of the gallery has the label of; as
/// [`Gallery::search`].
pub fn retrieve(
    gallery: &Gallery,
    of_gallery: &[usize],
    vectors: &Vectors,
    queries: &[Query],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Outcome>> {
    let known: std::collections::HashSet<usize> = of_gallery.iter().copied().collect();
    if let Some(query) = queries.iter().position(|query| !known.contains(&query.label)) {
        return Err(Error::Relevant { query });
    }
    let of = |query: usize, likenesses: &[f32]| outcome(likenesses, of_gallery, queries[query]);
    gallery.search(vectors, of, progress)
}

fn outcome(likenesses: &[f32], labels: &[usize], Query { label, cluster }: Query) -> Outcome {
    let first = top_k(likenesses, RECALL[RECALL.len() - 1]);
    let found = |k: usize| first.iter().take(k).any(|n| labels[n.index] == label);
    Outcome {
        nearest: first[0],
        recall: RECALL.map(found),
        average_precision: average_precision(likenesses, |index| labels[index] == label),
        cluster,
    }
}

/// Average precision of the order of likenesses, of equal ones the first in front; at least one must be
/// relevant.
fn average_precision(likenesses: &[f32], relevant: impl Fn(usize) -> bool) -> f64 {
    let key = |index: usize| u64::from(descending(likenesses[index])) << 32 | index as u64;
    let all = 0..likenesses.len();
    let mut hits: Vec<u64> = all.clone().filter(|i| relevant(*i)).map(key).collect();
    hits.sort_unstable();
    // Only the relevant ones are put in order: of the others it is enough behind how many they come.
    let mut others = vec![0_usize; hits.len() + 1];
    for other in all.filter(|i| !relevant(*i)).map(key) {
        others[hits.partition_point(|hit| *hit < other)] += 1;
    }
    let (mut in_front, mut sum) = (0, 0.0);
    for (found, others) in (1..=hits.len()).zip(others) {
        in_front += others;
        sum += found as f64 / (found + in_front) as f64;
    }
    sum / hits.len() as f64
}

/// A number that is the smaller the larger `value` is.
fn descending(value: f32) -> u32 {
    // Both zeros are one.
    let bits = (value + 0.0).to_bits();
    match value < 0.0 {
        true => bits,
        false => !(bits | 1 << 31),
    }
}

impl Retrieved {
    /// Means over queries, with standard errors over their clusters.
    ///
    /// # Errors
    /// [`Error::Nothing`] for none.
    pub fn of(outcomes: &[Outcome]) -> Result<Self> {
        let share = |k: usize| mean(outcomes, |o| f64::from(u8::from(o.recall[k])));
        Ok(Self {
            nearest: share(0)?,
            recall_5: share(1)?,
            recall_10: share(2)?,
            map: mean(outcomes, |o| o.average_precision)?,
        })
    }

    /// 1-NN accuracy of `a` minus that of `b`, paired by query.
    ///
    /// # Errors
    /// [`Error::Unpaired`] for other numbers of queries.
    pub fn difference(a: &[Outcome], b: &[Outcome]) -> Result<Estimate> {
        if a.len() != b.len() {
            return Err(Error::Unpaired {
                found: a.len(),
                found_tokens: a.len(),
                expected: b.len(),
                expected_tokens: b.len(),
            });
        }
        let hit = |o: &Outcome| f64::from(u8::from(o.recall[0]));
        let pairs = a.iter().zip(b).map(|(a, b)| (hit(a) - hit(b), a.cluster));
        stats::mean(pairs, "queries")
    }
}

fn mean(outcomes: &[Outcome], of: impl Fn(&Outcome) -> f64) -> Result<Estimate> {
    stats::mean(outcomes.iter().map(|outcome| (of(outcome), outcome.cluster)), "queries")
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn average_precision_by_hand() {
        // Relevant at ranks 1, 3 and 4: (1/1 + 2/3 + 3/4) / 3.
        let likenesses = [0.1, 0.9, -0.2, 0.5, -0.7];
        let relevant = [true, true, true, false, false];
        let found = average_precision(&likenesses, |i| relevant[i]);
        assert!((found - (1.0 + 2.0 / 3.0 + 3.0 / 4.0) / 3.0).abs() < 1e-12, "{found}");
        // Of equal ones the first is in front, whichever zero it is.
        assert_eq!(average_precision(&[0.0, -0.0], |i| i == 1), 0.5);
        assert_eq!(average_precision(&[-0.0, 0.0], |i| i == 0), 1.0);
        let mut values = [-1.0, -0.5, -1e-20, 0.0, 1e-20, 0.5, 1.0];
        values.reverse();
        assert!(values.windows(2).all(|w| descending(w[0]) < descending(w[1])));
    }

    #[test]
    fn average_precision_is_that_of_a_whole_sort() {
        let mut random = matformer_core::rng::keyed(3, "likenesses", 0);
        let mut one = || matformer_core::rng::index(&mut random, 9) as f32 / 4.0 - 1.0;
        for n in 1..60 {
            let likenesses: Vec<f32> = (0..n).map(|_| one()).collect();
            let relevant = |i: usize| i.is_multiple_of(3);
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|a, b| likenesses[*b].total_cmp(&likenesses[*a]));
            let ranks =
                order.iter().enumerate().filter(|(_, i)| relevant(**i)).map(|(rank, _)| rank);
            let shares: Vec<f64> =
                ranks.enumerate().map(|(at, rank)| (at + 1) as f64 / (rank + 1) as f64).collect();
            let expected = shares.iter().sum::<f64>() / shares.len() as f64;
            assert!((average_precision(&likenesses, relevant) - expected).abs() < 1e-12, "{n}");
        }
    }

    #[test]
    fn queries_find_those_of_their_label() {
        let vectors = |angles: &[f32]| Vectors {
            d: 2,
            values: angles.iter().flat_map(|a| [a.cos(), a.sin()]).collect(),
        };
        let gallery = Gallery::new(vectors(&[0.0, 1.0, 2.0, 3.0]), &Device::flex()).unwrap();
        let queries = vectors(&[0.1, 1.4, 2.9]);
        let asked = |labels: [usize; 3]| labels.map(|label| Query { label, cluster: None });
        let find =
            |labels| retrieve(&gallery, &[7, 7, 8, 8], &queries, &asked(labels), &mut |_, _| {});
        let outcomes = find([7, 8, 8]).unwrap();
        let nearest: Vec<usize> = outcomes.iter().map(|o| o.nearest.index).collect();
        assert_eq!(nearest, [0, 1, 3]);
        assert_eq!(outcomes[1].recall, [false, true, true]);
        let found = Retrieved::of(&outcomes).unwrap();
        assert!((found.nearest.value - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((found.recall_5.value, found.recall_10.stderr), (1.0, Some(0.0)));
        let difference = Retrieved::difference(&outcomes, &outcomes).unwrap();
        assert_eq!((difference.value, difference.stderr), (0.0, Some(0.0)));
        assert!(Retrieved::difference(&outcomes, &outcomes[..2]).is_err());
        // The second found nothing right: what finds more is above.
        let better = outcomes.iter().map(|o| Outcome { recall: [true; 3], ..*o });
        let better: Vec<Outcome> = better.collect();
        let difference = Retrieved::difference(&better, &outcomes).unwrap();
        assert!((difference.value - 1.0 / 3.0).abs() < 1e-12, "{difference:?}");
        // Two queries of one cluster count once: residuals 1/3 − 2/3 and 1/3.
        let of = |(at, o): (usize, &Outcome)| Outcome { cluster: Some(at / 2), ..*o };
        let clustered: Vec<Outcome> = outcomes.iter().enumerate().map(of).collect();
        let nearest = Retrieved::of(&clustered).unwrap().nearest;
        assert_eq!(nearest.value, found.nearest.value);
        assert!((nearest.stderr.unwrap() - (4.0_f64 / 9.0).sqrt() / 3.0).abs() < 1e-12);
        let error = find([7, 8, 9]).unwrap_err();
        assert_eq!(error.to_string(), "query 2 has a label that nothing in the gallery has");
    }
}
