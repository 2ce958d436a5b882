//! Training a run: what is trained and where, whether it fits the machine, what it would cost.

mod dry_run;
mod fit;
mod init;
mod outcome;
mod target;

use std::{path::Path, sync::Arc};

use matformer_core::{Manifest, Provenance, fs};
use matformer_exchange::Exchange;
use matformer_formats::companions;
use matformer_nn::{Elastic, Folder, ModelConfig, folder};
use matformer_runfile::{self as run_file, RunFile};
use matformer_train::{
    Batches, Checkpoints, Interrupter, Outcome, Progress, RunLock, RunOptions, TrainConfig,
    check_ranks, facts, learning_rate, run_taught, say,
};

pub use self::{
    dry_run::{DryRun, Memory, Size, dry_run},
    fit::Need,
    init::Init,
    outcome::{keep_peak, peak_bytes, skipped},
    target::Target,
};
use crate::{
    Session,
    cache::data_cache_of,
    error::{Error, OrBadInput, Result, chain},
    folder::check_is_model,
    kind::{Kind, Source},
};

/// Says what is unusual about a run, and checks that it fits the memory as far as that is known before
/// its data is read.
///
/// # Errors
/// When the device cannot compute as the run wants it, or the run does not fit the memory.
pub fn check<K: Kind>(target: &Target<K>, session: &Session) -> Result<()> {
    target.check_freeze(&session.device)?;
    target.check_device(&session.device)?;
    for note in target.run.train.notes(&target.run.shape().space()?) {
        say!("note: {note}");
    }
    // The data, and a tokenizer that is trained, then say how large all really is.
    let expected = target.run.with_shape(target.expected());
    Need::of(&expected, &session.device)?.check(&expected)?;
    Ok(())
}

/// A run whose data was read and whose model was made; nothing is written yet.
pub struct Ready<'a, K: Kind> {
    target: &'a Target<K>,
    run: RunFile<K>,
    prepared: K::Prepared,
    batches: Arc<dyn Batches<K::Net>>,
    model: K::Net,
    teacher: Option<K::Net>,
    lock: Option<RunLock>,
    /// Whether the folder of the run was there before.
    begun: bool,
    exchange: Exchange,
}

impl<'a, K: Kind> Ready<'a, K> {
    /// Reads the data of a run and makes its model.
    ///
    /// # Errors
    /// When the run is trained already by another process, its data cannot be read or has changed, or it
    /// does not fit the memory.
    pub fn new(target: &'a Target<K>, session: &Session) -> Result<Self> {
        let exchange = &session.exchange;
        // Of a run that is there: its data may take long to read.
        let begun = target.dir.join(run_file::FILE).exists();
        let locks = begun && exchange.is_first();
        let lock = locks.then(|| RunLock::take(&target.dir)).transpose();
        let lock = exchange.agree(lock.map_err(Error::from), chained)?;
        // Rank 0 prepares the data, and the others find it.
        let prepare =
            || K::prepare(&target.run_with_own_files(), &data_cache_of(&target.dir), session);
        let prepared = exchange.first_then(chained, prepare)?;
        let ready = exchange.agree(Self::with(target, prepared, lock, begun, session), chained)?;
        let data = K::facts(&ready.prepared).hash;
        exchange.check_equal(&facts(&ready.run.train, data))?;
        Ok(ready)
    }

    /// With the model, once the data is there.
    fn with(
        target: &'a Target<K>,
        prepared: K::Prepared,
        lock: Option<RunLock>,
        begun: bool,
        session: &Session,
    ) -> Result<Self> {
        let run = fitted(target, &prepared)?;
        if let Some(close) = Need::of(&run, &session.device)?.check(&run)? {
            say!("note: {close}");
        }
        if let Some(once) = run.train.only_round() {
            say!("note: {once}");
        }
        let batches = source(&run, &prepared)?.batches;
        check_ranks(&run.train, &*batches, &session.exchange).bad_input()?;
        let model = model(&run, target.init.as_ref(), session)?;
        let teacher = teacher(&run, &prepared, session)?;
        let exchange = session.exchange.clone();
        Ok(Self { target, run, prepared, batches, model, teacher, lock, begun, exchange })
    }

    /// Makes the folder of the run and writes its run file.
    ///
    /// # Errors
    /// When the folder cannot be written, or is another run's by now.
    pub fn begin(self, progress: Progress) -> Result<Begun<K>> {
        let Self { target, run, prepared, batches, model, teacher, lock, begun, exchange } = self;
        let files = exchange.agree(files(target, &run, &prepared), chained)?;
        let lock = if exchange.is_first() { take_folder(target, lock).map(Some) } else { Ok(None) };
        let lock = exchange.agree(lock, chained)?;
        say_begin(target, begun);
        let facts = K::facts(&prepared);
        let provenance = Provenance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seed: run.train.seed,
            steps: 0,
            tokens: 0,
            data_hash: facts.hash.to_string(),
            parent: target.parent(),
        };
        let mut manifest =
            Manifest::new(K::Net::KIND, model.space(), run.train.draw.clone(), provenance);
        if let Some(tokenizer) = facts.tokenizer {
            manifest = manifest.with_tokenizer(tokenizer);
        }
        let options = RunOptions {
            dir: target.dir.clone(),
            config: run.train.clone(),
            manifest,
            files,
            targets: K::TARGETS,
            progress,
            interrupter: Interrupter::new(),
            configured: target.run.to_kept(&target.dir)?,
            lock,
            exchange,
        };
        Ok(Begun { prepared, batches, model, teacher, options })
    }
}

/// Makes the folder of a run, locks it, and writes its run file.
fn take_folder<K: Kind>(target: &Target<K>, lock: Option<RunLock>) -> Result<RunLock> {
    fs::create_dir_all(&target.dir).bad_input()?;
    let lock = match lock {
        Some(lock) => lock,
        None => RunLock::take(&target.dir)?,
    };
    target.check_folder().bad_input()?;
    let kept = target.dir.join(run_file::FILE);
    if !kept.exists() {
        fs::write_atomic(&kept, target.run.to_toml(&target.dir)?.as_bytes())?;
    }
    Ok(lock)
}

/// A run that is about to make its steps.
pub struct Begun<K: Kind> {
    prepared: K::Prepared,
    batches: Arc<dyn Batches<K::Net>>,
    model: K::Net,
    teacher: Option<K::Net>,
    options: RunOptions,
}

/// A run that was trained to its end, or was interrupted.
pub struct Ended<K: Kind> {
    /// How it ended.
    pub outcome: Outcome,
    /// The data that it was trained on.
    pub prepared: K::Prepared,
}

impl<K: Kind> Begun<K> {
    /// What stops the run behind a step, with a checkpoint.
    pub fn interrupter(&self) -> Interrupter {
        self.options.interrupter.clone()
    }

    /// Trains the run from where it stands to its end.
    ///
    /// # Errors
    /// When the device, the disk or the numbers fail.
    pub fn run(self) -> Result<Ended<K>> {
        let Self { prepared, batches, model, teacher, options } = self;
        let outcome = run_taught(model, teacher, batches, options)?;
        Ok(Ended { outcome, prepared })
    }
}

/// What a rank tells the others of its error.
fn chained(error: &Error) -> String {
    chain(error)
}

/// The run as its data makes it, once a person was told of the data and it was checked.
fn fitted<K: Kind>(target: &Target<K>, prepared: &K::Prepared) -> Result<RunFile<K>> {
    K::say(&target.run.data, prepared);
    target.check_data(prepared)?;
    Ok(target.run.with_shape(K::fitted(&target.run, prepared)?))
}

/// The batches of a run, as its run file has them.
///
/// # Errors
/// When the data is too little for the run.
pub fn source<K: Kind>(run: &RunFile<K>, prepared: &K::Prepared) -> Result<Source<K>> {
    let train = &run.train;
    let rows = train.rows(K::targets_per_row(&run.shape_in_training())).bad_input()?;
    let source = K::batches(run, prepared, rows)?;
    match train.overfit.filter(|n| *n > source.distinct) {
        None => Ok(source),
        Some(found) => Err(matformer_train::Error::Config {
            field: "overfit",
            found: found.to_string(),
            expected: format!("at most {}: the training data has no more batches", source.distinct),
        })
        .bad_input(),
    }
}

/// The model at step 0, on the device with gradients.
fn model<K: Kind>(run: &RunFile<K>, init: Option<&Init<K>>, session: &Session) -> Result<K::Net> {
    let device = session.device.clone().autodiff();
    match init {
        None => K::create(run.shape(), run.train.seed, &device),
        Some(init) => init.model(run.shape(), &device),
    }
}

/// The model that `train.distill.teacher` names, if it names one.
fn teacher<K: Kind>(
    run: &RunFile<K>,
    prepared: &K::Prepared,
    session: &Session,
) -> Result<Option<K::Net>> {
    let Some(dir) = run.train.distill.as_ref().and_then(|distill| distill.folder()) else {
        return Ok(None);
    };
    let place = "`train.distill.teacher`";
    check_is_model(dir).bad_input().map_err(|error| error.at(place))?;
    K::check_adopted(dir, prepared).map_err(|error| error.at(place))?;
    let (model, _) = folder::load::<K::Net>(dir, &session.device.clone().autodiff()).bad_input()?;
    let alike = K::like(run.shape(), model.config());
    match alike.other_weights(run.shape()) {
        None => K::start(&model, &K::like(model.config(), run.shape())).map(Some),
        Some((key, found, expected)) => Err(matformer_train::Error::Config {
            field: "distill.teacher",
            found: format!("{}, whose `{key}` is {found}", dir.display()),
            expected: format!("a model whose `{key}` is {expected}, as this run's"),
        })
        .bad_input(),
    }
}

/// The small files of the run's model folders: those of its data, and what lies beside the weights that it
/// started from (chat template, license), or in its own newest checkpoint where that is gone.
fn files<K: Kind>(
    target: &Target<K>,
    run: &RunFile<K>,
    prepared: &K::Prepared,
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = K::files(run, prepared)?;
    let latest = || Some(Checkpoints::of(&target.dir).latest().ok()??.dir);
    let init = run.train.init.clone().filter(|dir| dir.is_dir());
    if let Some(dir) = init.or_else(latest) {
        for (name, bytes) in companions(&dir).bad_input()? {
            if files.iter().all(|(other, _)| *other != name) {
                files.push((name, bytes));
            }
        }
    }
    Ok(files)
}

/// Where a resumed run stands, as far as training does not say it itself.
fn say_begin<K: Kind>(target: &Target<K>, begun: bool) {
    let latest = Checkpoints::of(&target.dir).latest().ok().flatten();
    let dir: &Path = &target.dir;
    match (&latest, target.resume) {
        (None, true) if !begun => say!("{}: no run is there, a new one begins", dir.display()),
        (None, true) => say!("{}: no checkpoint, starting at step 0", dir.display()),
        (Some(latest), _) => {
            if let Some(was) = target.longer_than() {
                let now = &target.run.train;
                let rate =
                    |steps| learning_rate(&TrainConfig { steps, ..now.clone() }, latest.step);
                say!(
                    "{was} steps became {}: the learning rate goes on at {:.2e}, not {:.2e}",
                    now.steps,
                    rate(now.steps),
                    rate(was)
                );
            }
        }
        (None, false) => {}
    }
}
