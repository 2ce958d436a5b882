//! Merges of a SentencePiece vocabulary, which a GGUF file has as scores.

use std::collections::HashMap;

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
