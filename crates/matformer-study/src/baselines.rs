//! The baselines of a run, as runs to train, and what they and the run were measured at and cost.

use std::path::{Path, PathBuf};

use matformer_core::{
    Draw, Manifest, fs,
    units::{counted, short},
};
use matformer_eval::{Estimate, EvalResults};
use matformer_nn::ModelConfig;
use matformer_run::{Hinted, Kind, ModelFolder, OrBadInput, Result, Session, cache::data_cache_of};
use matformer_runfile::{self as run_file, RunFile};
use matformer_train::{Checkpoints, say};
use serde::Serialize;

use crate::{
    Budget, Cost, Keep,
    alone::{self, Alone},
    budget::{baseline, unequal},
    cost::costs,
    measured,
};

/// The run whose baselines are trained; its weights are not needed for that.
pub struct ElasticRun<K: Kind> {
    dir: PathBuf,
    manifest: Manifest,
    run: RunFile<K>,
}

impl<K: Kind> ElasticRun<K> {
    /// The run in a folder.
    ///
    /// # Errors
    /// A folder of no run, of a run of one granularity alone, or of one that has not made all steps of its run file,
    /// because those of the baselines are a fraction of them.
    pub fn open(dir: &Path) -> Result<Self> {
        let file = dir.join(run_file::FILE);
        if !file.exists() {
            return Err(Hinted {
                message: format!("{}: no such file", file.display()),
                hint: "baselines need the folder of a run that `matformer train` made".to_owned(),
            })
            .bad_input();
        }
        let mut run = RunFile::<K>::load(&file, &[]).bad_input()?;
        K::take_own_files(&mut run.data, dir);
        if let Draw::Baseline { granularity } = &run.train.draw {
            return Err(Hinted {
                message: format!("{}: a run of {granularity} alone", dir.display()),
                hint: "baselines are those of an elastic run".to_owned(),
            })
            .bad_input();
        }
        let manifest = Manifest::load(dir).bad_input()?;
        let this = Self { dir: dir.to_owned(), manifest, run };
        this.check_ended().bad_input()?;
        Ok(this)
    }

    fn check_ended(&self) -> Result<(), Hinted> {
        let (made, asked) = (self.manifest.provenance.steps, self.run.train.steps);
        if made == asked {
            return Ok(());
        }
        let dir = self.dir.display();
        let hint = if made < asked {
            format!("finish it first: matformer train {dir} --resume")
        } else {
            format!("set `train.steps` back to {made}")
        };
        let made = counted(made as usize, "step");
        let message = format!("{dir}: trained {made}; its `{}` asks for {asked}", run_file::FILE);
        Err(Hinted { message, hint })
    }

    /// Each granularity as a run of its own, from the narrowest; says where the budget gives them other steps than the
    /// elastic run gave them.
    ///
    /// # Errors
    /// When something else is in the folder of one: a run of other data, or of more steps.
    pub fn baselines(&self, budget: Budget) -> Result<Vec<Baseline<K>>> {
        if let Some(unequal) = unequal(&self.run, budget)? {
            say!("note: {unequal}");
        }
        let space = self.run.shape().space().bad_input()?;
        let names = space.granularities.names();
        names.into_iter().map(|name| Baseline::new(name, budget, self)).collect()
    }

    /// Refuses a run whose data is no longer what it was trained on: a baseline would learn other data,
    /// in other tokens. What a baseline reads is in the cache from here on, the tokenizer included.
    ///
    /// # Errors
    /// Other data, or data that cannot be read.
    pub fn check_data(&self, session: &Session) -> Result<()> {
        let trained_on = &self.manifest.provenance.data_hash;
        let prepared = K::prepare(&self.run, &data_cache_of(&self.dir), session)?;
        let now = K::facts(&prepared).hash.to_string();
        if now == *trained_on {
            return Ok(());
        }
        Err(Hinted {
            message: format!(
                "{}: trained on data {}; what its `{}` names is now data {}",
                self.dir.display(),
                short(trained_on),
                run_file::FILE,
                short(&now)
            ),
            hint: "bring the old data back, or train the elastic run anew in another folder"
                .to_owned(),
        })
        .bad_input()
    }

    /// Measures the run and its baselines, once all are trained; says which are left out.
    ///
    /// # Errors
    /// When a model, its log or the data cannot be read, or what is found cannot be kept.
    pub fn compared(
        &self,
        budget: Budget,
        tokens: Option<usize>,
        session: &Session,
    ) -> Result<Compared> {
        let folder = ModelFolder::<K>::load(&self.dir, session)?;
        let curve = measured(&folder, tokens, Keep::Must)?;
        let ended = alone::ended(&folder)?;
        let alone = alone::alone(&folder, &ended, &curve, tokens, Keep::Must)?;
        let costs = costs(&self.dir, &self.run, budget)?;
        let elastic = curve.measured.results;
        let results = numbers(&elastic, &alone, self.run.train.seed);
        Ok(Compared { run: self.dir.display().to_string(), results, costs, elastic, alone })
    }
}

/// One granularity of a run as a run of its own, and where it goes.
pub struct Baseline<K: Kind> {
    /// The granularity.
    pub name: String,
    /// The folder of the run.
    pub dir: PathBuf,
    /// The run.
    pub run: RunFile<K>,
}

impl<K: Kind> Baseline<K> {
    /// What is in its folder already must be the same run, or a shorter one.
    fn new(name: &str, budget: Budget, elastic: &ElasticRun<K>) -> Result<Self> {
        let mut run = baseline(&elastic.run, name, budget)?;
        let dir = alone::dir(&elastic.dir, budget, name);
        let refuse = |message: String| {
            let hint = format!("remove `{}` to train it anew", dir.display());
            Err(Hinted { message, hint }).bad_input()
        };
        let trained_on = &elastic.manifest.provenance.data_hash;
        if let Some(kept) = newest(&dir)
            && kept.provenance.data_hash != *trained_on
        {
            return refuse(format!(
                "{}: trained on data {}; the elastic run on data {}",
                dir.display(),
                short(&kept.provenance.data_hash),
                short(trained_on)
            ));
        }
        let kept = dir.join(run_file::FILE);
        if kept.exists() {
            let was = RunFile::<K>::load(&kept, &[]).bad_input()?;
            if was.train.steps > run.train.steps {
                return refuse(format!(
                    "{}: a run of {}; the budget gives it {}",
                    dir.display(),
                    counted(was.train.steps as usize, "step"),
                    run.train.steps
                ));
            }
            // The share of a longer run may round to another step; those that were made stay.
            run.train.warmup = was.train.warmup;
        }
        Ok(Self { name: name.to_owned(), dir, run })
    }

    /// Whether its folder holds the model of its last step.
    pub fn is_complete(&self) -> bool {
        let made = Manifest::load(&self.dir).ok().map(|manifest| manifest.provenance.steps);
        made.is_some_and(|made| made >= self.run.train.steps)
    }

    /// Writes its run file, if it is not there: into its folder where the run was begun, which may have become longer,
    /// else beside it. What is to be trained: the folder, or the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self) -> Result<PathBuf> {
        let kept = self.dir.join(run_file::FILE);
        let begun = kept.exists();
        let file = if begun { kept } else { self.dir.with_extension("toml") };
        let above = file.parent().unwrap_or(&self.dir);
        fs::create_dir_all(above).bad_input()?;
        let text = self.run.to_toml(above)?;
        if fs::read_to_string(&file).ok().as_deref() != Some(&text) {
            fs::write_atomic(&file, text.as_bytes()).bad_input()?;
        }
        Ok(if begun { self.dir.clone() } else { file })
    }
}

/// The manifest of a run's model, or of its newest checkpoint.
fn newest(dir: &Path) -> Option<Manifest> {
    let latest = Checkpoints::of(dir).latest().ok().flatten();
    Manifest::load(dir).ok().or_else(|| Manifest::load(&latest?.dir).ok())
}

/// What an elastic run and its baselines were measured at, and what they cost.
#[derive(Serialize)]
pub struct Compared {
    /// The folder of the run.
    pub run: String,
    /// One entry per number: of the elastic run's sizes and of those trained alone.
    pub results: Vec<Number>,
    /// What they cost.
    pub costs: Vec<Cost>,
    /// The elastic run's sizes.
    #[serde(skip)]
    pub elastic: EvalResults,
    /// Those trained alone.
    #[serde(skip)]
    pub alone: Vec<Alone>,
}

/// A measured number.
#[derive(Serialize)]
pub struct Number {
    /// The size.
    pub size: String,
    /// `elastic`, `per-width` or `total`.
    pub budget: &'static str,
    /// The run's.
    pub seed: u64,
    /// Targets that it is over.
    pub n: usize,
    /// `loss`, `top1` or `top5`.
    pub metric: &'static str,
    /// The number.
    pub value: f64,
    /// Its standard error.
    pub stderr: Option<f64>,
}

fn numbers(elastic: &EvalResults, alone: &[Alone], seed: u64) -> Vec<Number> {
    let n = elastic.data.tokens;
    let elastic = elastic.results.iter().map(|result| ("elastic", result));
    let alone = alone.iter().map(|alone| (alone.budget.name(), &alone.result));
    elastic
        .chain(alone)
        .flat_map(|(budget, r)| {
            let of = |metric, value, stderr| Number {
                size: r.submodel.clone(),
                budget,
                seed,
                n,
                metric,
                value,
                stderr,
            };
            let top =
                |metric, top: Option<Estimate>| top.map(|top| of(metric, top.value, top.stderr));
            let loss = of("loss", r.loss, r.stderr);
            [Some(loss), top("top1", r.top1), top("top5", r.top5)].into_iter().flatten()
        })
        .collect()
}
