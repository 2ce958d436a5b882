//! The binary that the workflows run.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

/// A shell in the repository's root.
pub fn shell() -> Result<Shell> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = root.parent().context("xtask lies in the workspace")?.to_owned();
    let shell = Shell::new()?;
    shell.change_dir(root);
    Ok(shell)
}

/// Builds `matformer` for release and returns its path.
pub fn matformer(shell: &Shell) -> Result<PathBuf> {
    matformer_with(shell, &[])
}

/// The same with further options of `cargo build`.
pub fn matformer_with(shell: &Shell, options: &[&str]) -> Result<PathBuf> {
    eprintln!("building matformer (from nothing: about ten minutes on two cores)");
    let started = Instant::now();
    cmd!(shell, "cargo build --release --locked -p matformer {options...}").quiet().run()?;
    eprintln!("built in {:.0} s", started.elapsed().as_secs_f64());
    let program = format!("matformer{}", std::env::consts::EXE_SUFFIX);
    Ok(target(shell)?.join("release").join(program))
}

/// Where cargo builds the workspace: CARGO_TARGET_DIR may point elsewhere.
pub fn target(shell: &Shell) -> Result<PathBuf> {
    let metadata = cmd!(shell, "cargo metadata --format-version 1 --no-deps").quiet().read()?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let target =
        metadata["target_directory"].as_str().context("cargo metadata: target_directory")?;
    Ok(PathBuf::from(target))
}
