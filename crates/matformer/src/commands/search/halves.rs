//! Held-out data in two halves: one to choose by, one to judge by.

use anyhow::Result;
use matformer::{
    core::Submodel,
    data::Half,
    eval::{Evaluation, Found, Sweep},
    search::Problem,
};

use crate::{
    args::SearchArgs,
    failure::{self, Hinted, OrBadInput},
    folder::{ModelFolder, progress_bar},
    kind::{Extent, Kind, Part},
    logging::say,
};

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
    sweep: Sweep,
}

impl<'a, K: Kind> Halves<'a, K> {
    pub fn new(
        folder: &'a ModelFolder<K>,
        prepared: &'a K::Prepared,
        args: &SearchArgs,
    ) -> Result<Self> {
        let hash = K::facts(prepared).hash.to_string();
        if hash != folder.manifest.provenance.data_hash {
            say!("note: other data than the model was trained on");
        }
        let memory = Some(args.memory.saturating_mul(1 << 20));
        let of = |half: Half, targets: Option<usize>| -> Result<(Part, Extent)> {
            let all = Part { half: Some(half), targets: None, memory };
            let there = K::extent(prepared, &all)?;
            // As many as there are, or more, are all.
            Ok((Part { targets: targets.filter(|n| *n < there.targets), ..all }, there))
        };
        let (a, chooses) = of(Half::A, args.tokens)?;
        let (b, judges) = of(Half::B, args.judge_tokens.or(args.tokens))?;
        if judges.documents == 0 {
            return Err(Hinted {
                message: format!(
                    "the held-out data is {}: nothing is left to judge by",
                    match chooses.documents {
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
        let data = chosen_by(&hash, a.targets, folder.context());
        let sweep = Sweep::open(&folder.dir, &folder.manifest.weights_sha256, &data).bad_input()?;
        Ok(Self { folder, prepared, hash, a, b, sweep })
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
        self.sweep.refresh().bad_input()
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

    /// Losses on the half that is chosen by, of what was measured within limits.
    pub fn known(&self, within: &Problem) -> impl Iterator<Item = (&Submodel, f64)> {
        self.sweep.known().filter(|(submodel, _)| within.fits(submodel))
    }

    /// Targets that were asked for, to choose by and to judge by.
    pub fn tokens(&self) -> [Option<usize>; 2] {
        [self.a.targets, self.b.targets]
    }

    /// How many submodels were measured so far.
    pub fn measured(&self) -> usize {
        self.sweep.measured()
    }

    /// Losses on the half that is chosen by, measured where they are not known.
    pub fn losses(&mut self, submodels: &[Submodel]) -> Result<Vec<f64>> {
        let Self { folder, prepared, a, sweep, .. } = self;
        let open = sweep.open_among(submodels).len();
        let bar = progress_bar("measuring submodels");
        bar.set_length(open as u64);
        let found = sweep.losses(folder.space(), submodels, |chunk| -> Result<Evaluation> {
            let before = bar.position();
            let evaluation = K::evaluate(folder, prepared, chunk, a, &mut |done, total| {
                bar.set_position(before + (done * chunk.len() / total.max(1)) as u64);
            });
            bar.set_position(before + chunk.len() as u64);
            evaluation
        });
        bar.finish_and_clear();
        Ok(found?.into_iter().map(|loss| loss.value).collect())
    }

    /// Losses on the half that judges, document by document.
    pub fn judge(&self, submodels: &[Submodel]) -> Result<Evaluation> {
        let bar = progress_bar("judging");
        let mut progress = |done: usize, total: usize| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        };
        let found = K::evaluate(self.folder, self.prepared, submodels, &self.b, &mut progress);
        bar.finish_and_clear();
        found
    }

    /// Says why what was measured is not in the folder, where it is not.
    pub fn say_not_kept(&self) {
        if let Some(error) = self.sweep.not_kept() {
            say!("note: not kept: {}", failure::chain(error));
        }
    }
}

/// Names the half that is chosen by, of the data with this hash, in windows of `context`.
fn chosen_by(hash: &str, targets: Option<usize>, context: Option<usize>) -> String {
    let part = targets.map_or(String::new(), |n| format!(":{n}"));
    let context = context.map_or(String::new(), |n| format!("@{n}"));
    format!("{hash}/a{part}{context}")
}
