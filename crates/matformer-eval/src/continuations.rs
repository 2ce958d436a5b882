//! Log-likelihoods of texts given other texts, for many submodels in one walk.

use std::cmp::Reverse;

use matformer_core::Submodel;

use crate::{DocumentLoss, Documents, Error, HeldOutBatch, Result, TokenModel, Walks, measure};

/// A row of tokens of which the last ones are scored, given all before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// At least one more than are scored.
    pub tokens: Vec<u32>,
    /// Number of tokens at the end whose loss counts.
    pub scored: usize,
}

/// Of each submodel, in the order given, the summed nats of each continuation. Rows of similar length share a batch.
///
/// # Errors
/// [`Error::Nothing`] for no rows, or one in which nothing is scored or nothing precedes what is; as [`measure`].
pub fn continuation_nats<M: TokenModel>(
    model: &M,
    rows: &[Continuation],
    name: &dyn Fn(usize) -> String,
    submodels: &[Submodel],
    walks: Walks,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Vec<f64>>> {
    let is_bad = |row: &Continuation| row.scored == 0 || row.tokens.len() <= row.scored;
    if rows.is_empty() || rows.iter().any(is_bad) {
        return Err(Error::Nothing { unit: "tokens" });
    }
    if walks.rows == 0 {
        return Err(Error::Zero { option: "batch_rows" });
    }
    let batches = batches(rows, walks.rows);
    let documents = Documents {
        unread: vec![DocumentLoss::default(); rows.len()],
        name,
        whole: true,
        context: None,
    };
    let targets = rows.iter().map(|row| row.scored).sum();
    let evaluation =
        measure(model, batches, targets, &documents, submodels, walks.submodels, progress)?;
    let nats = |losses: Vec<DocumentLoss>| losses.into_iter().map(|loss| loss.nats).collect();
    Ok(evaluation.submodels.into_iter().map(|losses| nats(losses.documents)).collect())
}

/// All rows, the longest first, `n` to a batch.
pub(crate) fn batches(rows: &[Continuation], n: usize) -> impl Iterator<Item = Result<Batch<'_>>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&at| Reverse(rows[at].tokens.len())); // stable: the same batches again
    let batches: Vec<Vec<usize>> = order.chunks(n.max(1)).map(<[_]>::to_vec).collect();
    batches.into_iter().map(|places| Ok(Batch { rows, places }))
}

/// Some of the rows, padded to the longest.
pub(crate) struct Batch<'a> {
    rows: &'a [Continuation],
    places: Vec<usize>,
}

impl<M: TokenModel> HeldOutBatch<M> for Batch<'_> {
    fn documents(&self) -> &[usize] {
        &self.places
    }

    fn targets(&self) -> usize {
        self.places.iter().map(|&at| self.rows[at].scored).sum()
    }

    fn on(&self, model: &M) -> Result<(M::Input, M::Target)> {
        let rows = || self.places.iter().map(|&at| &self.rows[at]);
        let len = rows().map(|row| row.tokens.len() - 1).max().unwrap_or_default();
        let (mut inputs, mut targets, mut mask) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows() {
            let n = row.tokens.len() - 1;
            // Padded with token 0, which nothing before it sees.
            let padding = || std::iter::repeat_n(0, len - n);
            inputs.extend(row.tokens[..n].iter().copied().chain(padding()));
            targets.extend(row.tokens[1..].iter().copied().chain(padding()));
            mask.extend((0..len).map(|at| at < n && at >= n - row.scored));
        }
        model.batch(self.places.len(), &inputs, &targets, Some(&mask))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use matformer_lm::{MatLm, MatLmConfig, score};
    use matformer_nn::Elastic;

    use super::*;
    use crate::WINDOWS;

    #[test]
    fn nats_are_those_of_each_row_alone() {
        let config = MatLmConfig {
            vocab_size: 32,
            d_model: 16,
            n_layers: 2,
            n_heads: 2,
            n_kv_heads: 1,
            d_ff: 32,
            width_multiple: 4,
            context: 16,
            ..MatLmConfig::default()
        };
        let model = MatLm::new(&config, 1, &Device::flex()).unwrap();
        let submodels = [model.space().largest(), Submodel::uniform(8, 2)];
        let row = |len: u32, scored| Continuation {
            tokens: (0..len).map(|at| (7 * at + len) % 32).collect(),
            scored,
        };
        let rows = [row(5, 1), row(17, 16), row(9, 4)];
        let name = |at| format!("row {at}");
        let found =
            continuation_nats(&model, &rows, &name, &submodels, WINDOWS, &mut |_, _| {}).unwrap();
        for (submodel, found) in submodels.iter().zip(&found) {
            for (row, found) in rows.iter().zip(found) {
                let alone = score(&model, submodel, &row.tokens[..row.tokens.len()]);
                let Ok(alone) = alone else { continue }; // one more than the context
                let logprobs = alone[row.tokens.len() - row.scored..].iter().flatten();
                let expected = -f64::from(logprobs.sum::<f32>());
                assert!((found - expected).abs() < 1e-4, "{found} {expected}");
            }
        }
        assert!((found[0][0] - found[1][0]).abs() > 1e-6, "submodels differ");
        let none =
            continuation_nats(&model, &[row(4, 4)], &name, &submodels, WINDOWS, &mut |_, _| {});
        assert!(none.is_err());
    }
}
