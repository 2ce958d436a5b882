//! The run file of an elastified model: what is trained where nothing else is said.

use std::path::{Path, PathBuf};

use matformer_core::{Manifest, fs};
use matformer_nn::ModelConfig;
use matformer_runfile::{self as run_file, Draft, RunFile};
use matformer_train::say;
use toml::{Table, Value};

use matformer_run::{
    Error, Hinted, Kind, OrBadInput, Result, check_is_data, folder::check_is_model, run_file_of,
};

use super::Plan;

/// The run before its neurons are ordered, from data or one run file, and what is set beside: it starts from the model
/// itself.
///
/// # Errors
/// What is not a model, not data, or not a setting of a run.
pub fn draft<K: Kind>(plan: &Plan, data: &[String], sets: &[String]) -> Result<Draft<K>> {
    Manifest::load(&plan.model).bad_input()?;
    let mut tables = vec![defaults(context_of::<K>(&plan.model)?)];
    let file = match data {
        [one] => run_file_of(one),
        _ => None,
    };
    match file {
        Some(path) => {
            let mut table = Draft::<K>::read(&path, &[]).bad_input()?.into_table();
            // Of another model, perhaps.
            table.remove("model");
            table.get_mut("train").and_then(Value::as_table_mut).map(|train| train.remove("init"));
            tables.push(table);
        }
        None => {
            data.iter().try_for_each(|place| check_is_only_data(place)).bad_input()?;
            let data = Value::Table(K::data_at(data));
            tables.push([("data".to_owned(), data)].into_iter().collect());
        }
    }
    if let Some(set) = sets.iter().find(|set| set.trim_start().starts_with("train.init")) {
        return Err(Hinted {
            message: format!("--set {set}: the run starts from {}", plan.model.display()),
            hint: "name another model as the first argument".to_owned(),
        })
        .bad_input();
    }
    let mut draft = Draft::of(tables, sets).bad_input()?;
    draft.set_init(&plan.model.display().to_string());
    Ok(draft)
}

/// Refuses a run file among several places of data.
fn check_is_only_data(place: &str) -> Result<(), Hinted> {
    let hint = "give it alone: its `[data]` names all data of the run";
    check_is_data(place, ", beside other data", hint)
}

/// Makes the folder of the run with its run file, or checks that the one there is the same, which `resume` expects;
/// the file's path.
///
/// # Errors
/// A folder that cannot be written to, or a run that was begun with other settings.
pub fn begin<K: Kind>(plan: &Plan, planned: &RunFile<K>, resume: bool) -> Result<PathBuf> {
    fs::create_dir_all(&plan.out).bad_input()?;
    let kept = plan.out.join(run_file::FILE);
    if kept.exists() {
        let there = RunFile::<K>::load(&kept, &[]).bad_input()?;
        there.check_same(&kept, planned).map_err(differs)?;
        return Ok(kept);
    }
    if resume {
        say!("{}: no run is there, a new one begins", plan.out.display());
    }
    fs::write_atomic(&kept, planned.to_toml(&plan.out)?.as_bytes())?;
    Ok(kept)
}

/// A run that was begun with other settings, with what to do about it.
fn differs(error: run_file::Error) -> Error {
    match error {
        run_file::Error::Differs { .. } => Error::Input(Hinted {
            message: error.to_string(),
            hint: "repeat the command that began the run with --resume, or choose another --out"
                .to_owned(),
        }),
        other => Error::refused(other),
    }
}

/// The most tokens that a row of the model may have.
fn context_of<K: Kind>(model: &Path) -> Result<Option<usize>> {
    let file = matformer_nn::ConfigFile::read(model).bad_input()?;
    let config = <K::Net as matformer_nn::Folder>::read_config(&file).bad_input()?;
    Ok(K::context(&config))
}

/// Default training settings of `elastify`, for keys that are set neither in the run file nor with `--set`. For text
/// models, `context` is given.
fn defaults(context: Option<usize>) -> Table {
    /// Length of training rows: enough for the statistics of neurons, at little attention.
    const SEQ_LEN: usize = 256;
    let mut train = toml::toml! {
        learning_rate = 2e-4
        weight_decay = 0.0
        keep = 1
        [distill]
        weight = 1.0
    };
    train.extend(match context {
        // Measured: docs/results/elastify.md. Many small steps teach small sizes most; leaving the
        // embedding alone keeps what the original knows beside this text.
        Some(_) => toml::toml! {
            steps = 960
            tokens_per_step = 512
            warmup = 50
            eval_every = 240
            eval_tokens = 4096
            checkpoint_every = 240
            freeze = ["embed"]
        },
        None => toml::toml! {
            steps = 180
            tokens_per_step = 64
            warmup = 20
            eval_every = 90
            eval_tokens = 2048
            checkpoint_every = 50
        },
    });
    if let Some(context) = context {
        train.insert("seq_len".to_owned(), (SEQ_LEN.min(context) as i64).into());
    }
    [("train".to_owned(), Value::Table(train))].into_iter().collect()
}

/// The run as it starts from the model in `dir` and learns from it: from the original before its neurons
/// are ordered, then from the ordered model, whose full width computes the same. Where nothing else is said,
/// it teaches the full width of a text model alone, so that it keeps what it knows: the other sizes learn more
/// from the text itself in the time that the teacher would take.
///
/// # Errors
/// A shape without widths that a model can have.
pub fn starting_from<K: Kind>(run: &RunFile<K>, dir: &Path) -> Result<RunFile<K>> {
    let mut run = run.clone();
    let widest = run.shape().space()?.granularities.largest().name.clone();
    let is_text = K::context(run.shape()).is_some();
    if let Some(distill) = &mut run.train.distill
        && distill.from.is_none()
        && distill.teacher.is_none()
    {
        distill.teacher = Some(dir.to_owned());
        if is_text {
            distill.students.get_or_insert_with(|| vec![widest]);
        }
    }
    run.train.init = Some(dir.to_owned());
    Ok(run)
}

/// Checks what only `elastify` asks of a run.
///
/// # Errors
/// A teacher that is no model, a model without a smaller size, or rows that are longer than its context.
pub fn check<K: Kind>(plan: &Plan, run: &RunFile<K>) -> Result<()> {
    if let Some(teacher) = run.train.distill.as_ref().and_then(|d| d.teacher.as_ref()) {
        check_is_model(teacher).bad_input().map_err(|error| error.at("`train.distill.teacher`"))?;
    }
    let space = run.shape().space()?;
    if space.d_ff < 2 {
        return Err(Hinted {
            message: format!("{}: `d_ff` is 1: it has no smaller size", plan.model.display()),
            hint: "elastify needs a model whose feed-forward blocks have several neurons"
                .to_owned(),
        })
        .bad_input();
    }
    if space.granularities.len() < 2 {
        return Err(Hinted {
            message: format!("{}: a model of one size, {}", plan.model.display(), space.d_ff),
            hint: format!(
                "name its widths: --set model.{}.granularities=[{},{}]",
                K::NAME,
                space.d_ff / 2,
                space.d_ff
            ),
        })
        .bad_input();
    }
    match (K::context(run.shape()), plan.calibration_tokens) {
        (Some(context), Some(found)) if found > context => Err(Hinted {
            message: format!("--calibration-tokens {found}: the model's context is {context}"),
            hint: format!("expected at most {context}"),
        })
        .bad_input(),
        _ => Ok(()),
    }
}
