//! Examines the default device, quickly.
//!
//! `cargo run -r -p matformer-bench --example doctor`

use matformer_bench::doctor::examine;
use matformer_nn::DeviceSpec;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let spec = DeviceSpec::from_env()?;
    let found = examine(spec, &spec.resolve()?, true, &mut |_, next| eprintln!("measuring {next}"));
    let verdict = found.verdict.ok_or("nothing was found")?;
    println!("{}: {}", found.machine, verdict.text);
    Ok(())
}
