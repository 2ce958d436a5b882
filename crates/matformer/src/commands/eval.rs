//! `matformer eval`

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    core::SubmodelSpec,
    run::{Kind, ModelFolder, Session, kind},
    run_file::visit,
    study::evaluate::{Question, evaluate},
};

use super::{Context, helped, show, table, tasks};
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
    let submodels = args.submodels.as_deref().map(SubmodelSpec::parse_list);
    let question = Question {
        submodels: submodels.transpose().bad_input()?,
        paired_to: args.paired_to.clone(),
        tokens: args.tokens,
        consistency: args.consistency,
    };
    let found = evaluate(folder, &question, data)?;
    show(context.json, &found, |found| {
        let asked = question.submodels.iter().flatten().map(SubmodelSpec::to_string);
        table::print(&found.results, &asked.collect::<Vec<_>>())?;
        table::print_alone(&found.alone)?;
        match &found.consistency {
            Some(consistency) => table::print_consistency(consistency, K::TARGETS),
            None => Ok(()),
        }
    })
}
