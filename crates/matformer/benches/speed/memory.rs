//! Peak memory of a training step, compared with PyTorch.

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use clap::Args;
use matformer::{bench::timing, nn::DeviceSpec, train::Precision};
use serde::Serialize;
use serde_json::json;

use crate::{
    peer::Peer,
    shapes,
    train::{self, Timed},
};

/// Times that memory is read while the steps run.
const READINGS: usize = 10;

#[derive(Debug, Args)]
pub struct MemoryArgs {
    /// Model and batch: a shape of `train`, d512x1024, context-2048 or context-4096
    #[arg(long, default_value = "d512x1024")]
    shape: String,
    /// Width: S, M, L, XL or joint
    #[arg(long, default_value = "XL")]
    width: String,
    /// Number of steps; the optimizer's moments exist from the second on
    #[arg(long, default_value_t = 3)]
    steps: usize,
    /// Device
    #[arg(long, default_value = "flex")]
    device: DeviceSpec,
    /// Python interpreter with torch, to measure PyTorch too
    #[arg(long, value_name = "PATH")]
    python: Option<String>,
}

/// What a device holds after a step, in MB.
#[derive(Debug, Serialize)]
struct Reading {
    step: usize,
    /// In use by tensors.
    used_mb: f64,
    /// Taken from the device.
    held_mb: f64,
}

impl Reading {
    /// `None` on a device whose memory is that of the process.
    fn after(step: usize, device: &Device) -> Option<Self> {
        let usage = device.memory_pool_usage()?;
        let mb = |bytes: u64| bytes as f64 / 1e6;
        Some(Self { step, used_mb: mb(usage.bytes_in_use), held_mb: mb(usage.bytes_reserved) })
    }
}

/// Measures by how much the first steps raise the peak of resident memory; on a device with memory of its own, what
/// it holds while the steps run.
pub fn run(args: &MemoryArgs, as_json: bool) -> Result<()> {
    ensure!(args.steps > 0, "--steps 0: expected at least 1");
    let shape = shapes::named(&args.shape)?;
    let device = args.device.resolve()?.autodiff();
    let mut case = train::case(&shape, &args.width, Precision::F32, &device)?;
    let (ours, readings) = measured(case.as_mut(), args.steps, &device)?;
    let theirs = match &args.python {
        None => None,
        Some(python) => {
            let mut request = case.request().clone();
            request["compile"] = false.into();
            let request = json!({ "memory": request, "steps": args.steps });
            let answer = Peer::start(python)?.ask(&request)?;
            let found = answer["memory"].as_f64();
            ensure!(found.is_some(), "torch: {answer}");
            found
        }
    };
    if as_json {
        let document = json!({
            "machine": timing::describe(), "device": args.device.to_string(), "shape": shape.name,
            "width": args.width, "steps": args.steps, "memory_mb": ours, "torch_mb": theirs,
            "readings": readings,
        });
        println!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(());
    }
    println!(
        "{}, {}: peak memory of {} steps on {}",
        shape.name, args.width, args.steps, args.device
    );
    println!("   matformer {ours:.0} MB");
    if let Some(theirs) = theirs {
        println!("   torch     {theirs:.0} MB, ratio {:.2}", ours / theirs);
    }
    for Reading { step, used_mb, held_mb } in readings {
        println!("   after step {step}: {used_mb:.0} MB in use, {held_mb:.0} MB held");
    }
    Ok(())
}

/// The peak in MB, and what was read on the way.
fn measured(case: &mut dyn Timed, steps: usize, device: &Device) -> Result<(f64, Vec<Reading>)> {
    let reset = timing::reset_peak();
    let before = timing::resident();
    let mut readings = Vec::new();
    let every = steps.div_ceil(READINGS);
    for step in 1..=steps {
        case.step()?;
        if step % every == 0 || step == steps {
            readings.extend(Reading::after(step, device));
        }
    }
    if let Some(most) = readings.iter().map(|reading| reading.held_mb).reduce(f64::max) {
        return Ok((most, readings));
    }
    reset.context("peak resident memory can be measured on Linux only")?;
    let unknown = "the system does not say how much memory this process holds";
    let (before, after) = (before.context(unknown)?, timing::resident().context(unknown)?);
    Ok((after.peak - before.now, readings))
}
