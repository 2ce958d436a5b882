//! `matformer info`

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    core::{Resource, Space},
    eval::ParamCounts,
    lm::{MatLmConfig, PAPER_TABLE, Preset, costs},
};
use serde::Serialize;

use super::{Context, count, print_json};
use crate::{args::InfoArgs, failure::OrBadInput, folder::ModelFolder, output::out};

#[derive(Serialize)]
struct GranularityInfo {
    name: String,
    width: usize,
    params: ParamCounts,
    /// Of one token's forward pass at the full context.
    flops_per_token: f64,
    kv_bytes_per_token: f64,
    /// Where a slice of this width can go.
    exports: Vec<&'static str>,
}

#[derive(Serialize)]
struct Info<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a std::path::Path>,
    shape: &'a MatLmConfig,
    granularities: Vec<GranularityInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<&'a matformer::core::Manifest>,
}

/// `info RUN`
pub fn run(args: &InfoArgs, context: &Context) -> Result<ExitCode> {
    let Some(dir) = &args.model else {
        return preset(args, context.json);
    };
    let folder = ModelFolder::load(dir, &context.device)?;
    let info = Info {
        preset: None,
        model: Some(dir),
        shape: folder.model.config(),
        granularities: granularities(folder.model.config(), folder.space())?,
        manifest: Some(&folder.manifest),
    };
    if context.json {
        return print_json(&info);
    }
    let provenance = &folder.manifest.provenance;
    out!("{}", dir.display())?;
    out!(
        "trained {} steps, {} tokens of data {}, draw {}, seed {}",
        provenance.steps,
        count(provenance.tokens as f64),
        &provenance.data_hash.get(..16).unwrap_or(&provenance.data_hash),
        folder.manifest.objective,
        provenance.seed
    )?;
    print(&info)
}

/// `info --preset [NAME]`: needs no device.
pub fn preset(args: &InfoArgs, json: bool) -> Result<ExitCode> {
    let name = args.preset.as_deref().unwrap_or_default();
    if name.is_empty() {
        return paper_table(json);
    }
    let config = name.parse::<Preset>().bad_input()?.config();
    let info = Info {
        preset: Some(name),
        model: None,
        shape: &config,
        granularities: granularities(&config, &config.space()?)?,
        manifest: None,
    };
    if json {
        return print_json(&info);
    }
    out!("preset {name}")?;
    print(&info)
}

fn granularities(config: &MatLmConfig, space: &Space) -> Result<Vec<GranularityInfo>> {
    let costs = costs(config);
    space
        .granularities
        .iter()
        .map(|g| {
            let submodel = space.uniform(&g.name)?;
            Ok(GranularityInfo {
                name: g.name.clone(),
                width: g.width,
                params: ParamCounts::of(&submodel, &costs)?,
                flops_per_token: costs.get(Resource::Flops)?.cost(&submodel)?,
                kv_bytes_per_token: costs.get(Resource::KvBytes)?.cost(&submodel)?,
                exports: exports(g.width),
            })
        })
        .collect()
}

/// Other runtimes load equal widths as a plain Llama folder; GGUF's quantised blocks and
/// converters want multiples.
fn exports(width: usize) -> Vec<&'static str> {
    let mut routes = vec!["transformers"];
    if width.is_multiple_of(256) {
        routes.push("convert_hf_to_gguf");
    }
    routes
}

fn print(info: &Info<'_>) -> Result<ExitCode> {
    let c = info.shape;
    out!(
        "d_model {}, {} layers, {} heads ({} for keys and values), d_ff {}, vocabulary {}, context {}",
        c.d_model,
        c.n_layers,
        c.n_heads,
        c.n_kv_heads,
        c.d_ff,
        c.vocab_size,
        c.context
    )?;
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header([
        "",
        "width",
        "params",
        "non-embedding",
        "ffn",
        "FLOPs/token",
        "KV bytes/token",
        "exports",
    ]);
    for g in &info.granularities {
        table.add_row([
            g.name.clone(),
            g.width.to_string(),
            count(g.params.total as f64),
            count(g.params.non_embedding as f64),
            count(g.params.ffn as f64),
            count(g.flops_per_token),
            count(g.kv_bytes_per_token),
            g.exports.join(", "),
        ]);
    }
    out!("{table}")?;
    Ok(ExitCode::SUCCESS)
}

/// The paper's Table 4 beside ours: millions of parameters.
fn paper_table(json: bool) -> Result<ExitCode> {
    #[derive(Serialize)]
    struct Row {
        model: &'static str,
        granularity: String,
        paper: [f64; 2],
        two_matrix: [f64; 2],
        ours: [f64; 2],
    }
    let mut rows = Vec::new();
    for (i, printed) in PAPER_TABLE.iter().enumerate() {
        let (plain, ours) = (Preset::PaperPlain(i).config(), Preset::Paper(i).config());
        for (at, g) in plain.space()?.granularities.iter().enumerate() {
            let millions = |config: &MatLmConfig| {
                let submodel = config.space()?.uniform(&g.name)?;
                let params = ParamCounts::of(&submodel, &costs(config))?;
                Ok::<_, anyhow::Error>([params.total, params.non_embedding].map(|n| n as f64 / 1e6))
            };
            rows.push(Row {
                model: printed.name,
                granularity: g.name.clone(),
                paper: [printed.total[at], printed.non_embedding[at]],
                two_matrix: millions(&plain)?,
                ours: millions(&ours)?,
            });
        }
    }
    if json {
        return print_json(&rows);
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
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
    for row in &rows {
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
         Other presets: demo, small."
    )?;
    Ok(ExitCode::SUCCESS)
}
