//! `cargo xtask test` and `cargo xtask ci`.

use anyhow::Result;
use xshell::cmd;

use crate::build;

/// All tests of the workspace, doctests and examples' builds included.
pub fn test(filter: Option<&str>) -> Result<()> {
    let shell = build::shell()?;
    cmd!(shell, "cargo test --locked --workspace {filter...}").quiet().run()?;
    Ok(())
}

/// Format, documentation, lints, tests: cheapest first, the tests' own summary last.
pub fn ci() -> Result<()> {
    let shell = build::shell()?;
    cmd!(shell, "cargo fmt --all --check").run()?;
    cmd!(shell, "cargo clippy --locked --workspace --all-targets -- -D warnings").run()?;
    {
        let _flags = shell.push_env("RUSTDOCFLAGS", "-D warnings");
        cmd!(shell, "cargo doc --locked --workspace --no-deps").run()?;
    }
    test(None)
}
