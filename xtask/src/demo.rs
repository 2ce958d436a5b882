//! `cargo xtask demo`: the main job, from nothing.

use std::{path::Path, time::Instant};

use anyhow::Result;
use xshell::cmd;

use crate::{build, crates};

const CONFIG: &str = "configs/lm/demo.toml";
const RUN: &str = "runs/demo";
/// Held-out tokens of the curve: 100 files and more.
const TOKENS: &str = "200000";
const PROMPT: &str = "fn main() {";

pub fn run(fresh: bool) -> Result<()> {
    let shell = build::shell()?;
    let matformer = build::matformer(&shell)?;
    crates::write()?;
    let started = Instant::now();
    if fresh {
        shell.remove_path(RUN)?;
    }
    let resume = shell.path_exists(Path::new(RUN).join("run.toml")).then_some("--resume");
    cmd!(shell, "{matformer} train {CONFIG} --out {RUN} {resume...}").quiet().run()?;
    cmd!(shell, "{matformer} report {RUN} --tokens {TOKENS}").quiet().run()?;
    eprintln!("demo took {:.1} min after the build", started.elapsed().as_secs_f64() / 60.0);
    println!("\nXL goes on from `{PROMPT}`:\n");
    cmd!(shell, "{matformer} generate {RUN} --submodel XL --prompt {PROMPT} --max-tokens 96")
        .quiet()
        .run()?;
    Ok(())
}
