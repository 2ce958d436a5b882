//! `matformer embed`

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    core::fs,
    run::{ModelFolder, folder::check_is_new, kind},
    run_file::{RunKind, Vit},
    study::embed::{self, Form, Written},
};

use super::{Context, show};
use crate::{args::EmbedArgs, failure::OrBadInput, output::out};

pub fn run(args: &EmbedArgs, context: &Context) -> Result<ExitCode> {
    let form = Form::of(&args.out).bad_input()?;
    form.paths(&args.out).iter().try_for_each(|path| check_is_new(path)).bad_input()?;
    kind::check_is(&args.model, RunKind::Vit, "embed")?;
    let folder = ModelFolder::<Vit>::load(&args.model, &context.session)?;
    let submodel = folder.submodel(args.submodel.as_ref())?;
    // Before the work, not behind it.
    if let Some(above) = args.out.parent() {
        fs::create_dir_all(above).bad_input()?;
    }
    let prepared = embed::data(&folder, args.data.as_deref())?;
    let images = (&prepared, args.part.into(), args.images);
    let written = embed::write(&folder, images, &submodel, (&form, &args.out))?;
    show(context.json, &written, |Written { files, n, d, submodel }| {
        out!("{}: {n} vectors of {d} by {submodel}", files.join(", "))
    })
}
