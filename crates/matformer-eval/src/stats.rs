//! Means over held-out text with standard errors that know that tokens of one document are alike.
//!
//! A loss is a ratio of two sums: nats over tokens, each summed over documents and divided once.
//! Documents are what was drawn, so they, not tokens, are what the standard error counts: with
//! residuals r_d = nats_d − loss · tokens_d (the linearisation of the ratio) it is
//! √(n/(n−1) · Σ r_d²) / Σ tokens_d, for n documents (Cochran, *Sampling Techniques*, 3rd ed.,
//! §6.3).

use std::f64::consts::LN_2;

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
    /// How many of its targets were found, where they are classes: an image is a document of one
    /// target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hits: Option<Hits>,
}

/// Targets whose class was among the likeliest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hits {
    /// It was the likeliest.
    pub top1: usize,
    /// It was among the five likeliest.
    pub top5: usize,
}

/// A mean and how well it is known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub value: f64,
    /// Its standard error, clustered by document; none with fewer than two documents.
    pub stderr: Option<f64>,
}

/// Held-out loss in nats per token.
///
/// # Errors
/// [`Error::Nothing`] if the documents hold no token.
pub fn loss(documents: &[DocumentLoss]) -> Result<Estimate> {
    let parts = documents.iter().map(|d| (d.nats, d.tokens as f64));
    ratio(parts, "tokens")
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
    let parts = documents.iter().map(|d| (d.nats / LN_2, d.bytes as f64));
    ratio(parts, "bytes")
}

/// Share of the targets that `hits` counts, where all documents have hits.
///
/// # Errors
/// [`Error::Nothing`] if the documents hold no target.
pub fn accuracy(documents: &[DocumentLoss], hits: fn(Hits) -> usize) -> Result<Option<Estimate>> {
    let pair = |d: &DocumentLoss| Some((hits(d.hits?) as f64, d.tokens as f64));
    let Some(parts) = documents.iter().map(pair).collect::<Option<Vec<_>>>() else {
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
    let pair = |(a, b): (&DocumentLoss, &DocumentLoss)| {
        Some((hits(a.hits?) as f64 - hits(b.hits?) as f64, a.tokens as f64))
    };
    let Some(parts) = a.iter().zip(b).map(pair).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    ratio(parts.into_iter(), "targets").map(Some)
}

/// What two submodels are judged by: the difference of their top-1 accuracies where both have hits,
/// else that of their losses.
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
    let parts = a.iter().zip(b).map(|(a, b)| (a.nats - b.nats, a.tokens as f64));
    ratio(parts, "tokens")
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

/// The mean of independent values; `unit` is what each stands for.
///
/// # Errors
/// [`Error::Nothing`] for none.
pub fn mean(values: impl Iterator<Item = f64> + Clone, unit: &'static str) -> Result<Estimate> {
    ratio(values.map(|value| (value, 1.0)), unit)
}

/// Σ numerators over Σ denominators, one pair per document. Documents that count nothing are left
/// out.
fn ratio(parts: impl Iterator<Item = (f64, f64)> + Clone, unit: &'static str) -> Result<Estimate> {
    let parts = parts.filter(|(_, count)| *count > 0.0);
    let add = |(n, sum, count): (f64, f64, f64), (s, c)| (n + 1.0, sum + s, count + c);
    let (n, sum, count) = parts.clone().fold((0.0, 0.0, 0.0), add);
    if count == 0.0 {
        return Err(Error::Nothing { unit });
    }
    let value = sum / count;
    let squares: f64 = parts.map(|(s, c)| (s - value * c).powi(2)).sum();
    let stderr = (n > 1.0).then(|| (n / (n - 1.0) * squares).sqrt() / count);
    Ok(Estimate { value, stderr })
}

#[cfg(test)]
mod tests {
    use matformer_core::rng;

    use super::*;

    fn document(nats: f64, tokens: usize, bytes: usize) -> DocumentLoss {
        DocumentLoss { nats, tokens, bytes, hits: None }
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

    #[test]
    fn two_standard_errors_cover_the_truth_19_times_in_20() {
        // E[nats] / E[tokens] over tokens 1..=40.
        let (mut nats, mut tokens) = (0.0, 0.0);
        for t in 1..=40 {
            nats += (3.0 - 0.03 * f64::from(t)) * f64::from(t);
            tokens += f64::from(t);
        }
        let truth = nats / tokens;
        let covered = |seed: &u64| {
            let Estimate { value, stderr } = loss(&draw(*seed)).unwrap();
            (value - truth).abs() < 1.96 * stderr.unwrap()
        };
        let share = (0..2000).filter(covered).count() as f64 / 2000.0;
        assert!((0.925..0.965).contains(&share), "{share}");
    }
}
