//! A first run file for data of one's own.
//!
//! `cargo run -p matformer-runfile --example starter -- my.jsonl`

use std::path::Path;

use matformer_runfile::Starter;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let places: Vec<String> = std::env::args().skip(1).collect();
    if places.is_empty() {
        return Err("usage: starter DATA…".into());
    }
    let starter = Starter::new(&places, None, None)?;
    print!("{}", starter.page(Path::new("run.toml"))?);
    Ok(())
}
