//! `matformer serve`

use std::{
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use matformer::{
    core::{
        Names, Submodel, SubmodelSpec, fs,
        units::{count, short},
    },
    data::ChatTemplate,
    engine::{EngineModel, Format},
    eval::ParamCounts,
    run::{
        ModelFolder,
        kind::{self, ends},
        runs::{self, Recorded},
    },
    run_file::{Lm, RunKind},
    serve::{Ended, Limits, Loss, ServeOptions, ServedModel, Server, Size},
};
use serde_json::json;

use super::Context;
use crate::{
    args::ServeArgs,
    failure::{self, Hinted, OrBadInput},
    interrupt::{Interrupts, Then},
    logging::say,
    output::out,
};

pub fn run(args: &ServeArgs, context: &Context) -> Result<ExitCode> {
    kind::check_is(&args.model, RunKind::Lm, "serve")?;
    let api_keys = args.api_key_file.as_deref().map(keys).transpose()?.unwrap_or_default();
    let dtype = args.dtype.unwrap_or_else(|| Format::default_on(&context.session.device));
    let (folder, engine) = ModelFolder::open(&args.model, &context.session, dtype)?;
    let model = served(args, folder, engine)?;
    let (name, sizes) = (model.name.clone(), model.sizes.clone());
    let server = Server::start(model, options(args, api_keys)).bad_input()?;
    let stopper = server.stopper();
    let mut asked = false;
    Interrupts::install(move |signal| {
        if asked {
            say!("{}: stopped", signal.name);
            return Then::End;
        }
        asked = true;
        say!("{}: new requests are refused, running ones are finished", signal.name);
        stopper.stop();
        Then::GoOn
    })?;
    let url = format!("http://{}", server.address());
    if context.json {
        let size = |(size, speed): (&Size, &f64)| json!({ "name": size.name, "parameters": size.parameters, "tokens_per_second": speed });
        let sizes: Vec<_> = sizes.iter().zip(server.speeds()).map(size).collect();
        out!("{}", json!({ "url": url, "model": name, "sizes": sizes }))?;
    } else {
        for (size, speed) in sizes.iter().zip(server.speeds()) {
            let params = count(size.parameters as f64);
            out!("{name}@{}: {params} parameters, {speed:.1} tokens/s", size.name)?;
        }
        out!("listening at {url}")?;
    }
    match server.run()? {
        Ended::Whole => say!("stopped: every request had its whole answer"),
        Ended::Cut => say!("stopped: some requests took longer than --grace and were cut off"),
    }
    Ok(ExitCode::SUCCESS)
}

fn options(args: &ServeArgs, api_keys: Vec<String>) -> ServeOptions {
    let limits = Limits {
        queue: args.queue,
        max_tokens: args.max_tokens,
        body: usize::try_from(args.max_body).unwrap_or(usize::MAX),
        read: args.read_timeout,
        request: args.timeout,
        ..Limits::default()
    };
    ServeOptions {
        slots: args.slots,
        context: args.context,
        threads: args.threads,
        limits,
        api_keys,
        narrow_when_busy: args.narrow_when_busy,
        grace: args.grace,
        log: Arc::new(|line| say!("{line}")),
        ..ServeOptions::new(SocketAddr::new(args.host, args.port))
    }
}

/// The keys in a file: one a line, without empty lines.
fn keys(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).bad_input()?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Vec<String> = lines.map(str::to_owned).collect();
    if keys.is_empty() {
        return Err(Hinted {
            message: format!("{}: has no keys", path.display()),
            hint: "expected one key per line".to_owned(),
        })
        .bad_input();
    }
    Ok(keys)
}

/// All that a server needs to know of a folder.
fn served(args: &ServeArgs, folder: ModelFolder<Lm>, engine: EngineModel) -> Result<ServedModel> {
    let tokenizer = folder.tokenizer()?;
    let template = ChatTemplate::from_folder(&folder.dir).bad_input()?;
    let default = folder.submodel(args.submodel.as_ref())?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => folder_name(&folder.dir),
    };
    Ok(ServedModel {
        name,
        engine,
        ends: ends(&folder.model, &tokenizer),
        tokenizer,
        template,
        default,
        sizes: sizes(&folder)?,
        trained: folder.trained(),
        fingerprint: short(&folder.manifest.weights_sha256).to_owned(),
        resolve: resolver(folder),
    })
}

/// The last part of a folder's path.
fn folder_name(dir: &Path) -> String {
    let whole = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    whole.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// What finds sizes by what clients type.
fn resolver(folder: ModelFolder<Lm>) -> matformer::serve::Resolve {
    // A model is no business of several threads at once.
    let folder = Mutex::new(folder);
    Box::new(move |spec: &SubmodelSpec| {
        let folder = folder.lock().unwrap_or_else(PoisonError::into_inner);
        folder.resolve(spec).map_err(|error| failure::message(&folder.explained(error).into()))
    })
}

/// The sizes with names: trained ones, and those that a search found.
fn sizes(folder: &ModelFolder<Lm>) -> Result<Vec<Size>> {
    // What is damaged in the folder does not cost the rest.
    let recorded = Recorded::read(&folder.dir).ok();
    let size = |name: &str, submodel: Submodel| -> Result<Size> {
        let params = ParamCounts::of(&submodel, &folder.costs)?;
        Ok(Size {
            loss: recorded.as_ref().and_then(|recorded| recorded.loss(name)).map(served_loss),
            name: name.to_owned(),
            parameters: params.total,
            non_embedding_parameters: params.non_embedding,
            submodel,
        })
    };
    let mut all = Vec::new();
    for submodel in folder.trained() {
        all.push(size(&folder.space().label(&submodel), submodel)?);
    }
    let names = Names::load(&folder.dir).unwrap_or_default();
    for (name, _) in names.iter() {
        if let Ok(submodel) = folder.resolve(&SubmodelSpec::Name(name.to_owned())) {
            all.push(size(name, submodel)?);
        }
    }
    all.sort_by_key(|size| size.parameters);
    Ok(all)
}

/// A loss as clients see it.
fn served_loss(recorded: runs::Loss) -> Loss {
    let runs::Loss { nats, stderr, data } = recorded;
    Loss { nats, stderr, data }
}
