//! What each size was before ordering, after ordering and after training.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::{Manifest, Resource},
    eval::{
        DataFacts, DocumentLoss, Estimate, Stage, StageResult, Stages, SubmodelLosses, Unit, stats,
    },
    run_file::RunFile,
};

use crate::{
    args::ElastifyArgs,
    commands::{Context, count, measured::walked, print_json, table},
    failure::{Hinted, OrBadInput},
    folder::ModelFolder,
    kind::{Kind, Part},
    output::out,
};

/// The sizes of a run, and what was measured of them so far.
pub struct Studied<'a, K: Kind> {
    args: &'a ElastifyArgs,
    /// What is trained.
    pub run: &'a RunFile<K>,
    /// What it is trained and measured on.
    pub prepared: &'a K::Prepared,
    part: Part,
    stages: Stages,
}

impl<'a, K: Kind> Studied<'a, K> {
    /// What earlier calls measured stays.
    pub fn new(
        args: &'a ElastifyArgs,
        run: &'a RunFile<K>,
        prepared: &'a K::Prepared,
    ) -> Result<Self> {
        let targets = |units: &[(Unit, DocumentLoss)]| units.iter().map(|u| u.0.targets).sum();
        let all: usize = targets(&K::units(prepared, &Part::default())?);
        let part = Part { targets: Some(args.tokens).filter(|n| *n < all), ..Part::default() };
        let units = K::units(prepared, &part)?;
        let data = DataFacts {
            hash: K::facts(prepared).hash.to_string(),
            tokens: targets(&units),
            documents: units.len(),
            clusters: None,
            context: run.seq_len(),
        };
        let stages = Stages {
            model: args.out.display().to_string(),
            original: args.model.display().to_string(),
            order: args.order.to_string(),
            data,
            stages: Vec::new(),
        };
        Ok(Self { args, run, prepared, part, stages })
    }

    /// Checks that what was begun in the run's folder is what is asked for now.
    pub fn check_begun(&mut self, original: &Manifest) -> Result<()> {
        let Some(begun) = Stages::load(&self.args.out) else {
            return Ok(());
        };
        let file = self.args.out.join(Stages::FILE);
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
    pub fn add(&mut self, stage: &str, tokens: u64, folder: &ModelFolder<K>) -> Result<()> {
        let out = &self.args.out;
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

    /// The stages side by side.
    pub fn print(&self, context: &Context) -> Result<ExitCode> {
        if context.json {
            return print_json(&self.stages);
        }
        let metric = match self.stages.stages[0].results[0].top1 {
            Some(_) => matformer::eval::report::Metric::Top1,
            None => matformer::eval::report::Metric::Loss,
        };
        table::print_data(&self.stages.data, metric)?;
        let mut shown = comfy_table::Table::new();
        shown.load_style(comfy_table::presets::NOTHING);
        let names = self.stages.stages.iter().map(|stage| stage.stage.clone());
        shown.set_header(["submodel".to_owned(), "params".to_owned()].into_iter().chain(names));
        for (i, size) in self.stages.stages[0].results.iter().enumerate() {
            let cells = self.stages.stages.iter().map(|stage| {
                let r = &stage.results[i];
                match r.top1 {
                    Some(top1) => table::percent(top1),
                    None => table::loss(Estimate { value: r.loss, stderr: r.stderr }),
                }
            });
            let name = [size.submodel.clone(), count(size.params as f64)];
            shown.add_row(name.into_iter().chain(cells));
        }
        out!("{shown}")?;
        out!("{}: an elastic model", Path::new(&self.stages.model).display())?;
        Ok(ExitCode::SUCCESS)
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
