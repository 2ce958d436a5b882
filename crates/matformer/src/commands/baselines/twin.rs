//! A baseline: a run in a process of its own, of the data that its elastic run was trained on.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use matformer::{
    core::{
        Manifest, fs,
        units::{counted, short},
    },
    run::{Kind, Session, folder::data_cache_of},
    run_file::{self, RunFile},
    train::Checkpoints,
};

use crate::{
    commands::Context,
    failure::{Hinted, OrBadInput},
    interrupt::{Interrupts, Then},
    logging::{quiet, say},
};

/// The process that trains, while one does.
pub type Running = Arc<Mutex<Option<u32>>>;

/// Passes signals on to the run that is under way, which saves and ends; where none is, the process
/// ends.
pub fn pass_on(running: &Running) -> Result<Interrupts> {
    let running = running.clone();
    Interrupts::install(move |signal| {
        match *running.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(id) => {
                signal.send(id);
                Then::GoOn
            }
            None => {
                say!("{}: interrupted; the same command goes on", signal.name);
                Then::End
            }
        }
    })
}

/// The run whose baselines are trained; its weights are not needed for that.
pub struct Elastic<'a, K: Kind> {
    pub dir: &'a Path,
    pub manifest: Manifest,
    pub run: RunFile<K>,
}

impl<K: Kind> Elastic<'_, K> {
    /// Fails if the run has not finished all steps of its run file, because the steps of the baselines are a fraction
    /// of them.
    pub fn check_ended(&self) -> Result<()> {
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
        Err(Hinted { message, hint }).bad_input()
    }

    /// Refuses a run whose data is no longer what it was trained on: a baseline would learn other data,
    /// in other tokens. What a baseline reads is in the cache from here on, the tokenizer included.
    pub fn check_data(&self, session: &Session) -> Result<()> {
        let trained_on = &self.manifest.provenance.data_hash;
        let prepared = K::prepare(&self.run, &data_cache_of(self.dir), session)?;
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
}

/// A baseline and where it goes.
pub struct Twin<K: Kind> {
    pub run: RunFile<K>,
    dir: PathBuf,
}

impl<K: Kind> Twin<K> {
    /// A baseline of `elastic`; what is in `dir` already must be the same run, or a shorter one.
    pub fn new(mut run: RunFile<K>, dir: PathBuf, elastic: &Elastic<'_, K>) -> Result<Self> {
        let remove = || format!("remove `{}` to train it anew", dir.display());
        let trained_on = &elastic.manifest.provenance.data_hash;
        if let Some(kept) = newest(&dir)
            && kept.provenance.data_hash != *trained_on
        {
            let message = format!(
                "{}: trained on data {}; the elastic run on data {}",
                dir.display(),
                short(&kept.provenance.data_hash),
                short(trained_on)
            );
            return Err(Hinted { message, hint: remove() }).bad_input();
        }
        let kept = dir.join(run_file::FILE);
        if kept.exists() {
            let was = RunFile::<K>::load(&kept, &[]).bad_input()?;
            if was.train.steps > run.train.steps {
                let message = format!(
                    "{}: a run of {}; the budget gives it {}",
                    dir.display(),
                    counted(was.train.steps as usize, "step"),
                    run.train.steps
                );
                return Err(Hinted { message, hint: remove() }).bad_input();
            }
            // The share of a longer run may round to another step; those that were made stay.
            run.train.warmup = was.train.warmup;
        }
        Ok(Self { run, dir })
    }

    /// Whether its folder holds the model of its last step.
    pub fn is_complete(&self) -> bool {
        let made = Manifest::load(&self.dir).ok().map(|manifest| manifest.provenance.steps);
        made.is_some_and(|made| made >= self.run.train.steps)
    }

    /// Trains it in a process of its own, so that what it takes is its own; goes on where it stopped.
    /// Gives its exit code.
    pub fn train(&self, context: &Context, running: &Running) -> Result<u8> {
        let program = std::env::current_exe().context("this program")?;
        let mut command = Command::new(program);
        command.args(["--device", &context.spec.to_string(), "train"]);
        let kept = self.dir.join(run_file::FILE);
        if kept.exists() {
            // It may have become longer, as a person makes it in the folder of a run.
            self.write(&kept)?;
            command.arg(&self.dir).arg("--resume");
        } else {
            let file = self.dir.with_extension("toml");
            self.write(&file)?;
            command.arg(&file).arg("--out").arg(&self.dir).arg("--resume");
        }
        if quiet() {
            command.arg("--quiet");
        }
        if context.json {
            command.arg("--json").stdout(Stdio::null());
        }
        let set = |id| *running.lock().unwrap_or_else(PoisonError::into_inner) = id;
        let mut child = command.spawn().context("this program")?;
        set(Some(child.id()));
        let status = child.wait();
        set(None);
        // Ended by a signal: there is no code.
        Ok(status.context("this program")?.code().map_or(1, |code| code.clamp(0, 255) as u8))
    }

    fn write(&self, path: &Path) -> Result<()> {
        let above = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(above).bad_input()?;
        let text = self.run.to_toml(above)?;
        if fs::read_to_string(path).ok().as_deref() != Some(&text) {
            fs::write_atomic(path, text.as_bytes()).bad_input()?;
        }
        Ok(())
    }
}

/// The manifest of a run's model, or of its newest checkpoint.
fn newest(dir: &Path) -> Option<Manifest> {
    let latest = Checkpoints::of(dir).latest().ok().flatten();
    Manifest::load(dir).ok().or_else(|| Manifest::load(&latest?.dir).ok())
}
