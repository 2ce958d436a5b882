//! `matformer slice`

mod gemma3n;

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    core::units::count,
    run::{
        Files, Kind, kind,
        slice::{self, Order, Written},
    },
    run_file::visit,
};
use serde_json::json;

use super::{Context, print_json};
use crate::{
    args::{Format, SliceArgs},
    failure::{Hinted, OrBadInput},
    logging::say,
    output::out,
};

pub fn run(args: &SliceArgs, context: &Context) -> Result<ExitCode> {
    if gemma3n::is_meant(args) {
        return gemma3n::run_gemma3n(args, context.json);
    }
    visit!(kind::of_folder(&args.model)?, run_kind(args, context))
}

fn run_kind<K: Kind>(args: &SliceArgs, context: &Context) -> Result<ExitCode> {
    let Some(submodel) = args.submodel.clone() else {
        return Err(Hinted {
            message: "no --submodel".to_owned(),
            hint: "name what to cut out, such as `--submodel S` (or `60%`, `128`, `64x1+128x4`); `matformer info \
                   MODEL` lists sizes"
                .to_owned(),
        })
        .bad_input();
    };
    let order = Order {
        model: args.model.clone(),
        submodel,
        out: args.out.clone(),
        format: args.format.into(),
        pad: args.pad,
        dtype: args.dtype.map(Into::into),
        shard_bytes: args.shard_size,
    };
    let Written { facts, params, dtype, loads_in_transformers, is_unequal } =
        slice::write::<K>(&order, &context.session)?;
    if context.json {
        let files = Files::at(&args.out)?;
        return print_json(&json!({
            "model": args.out.display().to_string(),
            "submodel": facts.submodel,
            "widths": facts.widths,
            "params": params,
            "format": args.format.name(),
            "dtype": dtype,
            "padded": args.pad,
            "bytes": files.bytes(),
            "files": files,
            "measured": facts.measured,
        }));
    }
    if args.format == Format::Hf && !loads_in_transformers {
        say!("note: no other program loads a folder like this; every command here does");
        if is_unequal {
            say!("--pad makes its layers equally wide, with the same numbers");
        }
    }
    let params = count(params as f64);
    out!("{}: submodel {}, {params} parameters", args.out.display(), facts.submodel)?;
    Ok(ExitCode::SUCCESS)
}
