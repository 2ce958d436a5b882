//! Held-out data in two halves: one to choose by, one to judge by.

use anyhow::Result;
use matformer::{
    core::Submodel,
    data::Half,
    eval::{Evaluation, Sweep},
};

use crate::{
    args::SearchArgs,
    failure::{Hinted, OrBadInput},
    folder::{ModelFolder, progress_bar},
    kind::{Kind, Part},
    logging::say,
};

/// A model and its halves.
pub struct Halves<'a, K: Kind> {
    folder: &'a ModelFolder<K>,
    prepared: &'a K::Prepared,
    /// Hash of all of the data.
    pub hash: String,
    /// The half that judges.
    part: Part,
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
        let memory = args.memory.saturating_mul(1 << 20);
        // As many as there are, or more, are all.
        let targets = args.tokens.filter(|n| *n < K::facts(prepared).held_out);
        let part = Part { targets, half: Some(Half::B), memory: Some(memory) };
        if K::documents(prepared, &part)? == 0 {
            let of = targets.map_or(String::new(), |n| format!(", of {n} {}", K::TARGETS));
            return Err(Hinted {
                message: format!(
                    "the held-out data{of} is one {}: nothing is left to judge by",
                    K::DOCUMENT
                ),
                hint: format!("search needs at least two held-out {}s", K::DOCUMENT),
            })
            .bad_input();
        }
        let data = chosen_by(&hash, targets);
        let sweep = Sweep::open(&folder.dir, &folder.manifest.weights_sha256, &data).bad_input()?;
        Ok(Self { folder, prepared, hash, part, sweep })
    }

    /// Names the half that is chosen by.
    pub fn chosen_by(&self) -> String {
        chosen_by(&self.hash, self.part.targets)
    }

    /// Held-out targets that were asked for.
    pub fn tokens(&self) -> Option<usize> {
        self.part.targets
    }

    /// How many submodels were measured so far.
    pub fn measured(&self) -> usize {
        self.sweep.measured()
    }

    /// Losses on the half that is chosen by, measured where they are not known.
    pub fn losses(&mut self, submodels: &[Submodel]) -> Result<Vec<f64>> {
        let Self { folder, prepared, part, sweep, .. } = self;
        let part = Part { half: Some(Half::A), ..*part };
        let open = sweep.open_among(submodels).len();
        let bar = progress_bar("measuring submodels");
        bar.set_length(open as u64);
        let found = sweep.losses(folder.space(), submodels, |chunk| -> Result<Evaluation> {
            let before = bar.position();
            let evaluation = K::evaluate(folder, prepared, chunk, &part, &mut |done, total| {
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
        let found = K::evaluate(self.folder, self.prepared, submodels, &self.part, &mut progress);
        bar.finish_and_clear();
        found
    }

    /// Says why what was measured is not in the folder, where it is not.
    pub fn say_not_kept(&self) {
        if let Some(error) = self.sweep.not_kept() {
            say!("note: not kept: {error}");
        }
    }
}

/// Names the half that is chosen by, of the data with this hash.
fn chosen_by(hash: &str, targets: Option<usize>) -> String {
    match targets {
        None => format!("{hash}/a"),
        Some(targets) => format!("{hash}:{targets}/a"),
    }
}
