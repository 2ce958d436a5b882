//! `cargo xtask parity`: other runtimes on the same weights.

use anyhow::{Result, bail};
use xshell::cmd;

use crate::build;

const TEXT: &str = "fn main() {\n    let x: Vec<u32> = (0..10).map(|i| i * 2).collect();\n}\n";

/// Loads a run and a slice of it in transformers, and compares log-probabilities.
pub fn transformers(python: &str, run: &str, submodel: &str) -> Result<()> {
    let shell = build::shell()?;
    if cmd!(shell, "{python} -c 'import torch, transformers'")
        .quiet()
        .ignore_stderr()
        .run()
        .is_err()
    {
        bail!(
            "`{python}` has no torch and transformers; name one that has with --python, such as a \
             virtual environment after `pip install torch transformers`"
        );
    }
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
