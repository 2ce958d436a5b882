//! What submodels make of the same beginnings of held-out documents, beside a reference.

use std::ops::ControlFlow;

use matformer_core::Submodel;
use matformer_data::{HeldOut, spread};
use matformer_engine::{Engine, EngineModel, EngineOptions, Format, Request, generate};
use matformer_lm::MatLm;

use crate::{
    Continuation, Continuations, DocumentLoss, Error, Evaluation, HeldOutSet, Reference, Result,
    Subject, Unit, text_units,
};

/// Beginnings of held-out documents.
#[derive(Debug, Clone, PartialEq)]
pub struct Beginnings {
    /// Of each, its document as a store knows it: its targets are the tokens that continue it.
    units: Vec<(Unit, DocumentLoss)>,
    /// Of each, the document's name.
    names: Vec<String>,
    /// Of each, the separator and the document's first tokens, as many in all as continue it.
    prompts: Vec<Vec<u32>>,
    /// Tokens that continue each.
    new_tokens: usize,
}

impl Beginnings {
    /// Most beginnings.
    const MOST: usize = 128;
    /// Tokens of one, and tokens that continue it, where the context has room for both.
    const TOKENS: usize = 32;

    /// The beginnings of at most 128 documents, spread evenly over those that are long enough: 32 tokens with the
    /// separator, to be continued by 32, or half of `context` where that is less.
    ///
    /// # Errors
    /// [`Error::Nothing`] where no document is long enough.
    pub fn of(held_out: &HeldOut, context: usize) -> Result<Self> {
        let new_tokens = (context / 2).clamp(1, Self::TOKENS);
        let mut found =
            Self { units: Vec::new(), names: Vec::new(), prompts: Vec::new(), new_tokens };
        let of_documents = text_units(held_out);
        let mut last = None;
        for window in held_out.windows(new_tokens)? {
            let is_first = last.replace(window.document) != Some(window.document);
            if !is_first || window.inputs.len() < new_tokens {
                continue;
            }
            found.prompts.push(window.inputs);
            let (unit, unread) = of_documents[window.document];
            found.units.push((Unit { targets: new_tokens, ..unit }, unread));
            found.names.push(held_out.documents()[window.document].name.clone());
        }
        if found.prompts.is_empty() {
            return Err(Error::Nothing { unit: "beginnings of documents" });
        }
        Ok(found.only(&spread(found.prompts.len(), Self::MOST)))
    }

    /// Those at some places.
    fn only(&self, places: &[usize]) -> Self {
        Self {
            units: places.iter().map(|at| self.units[*at]).collect(),
            names: places.iter().map(|at| self.names[*at].clone()).collect(),
            prompts: places.iter().map(|at| self.prompts[*at].clone()).collect(),
            new_tokens: self.new_tokens,
        }
    }

    /// Each as the data of a store.
    pub fn units(&self) -> &[(Unit, DocumentLoss)] {
        &self.units
    }

    /// Tokens that continue each.
    pub fn new_tokens(&self) -> usize {
        self.new_tokens
    }

    /// The most likely tokens behind each beginning, of each submodel. Nothing ends a text early.
    fn continued(&self, model: &MatLm, submodels: &[Submodel]) -> Result<Vec<Texts>> {
        let request = |prompt: &Vec<u32>, of: &Submodel| {
            Request::new(prompt.clone(), of.clone(), self.new_tokens)
        };
        let of_submodel = |of| self.prompts.iter().map(move |prompt| request(prompt, of));
        let requests: Vec<Request> = submodels.iter().flat_map(of_submodel).collect();
        let longest = self.prompts.iter().map(Vec::len).max().unwrap_or_default();
        let options = EngineOptions {
            slots: SLOTS,
            capacity: Some(longest + self.new_tokens),
            ..EngineOptions::default()
        };
        let model = EngineModel::of(model, Format::F32)?;
        let mut engine = Engine::new(&model, &options)?;
        let answers = generate(&mut engine, &requests, |_, _| ControlFlow::Continue(()))?;
        let tokens: Texts = answers.into_iter().map(|answer| answer.tokens).collect();
        Ok(tokens.chunks(self.prompts.len()).map(<[_]>::to_vec).collect())
    }
}

/// Texts that are generated at the same time.
const SLOTS: usize = 16;

/// Tokens that continue each beginning.
type Texts = Vec<Vec<u32>>;

/// Beginnings as a store measures them: submodels of a model beside a reference, on what the reference writes, and on
/// what each writes itself.
pub struct ContinuedSet<'a> {
    /// The beginnings.
    pub beginnings: &'a Beginnings,
    /// What submodels are compared with.
    pub reference: Reference<'a, MatLm>,
}

impl ContinuedSet<'_> {
    /// What each submodel writes, and what the reference does.
    fn texts(
        &self,
        model: &MatLm,
        some: &Beginnings,
        submodels: &[Submodel],
    ) -> Result<(Vec<Texts>, Texts)> {
        let Reference { model: teacher, submodel } = self.reference;
        if !std::ptr::eq(model, teacher) {
            let written = some.continued(teacher, std::slice::from_ref(submodel))?.concat();
            return Ok((some.continued(model, submodels)?, written));
        }
        let mut all = submodels.to_vec();
        let at = all.iter().position(|of| of == submodel).unwrap_or(all.len());
        if at == all.len() {
            all.push(submodel.clone());
        }
        let mut texts = some.continued(model, &all)?;
        let written = texts[at].clone();
        texts.truncate(submodels.len());
        Ok((texts, written))
    }

    /// Submodels beside the reference where both read what the reference wrote.
    fn along(
        &self,
        model: &MatLm,
        some: &Beginnings,
        written: &[Vec<u32>],
        submodels: &[Submodel],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Evaluation> {
        let mut rows = Continuations::new(false);
        let mut places = Vec::with_capacity(written.len());
        for (at, tokens) in written.iter().enumerate() {
            let text = [&some.prompts[at][..], tokens].concat();
            let row = Continuation { tokens: text, scored: tokens.len() };
            places.push(rows.add(row, &some.names[at])?);
        }
        let subject = Subject { reference: Some(self.reference), ..model.into() };
        let all: Vec<usize> = (0..rows.len()).collect();
        let mut found = rows.measured(subject, &all, submodels, progress)?;
        // Equal rows are there once.
        for losses in &mut found.submodels {
            losses.documents = places.iter().map(|at| losses.documents[*at]).collect();
        }
        Ok(found)
    }
}

impl HeldOutSet<MatLm> for ContinuedSet<'_> {
    fn units(&self) -> Vec<(Unit, DocumentLoss)> {
        self.beginnings.units.clone()
    }

    fn is_whole(&self) -> bool {
        true
    }

    fn context(&self) -> Option<usize> {
        None
    }

    fn piece(&self) -> usize {
        1 << 10
    }

    fn measure(
        &self,
        model: &MatLm,
        places: &[usize],
        submodels: &[Submodel],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Evaluation> {
        let some = self.beginnings.only(places);
        let (texts, written) = self.texts(model, &some, submodels)?;
        let mut found = self.along(model, &some, &written, submodels, progress)?;
        for (losses, texts) in found.submodels.iter_mut().zip(&texts) {
            for (at, document) in losses.documents.iter_mut().enumerate() {
                let unread = some.units[at].1;
                (document.bytes, document.cluster) = (unread.bytes, unread.cluster);
                if let Some(beside) = &mut document.beside {
                    let pairs = texts[at].iter().zip(&written[at]);
                    beside.own = Some(pairs.filter(|(ours, theirs)| ours == theirs).count());
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use matformer_lm::score;
    use matformer_nn::{Elastic, State, walk};

    use super::*;
    use crate::{Beside, stats, testing::tiny};

    fn beginnings() -> Beginnings {
        let unit = |start| (Unit { start, targets: 6 }, DocumentLoss::default());
        Beginnings {
            units: (0..3).map(unit).collect(),
            names: ["a", "b", "c"].map(String::from).to_vec(),
            prompts: vec![vec![0, 5, 9], vec![0, 2, 2], vec![0, 7, 11]],
            new_tokens: 6,
        }
    }

    fn run(model: &MatLm, reference: &MatLm, of: &[Submodel]) -> Evaluation {
        let (beginnings, largest) = (beginnings(), reference.space().largest());
        let reference = Reference { model: reference, submodel: &largest };
        let set = ContinuedSet { beginnings: &beginnings, reference };
        set.measure(model, &[0, 1, 2], of, &mut |_, _| {}).unwrap()
    }

    #[test]
    fn a_submodel_is_its_own_equal_and_others_are_not() {
        let model = tiny(24, 1);
        let submodels = [model.space().largest(), model.space().smallest()];
        let found = run(&model, &model, &submodels);
        let share = |at: usize, of: fn(&Beside) -> Option<usize>| {
            let documents = &found.submodels[at].documents;
            assert!(documents.iter().all(|d| d.tokens == 6));
            let equal = |d: &DocumentLoss| Some(of(d.beside.as_ref()?)? as f64);
            stats::per_target(documents, equal).unwrap().unwrap().value
        };
        for of in [|beside: &Beside| Some(beside.equal), |beside: &Beside| beside.own] {
            assert_eq!(share(0, of), 1.0);
            assert!(share(1, of) < 1.0, "{found:?}");
        }
        // The same where the reference is not among them, or is of another model that is equal.
        for reference in [&model, &tiny(24, 1)] {
            let alone = run(&model, reference, &submodels[1..]);
            assert_eq!(alone.submodels[0], found.submodels[1]);
        }
    }

    /// The same numbers from the logits of one forward pass over each text.
    #[test]
    fn divergences_are_those_of_the_logits() {
        let (model, teacher) = (tiny(24, 1), tiny(24, 2));
        let small = model.space().smallest();
        let found = run(&model, &teacher, std::slice::from_ref(&small));
        let written = beginnings().continued(&teacher, &[teacher.space().largest()]).unwrap();
        for (at, (prompt, text)) in beginnings().prompts.iter().zip(&written[0]).enumerate() {
            let tokens = [&prompt[..], &text[..]].concat();
            let logits = |model: &MatLm, of: &Submodel| {
                let input = model.tokens(1, &tokens[..tokens.len() - 1]).unwrap();
                let plan = matformer_core::Plan::one(of);
                let walked = walk(model, &input, &plan, &mut State::new()).unwrap();
                let logits: Vec<f32> = model.head(&walked.of(0)).try_into_vec_as().unwrap();
                logits.chunks(24).skip(prompt.len() - 1).map(softmax).collect::<Vec<_>>()
            };
            let (ours, theirs) =
                (logits(&model, &small), logits(&teacher, &teacher.space().largest()));
            let kl = |p: &[f64], q: &[f64]| -> f64 {
                p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum()
            };
            let best = |p: &[f64]| (0..24).max_by(|a, b| p[*a].total_cmp(&p[*b])).unwrap();
            let pairs = || ours.iter().zip(&theirs);
            let document = &found.submodels[0].documents[at];
            let beside = document.beside.unwrap();
            let forward: f64 = pairs().map(|(ours, theirs)| kl(theirs, ours)).sum();
            let reverse: f64 = pairs().map(|(ours, theirs)| kl(ours, theirs)).sum();
            assert!((document.nats - forward).abs() < 1e-4, "{document:?} {forward}");
            assert!((beside.reverse_nats - reverse).abs() < 1e-4, "{beside:?} {reverse}");
            assert_eq!(beside.equal, pairs().filter(|(a, b)| best(a) == best(b)).count());
            // Each token of the reference's text is the one that it finds the likeliest.
            let greedy: Vec<u32> = theirs.iter().map(|p| best(p) as u32).collect();
            assert_eq!(&greedy, text);
            assert!(score(&teacher, &teacher.space().largest(), &tokens).is_ok());
        }
    }

    fn softmax(logits: &[f32]) -> Vec<f64> {
        let most = logits.iter().copied().fold(f32::MIN, f32::max);
        let powers: Vec<f64> = logits.iter().map(|l| f64::from(l - most).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.into_iter().map(|power| power / sum).collect()
    }
}
