//! What each size was before ordering, after ordering and after training.

use matformer_core::{Manifest, Resource};
use matformer_eval::{
    DataFacts, DocumentLoss, Stage, StageResult, Stages, SubmodelLosses, Unit, stats,
};
use matformer_runfile::RunFile;

use matformer_run::{Hinted, Kind, ModelFolder, OrBadInput, Part, Result, Session};

use super::{
    Plan,
    ordering::{order, tokens_of},
};
use crate::walked;

/// The sizes of a run, and what was measured of them so far.
pub struct Studied<'a, K: Kind> {
    plan: &'a Plan,
    /// What is trained.
    run: &'a RunFile<K>,
    /// What it is trained and measured on.
    prepared: &'a K::Prepared,
    part: Part,
    stages: Stages,
}

impl<'a, K: Kind> Studied<'a, K> {
    /// What earlier calls measured stays.
    ///
    /// # Errors
    /// When the held-out data cannot be read.
    pub fn new(plan: &'a Plan, run: &'a RunFile<K>, prepared: &'a K::Prepared) -> Result<Self> {
        let targets = |units: &[(Unit, DocumentLoss)]| units.iter().map(|u| u.0.targets).sum();
        let all: usize = targets(&K::units(prepared, &Part::default())?);
        let part = Part { targets: Some(plan.tokens).filter(|n| *n < all), ..Part::default() };
        let units = K::units(prepared, &part)?;
        let data = DataFacts {
            hash: K::facts(prepared).hash.to_string(),
            tokens: targets(&units),
            documents: units.len(),
            clusters: None,
            context: run.seq_len(),
        };
        let stages = Stages {
            model: plan.out.display().to_string(),
            original: plan.model.display().to_string(),
            order: plan.order.to_string(),
            data,
            stages: Vec::new(),
        };
        Ok(Self { plan, run, prepared, part, stages })
    }

    /// Orders the neurons, unless that was done before; measures each size before and after.
    ///
    /// # Errors
    /// When something else was begun in the run's folder, a model or the data cannot be read, or what is found cannot
    /// be kept.
    pub fn order(&mut self, session: &Session) -> Result<()> {
        let ordered = self.plan.ordered();
        let original = ModelFolder::<K>::load(&self.plan.model, session)?;
        self.check_begun(&original.manifest)?;
        self.add("original", 0, &original)?;
        if ordered.join(Manifest::FILE).exists() {
            drop(original);
        } else {
            order(self.plan, self.run, self.prepared, original)?;
        }
        let folder = ModelFolder::<K>::load(&ordered, session)?;
        self.add("ordered", tokens_of(&ordered), &folder)
    }

    /// Checks that what was begun in the run's folder is what is asked for now.
    fn check_begun(&mut self, original: &Manifest) -> Result<()> {
        let Some(begun) = Stages::load(&self.plan.out) else {
            return Ok(());
        };
        let file = self.plan.out.join(Stages::FILE);
        let refuse = |what: &str, was: &str, now: &str| {
            Err(Hinted {
                message: format!("{}: {what} {was} there, {now} here", file.display()),
                hint: "go on with the same, or choose another --out".to_owned(),
            })
            .bad_input()
        };
        if begun.order != self.stages.order {
            return refuse("neurons ordered by", &begun.order, &self.stages.order);
        }
        let weights = begun.stages.first().map(|stage| &stage.weights);
        if weights.is_some_and(|weights| *weights != original.weights_sha256) {
            return refuse("it started from", &begun.original, &self.stages.original);
        }
        if begun.data == self.stages.data {
            self.stages.stages = begun.stages;
        }
        Ok(())
    }

    /// Measures every size of the model in `folder`, unless that was done before.
    ///
    /// # Errors
    /// When the device fails, or what is found cannot be kept.
    pub fn add(&mut self, stage: &str, tokens: u64, folder: &ModelFolder<K>) -> Result<()> {
        let out = &self.plan.out;
        let (model, weights) = (K::start(&folder.model, self.run.shape())?, &folder.manifest);
        let folder = folder.study_of(model, out, self.run.seq_len());
        let space = folder.space().clone();
        let sizes = space.uniforms();
        let found = walked(&folder, self.prepared, &sizes, &self.part)?;
        let losses = found.submodels.iter();
        let results = losses.map(|losses| result(&folder, losses)).collect::<Result<_>>()?;
        let weights = weights.weights_sha256.clone();
        self.stages.add(Stage { stage: stage.to_owned(), tokens, weights, results });
        self.stages.save(out).bad_input()?;
        Ok(())
    }

    /// The stages that were measured.
    pub fn stages(&self) -> &Stages {
        &self.stages
    }
}

/// A size as it was measured.
fn result<K: Kind>(folder: &ModelFolder<K>, losses: &SubmodelLosses) -> Result<StageResult> {
    let SubmodelLosses { submodel, documents } = losses;
    let loss = stats::loss(documents)?;
    Ok(StageResult {
        submodel: folder.space().label(submodel),
        widths: submodel.widths().to_vec(),
        params: folder.costs.get(Resource::Params)?.cost(submodel)? as u64,
        loss: loss.value,
        stderr: loss.stderr,
        top1: stats::accuracy(documents, |hits| hits.top1)?,
    })
}
