//! What each size was before ordering, after ordering and after training.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::{Manifest, Measurements, Resource, Submodel},
    eval::{DataFacts, Estimate, Evaluation, Stage, StageResult, Stages, Sweep},
    run_file::RunFile,
};

use crate::{
    args::ElastifyArgs,
    commands::{Context, count, print_json, table},
    failure::{Hinted, OrBadInput},
    folder::{ModelFolder, progress_bar},
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
        let all = K::extent(prepared, &Part::default())?;
        let part =
            Part { targets: Some(args.tokens).filter(|n| *n < all.targets), ..Part::default() };
        let extent = K::extent(prepared, &part)?;
        let data = DataFacts {
            hash: K::facts(prepared).hash.to_string(),
            tokens: extent.targets,
            documents: extent.documents,
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
        let data = self.stages.data.name(self.part.targets.is_none());
        let mut sweep = Sweep::open(out, &weights.weights_sha256, &data).bad_input()?;
        let bar = progress_bar("measuring sizes");
        for size in &sizes {
            // One at a time: an interruption costs one.
            sweep.losses(&space, std::slice::from_ref(size), |size| -> Result<Evaluation> {
                K::evaluate(&folder, self.prepared, size, &self.part, &mut |done, total| {
                    bar.set_length(total as u64);
                    bar.set_position(done as u64);
                })
            })?;
        }
        bar.finish_and_clear();
        let results = sizes
            .iter()
            .map(|size| self.result(&folder, size, &weights.weights_sha256, &data))
            .collect::<Result<_>>()?;
        let weights = weights.weights_sha256.clone();
        self.stages.add(Stage { stage: stage.to_owned(), tokens, weights, results });
        self.stages.save(out).bad_input()?;
        Ok(())
    }

    /// What the run's folder knows of a size.
    fn result(
        &self,
        folder: &ModelFolder<K>,
        size: &Submodel,
        weights: &str,
        data: &str,
    ) -> Result<StageResult> {
        let all = Measurements::read_all(&self.args.out)?.entries;
        let of = |metric: &str| {
            let found = all.iter().rev().find(|m| {
                m.weights == weights
                    && m.data == data
                    && m.metric == metric
                    && m.widths == size.widths()
            });
            found.map(|m| Estimate { value: m.value, stderr: m.stderr })
        };
        let loss = of("loss").unwrap_or(Estimate { value: f64::NAN, stderr: None });
        Ok(StageResult {
            submodel: folder.space().label(size),
            widths: size.widths().to_vec(),
            params: folder.costs.get(Resource::Params)?.cost(size)? as u64,
            loss: loss.value,
            stderr: loss.stderr,
            top1: of("top1"),
        })
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
