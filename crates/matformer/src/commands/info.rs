//! `matformer info`

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use matformer::{
    core::{
        Manifest, Resource,
        units::{count, operations, short},
    },
    nn::{Folder, ModelConfig},
    run::{
        Kind, ModelFolder,
        info::{GranularityInfo, Listed, NamedInfo, PaperRow, granularities, named, paper_table},
        kind,
    },
    run_file::{Lm, Tables, Vit, unknown_preset, visit},
};
use serde::Serialize;

use super::{Context, show, table};
use crate::{
    args::InfoArgs,
    failure::{self, OrBadInput},
    logging::say,
    output::out,
};

#[derive(Serialize)]
struct Info<'a, S> {
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a Path>,
    shape: &'a S,
    granularities: Vec<GranularityInfo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    named: Vec<NamedInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<&'a Manifest>,
}

/// `info RUN`
pub fn run(args: &InfoArgs, context: &Context) -> Result<ExitCode> {
    let Some(dir) = &args.model else {
        return preset(args, context.json);
    };
    visit!(kind::of_folder(dir)?, run_kind(dir, context))
}

fn run_kind<K: Kind>(dir: &Path, context: &Context) -> Result<ExitCode> {
    let folder = ModelFolder::<K>::load(dir, &context.session)?;
    let Listed { named, problems } = named(&folder)?;
    for (name, error) in problems {
        let said = failure::said(&error.into());
        match name {
            Some(name) => say!("note: `{name}` is not listed: {said}"),
            None => say!("note: {said}"),
        }
    }
    let info = Info {
        preset: None,
        model: Some(dir),
        shape: folder.model.config(),
        granularities: granularities::<K>(folder.model.config(), folder.space(), &folder.costs)?,
        named,
        manifest: Some(&folder.manifest),
    };
    show(context.json, &info, |info| {
        print_origin(&folder)?;
        print::<K>(info)
    })
}

/// Where a model comes from.
fn print_origin<K: Kind>(folder: &ModelFolder<K>) -> Result<()> {
    let provenance = &folder.manifest.provenance;
    let trained = folder.is_trained(&folder.space().largest());
    out!("{}", folder.dir.display())?;
    if let Some(slice) = &folder.manifest.slice {
        match &provenance.parent {
            Some(parent) => out!("submodel {} of the weights {}", slice.submodel, short(parent))?,
            None => out!("submodel {}", slice.submodel)?,
        }
    }
    match provenance.data_hash.is_empty() {
        true if trained => out!("imported: its full width was trained elsewhere")?,
        true => out!("imported")?,
        false => out!(
            "trained {} steps, {} {} of data {}, draw {}, seed {}",
            provenance.steps,
            count(provenance.tokens as f64),
            K::TARGETS,
            short(&provenance.data_hash),
            folder.manifest.objective,
            provenance.seed
        )?,
    }
    if !trained {
        out!("its full width was never trained")?;
    }
    Ok(())
}

/// `info --preset [NAME]`: needs no device.
pub fn preset(args: &InfoArgs, json: bool) -> Result<ExitCode> {
    let name = args.preset.as_deref().unwrap_or_default();
    if name.is_empty() {
        return show(json, &paper_table()?, |rows| print_paper_table(rows));
    }
    if let Some(shape) = Lm::preset(name) {
        return preset_of::<Lm>(name, &shape, json);
    }
    match Vit::preset(name) {
        Some(shape) => preset_of::<Vit>(name, &shape, json),
        None => Err(unknown_preset(name)).bad_input(),
    }
}

fn preset_of<K: Kind>(name: &str, shape: &K::Shape, json: bool) -> Result<ExitCode> {
    let info = Info {
        preset: Some(name),
        model: None,
        shape,
        granularities: granularities::<K>(shape, &shape.space()?, &K::costs(shape))?,
        named: Vec::new(),
        manifest: None,
    };
    show(json, &info, |info| {
        out!("preset {name}")?;
        print::<K>(info)
    })
}

fn print<K: Kind>(info: &Info<'_, K::Shape>) -> Result<()> {
    out!("{}", K::describe(info.shape))?;
    let mut table = table::plain();
    let cached = info.granularities.iter().any(|g| g.kv_bytes_per_token.is_some());
    let flops = format!("FLOPs/{}", K::TARGET);
    let mut head = vec!["", "width", "params", "non-embedding", "ffn", &flops];
    head.extend(cached.then_some("KV bytes/token"));
    let timed = info.granularities.iter().any(|g| g.millis.is_some());
    let millis = format!("ms/{}", K::TARGET);
    head.extend(timed.then_some(&*millis));
    head.push("exports");
    table.set_header(head);
    for g in &info.granularities {
        let mut cells = vec![
            g.name.clone(),
            g.width.to_string(),
            count(g.params.total as f64),
            count(g.params.non_embedding as f64),
            count(g.params.ffn as f64),
            operations(g.flops_per_token),
        ];
        cells.extend(g.kv_bytes_per_token.map(operations));
        cells.extend(g.millis.map(|ms| Resource::Millis.describe(ms).replace(" ms", "")));
        let padded = g.exports_padded.iter().map(|program| format!("{program} (--pad)"));
        let exports = g.exports.iter().map(|program| (*program).to_owned()).chain(padded);
        cells.push(exports.collect::<Vec<_>>().join(", "));
        table.add_row(cells);
    }
    out!("{table}")?;
    for NamedInfo { name, submodel, params, found_by } in &info.named {
        let cost = Resource::NonEmbedding.describe(params.non_embedding as f64);
        out!("{name} is {submodel}, {cost}, found by {found_by}")?;
    }
    Ok(())
}

/// The paper's Table 4 beside ours: millions of parameters.
fn print_paper_table(rows: &[PaperRow]) -> Result<()> {
    let mut table = table::plain();
    table.set_header([
        "",
        "",
        "paper total",
        "non-emb.",
        "NAME-paper total",
        "non-emb.",
        "NAME (ours) total",
        "non-emb.",
    ]);
    for row in rows {
        let mut cells = vec![row.model.to_owned(), row.granularity.clone()];
        for [total, non_embedding] in [row.paper, row.two_matrix, row.ours] {
            cells.extend([format!("{total:.1}M"), format!("{non_embedding:.1}M")]);
        }
        table.add_row(cells);
    }
    out!("Parameters of the paper's models (arXiv 2310.07707, Table 4)\n{table}")?;
    out!(
        "\n`NAME-paper` is the paper's form: two feed-forward matrices, GELU. Ours differs because \
         SwiGLU has a third matrix:\nat equal d_ff the feed-forward part is half as large again. \
         Other presets: demo, small; of vision models: {}.",
        Vit::presets().join(", ")
    )
}
