//! `matformer eval`

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    core::SubmodelSpec,
    eval::{Consistency, EvalResults},
    run::{Kind, ModelFolder, Session, kind},
    run_file::visit,
    study::{
        alone::{Alone, beside, ended},
        consistency::consistency,
        measure,
    },
};
use serde::Serialize;

use super::{Context, helped, print_json, table, tasks};
use crate::{
    args::EvalArgs,
    failure::{OrBadInput, said},
};

pub fn run(args: &EvalArgs, context: &Context) -> Result<ExitCode> {
    if !args.tasks.is_empty() {
        return tasks::run(args, context);
    }
    let kind = kind::of_folder(&args.model).map_err(Into::into);
    visit!(context.session.exchange.agree(kind, said)?, run_kind(args, context))
}

fn run_kind<K: Kind>(args: &EvalArgs, context: &Context) -> Result<ExitCode> {
    let load = |session: &Session| {
        ModelFolder::<K>::load(&args.model, session)?.with_context(args.context)
    };
    helped(context, load, args.data.as_deref(), |folder, data| {
        measured(args, folder, data, context)
    })
}

/// Measures what was asked for, and prints it.
fn measured<K: Kind>(
    args: &EvalArgs,
    folder: &ModelFolder<K>,
    data: impl Fn() -> matformer::run::Result<K::Prepared>,
    context: &Context,
) -> Result<ExitCode> {
    let asked = match &args.submodels {
        None => Vec::new(),
        Some(list) => SubmodelSpec::parse_list(list).bad_input()?,
    };
    let mut submodels = match &asked[..] {
        [] => folder.trained(),
        asked => asked.iter().map(|spec| folder.submodel(Some(spec))).collect::<Result<_, _>>()?,
    };
    let reference = folder.submodel(args.paired_to.as_ref())?;
    let shown = submodels.len();
    // The reference is measured with the others, and shown if it was asked for.
    let hidden = !submodels.contains(&reference);
    if hidden {
        submodels.push(reference.clone());
    }
    let prepared = data()?;
    let evaluation = measure(folder, &prepared, &submodels, args.tokens)?;
    let mut results = EvalResults::new(
        &args.model.display().to_string(),
        &K::facts(&prepared).hash.to_string(),
        &evaluation,
        folder.space(),
        &folder.costs,
        Some(&reference),
    )?;
    results.results.truncate(shown);
    submodels.truncate(shown);
    let ended = ended(folder)?;
    let alone = beside(folder, &ended, &prepared, &evaluation, &submodels, args.tokens)?;
    let consistency = args
        .consistency
        .then(|| consistency(folder, &prepared, &submodels, args.tokens, &ended))
        .transpose()?;
    if context.json {
        return print_json(&Printed { results, alone, consistency });
    }
    let asked: Vec<String> = asked.iter().map(SubmodelSpec::to_string).collect();
    table::print(&results, &asked)?;
    table::print_alone(&alone)?;
    if let Some(consistency) = &consistency {
        table::print_consistency(consistency, K::TARGETS)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What `--json` prints.
#[derive(Serialize)]
struct Printed {
    #[serde(flatten)]
    results: EvalResults,
    /// Baselines of the same run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alone: Vec<Alone>,
    /// With --consistency.
    #[serde(skip_serializing_if = "Option::is_none")]
    consistency: Option<Consistency>,
}
