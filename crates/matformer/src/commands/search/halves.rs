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
        let part = Part { targets: args.tokens, half: None, memory: Some(args.memory << 20) };
        let data = named(&hash, args.tokens, Half::A);
        let sweep = Sweep::open(&folder.dir, &folder.manifest.weights_sha256, &data).bad_input()?;
        Ok(Self { folder, prepared, hash, part, sweep })
    }

    /// Names the half that is chosen by.
    pub fn data_a(&self) -> String {
        named(&self.hash, self.part.targets, Half::A)
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
        let part = Part { half: Some(Half::B), ..self.part };
        let bar = progress_bar("judging");
        let evaluation =
            K::evaluate(self.folder, self.prepared, submodels, &part, &mut |done, total| {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
            });
        bar.finish_and_clear();
        let evaluation = evaluation?;
        match evaluation.n_documents() {
            0 => Err(Hinted {
                message: "the held-out data is one document: nothing is left to judge by"
                    .to_owned(),
                hint: "search needs at least two held-out documents".to_owned(),
            })
            .bad_input(),
            _ => Ok(evaluation),
        }
    }

    /// Says why what was measured is not in the folder, where it is not.
    pub fn say_not_kept(&self) {
        if let Some(error) = self.sweep.not_kept() {
            say!("note: not kept: {error}");
        }
    }
}

/// Names a half of the data with this hash.
fn named(hash: &str, targets: Option<usize>, half: Half) -> String {
    let half = match half {
        Half::A => "a",
        Half::B => "b",
    };
    match targets {
        None => format!("{hash}/{half}"),
        Some(targets) => format!("{hash}:{targets}/{half}"),
    }
}
