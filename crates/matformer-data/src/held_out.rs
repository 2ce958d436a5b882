//! The held-out documents, cut into windows in which every token is scored exactly once.

use crate::{DocumentSpan, Error, Result, Shard, Tokenizer};

/// Held-out documents, whole, with the tokens that they are measured on.
#[derive(Debug, Clone)]
pub struct HeldOut {
    shard: Shard,
    documents: Vec<DocumentSpan>,
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
}

impl HeldOut {
    /// The documents of a shard, from the list beside it.
    ///
    /// # Errors
    /// As [`Shard::documents`].
    pub fn new(shard: Shard) -> Result<Self> {
        let documents = shard.documents()?;
        Ok(Self { shard, documents })
    }

    /// The documents, in the order of the shard.
    pub fn documents(&self) -> &[DocumentSpan] {
        &self.documents
    }

    /// Targets in all documents; separators are not among them.
    pub fn tokens(&self) -> usize {
        self.documents.iter().map(|document| document.tokens).sum()
    }

    /// Bytes of text in all documents.
    pub fn bytes(&self) -> usize {
        self.documents.iter().map(|document| document.bytes).sum()
    }

    /// The smallest number of whole documents, spread evenly over the list, that holds at least
    /// `tokens` tokens, or all documents. The same list and number give the same documents, and a
    /// larger number adds to them.
    pub fn take(self, tokens: usize) -> Self {
        // Multiples of the golden ratio, modulo one, fill the unit interval evenly at any length.
        let place = |index: usize| (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut order: Vec<_> = self.documents.into_iter().enumerate().collect();
        order.sort_by_key(|(index, _)| place(*index));
        let mut taken = 0;
        order.retain(|(_, document)| {
            let wanted = taken < tokens;
            taken += if wanted { document.tokens } else { 0 };
            wanted
        });
        order.sort_by_key(|(index, _)| *index);
        Self {
            shard: self.shard,
            documents: order.into_iter().map(|(_, document)| document).collect(),
        }
    }

    /// Every document as consecutive windows of at most `seq_len` targets, without overlap; a
    /// document's last is shorter.
    ///
    /// # Errors
    /// [`Error::Zero`] if `seq_len` is 0.
    pub fn windows(&self, seq_len: usize) -> Result<impl Iterator<Item = Window> + '_> {
        if seq_len == 0 {
            return Err(Error::Zero { key: "seq_len" });
        }
        Ok(self.documents.iter().enumerate().flat_map(move |(index, document)| {
            let text = document.text();
            text.clone().step_by(seq_len).map(move |start| {
                let end = text.end.min(start.saturating_add(seq_len));
                Window {
                    document: index,
                    inputs: self.shard.iter(start - 1..end - 1).collect(),
                    targets: self.shard.iter(start..end).collect(),
                }
            })
        }))
    }

    /// The text of every document, decoded from its tokens.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn texts(&self, tokenizer: &Tokenizer) -> Result<Vec<String>> {
        let decode = |document: &DocumentSpan| {
            tokenizer.decode(&self.shard.iter(document.text()).collect::<Vec<_>>())
        };
        self.documents.iter().map(decode).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Hash;

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
            };
            documents.push(span);
            tokens.push(0);
            tokens.extend(next.by_ref().take(length));
        }
        Shard::write(&path, &tokens, Hash::of(b""), 1 << 20).unwrap();
        Shard::write_documents(&path, &documents).unwrap();
        (folder, HeldOut::new(Shard::open(&path).unwrap()).unwrap())
    }

    #[test]
    fn windows_start_at_the_separator_and_go_on_where_the_last_one_ended() {
        let (_folder, held_out) = held_out(&[5, 2]);
        let window = |document, inputs: &[u32], targets: &[u32]| Window {
            document,
            inputs: inputs.to_vec(),
            targets: targets.to_vec(),
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
        assert!(matches!(held_out.windows(0).err(), Some(Error::Zero { key: "seq_len" })));
    }

    #[test]
    fn takes_documents_from_the_whole_list() {
        let (_folder, held_out) = held_out(&[10; 100]);
        let taken = held_out.clone().take(95);
        assert_eq!(taken.documents().len(), 10);
        let places: Vec<usize> =
            taken.documents().iter().map(|document| document.name.parse().unwrap()).collect();
        assert!(places.is_sorted());
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] <= 25), "{places:?}");
        assert_eq!(held_out.clone().take(usize::MAX).documents(), held_out.documents());
        assert!(held_out.take(0).documents().is_empty());
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
        fn a_smaller_take_lies_inside_a_larger_one(
            lengths in prop::collection::vec(0_usize..40, 1..30),
            a in 0_usize..400,
            b in 0_usize..400,
        ) {
            let (_folder, held_out) = held_out(&lengths);
            let (small, large) = (held_out.clone().take(a.min(b)), held_out.clone().take(a.max(b)));
            let inside = |document| large.documents().contains(document);
            prop_assert!(small.documents().iter().all(inside));
            prop_assert!(small.tokens() >= a.min(b).min(held_out.tokens()));
        }
    }
}
