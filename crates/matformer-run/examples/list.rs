//! The runs and models below a folder.
//!
//! `cargo run -p matformer-run --example list -- runs`

use std::path::PathBuf;

use matformer_run::runs::find;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    for found in find(&root, 4)? {
        match found.recorded {
            Ok(run) => println!("{}: {}, {} steps", found.path.display(), run.kind, run.steps),
            Err(error) => println!("{}: {error}", found.path.display()),
        }
    }
    Ok(())
}
