//! The first part: neurons in the order of their importance.

use std::{path::Path, time::Instant};

use matformer_core::{Manifest, Provenance, fs};
use matformer_nn::{
    Activations, Elastic, Folder, Importance, folder, importance::order as order_of,
    importance::reordered,
};
use matformer_runfile::RunFile;
use matformer_train::{TrainConfig, calibrate};
use serde::{Deserialize, Serialize};

use matformer_core::units::count;
use matformer_run::{Kind, ModelFolder, OrBadInput, Result, train};

use super::Plan;
use matformer_train::say;

/// What says how it was ordered, in its folder.
const FACTS: &str = "ordering.json";

/// How a model was ordered.
#[derive(Debug, Serialize, Deserialize)]
struct Facts {
    score: Importance,
    /// Rows, or images, that it was measured on.
    rows: usize,
    /// Tokens, or images.
    tokens: u64,
    seconds: f64,
}

/// What is measured so far, in the folder of the run: an interruption costs one part of it.
#[derive(Default, Serialize, Deserialize)]
struct Calibration {
    rows: usize,
    tokens: usize,
    data: String,
    batches: u64,
    seconds: f64,
    layers: Vec<Activations>,
}

/// Where that is.
const CALIBRATION: &str = "calibration.json";

/// Tokens of a calibration row; 1 of an image.
fn row_len<K: Kind>(plan: &Plan, run: &RunFile<K>) -> usize {
    let of_text = |context| plan.calibration_tokens.unwrap_or(512).min(context);
    K::context(run.shape()).map_or(1, of_text)
}

/// What the ordering would look at.
#[derive(Clone, Copy, Debug)]
pub struct Ordering {
    /// Training rows, or images.
    pub rows: usize,
    /// About how many training targets they have.
    pub targets: usize,
}

/// What the ordering would look at, as far as that is known before the data is read.
pub fn ordering<K: Kind>(plan: &Plan, run: &RunFile<K>) -> Ordering {
    let rows = if plan.order.needs_data() { plan.calibration_rows } else { 0 };
    Ordering { rows, targets: rows.saturating_mul(row_len(plan, run)) }
}

/// Orders the neurons of `original` and writes the model to the plan's folder for it.
pub(super) fn order<K: Kind>(
    plan: &Plan,
    run: &RunFile<K>,
    prepared: &K::Prepared,
    original: ModelFolder<K>,
) -> Result<()> {
    let calibration = if plan.order.needs_data() {
        calibrated(plan, run, prepared, &original)?
    } else {
        Calibration::default()
    };
    let orders = order_of(&original.model, &calibration.layers, plan.order)?;
    let model = reordered(&original.model, &orders)?;
    let facts = Facts {
        score: plan.order,
        rows: if plan.order.needs_data() { plan.calibration_rows } else { 0 },
        tokens: calibration.layers.first().map_or(0, |layer| layer.tokens as u64),
        seconds: calibration.seconds,
    };
    let provenance = Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        parent: Some(original.manifest.weights_sha256.clone()),
        // No step of the run was made yet.
        steps: 0,
        tokens: 0,
        ..original.manifest.provenance.clone()
    };
    let mut manifest =
        Manifest::new(K::Net::KIND, model.space(), original.manifest.objective.clone(), provenance);
    manifest.dtype = original.manifest.dtype;
    manifest.tokenizer_sha256 = original.manifest.tokenizer_sha256.clone();
    let ordered = plan.ordered();
    let scratch = fs::scratch_dir(&ordered)?;
    fs::write_files(scratch.path(), &K::files_of(&original)?)?;
    fs::write_json(scratch.path().join(FACTS), "how neurons were ordered", &facts)?;
    folder::save(&model, &manifest, scratch.path())?;
    fs::publish_dir(scratch.path(), &ordered)?;
    // It was only needed until here.
    let _ = std::fs::remove_file(plan.out.join(CALIBRATION));
    say!("{}: neurons ordered by {}{}", ordered.display(), plan.order, over::<K>(&facts));
    Ok(())
}

/// Makes the folder of the run the ordered model.
///
/// # Errors
/// When a file cannot be replaced.
pub fn publish(plan: &Plan) -> Result<()> {
    let mut files = fs::read_dir(plan.ordered())?;
    // Last: a folder that has it is complete.
    files.sort_by_key(|path| path.ends_with(Manifest::FILE));
    for path in files {
        let Some(name) = path.file_name() else { continue };
        let to = plan.out.join(name);
        if to.exists() {
            std::fs::remove_file(&to).map_err(fs::error(&to, "remove"))?;
        }
        // Files of models are replaced, never changed, so that both folders may share them.
        std::fs::hard_link(&path, &to)
            .or_else(|_| std::fs::copy(&path, &to).map(drop))
            .map_err(fs::error(&to, "create"))?;
    }
    Ok(())
}

/// `, over 262.1k tokens in 241 s`
fn over<K: Kind>(facts: &Facts) -> String {
    if facts.tokens == 0 {
        return String::new();
    }
    format!(", over {} {} in {:.0} s", count(facts.tokens as f64), K::TARGETS, facts.seconds)
}

/// Tokens, or images, that the ordered model's score was measured on.
pub(super) fn tokens_of(ordered: &Path) -> u64 {
    let facts = fs::read(ordered.join(FACTS)).ok();
    let facts: Option<Facts> = facts.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    facts.map_or(0, |facts| facts.tokens)
}

/// Sums of activations over the first rows of the training data.
fn calibrated<K: Kind>(
    plan: &Plan,
    run: &RunFile<K>,
    prepared: &K::Prepared,
    original: &ModelFolder<K>,
) -> Result<Calibration> {
    /// Batches between two times that what was measured is kept.
    const PART: u64 = 32;
    let context = K::context(run.shape());
    let per_row = row_len(plan, run);
    // About as many tokens as suit the caches of a CPU; as images, a few dozen.
    let most = if context.is_some() { 2048 / per_row } else { 64 };
    let there = K::facts(prepared).train / (per_row + 1);
    let rows = most.min(there).clamp(1, plan.calibration_rows);
    let batches_in_all = plan.calibration_rows.div_ceil(rows) as u64;
    let run = RunFile::<K> {
        train: TrainConfig {
            seq_len: context.map(|_| per_row),
            batch_rows: None,
            tokens_per_step: rows * per_row,
            overfit: None,
            ..run.train.clone()
        },
        ..run.clone()
    };
    let batches = train::source(&run, prepared)?.batches;
    let model = K::start(&original.model, run.shape())?;
    let data = K::facts(prepared).hash.to_string();
    let path = plan.out.join(CALIBRATION);
    let kept: Option<Calibration> =
        fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mut found = kept
        .filter(|c| (c.rows, c.tokens) == (plan.calibration_rows, per_row) && c.data == data)
        .unwrap_or_default();
    (found.rows, found.tokens, found.data) = (plan.calibration_rows, per_row, data);
    let mut bar = original.session.bar("activations");
    bar.at(0, batches_in_all);
    if !bar.is_shown() {
        let tokens = batches_in_all * (rows * per_row) as u64;
        say!("measuring the activations of {} {}", count(tokens as f64), K::TARGETS);
    }
    while found.batches < batches_in_all {
        let (started, from) = (Instant::now(), found.batches);
        let to = (from + PART).min(batches_in_all);
        let part = calibrate(&model, &*batches, from..to, &mut |done| bar.at(done, batches_in_all))
            .bad_input()?;
        found.layers.resize(part.len(), Activations::default());
        found.layers.iter_mut().zip(&part).for_each(|(sum, part)| sum.add(part));
        found.batches = to;
        found.seconds += started.elapsed().as_secs_f64();
        fs::write_json(&path, "activations", &found)?;
    }
    drop(bar);
    Ok(found)
}
