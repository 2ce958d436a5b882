//! Merges of a SentencePiece vocabulary, which a GGUF file has as scores.

use std::collections::{HashMap, HashSet};

/// Bytes of the longest token that is taken apart: far more than any that was trained.
pub(super) const LONGEST: usize = 1024;

/// Every way to make a token of two others, best first: by score, as SentencePiece and llama.cpp
/// merge. `scores` has those of tokens that merges make, by index in `tokens`; tokens are at most
/// [`LONGEST`] bytes.
pub(super) fn of_scores<'a>(tokens: &[&'a str], scores: &[Option<f32>]) -> Vec<(&'a str, &'a str)> {
    let ids: HashMap<&str, usize> = tokens.iter().enumerate().map(|(id, t)| (*t, id)).collect();
    let mut order: Vec<(f32, usize)> = scores
        .iter()
        .enumerate()
        .filter_map(|(id, score)| score.map(|score| (score, id)))
        .collect();
    order.sort_by(|(a, i), (b, j)| b.total_cmp(a).then(i.cmp(j)));
    let mut merges = Vec::new();
    for (_, id) in order {
        let token = tokens[id];
        let cuts = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
        let mut ways: Vec<_> =
            cuts.filter_map(|(a, b)| Some(((*ids.get(a)?, *ids.get(b)?), (a, b)))).collect();
        ways.sort_unstable_by_key(|(both, _)| *both);
        merges.extend(ways.into_iter().map(|(_, pair)| pair));
    }
    merges
}

/// Two tokens that merges make and that have the same score, if there are any.
pub(super) fn tied<'a>(
    tokens: &[&'a str],
    scores: &[Option<f32>],
    merges: &[(&str, &str)],
) -> Option<(&'a str, &'a str)> {
    let made: HashSet<String> = merges.iter().map(|(a, b)| format!("{a}{b}")).collect();
    let mut seen: HashMap<u32, &str> = HashMap::new();
    let scored = tokens.iter().zip(scores).filter_map(|(token, score)| Some((*token, (*score)?)));
    for (token, score) in scored.filter(|(token, _)| made.contains(*token)) {
        // Zero and minus zero are the same.
        if let Some(other) = seen.insert((score + 0.0).to_bits(), token) {
            return Some((other, token));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_that_two_merges_share_is_found() {
        let tokens = ["a", "b", "ab", "ba", "c"];
        let tied_at = |scores: [f32; 5]| {
            let scores = scores.map(Some);
            tied(&tokens, &scores, &of_scores(&tokens, &scores))
        };
        assert_eq!(
            tied_at([0.0, 0.0, -1.0, -2.0, -1.0]),
            None,
            "only one of the equal ones is made"
        );
        assert_eq!(tied_at([-1.0, -2.0, 0.0, -0.0, -3.0]), Some(("ab", "ba")));
    }
}
