//! The held-out documents, cut into windows in which every token is scored exactly once.

use std::collections::HashMap;

use matformer_core::rng;
use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};

use crate::{DocumentSpan, Error, Result, Shard, Tokenizer};

/// Held-out documents, or beginnings of some, with the tokens that they are measured on.
#[derive(Debug, Clone)]
pub struct HeldOut {
    shard: Shard,
    documents: Vec<DocumentSpan>,
    whole: bool,
}

/// A random half of the held-out documents, or images, the same every time: submodels are chosen by
/// one half and judged by the other. A cluster lies in one half as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Half {
    /// The first half, which has one cluster more where their number is odd.
    A,
    /// The second half.
    B,
}

impl Half {
    /// The places of the documents in this half, ascending, by the cluster of each document, or none
    /// for one that stands for itself. Which half a cluster is in depends on its place and the number
    /// of clusters alone.
    pub fn places(self, clusters: &[Option<usize>]) -> Vec<usize> {
        let mut seen = HashMap::new();
        let mut n = 0;
        let mut next = || {
            n += 1;
            n - 1
        };
        // Documents that stand for themselves are clusters of one.
        let of: Vec<usize> = clusters
            .iter()
            .map(|cluster| match cluster {
                Some(cluster) => *seen.entry(*cluster).or_insert_with(&mut next),
                None => next(),
            })
            .collect();
        let mut order: Vec<usize> = (0..n).collect();
        // By hash, not by parity: lists may go through their classes in turn.
        order.sort_by_cached_key(|at| (rng::keyed(0, "halves", *at as u64).next_u64(), *at));
        let mut in_a = vec![false; n];
        order.iter().take(n.div_ceil(2)).for_each(|at| in_a[*at] = true);
        let ours = |place: &usize| in_a[of[*place]] == (self == Self::A);
        (0..clusters.len()).filter(ours).collect()
    }
}

/// The clusters of some documents as numbers, counted in the order in which they appear.
pub(crate) fn numbered<'a>(
    names: impl Iterator<Item = Option<&'a str>>,
) -> impl Iterator<Item = Option<usize>> {
    let mut seen = HashMap::new();
    names.map(move |name| {
        let next = seen.len();
        name.map(|name| *seen.entry(name).or_insert(next))
    })
}

/// A stretch of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Index into [`HeldOut::documents`].
    pub document: usize,
    /// What the model sees, as many as the targets: first the separator or the last token of the
    /// window before.
    pub inputs: Vec<u32>,
    /// What it has to predict: tokens of the document's text.
    pub targets: Vec<u32>,
    /// Which targets are measured, where not all are.
    pub measured: Option<Vec<bool>>,
}

impl Window {
    /// Targets that are measured.
    pub fn measured(&self) -> usize {
        match &self.measured {
            None => self.targets.len(),
            Some(flags) => flags.iter().filter(|flag| **flag).count(),
        }
    }
}

impl HeldOut {
    /// The documents of a shard, from the list beside it.
    ///
    /// # Errors
    /// As [`Shard::documents`].
    pub fn new(shard: Shard) -> Result<Self> {
        let documents = shard.documents()?;
        Ok(Self { shard, documents, whole: true })
    }

    /// Where their tokens are.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// The documents, in the order of the shard.
    pub fn documents(&self) -> &[DocumentSpan] {
        &self.documents
    }

    /// The cluster of each document, as a number; none for a document that stands for itself.
    pub fn clusters(&self) -> Vec<Option<usize>> {
        numbered(self.documents.iter().map(|document| document.cluster.as_deref())).collect()
    }

    /// Targets in all documents that are measured; separators are not among them.
    pub fn tokens(&self) -> usize {
        self.documents.iter().map(DocumentSpan::targets).sum()
    }

    /// Bytes of text in all documents.
    pub fn bytes(&self) -> usize {
        self.documents.iter().map(|document| document.bytes).sum()
    }

    /// Whether these are all held-out documents, from beginning to end.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// The smallest number of documents, spread evenly over the list, whose beginnings hold
    /// `tokens` tokens; all there is where they hold fewer. Of one document it takes at most a
    /// 32nd of the tokens or 1,024, whichever is more (more only where the documents are too few),
    /// so that no long one stands for all. The same list and number give the same part. A beginning
    /// ends with a whole character, up to a few tokens earlier than that; `tokenizer` says where, and
    /// counts its bytes.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn take(mut self, tokens: usize, tokenizer: &Tokenizer) -> Result<Self> {
        let lengths: Vec<usize> = self.documents.iter().map(|document| document.tokens).collect();
        let kept = shares(&lengths, tokens);
        self.whole &= kept == lengths;
        let mut documents = Vec::new();
        for (mut document, kept) in self.documents.into_iter().zip(kept) {
            if kept < document.tokens {
                let text: Vec<u32> = self.shard.iter(document.text()).collect();
                document.tokens = tokenizer.whole_characters(&text, kept)?;
                let measured = measured_tokens(&self.shard, &document);
                document.bytes = tokenizer.decode(&measured)?.len();
                document.answers = document.answers.map(|_| measured.len());
            }
            documents.push(document);
        }
        documents.retain(|document| document.targets() > 0);
        Ok(Self { documents, ..self })
    }

    /// One half of the documents, clusters kept whole.
    pub fn half(self, half: Half) -> Self {
        self.only(&half.places(&self.clusters()))
    }

    /// The documents at some places, ascending, of the list.
    ///
    /// # Panics
    /// If there are fewer documents.
    pub fn only(&self, places: &[usize]) -> Self {
        let documents = places.iter().map(|place| self.documents[*place].clone()).collect();
        let whole = self.whole && places.len() == self.documents.len();
        Self { shard: self.shard.clone(), documents, whole }
    }

    /// Every document as consecutive windows of at most `seq_len` targets, without overlap; a
    /// document's last is shorter. Windows without a target that is measured are left out.
    ///
    /// # Errors
    /// [`Error::Value`] if `seq_len` is 0.
    pub fn windows(&self, seq_len: usize) -> Result<impl Iterator<Item = Window> + '_> {
        if seq_len == 0 {
            return Err(Error::zero("seq_len"));
        }
        let masked = self.shard.is_masked();
        let windows = self.documents.iter().enumerate().flat_map(move |(index, document)| {
            let text = document.text();
            text.clone().step_by(seq_len).map(move |start| {
                let end = text.end.min(start.saturating_add(seq_len));
                Window {
                    document: index,
                    inputs: self.shard.iter(start - 1..end - 1).collect(),
                    targets: self.shard.iter(start..end).collect(),
                    measured: masked.then(|| self.shard.learnt(start..end).collect()),
                }
            })
        });
        Ok(windows.filter(move |window| !masked || window.measured() > 0))
    }

    /// The text of every document that is measured, decoded from its tokens.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn texts(&self, tokenizer: &Tokenizer) -> Result<Vec<String>> {
        let decode =
            |document: &DocumentSpan| tokenizer.decode(&measured_tokens(&self.shard, document));
        self.documents.iter().map(decode).collect()
    }
}

/// The tokens of a document that are measured.
fn measured_tokens(shard: &Shard, document: &DocumentSpan) -> Vec<u32> {
    let tokens = shard.iter(document.text()).zip(shard.learnt(document.text()));
    tokens.filter(|(_, measured)| *measured).map(|(token, _)| token).collect()
}

/// Parts of a bounded measurement: one document has at most one of them.
const PARTS: usize = 32;

/// Minimum number of tokens of a part; with fewer, only the beginnings of documents would be evaluated.
const PART: usize = 1024;

/// How many tokens of each document make `tokens` together.
fn shares(lengths: &[usize], tokens: usize) -> Vec<usize> {
    // Multiples of the golden ratio, modulo one, fill the unit interval evenly at any length.
    let place = |index: usize| (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| place(index));
    let most = cap(lengths, tokens).max(tokens / PARTS).max(PART);
    let (mut kept, mut left) = (vec![0; lengths.len()], tokens);
    for index in order {
        kept[index] = lengths[index].min(most).min(left);
        left -= kept[index];
    }
    kept
}

/// The smallest bound per document with which all of them together hold `tokens`.
fn cap(lengths: &[usize], tokens: usize) -> usize {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable();
    let mut left = tokens;
    for (at, &length) in sorted.iter().enumerate() {
        let share = left.div_ceil(sorted.len() - at);
        if length >= share {
            return share;
        }
        left -= length;
    }
    usize::MAX
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::Hash;
    use crate::shard::ShardWriter;

    /// A shard of documents of these lengths: the separator is 0, tokens count from 1.
    fn held_out(lengths: &[usize]) -> (tempfile::TempDir, HeldOut) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("held_out.bin");
        let (mut tokens, mut documents, mut next) = (Vec::new(), Vec::new(), 1..);
        for (index, &length) in lengths.iter().enumerate() {
            let span = DocumentSpan {
                name: index.to_string(),
                start: tokens.len(),
                tokens: length,
                bytes: 2 * length,
                answers: None,
                cluster: None,
                source: None,
            };
            documents.push(span);
            tokens.push(0);
            tokens.extend(next.by_ref().take(length));
        }
        let mut writer = ShardWriter::create(&path, Hash::of(b""), 1 << 20).unwrap();
        writer.push(&tokens).unwrap();
        documents.iter().for_each(|document| writer.list(document).unwrap());
        writer.finish().unwrap();
        // An empty list is a list.
        std::fs::File::options()
            .create(true)
            .append(true)
            .open(path.with_extension("docs.jsonl"))
            .unwrap();
        (folder, HeldOut::new(Shard::open(&path).unwrap()).unwrap())
    }

    #[test]
    fn windows_start_at_the_separator_and_go_on_where_the_last_one_ended() {
        let (_folder, held_out) = held_out(&[5, 2]);
        let window = |document, inputs: &[u32], targets: &[u32]| Window {
            document,
            inputs: inputs.to_vec(),
            targets: targets.to_vec(),
            measured: None,
        };
        let windows: Vec<_> = held_out.windows(3).unwrap().collect();
        assert_eq!(
            windows,
            [
                window(0, &[0, 1, 2], &[1, 2, 3]),
                window(0, &[3, 4], &[4, 5]),
                window(1, &[0, 6], &[6, 7])
            ]
        );
        assert!(matches!(held_out.windows(0).err(), Some(Error::Value { .. })));
    }

    #[test]
    fn the_halves_share_no_document_and_keep_clusters_whole() {
        let both = |clusters: &[Option<usize>]| [Half::A, Half::B].map(|h| h.places(clusters));
        for n in [0, 1, 2, 7, 100] {
            let [a, b] = both(&vec![None; n]);
            assert_eq!((a.len(), b.len()), (n.div_ceil(2), n / 2));
            let mut all = [a, b].concat();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..n));
        }
        // Ten clusters of four documents that take turns, and twenty documents of their own.
        let clusters: Vec<_> = (0..60).map(|at| (at % 3 > 0).then_some(at % 10)).collect();
        let [a, b] = both(&clusters);
        let of = |half: &[usize]| -> BTreeSet<_> {
            half.iter().filter_map(|place| clusters[*place]).collect()
        };
        assert!(of(&a).is_disjoint(&of(&b)) && !of(&a).is_empty() && !of(&b).is_empty());
        assert!(a.is_sorted() && b.is_sorted());
        assert_eq!(a.len() + b.len(), 60);
        // One cluster cannot be halved.
        assert_eq!(both(&[Some(0); 3]), [vec![0, 1, 2], vec![]]);
    }

    #[test]
    fn a_half_has_its_clusters_whole() {
        let (_folder, mut held_out) = held_out(&[3, 1, 4, 1, 5, 9]);
        for (at, document) in held_out.documents.iter_mut().enumerate() {
            document.cluster = Some(["odd", "even", "own"][at % 3].to_owned());
        }
        assert_eq!(held_out.clusters(), [0, 1, 2, 0, 1, 2].map(Some));
        let [a, b] = [Half::A, Half::B].map(|half| held_out.clone().half(half));
        let clusters = |half: &HeldOut| -> BTreeSet<_> {
            half.documents().iter().map(|document| document.cluster.clone()).collect()
        };
        assert_eq!((a.documents().len(), b.documents().len()), (4, 2));
        assert!(clusters(&a).is_disjoint(&clusters(&b)));
        assert_eq!(a.tokens() + b.tokens(), 23);
        assert!(!a.is_whole() && !b.is_whole());
    }

    #[test]
    fn takes_documents_from_the_whole_list() {
        let kept = shares(&[10; 100], 95);
        let places: Vec<usize> = (0..100).filter(|&index| kept[index] > 0).collect();
        assert_eq!(places.len(), 10);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] <= 25), "{places:?}");
        assert_eq!(kept.iter().sum::<usize>(), 95);
        assert_eq!(shares(&[10; 3], usize::MAX), [10; 3]);
        assert_eq!(shares(&[10; 3], 0), [0; 3]);
    }

    #[test]
    fn a_long_document_does_not_stand_for_all() {
        let mut lengths = [3_000; 50];
        lengths[0] = 1_000_000;
        let kept = shares(&lengths, 64_000);
        assert_eq!(kept.iter().filter(|&&kept| kept == 2_000).count(), 32);
        // Few documents: as much of the long ones as is missing.
        assert_eq!(shares(&[100, 90_000, 80_000], 64_100), [100, 32_000, 32_000]);
    }

    #[test]
    fn a_beginning_ends_with_a_whole_character_and_counts_its_own_bytes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.txt"), "é🦀 ".repeat(3000)).unwrap();
        std::fs::write(folder.path().join("b.txt"), "b ".repeat(3000)).unwrap();
        let config = crate::DataConfig {
            paths: vec![folder.path().into()],
            vocab_size: 257,
            held_out: 0.5,
            ..crate::DataConfig::default()
        };
        let prepared = crate::prepare(&config, &folder.path().join("cache"), &mut |_| {}).unwrap();
        let tokenizer = prepared.tokenizer().unwrap();
        let whole = prepared.held_out().unwrap();
        assert!(whole.is_whole());
        let text = &whole.texts(&tokenizer).unwrap()[0];
        // Every token is a byte, so wherever a character ends a part can end.
        for asked in 493..=500 {
            let part = prepared.held_out_part(Some(asked)).unwrap();
            let texts = part.texts(&tokenizer).unwrap();
            assert!(!part.is_whole() && text.starts_with(&texts[0]), "{asked}");
            let ends = (0..=asked).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            assert_eq!((part.tokens(), part.bytes(), texts[0].len()), (ends, ends, ends));
        }
        assert!(prepared.held_out_part(None).unwrap().is_whole());
        assert!(prepared.held_out_part(Some(usize::MAX)).unwrap().is_whole());
    }

    proptest! {
        // Every case writes and syncs files.
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn every_token_is_scored_once(
            lengths in prop::collection::vec(0_usize..40, 0..12),
            seq_len in 1_usize..20,
        ) {
            let (_folder, held_out) = held_out(&lengths);
            let mut targets = Vec::new();
            for window in held_out.windows(seq_len).unwrap() {
                prop_assert!(!window.targets.is_empty() && window.targets.len() <= seq_len);
                prop_assert_eq!(window.inputs.len(), window.targets.len());
                targets.extend(window.targets);
            }
            let tokens = held_out.tokens();
            prop_assert_eq!(targets, (1..=tokens as u32).collect::<Vec<_>>());
        }

        #[test]
        fn a_part_is_as_large_as_asked_and_no_document_fills_it(
            lengths in prop::collection::vec(0_usize..9000, 1..60),
            tokens in 0_usize..400_000,
        ) {
            let kept = shares(&lengths, tokens);
            prop_assert!(kept.iter().zip(&lengths).all(|(kept, length)| kept <= length));
            let all: usize = lengths.iter().sum();
            prop_assert_eq!(kept.iter().sum::<usize>(), tokens.min(all));
            // More of a document than its part only where all give as much.
            let most = kept.iter().copied().max().unwrap_or(0);
            let short = |(kept, length): (&usize, &usize)| kept < length && *kept + 1 < most;
            let shorter = kept.iter().zip(&lengths).filter(|pair| short(*pair)).count();
            prop_assert!(most <= PART.max(tokens / PARTS) || shorter <= 1, "{:?}", kept);
        }
    }
}
