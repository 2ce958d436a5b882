//! Log-likelihoods of texts given other texts, for many submodels in one forward pass.

use std::{cmp::Reverse, collections::HashMap};

use matformer_core::{Submodel, fs};
use matformer_exchange::Exchange;
use matformer_nn::Walked;

use crate::{
    DocumentLoss, Documents, Error, Evaluation, HeldOutBatch, HeldOutSet, Result, Subject,
    TokenModel, Unit, evaluate::FEW, measure,
};

/// A row of tokens of which the last ones are scored, given all before them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Continuation {
    /// At least one more than are scored.
    pub tokens: Vec<u32>,
    /// Number of tokens at the end whose loss counts.
    pub scored: usize,
}

/// Continuations, each once, as a store measures them: a row is known by its tokens, whatever it is asked for.
#[derive(Debug, Clone)]
pub struct Continuations {
    rows: Vec<Continuation>,
    /// Of each row.
    names: Vec<String>,
    places: HashMap<Continuation, usize>,
    greedy: bool,
    /// Those that measure together.
    ranks: Exchange,
}

impl Continuations {
    /// No rows yet. With `greedy`, a row has a hit where each of its scored tokens is the likeliest.
    pub fn new(greedy: bool) -> Self {
        let (rows, names, places) = (Vec::new(), Vec::new(), HashMap::new());
        Self { rows, names, places, greedy, ranks: Exchange::local() }
    }

    /// Shares measurements from now on with the other ranks of `ranks`, which have the same rows and measure them at
    /// the same time, for a [helping](crate::Store::helping) store.
    pub fn share_among(&mut self, ranks: Exchange) {
        self.ranks = ranks;
    }

    /// Adds a row that is not there yet; its place among all. `name` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Nothing`] where nothing is scored, or nothing precedes what is.
    pub fn add(&mut self, row: Continuation, name: &str) -> Result<usize> {
        if row.scored == 0 || row.tokens.len() <= row.scored {
            return Err(Error::Nothing { unit: "tokens" });
        }
        if let Some(place) = self.places.get(&row) {
            return Ok(*place);
        }
        let place = self.rows.len();
        self.rows.push(row.clone());
        self.names.push(name.to_owned());
        self.places.insert(row, place);
        Ok(place)
    }

    /// Names what is measured, where a store asks for it: not the rows, which name themselves.
    pub fn data(&self) -> &'static str {
        if self.greedy { "continuations with hits" } else { "continuations" }
    }

    /// A hash of all rows.
    pub fn sha256(&self) -> String {
        fs::sha256_bytes(format!("{:?}", self.rows).as_bytes())
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Continuation {
    /// A number that other rows of as many scored tokens do not have.
    fn unit(&self) -> Unit {
        let bytes: Vec<u8> = self.tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        let hash = fs::sha256_bytes(&bytes);
        let start = usize::from_str_radix(&hash[..HASH], 16).unwrap_or_default();
        Unit { start, targets: self.scored }
    }
}

/// Digits of a hash that fit a number of any machine's.
const HASH: usize = usize::BITS as usize / 4;

/// Tokens of a batch, padding included, where one row does not have more.
const BATCH: usize = 512;

/// About how many tokens are walked through before they are kept.
const PIECE: usize = 1 << 15;

impl<M: TokenModel> HeldOutSet<M> for Continuations {
    fn units(&self) -> Vec<(Unit, DocumentLoss)> {
        self.rows.iter().map(|row| (row.unit(), DocumentLoss::default())).collect()
    }

    fn is_whole(&self) -> bool {
        true
    }

    fn context(&self) -> Option<usize> {
        None
    }

    fn piece(&self) -> usize {
        let tokens: usize = self.rows.iter().map(|row| row.tokens.len()).sum();
        let targets: usize = self.rows.iter().map(|row| row.scored).sum();
        (targets * PIECE).checked_div(tokens).unwrap_or(1).max(1)
    }

    fn measure(
        &self,
        model: &M,
        places: &[usize],
        submodels: &[Submodel],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Evaluation> {
        let subject = Subject { model, reference: None, ranks: self.ranks.clone() };
        self.measured(subject, places, submodels, progress)
    }
}

impl Continuations {
    /// Submodels on the rows at some places; rows of similar length share a batch.
    pub(crate) fn measured<'a, M: TokenModel + 'a>(
        &self,
        subject: impl Into<Subject<'a, M>>,
        places: &[usize],
        submodels: &[Submodel],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Evaluation> {
        let mut order: Vec<usize> = (0..places.len()).collect();
        let len = |at: usize| self.rows[places[at]].tokens.len() - 1;
        order.sort_by_key(|&at| Reverse(len(at))); // stable: the same batches again
        let mut batches = Vec::new();
        let mut rest = &order[..];
        while let Some(first) = rest.first() {
            let rows = (BATCH / len(*first)).clamp(1, rest.len());
            let (documents, others) = rest.split_at(rows);
            let rows = documents.iter().map(|&at| &self.rows[places[at]]).collect();
            batches.push(Batch { rows, documents, greedy: self.greedy });
            rest = others;
        }
        let documents = Documents {
            unread: vec![DocumentLoss::default(); places.len()],
            name: &|at| self.names[places[at]].clone(),
            whole: true,
            context: None,
        };
        let targets = places.iter().map(|&at| self.rows[at].scored).sum();
        let batches = batches.into_iter().map(Ok);
        measure(subject, batches, targets, &documents, submodels, FEW, progress)
    }
}

/// Some of the rows, padded to the longest.
struct Batch<'a> {
    rows: Vec<&'a Continuation>,
    documents: &'a [usize],
    greedy: bool,
}

impl<M: TokenModel> HeldOutBatch<M> for Batch<'_> {
    fn documents(&self) -> &[usize] {
        self.documents
    }

    fn targets(&self) -> usize {
        self.rows.iter().map(|row| row.scored).sum()
    }

    fn on(&self, model: &M) -> Result<(M::Input, M::Target)> {
        let len = self.rows.iter().map(|row| row.tokens.len() - 1).max().unwrap_or_default();
        let (mut inputs, mut targets, mut mask) = (Vec::new(), Vec::new(), Vec::new());
        for row in &self.rows {
            let n = row.tokens.len() - 1;
            // Padded with token 0, which nothing before it sees.
            let padding = || std::iter::repeat_n(0, len - n);
            inputs.extend(row.tokens[..n].iter().copied().chain(padding()));
            targets.extend(row.tokens[1..].iter().copied().chain(padding()));
            mask.extend((0..len).map(|at| at < n && at >= n - row.scored));
        }
        model.batch(self.rows.len(), &inputs, &targets, Some(&mask))
    }

    /// A continuation is one target: all its tokens, or none.
    fn ranks(
        &self,
        model: &M,
        walked: &Walked,
        unit: usize,
        target: &M::Target,
    ) -> Result<Option<Vec<usize>>> {
        if self.greedy { model.token_ranks(walked, unit, target).map(Some) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use matformer_core::Plan;
    use matformer_lm::{MatLm, score};
    use matformer_nn::{Elastic, State, walk};

    use super::*;
    use crate::{Store, StoreKey, testing::tiny};

    fn row(len: u32, scored: usize) -> Continuation {
        Continuation { tokens: (0..len).map(|at| (7 * at + len) % 32).collect(), scored }
    }

    /// The tokens that greedy decoding adds to some.
    fn greedy(model: &MatLm, submodel: &Submodel, mut tokens: Vec<u32>, n: usize) -> Vec<u32> {
        for _ in 0..n {
            let input = model.tokens(1, &tokens).unwrap();
            let walked = walk(model, &input, &Plan::one(submodel), &mut State::new()).unwrap();
            let logits = model.head(&walked.of(0)).into_data().try_into_vec::<f32>().unwrap();
            let last = &logits[logits.len() - 32..];
            let best = (0..32).max_by(|a, b| last[*a].total_cmp(&last[*b])).unwrap();
            tokens.push(best as u32);
        }
        tokens
    }

    #[test]
    fn nats_are_those_of_each_row_alone() {
        let model = tiny(32, 1);
        let submodels = [model.space().largest(), Submodel::uniform(8, 2)];
        let mut rows = Continuations::new(false);
        let expected = [row(5, 1), row(17, 16), row(9, 4)];
        let places = expected.clone().map(|row| rows.add(row, "a").unwrap());
        assert_eq!((places, rows.add(row(17, 16), "b").unwrap()), ([0, 1, 2], 1));
        assert!(rows.add(row(4, 4), "c").is_err());
        let found =
            HeldOutSet::<MatLm>::measure(&rows, &model, &[0, 1, 2], &submodels, &mut |_, _| {});
        let found = found.unwrap();
        for submodel in &submodels {
            for (row, found) in expected.iter().zip(found.losses(submodel).unwrap()) {
                let logprobs = score(&model, submodel, &row.tokens).unwrap();
                let logprobs = logprobs[row.tokens.len() - row.scored..].iter().flatten();
                let expected = -f64::from(logprobs.sum::<f32>());
                assert!((found.nats - expected).abs() < 1e-4, "{found:?} {expected}");
                assert_eq!((found.tokens, found.hits), (row.scored, None));
            }
        }
        let [a, b] = [0, 1].map(|at| found.submodels[at].documents[0].nats);
        assert!((a - b).abs() > 1e-6, "submodels differ");
    }

    #[test]
    fn hits_are_what_greedy_decoding_gives() {
        let model = tiny(32, 1);
        let submodel = model.space().largest();
        let tokens = greedy(&model, &submodel, vec![3, 1, 4, 1, 5], 3);
        let mut other = tokens.clone();
        other[6] = (other[6] + 1) % 32;
        let mut rows = Continuations::new(true);
        // The other token is not the likeliest; what follows it may be.
        for (tokens, scored) in [(&tokens, 3), (&tokens, 1), (&other, 3), (&tokens, 4)] {
            rows.add(Continuation { tokens: tokens.clone(), scored }, "a").unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let key = StoreKey { weights: "w", data: rows.data(), context: None };
        let mut store = Store::open(folder.path(), &key).unwrap();
        let found =
            store.evaluate(&model, &rows, std::slice::from_ref(&submodel), &mut |_, _| {}).unwrap();
        let hits = |found: &Evaluation| -> Vec<usize> {
            found.submodels[0].documents.iter().map(|d| d.hits.unwrap().top1).collect()
        };
        let last = usize::from(greedy(&model, &submodel, vec![3, 1, 4, 1], 1)[4] == 5);
        assert_eq!(hits(&found.evaluation), [1, 1, 0, last]);
        // Read from the folder: nothing is measured again.
        let mut store = Store::open(folder.path(), &key).unwrap();
        let again = store.evaluate(&model, &rows, &[submodel], &mut |_, _| {}).unwrap();
        assert_eq!((again.measured.len(), again.evaluation), (0, found.evaluation));
    }
}
