//! `cargo xtask bench`: timings of this machine.

use anyhow::Result;
use xshell::cmd;

use crate::build;

/// Runs a benchmark of `crates/matformer/benches/speed` with its own arguments.
pub fn run(what: &str, arguments: &[String]) -> Result<()> {
    let shell = build::shell()?;
    cmd!(
        shell,
        "cargo bench --quiet --locked --package matformer --bench speed -- {what} {arguments...}"
    )
    .quiet()
    .run()?;
    Ok(())
}
