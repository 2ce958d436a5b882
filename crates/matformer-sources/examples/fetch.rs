//! Lists the named sources, or brings one into a cache:
//! `cargo run --release -p matformer-sources --example fetch -- shakespeare`

use std::path::Path;

use matformer_sources::{Progress, Record, Sources, fetch};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (sources, cache) = (Sources::from_env()?, Path::new("target/data"));
    let Some(name) = std::env::args().nth(1) else {
        for record in sources.iter().map(|source| Record::of(&sources, source)) {
            let state = if record.is_cached(cache) { "in the cache" } else { "not fetched" };
            println!("{} ({} bytes, {state}): {}", record.name, record.bytes(), record.title);
        }
        return Ok(());
    };
    let mut place = String::new();
    let mut report = |progress: Progress<'_>| {
        if place != progress.place {
            progress.place.clone_into(&mut place);
            eprintln!("{}: {place}", progress.part);
        }
    };
    let fetched = match fetch(&sources, &name, cache, &mut report) {
        Ok(fetched) => fetched,
        Err(error) => {
            let hint = error.hint().map_or_else(String::new, |hint| format!("\nhint: {hint}"));
            return Err(format!("{error}{hint}").into());
        }
    };
    println!("{}{}", fetched.dir.display(), if fetched.reused { " (fetched before)" } else { "" });
    for part in &fetched.record.parts {
        println!("{}: {}, {}, {}", part.name, part.title, part.licence, part.origin);
    }
    Ok(())
}
