//! `cargo xtask bench`: speed measurements on this machine.

use anyhow::Result;
use xshell::cmd;

use crate::build;

/// Builds `crates/matformer/benches/speed` and runs one of its benchmarks with these arguments.
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
