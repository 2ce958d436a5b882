//! Submodels measured, and what a report is made of: the whole curve, measured once for the same weights
//! and tokens.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use matformer_core::{Key, Measurements, Submodel, curve, fs, mix};
use matformer_eval::{
    DocumentLoss, EvalResults, Evaluation, Store, StoreKey, Studied, measurements, report::Sample,
    stats,
};
use serde::{Deserialize, Serialize};

use matformer_core::units::short;
use matformer_run::{Kind, ModelFolder, Part, Result, Session, chain};
use matformer_train::say;

use crate::team;

/// A file in the folder of a model's report: what was measured on a part of the held-out data, or in
/// other windows than the model's own, has its own.
pub fn file_of<K: Kind>(
    folder: &ModelFolder<K>,
    stem: &str,
    tokens: Option<usize>,
    extension: &str,
) -> PathBuf {
    let part = tokens.map_or(String::new(), |n| format!("-{n}"));
    let context = folder.other_context().map_or(String::new(), |n| format!("-context{n}"));
    folder.dir.join("report").join(format!("{stem}{part}{context}.{extension}"))
}

/// Form of what is kept, and rule by which a part of the data is taken.
const FORMAT: u32 = 4;

/// What to do with a folder that names no data.
const DATA_HINT: &str = "report needs the folder of a run; `matformer eval` measures any model \
                         folder, with the data that --data names";

/// What the page is made of, kept beside it: measured once for the same weights and tokens.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Measured<K: Kind> {
    /// Measurements of another form, or by another rule, are not taken for these.
    #[serde(default)]
    format: u32,
    weights: String,
    tokens_asked: Option<usize>,
    /// The whole curve.
    pub results: EvalResults,
    /// How much each granularity gains over the next narrower one.
    pub gaps: Vec<Gap>,
    /// In-between submodels that lie outside the two granularities that they mix by more than
    /// two paired standard errors.
    pub outside: Vec<String>,
    /// How many submodels lie in between.
    pub in_between: usize,
    /// What the same data gives without a model.
    #[serde(rename = "baselines")]
    pub floor: K::Floor,
    /// What the largest submodel makes of a held-out document.
    pub sample: Option<Sample>,
    /// Losses of the granularities, by label, document by document: another run's are compared with
    /// them.
    pub documents: BTreeMap<String, Vec<DocumentLoss>>,
}

/// Loss of a granularity above that of the next wider one, paired by document.
#[derive(Serialize, Deserialize)]
pub struct Gap {
    /// The narrower one.
    pub narrow: String,
    /// The wider one.
    pub wide: String,
    /// Loss of the narrower one minus that of the wider one.
    pub diff: f64,
    /// Its standard error.
    pub stderr: Option<f64>,
}

impl Gap {
    /// Whether it is larger than two standard errors.
    pub fn exceeds_two_errors(&self) -> bool {
        self.stderr.is_some_and(|stderr| self.diff > 2.0 * stderr)
    }
}

/// A curve, with the data that it is of where that can be read.
pub struct Curve<K: Kind> {
    /// The curve.
    pub measured: Measured<K>,
    /// The data.
    pub data: Option<K::Prepared>,
}

/// The curve of a run on its own data: measured before, or now. Without its data what was measured
/// before is shown.
pub fn measured<K: Kind>(
    folder: &ModelFolder<K>,
    tokens: Option<usize>,
    keep: Keep,
) -> Result<Curve<K>> {
    let before = before(folder, tokens, keep)?;
    match (before, folder.own_data(DATA_HINT)) {
        (before, Ok(data)) => {
            say_data(folder, &data);
            let measured = on_data(folder, before, &data, (tokens, keep))?;
            Ok(Curve { measured, data: Some(data) })
        }
        (Some(measured), Err(error)) => {
            let (dir, why) = (folder.dir.display(), chain(&error));
            say!("note: {dir}: measured before, shown without its data: {why}");
            Ok(Curve { measured, data: None })
        }
        (None, Err(error)) => Err(error),
    }
}

/// The same of a baseline, on the data of its run; nothing where it would have to be measured without.
pub fn measured_baseline<K: Kind>(
    folder: &ModelFolder<K>,
    data: Option<&K::Prepared>,
    tokens: Option<usize>,
    keep: Keep,
) -> Result<Option<Measured<K>>> {
    let before = before(folder, tokens, keep)?;
    match data {
        Some(data) => on_data(folder, before, data, (tokens, keep)).map(Some),
        None => Ok(before),
    }
}

/// Whether a measurement must be kept in the folder of its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// A folder that cannot be written to is an error before anything is measured.
    Must,
    /// A folder that cannot be written to is noted.
    May,
}

/// What was measured before.
fn before<K: Kind>(
    folder: &ModelFolder<K>,
    tokens: Option<usize>,
    keep: Keep,
) -> Result<Option<Measured<K>>> {
    let kept = kept_in(folder, tokens);
    let before = reusable(&kept, folder, tokens);
    if before.is_none() && keep == Keep::Must {
        drop(fs::scratch_dir(&kept)?);
    }
    Ok(before)
}

fn kept_in<K: Kind>(folder: &ModelFolder<K>, tokens: Option<usize>) -> PathBuf {
    file_of(folder, "measured", tokens, "json")
}

/// What was measured before on the same data, or a new measurement, which is kept.
fn on_data<K: Kind>(
    folder: &ModelFolder<K>,
    before: Option<Measured<K>>,
    data: &K::Prepared,
    (tokens, keep): (Option<usize>, Keep),
) -> Result<Measured<K>> {
    let (kept, now) = (kept_in(folder, tokens), K::facts(data).hash.to_string());
    if let Some(measured) = before {
        if measured.results.data.hash == now {
            say!("{}: measured before, reused", kept.display());
            return Ok(measured);
        }
        say!(
            "{}: measured on data {}, which is now data {}: measured again",
            kept.display(),
            short(&measured.results.data.hash),
            short(&now)
        );
    }
    let measured = whole_curve(folder, data, tokens)?;
    match (fs::write_atomic(&kept, serde_json::to_string(&measured)?.as_bytes()), keep) {
        (Err(error), Keep::Must) => return Err(error.into()),
        (Err(error), Keep::May) => say!("note: not kept: {}", chain(&error)),
        (Ok(()), _) => {}
    }
    Ok(measured)
}

fn reusable<K: Kind>(
    kept: &Path,
    folder: &ModelFolder<K>,
    tokens: Option<usize>,
) -> Option<Measured<K>> {
    let measured: Measured<K> = serde_json::from_slice(&fs::read(kept).ok()?).ok()?;
    let same = measured.format == FORMAT
        && measured.weights == folder.manifest.weights_sha256
        && measured.tokens_asked == tokens
        && measured.results.data.context == folder.context();
    same.then_some(measured)
}

/// Losses of submodels, from the folder or measured now; says where the data is other than the model was trained on.
pub fn measure<K: Kind>(
    folder: &ModelFolder<K>,
    prepared: &K::Prepared,
    submodels: &[Submodel],
    targets: Option<usize>,
) -> Result<Evaluation> {
    say_data(folder, prepared);
    walked(folder, prepared, submodels, &Part { targets, ..Part::default() })
}

/// Every granularity of a run that has just ended, measured on all held-out data, beside what that gives
/// without a model.
///
/// # Errors
/// When the model or the data cannot be read.
pub fn at_end<K: Kind>(
    dir: &Path,
    prepared: &K::Prepared,
    session: &Session,
) -> Result<(EvalResults, K::Floor)> {
    let folder = ModelFolder::<K>::load(dir, session)?;
    let submodels = folder.trained();
    let evaluation = measure(&folder, prepared, &submodels, None)?;
    let results = results(&folder, prepared, &evaluation, submodels.last())?;
    Ok((results, K::floor(prepared, None, session)?))
}

/// Losses of a folder's submodels as results, each compared with that of `reference`.
pub(crate) fn results<K: Kind>(
    folder: &ModelFolder<K>,
    prepared: &K::Prepared,
    evaluation: &Evaluation,
    reference: Option<&Submodel>,
) -> Result<EvalResults> {
    Ok(EvalResults::new(
        &folder.dir.display().to_string(),
        &K::facts(prepared).hash.to_string(),
        evaluation,
        folder.space(),
        &folder.costs,
        reference,
    )?)
}

/// Says so where a model is measured on other data than it was trained on.
fn say_data<K: Kind>(folder: &ModelFolder<K>, prepared: &K::Prepared) {
    if K::facts(prepared).hash.to_string() != folder.manifest.provenance.data_hash {
        say!(
            "note: not the training run's data: the model may have seen held-out {}s in training, and \
             only losses with equal data hash are comparable",
            K::DOCUMENT
        );
    }
}

/// The same without a word on the data, of any part of it. Results also become lines of `measurements.jsonl`.
pub fn walked<K: Kind>(
    folder: &ModelFolder<K>,
    prepared: &K::Prepared,
    submodels: &[Submodel],
    part: &Part,
) -> Result<Evaluation> {
    let mut store = store_of(folder, prepared)?;
    let evaluation =
        studied(folder, prepared, &mut store, (submodels, part), "measuring")?.evaluation;
    say_not_kept(&store);
    if store.not_kept().is_none()
        && let Err(error) = summarise(folder, &evaluation, &K::facts(prepared).hash.to_string())
    {
        say!("note: not kept: {}", chain(&error));
    }
    Ok(evaluation)
}

/// Adds what `measurements.jsonl` does not say yet: also of losses that were measured for something else.
fn summarise<K: Kind>(folder: &ModelFolder<K>, found: &Evaluation, hash: &str) -> Result<()> {
    let (weights, data) = (&folder.manifest.weights_sha256, found.data(hash));
    let mut lines = measurements(found, folder.space(), weights, &data)?;
    let there = Measurements::read_all(&folder.dir)?;
    lines.retain(|line| {
        let (submodel, metric) = (&line.submodel, &line.metric);
        let old = there.find(&Key { weights, data: &data, submodel, metric });
        old.is_none_or(|old| old.value != line.value)
    });
    Ok(Measurements::append(&folder.dir, &lines)?)
}

/// What a model's folder has on held-out data.
pub fn store_of<K: Kind>(folder: &ModelFolder<K>, prepared: &K::Prepared) -> Result<Store> {
    store_with(folder, prepared, "")
}

/// The same of another measurement than of losses, which `what` names.
pub(crate) fn store_with<K: Kind>(
    folder: &ModelFolder<K>,
    prepared: &K::Prepared,
    what: &str,
) -> Result<Store> {
    let facts = K::facts(prepared);
    let tokenizer = facts.tokenizer.map_or(String::new(), |hash| hash.to_string());
    let key = StoreKey {
        weights: &folder.manifest.weights_sha256,
        data: &format!("{}/{tokenizer}{what}", facts.hash),
        context: folder.context(),
    };
    let store = Store::open(&folder.dir, &key)?;
    for path in store.unreadable() {
        say!("note: {} is damaged, or of another version: passed over", path.display());
    }
    Ok(store)
}

/// Losses of submodels on a part of the held-out data: what is not known is measured, under a progress bar.
pub fn studied<K: Kind>(
    folder: &ModelFolder<K>,
    prepared: &K::Prepared,
    store: &mut Store,
    (submodels, part): (&[Submodel], &Part),
    what: &'static str,
) -> Result<Studied> {
    if let Some(exchange) = folder.session.helpers() {
        team::ask(folder, exchange, submodels, part)?;
        store.share_among(exchange.clone());
    }
    let mut bar = folder.session.bar(what);
    let found = K::evaluate(folder, prepared, store, submodels, part, &mut |done, total| {
        bar.at(done as u64, total as u64);
    });
    drop(bar);
    found
}

/// Says why what was measured is not in the folder, where it is not: it does not cost the result.
pub fn say_not_kept(store: &Store) {
    if let Some(error) = store.not_kept() {
        say!("note: not kept: {}", chain(error));
    }
}

/// The whole Mix'n'Match curve on held-out text.
fn whole_curve<K: Kind>(
    folder: &ModelFolder<K>,
    prepared: &K::Prepared,
    tokens: Option<usize>,
) -> Result<Measured<K>> {
    let space = folder.space();
    let uniforms = folder.trained();
    let (submodels, in_between) = match folder.only_trained() {
        Some(only) => (vec![only], Vec::new()),
        None => (curve(space), mix::in_between(space)),
    };
    let part = Part { targets: tokens, ..Part::default() };
    let evaluation = walked(folder, prepared, &submodels, &part)?;
    let results = results(folder, prepared, &evaluation, uniforms.last())?;
    let gaps = uniforms
        .windows(2)
        .map(|pair| {
            let difference =
                stats::difference(evaluation.losses(&pair[0])?, evaluation.losses(&pair[1])?)?;
            Ok(Gap {
                narrow: space.label(&pair[0]),
                wide: space.label(&pair[1]),
                diff: difference.value,
                stderr: difference.stderr,
            })
        })
        .collect::<Result<_>>()?;
    let mut outside = Vec::new();
    for submodel in &in_between {
        if !lies_between(&evaluation, space, submodel)? {
            outside.push(space.label(submodel));
        }
    }
    Ok(Measured {
        format: FORMAT,
        weights: folder.manifest.weights_sha256.clone(),
        tokens_asked: tokens,
        results,
        gaps,
        outside,
        in_between: in_between.len(),
        floor: K::floor(prepared, tokens, &folder.session)?,
        sample: K::sample(folder, prepared, tokens)?,
        documents: uniforms
            .iter()
            .map(|uniform| Ok((space.label(uniform), evaluation.losses(uniform)?.to_vec())))
            .collect::<Result<_>>()?,
    })
}

/// Whether a submodel's loss is between those of the granularities that it mixes, within two
/// paired standard errors.
fn lies_between(
    evaluation: &Evaluation,
    space: &matformer_core::Space,
    submodel: &Submodel,
) -> Result<bool> {
    let Some((narrow, wide)) = mix::neighbours(space, submodel) else {
        return Ok(true);
    };
    let ours = evaluation.losses(submodel)?;
    let above_wide = stats::difference(ours, evaluation.losses(&wide)?)?;
    let below_narrow = stats::difference(evaluation.losses(&narrow)?, ours)?;
    // A single document gives no error to judge by.
    let fits = |d: &stats::Estimate| d.stderr.is_none_or(|stderr| d.value >= -2.0 * stderr);
    Ok(fits(&above_wide) && fits(&below_narrow))
}

#[cfg(test)]
mod tests {
    use matformer_core::{Granularities, Space};
    use matformer_eval::SubmodelLosses;

    use super::*;

    /// Whether a submodel of two layers lies between S and M, which are at 5 and 3 nats on each of two
    /// documents of one token, if it is at these losses.
    fn between(losses: [f64; 2]) -> bool {
        let space = Space::new(2, 64, 8, Granularities::default_for(64).unwrap()).unwrap();
        let mixed = Submodel::new(vec![8, 16]);
        let of = |submodel: &Submodel, losses: [f64; 2]| SubmodelLosses {
            submodel: submodel.clone(),
            documents: losses
                .map(|nats| DocumentLoss { nats, tokens: 1, ..DocumentLoss::default() })
                .to_vec(),
        };
        let uniform = |width| Submodel::uniform(width, 2);
        let submodels =
            vec![of(&uniform(8), [5.0; 2]), of(&uniform(16), [3.0; 2]), of(&mixed, losses)];
        let evaluation = Evaluation { submodels, whole: true, context: None };
        lies_between(&evaluation, &space, &mixed).unwrap()
    }

    #[test]
    fn a_submodel_lies_between_its_neighbours_within_two_standard_errors() {
        assert!(between([4.0, 4.0]));
        // One standard error (of 0.5) above S or below M is no difference, three are.
        assert!(between([6.0, 5.0]) && between([2.0, 3.0]));
        assert!(!between([7.0, 6.0]) && !between([1.0, 2.0]));
        // Exactly as good as a neighbour.
        assert!(between([5.0, 5.0]) && between([3.0, 3.0]));
    }
}
