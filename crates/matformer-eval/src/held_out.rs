//! Held-out loss of many submodels, document by document.

use std::cmp::Reverse;

use matformer_core::Submodel;
use matformer_data::{DocumentSpan, HeldOut, Window};
use matformer_exchange::Exchange;
use matformer_lm::MatLm;
use matformer_nn::{Output, Walked};

use crate::{
    DocumentLoss, Documents, Error, Evaluation, HeldOutBatch, HeldOutSet, Measured, Reference,
    Result, Subject, Unit, Walks, evaluate::FEW, measure,
};

/// A model that reads tokens from left to right and predicts the next.
pub trait TokenModel: Measured {
    /// A batch of `rows` rows out of row-major tokens; where `mask` is given, only targets with
    /// `true` count.
    ///
    /// # Errors
    /// When the tokens do not form equal rows or one is not in the vocabulary.
    fn batch(
        &self,
        rows: usize,
        inputs: &[u32],
        targets: &[u32],
        mask: Option<&[bool]>,
    ) -> Result<(Self::Input, Self::Target)>;

    /// Of each row, the highest rank among its targets that count: how many other tokens are as likely as the target,
    /// or likelier.
    ///
    /// # Errors
    /// When the device cannot be read.
    fn token_ranks(
        &self,
        walked: &Walked,
        unit: usize,
        target: &Self::Target,
    ) -> Result<Vec<usize>>;
}

impl Measured for MatLm {
    fn ranks(&self, _: &Walked, _: usize, _: &Self::Target) -> Result<Option<Vec<usize>>> {
        Ok(None)
    }

    fn choices(&self, output: &Output, target: &Self::Target) -> Result<Vec<Vec<u32>>> {
        Ok(self.greedy(output, target)?)
    }
}

impl TokenModel for MatLm {
    fn batch(
        &self,
        rows: usize,
        inputs: &[u32],
        targets: &[u32],
        mask: Option<&[bool]>,
    ) -> Result<(Self::Input, Self::Target)> {
        Ok((self.tokens(rows, inputs)?, self.targets(rows, targets, mask)?))
    }

    fn token_ranks(
        &self,
        walked: &Walked,
        unit: usize,
        target: &Self::Target,
    ) -> Result<Vec<usize>> {
        Ok(self.ranks(&walked.of(unit), target)?)
    }
}

/// What suits few submodels: a forward pass through 16 of them then works on blocks that an allocator keeps, not
/// on pages that the system hands out anew each time.
pub const WINDOWS: Walks = Walks { rows: 2, submodels: FEW };

/// Measures `submodels` on held-out documents, as [`measure`]. Each token is predicted once, from
/// what precedes it in its window.
///
/// Windows of like length, each of at most `context` tokens, share a batch ([`WINDOWS`]), so that
/// little is padded; padding never counts.
///
/// # Errors
/// [`Error::Zero`], [`Error::Nothing`], [`Error::Lm`] for a token that the model does not know; as
/// [`measure`].
pub fn evaluate<'a, M: TokenModel + 'a>(
    subject: impl Into<Subject<'a, M>>,
    held_out: &HeldOut,
    context: usize,
    submodels: &[Submodel],
    walks: Walks,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Evaluation> {
    let batches = window_batches(held_out, context, walks.rows)?;
    let documents = Documents {
        unread: unread(held_out).collect(),
        name: &|index| held_out.documents()[index].name.clone(),
        whole: held_out.is_whole(),
        context: Some(context),
    };
    let batches = batches.iter().map(Ok);
    measure(subject, batches, held_out.tokens(), &documents, submodels, walks.submodels, progress)
}

/// Held-out documents as a store measures them.
pub struct TextSet<'a, M> {
    /// The documents.
    pub held_out: &'a HeldOut,
    /// Most tokens that a prediction is made from.
    pub context: usize,
    /// How a measurement is cut up.
    pub walks: Walks,
    /// What submodels are compared with; by their losses where there is none.
    pub reference: Option<Reference<'a, M>>,
    /// The ranks that measure together.
    pub ranks: Exchange,
}

impl<M: TokenModel> HeldOutSet<M> for TextSet<'_, M> {
    fn units(&self) -> Vec<(Unit, DocumentLoss)> {
        text_units(self.held_out)
    }

    fn is_whole(&self) -> bool {
        self.held_out.is_whole()
    }

    fn context(&self) -> Option<usize> {
        Some(self.context)
    }

    fn piece(&self) -> usize {
        1 << 14
    }

    fn measure(
        &self,
        model: &M,
        places: &[usize],
        submodels: &[Submodel],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Evaluation> {
        let held_out = self.held_out.only(places);
        let subject = Subject { model, reference: self.reference, ranks: self.ranks.clone() };
        evaluate(subject, &held_out, self.context, submodels, self.walks, progress)
    }
}

/// Documents, each with its loss before it is read.
pub fn text_units(held_out: &HeldOut) -> Vec<(Unit, DocumentLoss)> {
    let of = |document: &DocumentSpan| Unit { start: document.start, targets: document.targets() };
    held_out.documents().iter().map(of).zip(unread(held_out)).collect()
}

fn unread(held_out: &HeldOut) -> impl Iterator<Item = DocumentLoss> {
    let unread = |(document, cluster): (&DocumentSpan, Option<usize>)| DocumentLoss {
        bytes: document.bytes,
        cluster,
        source: document.source,
        ..DocumentLoss::default()
    };
    held_out.documents().iter().zip(held_out.clusters()).map(unread)
}

/// Windows as rows of one length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowBatch {
    /// Of each row, its document.
    pub documents: Vec<usize>,
    /// The source of all rows, where the data has several.
    pub source: Option<usize>,
    /// Targets that count.
    pub tokens: usize,
    /// Row-major; padded with token 0, which nothing before it sees.
    inputs: Vec<u32>,
    /// Row-major.
    targets: Vec<u32>,
    /// Which targets count, where not all do.
    mask: Option<Vec<bool>>,
}

impl<M: TokenModel> HeldOutBatch<M> for &WindowBatch {
    fn documents(&self) -> &[usize] {
        &self.documents
    }

    fn targets(&self) -> usize {
        self.tokens
    }

    fn on(&self, model: &M) -> Result<(M::Input, M::Target)> {
        model.batch(self.documents.len(), &self.inputs, &self.targets, self.mask.as_deref())
    }
}

/// All windows of at most `context` targets, those of each source apart, the longest first (little is padded),
/// `rows` to a batch.
///
/// # Errors
/// [`Error::Zero`] for no rows or context, [`Error::Nothing`] for no windows.
pub fn window_batches(held_out: &HeldOut, context: usize, rows: usize) -> Result<Vec<WindowBatch>> {
    if rows == 0 {
        return Err(Error::Zero { option: "batch_rows" });
    }
    let mut windows: Vec<Window> = held_out.windows(context)?.collect();
    if windows.is_empty() {
        return Err(Error::Nothing { unit: "tokens" });
    }
    let source = |window: &Window| held_out.documents()[window.document].source;
    // Stable: the same batches again.
    windows.sort_by_key(|window| (source(window), Reverse(window.targets.len())));
    let of_one = windows.chunk_by(|a, b| source(a) == source(b));
    Ok(of_one.flat_map(|of| of.chunks(rows).map(|rows| pad(rows, source(&of[0])))).collect())
}

fn pad(windows: &[Window], source: Option<usize>) -> WindowBatch {
    let len = |window: &Window| window.targets.len();
    let seq = windows.iter().map(len).max().unwrap_or(0);
    let padded = |tokens: &[u32]| {
        let mut row = tokens.to_vec();
        row.resize(seq, 0);
        row
    };
    let counts = |window: &Window| {
        let counts = |at| match &window.measured {
            Some(flags) => flags.get(at).is_some_and(|flag| *flag),
            None => at < len(window),
        };
        (0..seq).map(counts).collect::<Vec<_>>()
    };
    let tokens = windows.iter().map(Window::measured).sum();
    WindowBatch {
        documents: windows.iter().map(|window| window.document).collect(),
        source,
        tokens,
        inputs: windows.iter().flat_map(|w| padded(&w.inputs)).collect(),
        targets: windows.iter().flat_map(|w| padded(&w.targets)).collect(),
        mask: (tokens < seq * windows.len()).then(|| windows.iter().flat_map(counts).collect()),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use matformer_core::mix;
    use matformer_data::{Hash, Shard};
    use matformer_lm::{MatLmConfig, score};
    use matformer_nn::Elastic;

    use super::*;
    use crate::{Store, StoreKey, SubmodelLosses, stats};

    const VOCAB: u32 = 48;

    fn model(context: usize) -> MatLm {
        let config = MatLmConfig {
            vocab_size: VOCAB as usize,
            d_model: 16,
            n_layers: 6,
            n_heads: 2,
            n_kv_heads: 1,
            d_ff: 32,
            width_multiple: 4,
            context,
            ..MatLmConfig::default()
        };
        MatLm::new(&config, 1, &Device::flex()).unwrap()
    }

    /// Documents of these lengths behind the separator 0.
    fn held_out(lengths: &[usize]) -> (tempfile::TempDir, HeldOut) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("held_out.bin");
        let (mut tokens, mut documents) = (Vec::new(), Vec::new());
        for (index, &length) in lengths.iter().enumerate() {
            documents.push(DocumentSpan {
                name: format!("d{index}"),
                start: tokens.len(),
                tokens: length,
                bytes: 3 * length,
                answers: None,
                cluster: None,
                source: None,
            });
            tokens.push(0);
            let text = (0..length).map(|at| 1 + (at * at + 7 * index) as u32 % (VOCAB - 1));
            tokens.extend(text);
        }
        Shard::write(&path, &tokens, Hash::of(b""), VOCAB as usize).unwrap();
        let line = |span| serde_json::to_string(span).unwrap() + "\n";
        let list: String = documents.iter().map(line).collect();
        std::fs::write(folder.path().join("held_out.docs.jsonl"), list).unwrap();
        (folder, HeldOut::new(Shard::open(&path).unwrap()).unwrap())
    }

    fn run(model: &MatLm, held_out: &HeldOut, submodels: &[Submodel]) -> Result<Evaluation> {
        let walks = Walks { rows: 3, submodels: 16 };
        evaluate(model, held_out, model.config().context, submodels, walks, &mut |_, _| {})
    }

    #[test]
    fn documents_get_the_sum_of_their_tokens_log_probabilities() {
        let (model, lengths) = (model(64), [5, 40, 1, 17, 64, 17]);
        let (_folder, held_out) = held_out(&lengths);
        let submodels = [model.space().smallest(), model.space().largest()];
        let found = run(&model, &held_out, &submodels).unwrap();
        let windows: Vec<Window> = held_out.windows(64).unwrap().collect();
        for submodel in &submodels {
            let losses = found.losses(submodel).unwrap();
            for (window, loss) in windows.iter().zip(losses) {
                let mut text = window.inputs.clone();
                text.extend(window.targets.last());
                let logprobs = score(&model, submodel, &text).unwrap();
                let nats: f32 = logprobs.into_iter().flatten().map(|l| -l).sum();
                assert_eq!(loss.tokens, lengths[window.document]);
                assert_eq!(loss.bytes, 3 * loss.tokens);
                let off = (loss.nats - f64::from(nats)).abs();
                assert!(off < 1e-4 * loss.nats, "{loss:?} against {nats}");
            }
        }
    }

    #[test]
    fn many_submodels_are_measured_as_each_alone() {
        let model = model(8);
        let (_folder, held_out) = held_out(&[20, 9, 3, 31]);
        let mut submodels = mix::curve(model.space()); // 19: more than one walk
        submodels.reverse();
        submodels.push(submodels[3].clone());
        let mut seen = Vec::new();
        let mut progress = |done, total| seen.push((done, total));
        let all = evaluate(&model, &held_out, 8, &submodels, WINDOWS, &mut progress).unwrap();
        assert_eq!(seen.last(), Some(&(2 * 63, 2 * 63)));
        assert!(seen.is_sorted());
        assert_eq!((all.n_documents(), all.tokens(), all.whole), (4, 63, true));
        assert_eq!(all.submodels.len(), 20);
        for losses in &all.submodels {
            let alone = run(&model, &held_out, std::slice::from_ref(&losses.submodel)).unwrap();
            for (a, b) in losses.documents.iter().zip(&alone.submodels[0].documents) {
                assert!((a.nats - b.nats).abs() < 1e-4 * b.nats, "{a:?} {b:?}");
            }
        }
        let difference =
            stats::difference(&all.submodels[0].documents, &all.submodels[5].documents);
        assert!(difference.unwrap().value != 0.0);
    }

    #[test]
    fn a_sweep_comes_to_what_each_submodel_alone_does() {
        let model = model(8);
        let (_folder, held_out) = held_out(&[20, 9, 3, 31]);
        let space = model.space();
        // Mix'n'Match's and their mirror images, more than one forward pass of them.
        let mut submodels = mix::curve(space);
        let mirrored = |s: &Submodel| Submodel::new(s.widths().iter().rev().copied().collect());
        submodels.extend(submodels.clone().iter().map(mirrored));
        let folder = tempfile::tempdir().unwrap();
        for (weights, bytes) in [("w", 1 << 12), ("v", 1 << 20)] {
            let walks = Walks::within(bytes, 8, model.config().d_model, space.d_ff);
            let key = StoreKey { weights, data: "d", context: Some(8) };
            let mut store = Store::open(folder.path(), &key).unwrap();
            // First a part of the documents: what they come to does not depend on the others.
            let mut found = Vec::new();
            for held_out in [held_out.only(&[1, 3]), held_out.clone()] {
                let (reference, ranks) = (None, Exchange::local());
                let set = TextSet { held_out: &held_out, context: 8, walks, reference, ranks };
                let studied = store.evaluate(&model, &set, &submodels, &mut |_, _| {}).unwrap();
                found = studied.evaluation.submodels;
            }
            for SubmodelLosses { submodel, documents } in found {
                let alone = run(&model, &held_out, std::slice::from_ref(&submodel)).unwrap();
                for (found, alone) in documents.iter().zip(&alone.submodels[0].documents) {
                    assert!((found.nats - alone.nats).abs() < 1e-4, "{found:?} {alone:?}");
                    assert_eq!(
                        DocumentLoss { nats: 0.0, ..*found },
                        DocumentLoss { nats: 0.0, ..*alone }
                    );
                }
            }
        }
    }

    #[test]
    fn batches_pad_little_and_repeat() {
        let (_folder, held_out) = held_out(&[5, 2, 9, 2]);
        let found = window_batches(&held_out, 4, 2).unwrap();
        let shapes: Vec<_> = found
            .iter()
            .map(|batch| (batch.documents.clone(), batch.tokens, batch.inputs.len()))
            .collect();
        assert_eq!(
            shapes,
            [(vec![0, 2], 8, 8), (vec![2, 1], 6, 8), (vec![3, 0], 3, 4), (vec![2], 1, 1)]
        );
        let masks: Vec<_> = found.iter().map(|batch| batch.mask.clone()).collect();
        let [t, f] = [true, false];
        assert_eq!(masks, [None, Some(vec![t, t, t, t, t, t, f, f]), Some(vec![t, t, t, f]), None]);
        assert_eq!(found, window_batches(&held_out, 4, 2).unwrap());
    }

    #[test]
    fn what_cannot_be_measured_is_said() {
        let model = model(8);
        let submodels = [model.space().largest()];
        let (_folder, some) = held_out(&[4]);
        let (_other, none) = held_out(&[]);
        assert!(matches!(run(&model, &none, &submodels), Err(Error::Nothing { .. })));
        assert!(matches!(run(&model, &some, &[]), Err(Error::Core(_))));
        assert!(matches!(run(&model, &some, &[Submodel::uniform(3, 6)]), Err(Error::Core(_))));
        assert!(matches!(window_batches(&some, 8, 0), Err(Error::Zero { option: "batch_rows" })));
        let evaluation = run(&model, &some, &submodels).unwrap();
        let message = evaluation.losses(&model.space().smallest()).unwrap_err();
        assert_eq!(message.to_string(), "submodel `4x6` was not evaluated, expected one of `32x6`");
    }
}
