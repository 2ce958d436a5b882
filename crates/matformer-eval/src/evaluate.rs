//! Many submodels measured on the same held-out data, in one forward pass per batch.

use burn::tensor::Tensor;
use matformer_core::{Plan, Submodel};
use matformer_exchange::Exchange;
use matformer_nn::{
    Elastic, Output, RowLoss, State, Taught, Walked,
    ops::{Direction, Divergence},
    row_losses, walk,
};

use crate::{
    Beside, DocumentLoss, Error, Hits, Result,
    ranks::{Found, share, takes},
    stats,
};

/// Submodels of one forward pass where they are few: bounds its memory to 16 copies of the batch.
pub(crate) const FEW: usize = 16;

/// Submodels of one forward pass in a sweep. Those that follow each other differ in the last layers: with four
/// widths these are all combinations of three, and the layers before them run once for all.
pub(crate) const MANY: usize = 64;

/// How a measurement is cut up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walks {
    /// Rows of a batch.
    pub rows: usize,
    /// Most submodels of one forward pass, which holds as many copies of the batch.
    pub submodels: usize,
}

impl Walks {
    /// For many submodels, within about `bytes`: at most 64 submodels per forward pass, and as many rows as there is
    /// room for. A submodel's copy of a row is counted as eight hidden states and the widest feed-forward
    /// state at each of its `positions`, more than the kernels for the CPU take; where attention is
    /// composed, its scores (heads · positions²) come on top.
    pub fn within(bytes: usize, positions: usize, d_model: usize, d_ff: usize) -> Self {
        let copy = size_of::<f32>() * positions * (8 * d_model + d_ff);
        let copies = (bytes / copy.max(1)).max(1);
        let submodels = copies.min(MANY);
        Self { rows: copies / submodels, submodels }
    }
}

/// A model whose submodels can be measured.
pub trait Measured: Elastic {
    /// Of each row, how many other classes the model finds as likely as the row's label, or likelier;
    /// `None` where a row is not of one class.
    ///
    /// # Errors
    /// When the device cannot be read.
    fn ranks(
        &self,
        walked: &Walked,
        unit: usize,
        target: &Self::Target,
    ) -> Result<Option<Vec<usize>>>;

    /// Of each row, the class or token that the model finds the likeliest at each target that counts.
    ///
    /// # Errors
    /// When the device cannot be read.
    fn choices(&self, output: &Output, target: &Self::Target) -> Result<Vec<Vec<u32>>>;
}

/// A model whose submodels are measured, by their losses or beside a reference.
#[derive(Debug)]
pub struct Subject<'a, M> {
    /// The model.
    pub model: &'a M,
    /// What its submodels are compared with; by their losses where there is none.
    pub reference: Option<Reference<'a, M>>,
    /// The ranks that measure them together, each some of the forward passes: all of them make the same call, and get
    /// the same result.
    pub ranks: Exchange,
}

/// What submodels are compared with: one of the same model, or of another that reads the same batches.
#[derive(Debug)]
pub struct Reference<'a, M> {
    /// Its model, on the device of the other.
    pub model: &'a M,
    /// Which of it.
    pub submodel: &'a Submodel,
}

impl<M> Clone for Reference<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Reference<'_, M> {}

impl<'a, M> From<&'a M> for Subject<'a, M> {
    fn from(model: &'a M) -> Self {
        Self { model, reference: None, ranks: Exchange::local() }
    }
}

/// A batch of held-out data.
pub trait HeldOutBatch<M: Measured> {
    /// Of each row, which document it is of.
    fn documents(&self) -> &[usize];

    /// Targets that count.
    fn targets(&self) -> usize;

    /// The batch on the model's device.
    ///
    /// # Errors
    /// When the batch does not fit the model.
    fn on(&self, model: &M) -> Result<(M::Input, M::Target)>;

    /// Of each row, how many others are as likely as what is right, or likelier; `None` where that is not asked.
    ///
    /// # Errors
    /// When the device cannot be read.
    fn ranks(
        &self,
        model: &M,
        walked: &Walked,
        unit: usize,
        target: &M::Target,
    ) -> Result<Option<Vec<usize>>> {
        model.ranks(walked, unit, target)
    }
}

/// What is measured on: documents, unread so far, and whether they are all of the held-out data.
pub struct Documents<'a> {
    /// Without losses.
    pub unread: Vec<DocumentLoss>,
    /// The name of one.
    pub name: &'a dyn Fn(usize) -> String,
    /// Whether these are all, from beginning to end.
    pub whole: bool,
    /// Length of the windows that they are cut into, of text.
    pub context: Option<usize>,
}

/// Losses of some submodels on the same held-out documents.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// One entry per submodel, in the order in which they were given.
    pub submodels: Vec<SubmodelLosses>,
    /// Whether all held-out documents were read to their end.
    pub whole: bool,
    /// The most tokens that a prediction was made from, of text: the length of its windows. Losses at
    /// different ones are not compared.
    pub context: Option<usize>,
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

    /// Clusters that these are of; none where each document stands for itself.
    pub fn n_clusters(&self) -> Option<usize> {
        stats::clusters(self.first().iter().map(|document| document.cluster))
    }

    /// Tokens that were predicted.
    pub fn tokens(&self) -> usize {
        self.first().iter().map(|document| document.tokens).sum()
    }

    /// Names what was measured on, where `data` is the hash of all of it: `9f2c…:16384@256` is 16,384
    /// tokens of it in windows of 256.
    pub fn data(&self, data: &str) -> String {
        name(data, (!self.whole).then(|| self.tokens()), self.context)
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

/// Names held-out data: `part` is how many of its targets were read, if not all.
pub(crate) fn name(data: &str, part: Option<usize>, context: Option<usize>) -> String {
    let part = part.map_or(String::new(), |n| format!(":{n}"));
    let context = context.map_or(String::new(), |n| format!("@{n}"));
    format!("{data}{part}{context}")
}

/// Measures `submodels` on held-out batches: every batch goes through all of them in one forward pass, or in several of
/// at most `per_walk` submodels. The result does not depend on the order of the submodels. Give a model without
/// gradients (`valid()`). Where the subject has a reference, each document gets [`Beside`], and its nats are
/// KL(reference ‖ submodel). `progress(done, total)` counts targets, once per forward pass; `targets` are in all
/// batches.
///
/// # Errors
/// [`Error::Core`] for a submodel that the model cannot run, [`Error::NotFinite`] for a loss that is
/// no number; what reading a batch says.
pub fn measure<'a, M: Measured + 'a, B: HeldOutBatch<M>>(
    subject: impl Into<Subject<'a, M>>,
    batches: impl Iterator<Item = Result<B>>,
    targets: usize,
    documents: &Documents<'_>,
    submodels: &[Submodel],
    per_walk: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Evaluation> {
    let subject = subject.into();
    let (distinct, plans) = plans_of(subject.model, submodels, per_walk)?;
    let mut sums = vec![documents.unread.clone(); distinct.len()];
    let (mut done, total) = (0, targets * plans.len());
    let found = batches.enumerate().map(|(index, batch)| {
        of_batch(&subject, index, &batch?, &plans, &mut |targets| {
            done += targets;
            progress(done, total);
        })
    });
    for Found { documents, rows } in share(&subject.ranks, found.collect())? {
        for (rows, sums) in rows.iter().zip(&mut sums) {
            add(sums, &documents, rows);
        }
    }
    check_finite(documents.name, &distinct, &sums)?;
    let of = |submodel: &Submodel| SubmodelLosses {
        submodel: submodel.clone(),
        documents: sums[distinct.partition_point(|other| other < submodel)].clone(),
    };
    Ok(Evaluation {
        submodels: submodels.iter().map(of).collect(),
        whole: documents.whole,
        context: documents.context,
    })
}

/// What this rank finds of a batch; `walked` counts targets, once per plan.
fn of_batch<M: Measured>(
    subject: &Subject<'_, M>,
    index: usize,
    batch: &impl HeldOutBatch<M>,
    plans: &[Plan],
    walked: &mut dyn FnMut(usize),
) -> Result<Found> {
    let model = subject.model;
    let documents = batch.documents().to_vec();
    let mut found = Vec::new();
    let own = |plan: usize| takes(&subject.ranks, index, plan);
    let there = if (0..plans.len()).any(own) { Some(batch.on(model)?) } else { None };
    let referred = match (&there, subject.reference) {
        (Some((input, target)), Some(of)) => Some(Referred::new(of, input, target)?),
        _ => None,
    };
    for (at, plan) in plans.iter().enumerate() {
        let units = plan.submodels().len();
        match there.as_ref().filter(|_| own(at)) {
            None => found.extend(vec![vec![DocumentLoss::default(); documents.len()]; units]),
            Some((input, target)) => {
                let walked = walk(model, input, plan, &mut State::new())?;
                found.extend(match &referred {
                    None => losses(model, batch, &walked, target)?,
                    Some(referred) => (0..units)
                        .map(|unit| referred.rows(model, &walked.of(unit), target))
                        .collect::<Result<_>>()?,
                });
            }
        }
        walked(batch.targets());
    }
    Ok(Found { documents, rows: found })
}

/// The submodels, each once and in their order, and the plans of at most `per_walk` each that go
/// through them in turn.
pub(crate) fn plans_of<M: Elastic>(
    model: &M,
    submodels: &[Submodel],
    per_walk: usize,
) -> Result<(Vec<Submodel>, Vec<Plan>)> {
    if per_walk == 0 {
        return Err(Error::Zero { option: "submodels per walk" });
    }
    if submodels.is_empty() {
        return Err(matformer_core::Error::NoSubmodels.into());
    }
    for submodel in submodels {
        model.space().check(submodel)?;
    }
    // Sorted, so that submodels which share their first layers share a forward pass.
    let mut distinct = submodels.to_vec();
    distinct.sort();
    distinct.dedup();
    let plans = distinct.chunks(per_walk).map(Plan::merged);
    let plans = plans.collect::<matformer_core::Result<_>>()?;
    Ok((distinct, plans))
}

/// Of each submodel of a forward pass, the loss of each row, and its hits where it is of one class.
fn losses<M: Measured>(
    model: &M,
    batch: &impl HeldOutBatch<M>,
    walked: &Walked,
    target: &M::Target,
) -> Result<Vec<Vec<DocumentLoss>>> {
    let of = |(unit, loss): (usize, RowLoss)| {
        let mut rows = rows_of(loss)?;
        if let Some(ranks) = batch.ranks(model, walked, unit, target)? {
            for (row, rank) in rows.iter_mut().zip(ranks) {
                row.hits = Some(Hits { top1: (rank < 1).into(), top5: (rank < 5).into() });
            }
        }
        Ok(rows)
    };
    row_losses(model, walked, target).into_iter().enumerate().map(of).collect()
}

/// Sums of divergences, which rounding takes below 0.
fn at_least_zero(nats: f64) -> f64 {
    if nats < 0.0 { 0.0 } else { nats }
}

fn rows_of(loss: RowLoss) -> Result<Vec<DocumentLoss>> {
    let nats = host("losses", loss.nats)?;
    let row = |(nats, tokens)| DocumentLoss { nats, tokens, ..DocumentLoss::default() };
    Ok(nats.into_iter().zip(loss.counts).map(row).collect())
}

fn host(what: &'static str, values: Tensor<1>) -> Result<Vec<f64>> {
    let values: Vec<f32> =
        values.try_into_vec_as().map_err(|error| matformer_nn::Error::read(what, error))?;
    Ok(values.into_iter().map(f64::from).collect())
}

/// What a reference makes of a batch.
struct Referred<'a, M> {
    model: &'a M,
    output: Output,
    choices: Vec<Vec<u32>>,
}

impl<'a, M: Measured> Referred<'a, M> {
    fn new(of: Reference<'a, M>, input: &M::Input, target: &M::Target) -> Result<Self> {
        let plan = Plan::one(of.submodel);
        let output = walk(of.model, input, &plan, &mut State::new())?.of(0);
        let choices = of.model.choices(&output, target)?;
        Ok(Self { model: of.model, output, choices })
    }

    /// Each row of a submodel's output beside the reference's.
    fn rows(&self, model: &M, output: &Output, target: &M::Target) -> Result<Vec<DocumentLoss>> {
        let divergence = |direction| {
            let teacher = Taught { model: self.model, output: &self.output };
            model.divergence(output, teacher, target, Divergence { temperature: 1.0, direction })
        };
        let mut rows = rows_of(divergence(Direction::Forward))?;
        let reverse = host("divergences", divergence(Direction::Reverse).nats)?;
        let choices = model.choices(output, target)?;
        for (at, row) in rows.iter_mut().enumerate() {
            let equal = choices[at].iter().zip(&self.choices[at]).filter(|(a, b)| a == b).count();
            row.nats = at_least_zero(row.nats);
            row.beside =
                Some(Beside { equal, reverse_nats: at_least_zero(reverse[at]), own: None });
        }
        Ok(rows)
    }
}

/// Adds what was found of each row to its document.
fn add(sums: &mut [DocumentLoss], documents: &[usize], rows: &[DocumentLoss]) {
    for (&document, row) in documents.iter().zip(rows) {
        let Some(sum) = sums.get_mut(document) else { continue };
        sum.nats += row.nats;
        sum.tokens += row.tokens;
        if let Some(found) = row.hits {
            let hits = sum.hits.get_or_insert_default();
            hits.top1 += found.top1;
            hits.top5 += found.top5;
        }
        if let Some(found) = row.beside {
            let beside = sum.beside.get_or_insert_default();
            beside.equal += found.equal;
            beside.reverse_nats += found.reverse_nats;
        }
    }
}

fn check_finite(
    name: &dyn Fn(usize) -> String,
    submodels: &[Submodel],
    sums: &[Vec<DocumentLoss>],
) -> Result<()> {
    for (submodel, sums) in submodels.iter().zip(sums) {
        if let Some(index) = sums.iter().position(|sum| !sum.nats.is_finite()) {
            return Err(Error::NotFinite {
                submodel: submodel.to_string(),
                document: name(index),
                found: sums[index].nats,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_stay_within_their_memory() {
        let (positions, d_model, d_ff) = (256, 128, 512);
        let copy = 4 * positions * (8 * d_model + d_ff);
        let within = |bytes| Walks::within(bytes, positions, d_model, d_ff);
        for copies in [1, 2, 63, 64, 65, 127, 128, 1000] {
            let walks = within(copies * copy);
            assert!(walks.rows * walks.submodels <= copies, "{copies}: {walks:?}");
            assert_eq!(walks.submodels, copies.min(64));
            assert_eq!(walks.rows, (copies / 64).max(1));
        }
        assert_eq!(within(0), Walks { rows: 1, submodels: 1 });
        assert_eq!(Walks::within(usize::MAX, 0, 0, 0).submodels, 64);
    }

    #[test]
    fn a_loss_that_is_no_number_names_its_document() {
        let mut sums = vec![vec![DocumentLoss::default(); 2]];
        let submodels = [Submodel::uniform(4, 6)];
        let name = |index| format!("d{index}");
        assert!(check_finite(&name, &submodels, &sums).is_ok());
        sums[0][1].nats = f64::NAN;
        let error = check_finite(&name, &submodels, &sums).unwrap_err();
        assert_eq!(
            error.to_string(),
            "loss of submodel `4x6` on document `d1`: NaN, expected a finite number"
        );
        assert!(error.hint().is_some());
    }
}
