//! Peak memory of a training step, compared with PyTorch.

use anyhow::{Context, Result, ensure};
use clap::Args;
use matformer::{nn::DeviceSpec, timing};
use serde_json::json;

use crate::{peer::Peer, shapes::Shape, train};

/// Number of measured steps. The optimizer's moments exist from the second step on.
const STEPS: usize = 3;

#[derive(Debug, Args)]
pub struct MemoryArgs {
    /// Width: S, M, L, XL or joint
    #[arg(long, default_value = "XL")]
    width: String,
    /// Python interpreter with torch, to measure PyTorch too
    #[arg(long, value_name = "PATH")]
    python: Option<String>,
}

/// Measures by how much the first steps raise the peak of resident memory: d_model 512, 8 layers,
/// batches of 4 rows of 1024 tokens.
pub fn run(args: &MemoryArgs, as_json: bool) -> Result<()> {
    let shape = Shape::lm("d512 x 1024", 512, 8, 8192, [4, 1024]);
    let device = DeviceSpec::Flex.resolve()?.autodiff();
    let mut case = train::case(&shape, &args.width, &device)?;
    timing::reset_peak().context("peak resident memory can be measured on Linux only")?;
    let (before, _) = timing::resident().context("no VmRSS in /proc/self/status")?;
    for _ in 0..STEPS {
        case.step()?;
    }
    let (_, peak) = timing::resident().context("no VmHWM in /proc/self/status")?;
    let ours = peak - before;
    let theirs = match &args.python {
        None => None,
        Some(python) => {
            let mut request = case.request().clone();
            request["compile"] = false.into();
            let answer = Peer::start(python)?.ask(&json!({ "memory": request, "steps": STEPS }))?;
            let found = answer["memory"].as_f64();
            ensure!(found.is_some(), "torch: {answer}");
            found
        }
    };
    if as_json {
        let document = json!({
            "machine": timing::describe(), "shape": shape.name, "width": args.width,
            "memory_mb": ours, "torch_mb": theirs,
        });
        println!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(());
    }
    println!(
        "{}, {}: peak resident memory of {STEPS} steps, minus resident memory before them",
        shape.name, args.width
    );
    println!("   matformer {ours:.0} MB");
    if let Some(theirs) = theirs {
        println!("   torch     {theirs:.0} MB, ratio {:.2}", ours / theirs);
    }
    Ok(())
}
