//! `cargo xtask bench serve`: many clients of mixed sizes at one server, beside llama.cpp's.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use xshell::cmd;

use crate::{build, parity};

/// What is measured.
#[derive(Debug, Args)]
pub struct Serve {
    /// Model folder with the sizes S, M, L and XL
    model: PathBuf,
    /// Python; with xllamacpp llama.cpp's server is loaded in the same way, with XL
    #[arg(long, default_value = "python3")]
    python: String,
    /// Clients at the same time
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// How long they ask
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Texts that are generated at the same time
    #[arg(long, default_value_t = 8)]
    slots: usize,
    /// New tokens of each text
    #[arg(long, default_value_t = 64)]
    tokens: usize,
    /// Format of the weights; f32 alone gives the same text in any company
    #[arg(long, default_value = "f32")]
    dtype: String,
    /// Malformed requests after that
    #[arg(long, default_value_t = 1000)]
    malformed: usize,
    /// The command, where it is built already
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Loads the server and prints what was found as JSON. Fails if a text is not that of `generate`, a request fails, or a
/// malformed one gets no refusal.
pub fn run(args: &Serve) -> Result<()> {
    let shell = build::shell()?;
    let matformer = args.binary.clone().map_or_else(|| build::matformer(&shell), Ok)?;
    let Serve { model, python, dtype, .. } = args;
    let scratch = shell.create_temp_dir()?;
    let (gguf, out) = (scratch.path().join("xl.gguf"), scratch.path().join("found.json"));
    let mut more = Vec::new();
    if parity::check_has(&shell, python, &["xllamacpp"]).is_ok() {
        cmd!(
            shell,
            "{matformer} slice {model} --submodel XL --format gguf --dtype {dtype} --out {gguf}"
        )
        .quiet()
        .ignore_stdout()
        .run()?;
        more.extend(["--gguf".into(), gguf.into_os_string()]);
    } else {
        eprintln!("`{python}` has no xllamacpp: llama.cpp is left out");
    }
    let numbers = [
        ("--clients", args.clients.to_string()),
        ("--seconds", args.seconds.to_string()),
        ("--slots", args.slots.to_string()),
        ("--tokens", args.tokens.to_string()),
        ("--malformed", args.malformed.to_string()),
    ];
    let numbers = numbers.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    let found = cmd!(
        shell,
        "{python} xtask/python/bench_serve.py --binary {matformer} --model {model} --dtype {dtype} --out {out}
         {numbers...} {more...}"
    )
    .quiet()
    .run();
    if out.exists() {
        println!("{}", shell.read_file(&out)?);
    }
    Ok(found?)
}
