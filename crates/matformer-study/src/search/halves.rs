//! Held-out data in two halves: one to choose by, one to judge by.

use std::collections::HashMap;

use matformer_core::{Measurements, Submodel};
use matformer_data::Half;
use matformer_eval::{DocumentLoss, Evaluation, Found, Store, Unit, stats};
use matformer_search::Problem;

use matformer_run::{Hinted, Kind, ModelFolder, OrBadInput, Part, Result};

use super::Question;
use crate::{say_not_kept, store_of, studied};
use matformer_train::say;

/// A model and its halves.
pub struct Halves<'a, K: Kind> {
    folder: &'a ModelFolder<K>,
    prepared: &'a K::Prepared,
    /// Hash of all of the data.
    pub hash: String,
    /// What is chosen by.
    a: Part,
    /// What judges.
    b: Part,
    store: Store,
    /// The documents that are chosen by.
    chooses: Vec<(Unit, DocumentLoss)>,
    /// What earlier versions measured on them.
    earlier: HashMap<Submodel, f64>,
    /// How many submodels were measured so far.
    measured: usize,
}

impl<'a, K: Kind> Halves<'a, K> {
    pub fn new(
        folder: &'a ModelFolder<K>,
        prepared: &'a K::Prepared,
        question: &Question,
    ) -> Result<Self> {
        let hash = K::facts(prepared).hash.to_string();
        if hash != folder.manifest.provenance.data_hash {
            say!("note: other data than the model was trained on");
        }
        let memory = Some(question.memory);
        let of = |half: Half, targets: Option<usize>| -> Result<(Part, usize)> {
            let all = Part { half: Some(half), targets: None, memory };
            let units = K::units(prepared, &all)?;
            let there: usize = units.iter().map(|(unit, _)| unit.targets).sum();
            // As many as there are, or more, are all.
            Ok((Part { targets: targets.filter(|n| *n < there), ..all }, units.len()))
        };
        let (a, chooses) = of(Half::A, question.tokens)?;
        let (b, judges) = of(Half::B, question.judge_tokens.or(question.tokens))?;
        if judges == 0 {
            return Err(Hinted {
                message: format!(
                    "the held-out data is {}: nothing is left to judge by",
                    match chooses {
                        1 => format!("1 {}", K::DOCUMENT),
                        n => format!("{n} {}s of one cluster", K::DOCUMENT),
                    }
                ),
                hint: format!(
                    "search needs at least two held-out {}s that are independent",
                    K::DOCUMENT
                ),
            })
            .bad_input();
        }
        let store = store_of(folder, prepared)?;
        let chooses = K::units(prepared, &a)?;
        let mut halves = Self {
            folder,
            prepared,
            hash,
            a,
            b,
            store,
            chooses,
            earlier: HashMap::new(),
            measured: 0,
        };
        halves.earlier = halves.earlier()?;
        Ok(halves)
    }

    /// Losses on the half that is chosen by that an earlier version kept, which knew no single documents.
    fn earlier(&self) -> Result<HashMap<Submodel, f64>> {
        let (weights, data) = (&self.folder.manifest.weights_sha256, self.chosen_by());
        let all = Measurements::read_all(&self.folder.dir).bad_input()?.entries.into_iter();
        let ours = all.filter(|m| m.weights == *weights && m.data == data && m.metric == "loss");
        Ok(ours.map(|m| (Submodel::new(m.widths), m.value)).collect())
    }

    /// Names what is chosen by.
    pub fn chosen_by(&self) -> String {
        chosen_by(&self.hash, self.a.targets, self.folder.context())
    }

    /// Names what judges.
    pub fn judged_by(&self) -> String {
        let part = self.b.targets.map_or(String::new(), |n| format!(":{n}"));
        format!("{}/b{part}", self.hash)
    }

    /// Learns what other searches have measured since.
    pub fn refresh(&mut self) -> Result<()> {
        self.store.refresh().bad_input()
    }

    /// Lets no less judge than judged before: what is compared is judged by the same.
    pub fn judge_as(&mut self, known: &[Found]) {
        let most = known.iter().map(|found| found.judge_tokens.unwrap_or(usize::MAX)).max();
        if let Some(most) = most.filter(|most| self.b.targets.is_some_and(|n| n < *most)) {
            self.b.targets = Some(most).filter(|n| *n < usize::MAX);
            let by = self.b.targets.map_or("all".to_owned(), |n| n.to_string());
            say!("note: {by} {} judge, as in searches before", K::TARGETS);
        }
    }

    /// Losses on the half that is chosen by, of what was measured within limits, now and before.
    pub fn known(&self, within: &Problem) -> Result<Vec<(Submodel, f64)>> {
        let mut known = self.earlier.clone();
        for of in self.store.known(&self.chooses) {
            known.insert(of.submodel, stats::loss(&of.documents)?.value);
        }
        Ok(known.into_iter().filter(|(submodel, _)| within.fits(submodel)).collect())
    }

    /// Targets that were asked for, to choose by and to judge by.
    pub fn tokens(&self) -> [Option<usize>; 2] {
        [self.a.targets, self.b.targets]
    }

    /// How many submodels were measured so far.
    pub fn measured(&self) -> usize {
        self.measured
    }

    /// Losses on the half that is chosen by, measured where they are not known.
    pub fn losses(&mut self, submodels: &[Submodel]) -> Result<Vec<f64>> {
        let earlier = |submodel: &&Submodel| self.earlier.contains_key(*submodel);
        let open: Vec<Submodel> = submodels.iter().filter(|s| !earlier(s)).cloned().collect();
        let mut found = HashMap::new();
        if !open.is_empty() {
            let Self { folder, prepared, store, a, .. } = self;
            let now = studied(folder, prepared, store, (&open, a), "measuring submodels")?;
            self.measured += now.measured.len();
            for of in now.evaluation.submodels {
                found.insert(of.submodel, stats::loss(&of.documents)?.value);
            }
        }
        let known = |submodel| self.earlier.get(submodel).or_else(|| found.get(submodel)).copied();
        Ok(submodels.iter().filter_map(known).collect())
    }

    /// Losses on the half that judges, document by document.
    pub fn judge(&mut self, submodels: &[Submodel]) -> Result<Evaluation> {
        let Self { folder, prepared, store, b, .. } = self;
        Ok(studied(folder, prepared, store, (submodels, b), "judging")?.evaluation)
    }

    /// Says why what was measured is not in the folder, where it is not.
    pub fn say_not_kept(&self) {
        say_not_kept(&self.store);
    }
}

/// Names the half that is chosen by, of the data with this hash, in windows of `context`.
fn chosen_by(hash: &str, targets: Option<usize>, context: Option<usize>) -> String {
    let part = targets.map_or(String::new(), |n| format!(":{n}"));
    let context = context.map_or(String::new(), |n| format!("@{n}"));
    format!("{hash}/a{part}{context}")
}
