//! What text costs without a model, in bits per byte.

use std::io::Write;

use flate2::{Compression, GzBuilder};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How often each byte occurs in a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u64>", into = "Vec<u64>")]
pub struct ByteCounts([u64; 256]);

/// Bits per byte of held-out text under two codes that know no language.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Baselines {
    /// Under the frequency of each byte in the training text, plus one each.
    pub byte_unigram: f64,
    /// Each text on its own through gzip at level 9, with its header and trailer (18 bytes).
    pub gzip: f64,
}

impl Default for ByteCounts {
    fn default() -> Self {
        Self([0; 256])
    }
}

impl ByteCounts {
    /// Counts the bytes of all texts.
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut counts = Self::default();
        texts.into_iter().for_each(|text| counts.add(text));
        counts
    }

    /// Counts the bytes of one more text.
    pub fn add(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.0[usize::from(byte)] += 1);
    }

    fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl TryFrom<Vec<u64>> for ByteCounts {
    type Error = String;

    fn try_from(counts: Vec<u64>) -> Result<Self, String> {
        counts
            .try_into()
            .map(Self)
            .map_err(|counts: Vec<u64>| format!("{} byte counts, expected: 256", counts.len()))
    }
}

impl From<ByteCounts> for Vec<u64> {
    fn from(counts: ByteCounts) -> Self {
        counts.0.to_vec()
    }
}

/// Measures `texts` under the byte frequencies of `train` and under gzip. Sums bits and bytes over
/// all texts and divides once.
///
/// # Errors
/// [`Error::Value`] if `texts` hold no byte.
pub fn baselines(train: &ByteCounts, texts: &[String]) -> Result<Baselines> {
    let held_out = ByteCounts::of(texts.iter().map(String::as_str));
    let bytes = held_out.total() as f64;
    if bytes == 0.0 {
        return Err(Error::zero("held-out bytes"));
    }
    let total = (train.total() + 256) as f64;
    let pairs = held_out.0.iter().zip(&train.0);
    let unigram: f64 = pairs.map(|(&n, &seen)| n as f64 * (total / (seen + 1) as f64).log2()).sum();
    let gzip: u64 = texts.iter().map(|text| 8 * gzip_len(text)).sum();
    Ok(Baselines { byte_unigram: unigram / bytes, gzip: gzip as f64 / bytes })
}

/// The length of `text` after gzip at level 9, in bytes.
fn gzip_len(text: &str) -> u64 {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    // Writing to memory cannot fail; if it did, what is there so far would stand.
    let _ = encoder.write_all(text.as_bytes()).and_then(|()| encoder.try_finish());
    encoder.get_ref().len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unigram_by_hand() {
        // a: 3 + 1, b: 1 + 1, of 4 + 256.
        let counts = ByteCounts::of(["aab", "a"]);
        let texts = ["a".to_owned(), "b".to_owned()];
        let expected = ((260.0_f64 / 4.0).log2() + (260.0_f64 / 2.0).log2()) / 2.0;
        assert!((baselines(&counts, &texts).unwrap().byte_unigram - expected).abs() < 1e-12);
    }

    #[test]
    fn gzip_counts_its_header_and_finds_repetition() {
        assert_eq!(gzip_len(""), 20);
        let text = "fn main() {}\n".repeat(1000);
        assert!((40..200).contains(&gzip_len(&text)));
        let gzip = baselines(&ByteCounts::of([""]), std::slice::from_ref(&text)).unwrap().gzip;
        assert_eq!(gzip, 8.0 * gzip_len(&text) as f64 / text.len() as f64);
    }

    #[test]
    fn nothing_is_an_error_and_counts_round_trip() {
        assert!(baselines(&ByteCounts::of(["a"]), &[]).is_err());
        let counts = ByteCounts::of(["aé"]);
        let json = serde_json::to_string(&counts).unwrap();
        assert_eq!(serde_json::from_str::<ByteCounts>(&json).unwrap(), counts);
        assert!(serde_json::from_str::<ByteCounts>("[1, 2]").is_err());
    }
}
