//! Held-out loss of many submodels, document by document.

use std::cmp::Reverse;

use matformer_core::{Plan, Submodel};
use matformer_data::{DocumentSpan, HeldOut, Window};
use matformer_lm::MatLm;
use matformer_nn::{Elastic, RowLoss, State, row_losses, walk};

use crate::{DocumentLoss, Error, Result};

/// Submodels of one walk: bounds its memory to 16 copies of the batch.
const MAX_UNITS: usize = 16;

/// A model that reads tokens from left to right and predicts the next.
pub trait TokenModel: Elastic {
    /// The most tokens that a row may have.
    fn context(&self) -> usize;

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
}

impl TokenModel for MatLm {
    fn context(&self) -> usize {
        self.config().context
    }

    fn batch(
        &self,
        rows: usize,
        inputs: &[u32],
        targets: &[u32],
        mask: Option<&[bool]>,
    ) -> Result<(Self::Input, Self::Target)> {
        Ok((self.tokens(rows, inputs)?, self.targets(rows, targets, mask)?))
    }
}

/// Windows of one batch that suit many submodels: a walk through 16 of them then works on blocks
/// that an allocator keeps, not on pages that the system hands out anew each time.
pub const BATCH_ROWS: usize = 2;

/// Losses of some submodels on the same held-out documents.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// One entry per submodel, in the order in which they were given.
    pub submodels: Vec<SubmodelLosses>,
    /// Whether all held-out documents were read to their end.
    pub whole: bool,
}

/// Loss of one submodel, document by document.
#[derive(Debug, Clone, PartialEq)]
pub struct SubmodelLosses {
    /// The submodel.
    pub submodel: Submodel,
    /// One entry per document, the same documents for all submodels of an evaluation.
    pub documents: Vec<DocumentLoss>,
}

impl Evaluation {
    /// Documents that were read.
    pub fn n_documents(&self) -> usize {
        self.first().len()
    }

    /// Tokens that were predicted.
    pub fn tokens(&self) -> usize {
        self.first().iter().map(|document| document.tokens).sum()
    }

    /// The losses of a submodel.
    ///
    /// # Errors
    /// [`Error::NotEvaluated`] if it is not among the submodels.
    pub fn losses(&self, submodel: &Submodel) -> Result<&[DocumentLoss]> {
        let found = self.submodels.iter().find(|s| s.submodel == *submodel);
        found.map(|s| s.documents.as_slice()).ok_or_else(|| Error::NotEvaluated {
            submodel: submodel.to_string(),
            evaluated: self.submodels.iter().map(|s| format!("`{}`", s.submodel)).collect(),
        })
    }

    fn first(&self) -> &[DocumentLoss] {
        self.submodels.first().map_or(&[], |s| &s.documents)
    }
}

/// Measures `submodels` on held-out documents: every batch goes through all of them in one walk
/// (through several, of at most 16 submodels, where there are more). Each token is predicted once,
/// from what precedes it in its window. The result does not depend on the order of the submodels.
///
/// `batch_rows` windows of like length, each of at most the model's context, share a batch
/// ([`BATCH_ROWS`]), so that little is padded; padding never counts. Give a model without gradients (`valid()`). `progress(done, total)` counts predicted tokens, once per
/// walk.
///
/// # Errors
/// [`Error::Zero`], [`Error::Nothing`]; [`Error::Core`] for a submodel that the model cannot run,
/// [`Error::Lm`] for a token that it does not know, [`Error::NotFinite`] for a loss that is no
/// number.
pub fn evaluate<M: TokenModel>(
    model: &M,
    held_out: &HeldOut,
    submodels: &[Submodel],
    batch_rows: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Evaluation> {
    for submodel in submodels {
        model.space().check(submodel)?;
    }
    let batches = window_batches(held_out, model.context(), batch_rows)?;
    // Sorted, so that submodels which share their first layers share a walk.
    let mut distinct = submodels.to_vec();
    distinct.sort();
    distinct.dedup();
    let plans = plans(&distinct)?;
    let empty: Vec<DocumentLoss> = held_out.documents().iter().map(unread).collect();
    let mut sums = vec![empty; distinct.len()];
    let (mut done, total) = (0, held_out.tokens() * plans.len());
    for batch in &batches {
        let (input, target) = batch.on(model)?;
        for (plan, sums) in plans.iter().zip(sums.chunks_mut(MAX_UNITS)) {
            let walked = walk(model, &input, plan, &mut State::new())?;
            let losses = row_losses(model, &walked, &target);
            for (loss, sums) in losses.into_iter().zip(sums) {
                add(sums, &batch.documents, loss)?;
            }
            done += batch.tokens;
            progress(done, total);
        }
    }
    check_finite(held_out, &distinct, &sums)?;
    let of = |submodel: &Submodel| SubmodelLosses {
        submodel: submodel.clone(),
        documents: sums[distinct.partition_point(|other| other < submodel)].clone(),
    };
    Ok(Evaluation { submodels: submodels.iter().map(of).collect(), whole: held_out.is_whole() })
}

/// Plans of at most [`MAX_UNITS`] submodels each.
fn plans(submodels: &[Submodel]) -> Result<Vec<Plan>> {
    if submodels.is_empty() {
        return Err(matformer_core::Error::NoSubmodels.into());
    }
    let plans = submodels.chunks(MAX_UNITS).map(Plan::merged);
    Ok(plans.collect::<matformer_core::Result<_>>()?)
}

/// Windows as rows of one length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowBatch {
    /// Of each row, its document.
    pub documents: Vec<usize>,
    /// Targets that count.
    pub tokens: usize,
    /// Row-major; padded with token 0, which nothing before it sees.
    inputs: Vec<u32>,
    /// Row-major.
    targets: Vec<u32>,
    /// Which targets count, where not all do.
    mask: Option<Vec<bool>>,
}

impl WindowBatch {
    /// The batch on the model's device.
    ///
    /// # Errors
    /// When a token is not in the model's vocabulary.
    pub fn on<M: TokenModel>(&self, model: &M) -> Result<(M::Input, M::Target)> {
        model.batch(self.documents.len(), &self.inputs, &self.targets, self.mask.as_deref())
    }
}

/// All windows of at most `context` targets, the longest first (little is padded), `rows` to a
/// batch.
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
    windows.sort_by_key(|window| Reverse(window.targets.len())); // stable: the same batches again
    Ok(windows.chunks(rows).map(pad).collect())
}

fn pad(windows: &[Window]) -> WindowBatch {
    let len = |window: &Window| window.targets.len();
    let seq = windows.iter().map(len).max().unwrap_or(0);
    let padded = |tokens: &[u32]| {
        let mut row = tokens.to_vec();
        row.resize(seq, 0);
        row
    };
    let counts = |window: &Window| (0..seq).map(move |at| at < len(window)).collect::<Vec<_>>();
    let tokens = windows.iter().map(len).sum();
    WindowBatch {
        documents: windows.iter().map(|window| window.document).collect(),
        tokens,
        inputs: windows.iter().flat_map(|w| padded(&w.inputs)).collect(),
        targets: windows.iter().flat_map(|w| padded(&w.targets)).collect(),
        mask: (tokens < seq * windows.len()).then(|| windows.iter().flat_map(counts).collect()),
    }
}

fn unread(document: &DocumentSpan) -> DocumentLoss {
    DocumentLoss { bytes: document.bytes, ..DocumentLoss::default() }
}

/// Adds each row's loss to its document's.
fn add(sums: &mut [DocumentLoss], documents: &[usize], loss: RowLoss) -> Result<()> {
    let nats: Vec<f32> = loss.nats.try_into_vec_as().map_err(|error| {
        matformer_nn::Error::Read { tensor: "losses".to_owned(), message: error.to_string() }
    })?;
    for ((&document, nats), count) in documents.iter().zip(nats).zip(loss.counts) {
        if let Some(sum) = sums.get_mut(document) {
            sum.nats += f64::from(nats);
            sum.tokens += count;
        }
    }
    Ok(())
}

fn check_finite(
    held_out: &HeldOut,
    submodels: &[Submodel],
    sums: &[Vec<DocumentLoss>],
) -> Result<()> {
    for (submodel, sums) in submodels.iter().zip(sums) {
        for (document, sum) in held_out.documents().iter().zip(sums) {
            if !sum.nats.is_finite() {
                return Err(Error::NotFinite {
                    submodel: submodel.to_string(),
                    document: document.name.clone(),
                    found: sum.nats,
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use matformer_core::mix;
    use matformer_data::{Hash, Shard};
    use matformer_lm::{MatLmConfig, score};

    use super::*;
    use crate::stats;

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
        evaluate(model, held_out, submodels, 3, &mut |_, _| {})
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
        let all = evaluate(&model, &held_out, &submodels, BATCH_ROWS, &mut progress).unwrap();
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

    #[test]
    fn a_loss_that_is_no_number_names_its_document() {
        let (_folder, held_out) = held_out(&[1, 1]);
        let mut sums = vec![vec![DocumentLoss::default(); 2]];
        let submodels = [Submodel::uniform(4, 6)];
        assert!(check_finite(&held_out, &submodels, &sums).is_ok());
        sums[0][1].nats = f64::NAN;
        let error = check_finite(&held_out, &submodels, &sums).unwrap_err();
        assert_eq!(
            error.to_string(),
            "loss of submodel `4x6` on document `d1`: NaN, expected a finite number"
        );
        assert!(error.hint().is_some());
    }
}
