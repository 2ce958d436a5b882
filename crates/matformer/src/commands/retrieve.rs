//! `matformer retrieve`: held-out images as queries into the training images.

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    core::{
        SubmodelSpec,
        units::{count, operations, short},
    },
    eval::retrieval::SearchResults,
    run::{ModelFolder, kind},
    run_file::{RunKind, Vit},
    study::{
        embed,
        retrieve::{Question, search},
    },
};

use super::{Context, show, table};
use crate::{args::RetrieveArgs, failure::OrBadInput, output::out};

pub fn run(args: &RetrieveArgs, context: &Context) -> Result<ExitCode> {
    kind::check_is(&args.model, RunKind::Vit, "retrieve")?;
    let folder = ModelFolder::<Vit>::load(&args.model, &context.session)?;
    let submodels = args.submodels.as_deref().map(SubmodelSpec::parse_list);
    let question = Question {
        submodels: submodels.transpose().bad_input()?,
        gallery: args.gallery.clone(),
        symmetric: args.symmetric,
        across: args.across,
        images: args.images,
        gallery_images: args.gallery_images,
    };
    let found = search(&folder, &question, || embed::data(&folder, args.data.as_deref()))?;
    show(context.json, &found, print)
}

fn print(printed: &SearchResults) -> Result<()> {
    let hash = short(&printed.data);
    out!("{}, data {hash}", printed.searched)?;
    let mut lines = table::plain();
    lines.set_header([
        "query",
        "gallery",
        "budget",
        "params",
        "FLOPs",
        "1-NN %",
        "of 5 %",
        "of 10 %",
        "mAP %",
        "1-NN above",
    ]);
    for row in &printed.results {
        lines.add_row([
            row.query.clone(),
            row.gallery.clone(),
            row.alone.clone().unwrap_or_default(),
            count(row.query_params as f64),
            operations(row.query_flops),
            table::percent(row.found.nearest),
            table::percent(row.found.recall_5),
            table::percent(row.found.recall_10),
            table::percent(row.found.map),
            row.above.map_or(String::new(), table::percent),
        ]);
    }
    out!("{lines}")?;
    out!("1-NN by chance: {:.2} %", 100.0 * printed.chance)?;
    out!(
        "1-NN: the nearest has the query's {}; of 5, of 10: one of the nearest has; mAP: mean average \
         precision over the whole gallery; above: 1-NN minus that of the shared gallery's own encoder as query; \
         ± one standard error over {}",
        printed.relevant,
        printed.counted()
    )
}
