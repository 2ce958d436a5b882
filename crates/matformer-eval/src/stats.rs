//! Means over held-out data with standard errors that account for what is not independent: the tokens of
//! a document, and the documents of a cluster (a crate, a book, several drawings of one emoji).
//!
//! A loss is a ratio of two sums: nats over tokens, each summed over documents and divided once.
//! Standard errors count clusters; a document without one is a cluster of its own. With the residuals
//! r_d = nats_d − loss · tokens_d of its documents (the linearisation of the ratio) summed to R_c in
//! each cluster c, the standard error is √(n/(n−1) · Σ R_c²) / Σ tokens_d, for n clusters (Cochran,
//! *Sampling Techniques*, 3rd ed., §6.3 and §9A).

use std::{
    collections::{BTreeMap, BTreeSet},
    f64::consts::LN_2,
};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Loss of one submodel on one document, as a sum and counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct DocumentLoss {
    /// Sum of the negative log-likelihoods of the document's tokens, in nats.
    pub nats: f64,
    /// Tokens that were predicted.
    pub tokens: usize,
    /// Bytes of text that these tokens stand for.
    pub bytes: usize,
    /// For classification: number of correctly predicted targets (an image is a document with one target).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hits: Option<Hits>,
    /// How many of its predictions are a reference's, where it was compared with one: then `nats` are the sum of
    /// KL(reference ‖ submodel).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Beside>,
    /// Number of its cluster, whose documents are not independent; none where it stands for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<usize>,
    /// The place of its source in `data.sources`; none where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<usize>,
}

/// Targets whose class was among the likeliest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hits {
    /// It was the likeliest.
    pub top1: usize,
    /// It was among the five likeliest.
    pub top5: usize,
}

/// A document's predictions beside those of a reference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    /// Targets at which both find the same class or token the likeliest.
    pub equal: usize,
    /// Sum of KL(submodel ‖ reference) over the targets, in nats.
    pub reverse_nats: f64,
    /// Of a document that both continue: tokens that are equal, place by place, where each reads what it wrote itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<usize>,
}

/// A mean and how well it is known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub value: f64,
    /// Standard error over clusters; `None` with fewer than two clusters.
    pub stderr: Option<f64>,
}

/// Number of independent documents, images or clusters below which a standard error over them means
/// little, so that nothing should be judged by it.
pub const FEW_DOCUMENTS: usize = 5;

/// The median of some numbers; of an even number of them the lower of the two in the middle.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// Held-out loss in nats per token.
///
/// # Errors
/// [`Error::Nothing`] if the documents hold no token.
pub fn loss(documents: &[DocumentLoss]) -> Result<Estimate> {
    ratio(documents.iter().map(|d| d.part(d.nats)), "tokens")
}

/// Perplexity: e to the power of the loss. Its standard error is the loss's times the perplexity.
///
/// # Errors
/// As [`loss`].
pub fn perplexity(documents: &[DocumentLoss]) -> Result<Estimate> {
    let Estimate { value, stderr } = loss(documents)?;
    let value = value.exp();
    Ok(Estimate { value, stderr: stderr.map(|stderr| stderr * value) })
}

/// Bits per byte of text: comparable between tokenizers.
///
/// # Errors
/// [`Error::Nothing`] if the documents hold no byte.
pub fn bits_per_byte(documents: &[DocumentLoss]) -> Result<Estimate> {
    let part = |d: &DocumentLoss| Part { of: d.bytes as f64, ..d.part(d.nats / LN_2) };
    ratio(documents.iter().map(part), "bytes")
}

/// Share of the targets that `hits` counts, where all documents have hits.
///
/// # Errors
/// [`Error::Nothing`] if the documents hold no target.
pub fn accuracy(documents: &[DocumentLoss], hits: fn(Hits) -> usize) -> Result<Option<Estimate>> {
    per_target(documents, |d| Some(hits(d.hits?) as f64))
}

/// What `sum` adds up over the targets of each document, per target, where all documents have it.
///
/// # Errors
/// [`Error::Nothing`] if the documents hold no target.
pub fn per_target(
    documents: &[DocumentLoss],
    sum: impl Fn(&DocumentLoss) -> Option<f64>,
) -> Result<Option<Estimate>> {
    let part = |d: &DocumentLoss| Some(d.part(sum(d)?));
    let Some(parts) = documents.iter().map(part).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    ratio(parts.into_iter(), "targets").map(Some)
}

/// Accuracy of `a` minus accuracy of `b`, paired, where both have hits.
///
/// # Errors
/// As [`difference`].
pub fn accuracy_difference(
    a: &[DocumentLoss],
    b: &[DocumentLoss],
    hits: fn(Hits) -> usize,
) -> Result<Option<Estimate>> {
    check_paired(a, b)?;
    let part = |(a, b): (&DocumentLoss, &DocumentLoss)| {
        Some(a.part(hits(a.hits?) as f64 - hits(b.hits?) as f64))
    };
    let Some(parts) = a.iter().zip(b).map(part).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    ratio(parts.into_iter(), "targets").map(Some)
}

/// The criterion for comparing two submodels: the difference of their top-1 accuracies if both have hits, otherwise the
/// difference of their losses.
///
/// # Errors
/// As [`difference`].
pub fn judged_difference(a: &[DocumentLoss], b: &[DocumentLoss]) -> Result<Estimate> {
    match accuracy_difference(a, b, |hits| hits.top1)? {
        Some(difference) => Ok(difference),
        None => difference(a, b),
    }
}

/// Loss of `a` minus loss of `b`, in nats per token, paired: what makes a document easy or hard
/// for both falls out, so the standard error is far below that of either loss.
///
/// # Errors
/// [`Error::Unpaired`] unless both are of the same documents, [`Error::Nothing`] if these hold no
/// token.
pub fn difference(a: &[DocumentLoss], b: &[DocumentLoss]) -> Result<Estimate> {
    check_paired(a, b)?;
    ratio(a.iter().zip(b).map(|(a, b)| a.part(a.nats - b.nats)), "tokens")
}

fn check_paired(a: &[DocumentLoss], b: &[DocumentLoss]) -> Result<()> {
    let same = |(a, b): (&DocumentLoss, &DocumentLoss)| a.tokens == b.tokens;
    if a.len() == b.len() && a.iter().zip(b).all(same) {
        return Ok(());
    }
    let tokens = |documents: &[DocumentLoss]| documents.iter().map(|d| d.tokens).sum();
    Err(Error::Unpaired {
        found: a.len(),
        found_tokens: tokens(a),
        expected: b.len(),
        expected_tokens: tokens(b),
    })
}

/// How many clusters some documents are of; none where each stands for itself.
pub fn clusters(of: impl IntoIterator<Item = Option<usize>>) -> Option<usize> {
    let (mut clusters, mut alone) = (BTreeSet::new(), 0);
    for cluster in of {
        match cluster {
            Some(cluster) => drop(clusters.insert(cluster)),
            None => alone += 1,
        }
    }
    (!clusters.is_empty()).then_some(clusters.len() + alone)
}

/// The mean of values, each with the number of its cluster; `unit` is what each stands for.
///
/// # Errors
/// [`Error::Nothing`] for none.
pub fn mean(
    values: impl Iterator<Item = (f64, Option<usize>)>,
    unit: &'static str,
) -> Result<Estimate> {
    ratio(values.map(|(sum, cluster)| Part { sum, of: 1.0, cluster }), unit)
}

/// What a document adds to a ratio of two sums.
struct Part {
    /// To the numerator.
    sum: f64,
    /// To the denominator.
    of: f64,
    /// The document's cluster.
    cluster: Option<usize>,
}

impl DocumentLoss {
    /// `sum` of its tokens.
    fn part(&self, sum: f64) -> Part {
        Part { sum, of: self.tokens as f64, cluster: self.cluster }
    }
}

/// Σ numerators over Σ denominators. Documents that count nothing are left out.
fn ratio(parts: impl Iterator<Item = Part>, unit: &'static str) -> Result<Estimate> {
    let parts: Vec<Part> = parts.filter(|part| part.of > 0.0).collect();
    let of: f64 = parts.iter().map(|part| part.of).sum();
    if of == 0.0 {
        return Err(Error::Nothing { unit });
    }
    let value = parts.iter().map(|part| part.sum).sum::<f64>() / of;
    let (mut residuals, mut clustered) = (Vec::new(), BTreeMap::new());
    for part in &parts {
        let residual = part.sum - value * part.of;
        match part.cluster {
            Some(cluster) => *clustered.entry(cluster).or_insert(0.0) += residual,
            None => residuals.push(residual),
        }
    }
    residuals.extend(clustered.into_values());
    let (n, squares) = (residuals.len() as f64, residuals.iter().map(|r| r * r).sum::<f64>());
    let stderr = (n > 1.0).then(|| (n / (n - 1.0) * squares).sqrt() / of);
    Ok(Estimate { value, stderr })
}

#[cfg(test)]
mod tests {
    use matformer_core::rng;

    use super::*;

    fn document(nats: f64, tokens: usize, bytes: usize) -> DocumentLoss {
        DocumentLoss { nats, tokens, bytes, ..DocumentLoss::default() }
    }

    fn close(found: Estimate, value: f64, stderr: f64) {
        let difference = (found.value - value).abs() + (found.stderr.unwrap() - stderr).abs();
        assert!(difference < 1e-12, "{found:?}, not {value} ± {stderr}");
    }

    #[test]
    fn by_hand() {
        let documents = [document(6.0, 2, 8), document(4.0, 4, 10), document(0.0, 0, 0)];
        // 10 nats of 6 tokens; residuals 6 − 10/3 = 8/3 and 4 − 20/3 = −8/3.
        let stderr = (2.0_f64 * 2.0 * 64.0 / 9.0).sqrt() / 6.0;
        close(loss(&documents).unwrap(), 5.0 / 3.0, stderr);
        let exp = (5.0_f64 / 3.0).exp();
        close(perplexity(&documents).unwrap(), exp, exp * stderr);
        // 10 nats of 18 bytes; residuals 6 − 40/9 = 14/9 and 4 − 50/9 = −14/9.
        let stderr = (2.0_f64 * 2.0 * 196.0 / 81.0).sqrt() / 18.0 / LN_2;
        close(bits_per_byte(&documents).unwrap(), 10.0 / 18.0 / LN_2, stderr);
    }

    #[test]
    fn documents_of_a_cluster_count_once() {
        let of = |cluster, document: DocumentLoss| DocumentLoss { cluster, ..document };
        let documents = [
            of(Some(4), document(6.0, 2, 8)),
            of(Some(4), document(4.0, 4, 10)),
            of(None, document(2.0, 2, 4)),
            of(Some(1), document(3.0, 2, 2)),
        ];
        // 15 nats of 10 tokens; residuals 3 and −2, together 1, then −1 and 0.
        close(loss(&documents).unwrap(), 1.5, (1.5_f64 * 2.0).sqrt() / 10.0);
        assert_eq!(clusters(documents.iter().map(|d| d.cluster)), Some(3));
        // A difference of 1 nat in each document: residuals 0.25, −0.75 together −0.5, 0.25, 0.25.
        let others = documents.map(|d| DocumentLoss { nats: d.nats - 1.0, ..d });
        let expected = (1.5_f64 * (0.04 + 0.04 + 0.16)).sqrt() / 10.0;
        close(difference(&documents, &others).unwrap(), 0.4, expected);
        let halves = [0.0, 1.0, 1.0, 0.0].into_iter().zip([Some(0), Some(0), Some(1), Some(1)]);
        close(mean(halves, "queries").unwrap(), 0.5, 0.0);
        // Of one cluster there is no standard error, however many its documents are.
        let one = documents.map(|d| of(Some(0), d));
        assert_eq!(loss(&one).unwrap(), Estimate { value: 1.5, stderr: None });
        assert_eq!(clusters([None, None]), None);
    }

    #[test]
    fn losses_of_before_have_no_clusters_and_are_read() {
        let old: DocumentLoss =
            serde_json::from_str(r#"{"nats":6.0,"tokens":2,"bytes":8}"#).unwrap();
        assert_eq!(old, document(6.0, 2, 8));
        let new = DocumentLoss { cluster: Some(3), ..old };
        let text = serde_json::to_string(&new).unwrap();
        assert_eq!(serde_json::from_str::<DocumentLoss>(&text).unwrap(), new);
        assert!(!serde_json::to_string(&old).unwrap().contains("cluster"));
    }

    #[test]
    fn differences_are_paired() {
        let a = [document(6.0, 2, 1), document(40.0, 4, 1)];
        let b = [document(4.0, 2, 1), document(37.0, 4, 1)];
        // 5 nats of 6 tokens; residuals 2 − 5/3 = 1/3 and 3 − 10/3 = −1/3.
        close(difference(&a, &b).unwrap(), 5.0 / 6.0, (2.0_f64 * 2.0 / 9.0).sqrt() / 6.0);
        // The same difference per token everywhere: known exactly, however unlike the documents.
        let c = a.map(|d| document(d.nats + 0.5 * d.tokens as f64, d.tokens, d.bytes));
        close(difference(&c, &a).unwrap(), 0.5, 0.0);
        assert!(loss(&a).unwrap().stderr.unwrap() > 1.0);
    }

    #[test]
    fn accuracy_counts_images() {
        let image = |top1, top5| DocumentLoss {
            tokens: 1,
            hits: Some(Hits { top1, top5 }),
            ..DocumentLoss::default()
        };
        let (a, b) = ([image(1, 1), image(0, 1), image(0, 0), image(1, 1)], [image(0, 1); 4]);
        let top1: fn(Hits) -> usize = |hits| hits.top1;
        // A share p of n images: √(p(1−p)/(n−1)).
        close(accuracy(&a, top1).unwrap().unwrap(), 0.5, (0.25_f64 / 3.0).sqrt());
        close(accuracy(&a, |h| h.top5).unwrap().unwrap(), 0.75, (0.1875_f64 / 3.0).sqrt());
        close(accuracy_difference(&a, &b, top1).unwrap().unwrap(), 0.5, (0.25_f64 / 3.0).sqrt());
        assert_eq!(accuracy(&[document(1.0, 2, 3)], top1).unwrap(), None);
        assert!(accuracy_difference(&a, &b[..3], top1).is_err());
    }

    #[test]
    fn what_cannot_be_estimated_is_said() {
        let one = [document(1.0, 2, 3)];
        assert_eq!(loss(&one).unwrap().stderr, None);
        let message = loss(&[]).unwrap_err().to_string();
        assert_eq!(message, "tokens in the held-out documents: none, expected at least one");
        assert!(bits_per_byte(&[document(1.0, 2, 0)]).is_err());
        for other in [&[][..], &[document(1.0, 1, 3)]] {
            assert!(matches!(difference(&one, other), Err(Error::Unpaired { .. })));
        }
    }

    /// Documents of 1 to 40 tokens, each with a level of its own, lower in longer documents.
    fn draw(seed: u64) -> Vec<DocumentLoss> {
        let mut random = rng::keyed(seed, "documents", 0);
        let mut one = |_| {
            let tokens = 1 + rng::index(&mut random, 40);
            let level = 3.0 - 0.03 * tokens as f64 + 2.0 * rng::unit(&mut random) - 1.0;
            document(level * tokens as f64, tokens, 3 * tokens)
        };
        (0..80).map(&mut one).collect()
    }

    /// The same in 40 clusters, whose documents are all harder or easier by up to one nat per token.
    fn draw_clusters(seed: u64) -> Vec<DocumentLoss> {
        let mut random = rng::keyed(seed, "clusters", 0);
        let levels: Vec<f64> = (0..40).map(|_| 2.0 * rng::unit(&mut random) - 1.0).collect();
        let mut all = draw(seed);
        for (at, document) in all.iter_mut().enumerate() {
            document.nats += levels[at % 40] * document.tokens as f64;
            document.cluster = Some(at % 40);
        }
        all
    }

    #[test]
    fn two_standard_errors_cover_the_truth_19_times_in_20() {
        // E[nats] / E[tokens] over tokens 1..=40.
        let (mut nats, mut tokens) = (0.0, 0.0);
        for t in 1..=40 {
            nats += (3.0 - 0.03 * f64::from(t)) * f64::from(t);
            tokens += f64::from(t);
        }
        let truth = nats / tokens;
        let share = |of: fn(u64) -> Vec<DocumentLoss>| {
            let covered = |seed: &u64| {
                let Estimate { value, stderr } = loss(&of(*seed)).unwrap();
                (value - truth).abs() < 1.96 * stderr.unwrap()
            };
            (0..2000).filter(covered).count() as f64 / 2000.0
        };
        for share in [share(draw), share(draw_clusters)] {
            assert!((0.925..0.965).contains(&share), "{share}");
        }
        // By document they would be too small.
        let alone = |seed| {
            let one = |d: DocumentLoss| DocumentLoss { cluster: None, ..d };
            draw_clusters(seed).into_iter().map(one).collect()
        };
        assert!(share(alone) < 0.92);
    }
}
