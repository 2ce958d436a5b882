//! `cargo xtask parity`: other runtimes on the same weights.

mod formats;

use anyhow::{Result, bail};
use xshell::{Shell, cmd};

use crate::build;
pub use formats::run as formats;

const TEXT: &str = "fn main() {\n    let x: Vec<u32> = (0..10).map(|i| i * 2).collect();\n}\n";

/// Loads a run and a slice of it in transformers, and compares log-probabilities.
pub fn transformers(python: &str, run: &str, submodel: &str) -> Result<()> {
    let shell = build::shell()?;
    check_has(&shell, python, &["torch", "transformers"])?;
    if !shell.path_exists(format!("{run}/matformer.json")) {
        bail!("{run}: no trained run; `cargo xtask demo` makes runs/demo, --run names another");
    }
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

/// Runs lm-evaluation-harness and OpenAI's client against `matformer serve`, and compares with transformers on the
/// exported folders.
pub fn serve(python: &str, run: &str, sizes: &str, binary: Option<&str>) -> Result<()> {
    let shell = build::shell()?;
    // `lm_eval[api]` brings tenacity and aiohttp.
    check_has(
        &shell,
        python,
        &["torch", "transformers", "lm_eval", "tenacity", "aiohttp", "openai"],
    )?;
    if !shell.path_exists(format!("{run}/matformer.json")) {
        bail!("{run}: no trained run; `cargo xtask demo` makes runs/demo, --run names another");
    }
    let matformer = binary.map_or_else(|| build::matformer(&shell), |path| Ok(path.into()))?;
    let scratch = shell.create_temp_dir()?;
    let work = scratch.path();
    cmd!(
        shell,
        "{python} xtask/python/parity_serve.py --binary {matformer} --run {run} --sizes {sizes} --work {work}"
    )
    .quiet()
    .run()?;
    Ok(())
}

/// Scores tasks with `matformer eval` and with lm-evaluation-harness on the exported folders.
pub fn lm_eval(python: &str, run: &str, sizes: &str, binary: Option<&str>) -> Result<()> {
    let shell = build::shell()?;
    check_has(&shell, python, &["torch", "transformers", "lm_eval"])?;
    if !shell.path_exists(format!("{run}/matformer.json")) {
        bail!("{run}: no trained run; `cargo xtask demo` makes runs/demo, --run names another");
    }
    let matformer = binary.map_or_else(|| build::matformer(&shell), |path| Ok(path.into()))?;
    let scratch = shell.create_temp_dir()?;
    let work = scratch.path();
    cmd!(
        shell,
        "{python} xtask/python/parity_lm_eval.py --binary {matformer} --run {run} --sizes {sizes} --work {work}"
    )
    .quiet()
    .run()?;
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
