//! Exact search in a gallery of vectors, compared with its matrix products and with faiss.

use anyhow::{Context, Result};
use clap::Args;
use matformer::{
    bench::timing::{self, median, millis},
    core::rng,
    eval::retrieval::{Gallery, Vectors, top_k},
    nn::DeviceSpec,
};
use serde_json::json;

use crate::peer::Peer;

/// Neighbours to find for each query.
const K: usize = 10;

#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Number of vectors in the gallery
    #[arg(long, default_value_t = 1_000_000)]
    vectors: usize,
    /// Dimension of a vector
    #[arg(long, default_value_t = 96)]
    d: usize,
    /// Number of queries
    #[arg(long, default_value_t = 10_000)]
    queries: usize,
    /// Number of rounds; each measures everything once, and medians are printed
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Python interpreter with faiss (`pip install faiss-cpu`), to measure its flat index too
    #[arg(long, value_name = "PATH")]
    python: Option<String>,
}

/// Times the whole search, its matrix products alone, and the flat index of faiss.
pub fn run(args: &SearchArgs, as_json: bool) -> Result<()> {
    let device = DeviceSpec::Flex.resolve()?;
    let drawn = |name: &str, n: usize| -> Result<Vectors> {
        let mut random = rng::keyed(0, name, 0);
        let rows: Vec<f32> = (0..n * args.d).map(|_| rng::unit(&mut random) as f32 - 0.5).collect();
        Ok(Vectors::of(&rows, args.d)?)
    };
    let queries = drawn("queries", args.queries)?;
    let gallery = Gallery::new(drawn("gallery", args.vectors)?, &device)?;
    let mut peer = match &args.python {
        None => None,
        Some(python) => Some(Peer::of(
            python,
            include_str!("../../../../xtask/python/bench_search.py"),
            "faiss",
        )?),
    };
    let request = json!({ "vectors": args.vectors, "d": args.d, "queries": args.queries, "k": K });
    // Memory can be measured on Linux only.
    let before = timing::reset_peak().ok().and_then(|()| timing::resident());
    let (mut all, mut products, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.rounds.max(1) {
        let mut failed = None;
        all.push(millis(|| {
            let found = gallery.search(&queries, |_, l| top_k(l, K), &mut |_, _| {});
            failed = found.err();
        }));
        products.push(millis(|| {
            let found = gallery.search(&queries, |_, l| l[0], &mut |_, _| {});
            failed = failed.take().or(found.err());
        }));
        if let Some(error) = failed {
            return Err(error.into());
        }
        if let Some(peer) = &mut peer {
            let answer = peer.ask(&request)?;
            theirs.push(answer["ms"].as_f64().context("bench_search.py: `ms`: expected a number")?);
        }
    }
    let peak = before.and_then(|before| Some(timing::resident()?.peak - before.now));
    let (all, products) = (median(all), median(products));
    let theirs = peer.map(|peer| (peer.version.clone(), median(theirs)));
    if as_json {
        let document = json!({
            "machine": timing::describe(), "request": request, "ms": all, "products_ms": products,
            "faiss_ms": theirs.as_ref().map(|(_, ms)| ms), "memory_mb": peak,
        });
        println!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(());
    }
    println!("{}", timing::describe());
    println!(
        "{K} nearest neighbours of {} queries among {} vectors of dimension {}",
        args.queries, args.vectors, args.d
    );
    println!("   matformer {all:.0} ms");
    println!("   matrix products alone {products:.0} ms, ratio {:.2}", all / products);
    if let Some((version, ms)) = theirs {
        println!("   {version} flat index {ms:.0} ms, ratio {:.2}", all / ms);
    }
    if let Some(peak) = peak {
        println!("   peak memory beyond the gallery: {peak:.0} MB");
    }
    Ok(())
}
