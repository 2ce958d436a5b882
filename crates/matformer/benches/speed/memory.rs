//! Memory of a training step, beside PyTorch's.

use anyhow::{Context, Result, ensure};
use clap::Args;
use matformer::{nn::DeviceSpec, timing};
use serde_json::json;

use crate::{peer::Peer, train::Shape};

/// Steps that the peak is taken over: from the second on, the optimizer's moments are there.
const STEPS: usize = 3;

#[derive(Debug, Args)]
pub struct MemoryArgs {
    /// Width: S, M, L, XL or joint
    #[arg(long, default_value = "XL")]
    width: String,
    /// Python with torch: adds PyTorch's memory
    #[arg(long, value_name = "PATH")]
    python: Option<String>,
}

/// Peak resident memory of the first steps above that before them; d_model 512, 8 layers, batches of
/// 4 rows of 1024 tokens.
pub fn run(args: &MemoryArgs, as_json: bool) -> Result<()> {
    let shape = Shape::new("d512 x 1024", 512, 8, 8192, [4, 1024]);
    let device = DeviceSpec::Flex.resolve()?.autodiff();
    let mut case = shape.case(&args.width, &device)?;
    timing::reset_peak().context("the peak of resident memory is only known on Linux")?;
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
        "{}, {}: peak of {STEPS} steps above what was resident before",
        shape.name, args.width
    );
    println!("   matformer {ours:.0} MB");
    if let Some(theirs) = theirs {
        println!("   torch     {theirs:.0} MB, ratio {:.2}", ours / theirs);
    }
    Ok(())
}
