//! `matformer doctor`

use std::process::ExitCode;

use anyhow::Result;
use matformer::{
    bench::doctor::{Findings, examine},
    core::units::count,
    nn::DeviceSpec,
};

use super::{Context, show};
use crate::{args::DoctorArgs, failure, logging::say, output::out};

pub fn run(args: &DoctorArgs, context: &Context) -> Result<ExitCode> {
    say!("looking for devices");
    let spec = DeviceSpec::of(&context.session.device).unwrap_or(context.spec);
    let found =
        examine(spec, &context.session.device, args.quick, &mut |_, next| say!("measuring {next}"));
    let shown = show(context.json, &found, print)?;
    Ok(match &found.verdict {
        Some(verdict) if !verdict.ok => failure::FAILURE.into(),
        _ => shown,
    })
}

fn print(found: &Findings) -> Result<()> {
    let memory = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let free = found.free_memory.map_or(String::new(), |free| format!(", {} free", memory(free)));
    out!("device     {} (of {})", found.device, found.available)?;
    out!("machine    {}{free}", found.machine)?;
    for card in &found.hardware {
        let driver = card.driver.as_ref().map_or(String::new(), |driver| format!(", {driver}"));
        let size = card.memory.map_or(String::new(), |bytes| format!(", {}", memory(bytes)));
        out!("card       {}, through {}{driver}{size}", card.name, card.through)?;
    }
    for op in &found.ops {
        match op.error {
            Some(error) => out!("op         {}: {error:.1e} from the CPU's", op.op)?,
            None => out!("op         {}: gives no numbers", op.op)?,
        }
    }
    if let Some(followed) = &found.training {
        let [first, last] = followed.losses;
        out!(
            "training   {} steps, loss {first:.3} to {last:.3}, {:.1e} from the CPU's",
            followed.steps,
            followed.error
        )?;
    }
    for rate in &found.matrices {
        out!("matrices   {0} × {0}: {1:.3} TFLOP/s", rate.size, rate.flops_per_second / 1e12)?;
    }
    if let Some(rate) = found.bytes_per_second {
        out!("memory     {:.1} GB/s read", rate / 1e9)?;
    }
    for speed in &found.speeds {
        out!(
            "{:<10} {} parameters: trains on {:.0} tokens/s ({} a step), generates {:.0} tokens/s",
            speed.shape,
            count(speed.params as f64),
            speed.training,
            speed.tokens_per_step,
            speed.generation
        )?;
    }
    for problem in &found.problems {
        out!("failed     {}: {}", problem.part, problem.message)?;
    }
    if let Some(verdict) = &found.verdict {
        out!("{}", verdict.text)?;
    }
    Ok(())
}
