//! The processes of one run, as `mpirun` or `srun` has started them.

use std::{process::ExitCode, thread, time::Duration};

use anyhow::Result;
use burn::tensor::Device;
use matformer::{
    exchange::{self, Exchange, Fact, Launch},
    nn::DeviceSpec,
};

use crate::{
    args::Command,
    failure::{self, Hinted, OrBadInput, bad_input},
};

/// A launcher ends all ranks when one has ended with an error: rank 0 gets so much time to say it.
const TO_SAY_IT: Duration = Duration::from_secs(1);

/// Connects this process with the others, if a launcher has started several.
///
/// # Errors
/// When they cannot be connected, or `command` runs in one process only.
pub fn open(launch: Option<&Launch>, command: &Command) -> Result<Exchange> {
    let shared = match command {
        Command::Train(_) => Some("train"),
        Command::Search(_) => Some("search"),
        Command::Eval(_) => Some("eval"),
        _ => None,
    };
    let opened = match (launch.filter(|launch| launch.world > 1), shared) {
        (Some(Launch { launcher, world, .. }), None) => Err(bad_input(Hinted {
            message: format!(
                "started by {launcher} as one of {world} processes; only `matformer train`, `search` \
                 and `eval` run on several"
            ),
            hint: "start it without a launcher".to_owned(),
        })),
        (_, name) => connect(launch, name.unwrap_or_default()).bad_input(),
    };
    if opened.is_err() && launch.is_some_and(|launch| launch.rank > 0) {
        thread::sleep(TO_SAY_IT);
    }
    opened
}

/// The exchange of ranks that run the same command.
fn connect(launch: Option<&Launch>, command: &str) -> exchange::Result<Exchange> {
    let exchange = Exchange::open(launch)?;
    exchange.check_equal(&[Fact::new("the command", command)])?;
    Ok(exchange)
}

/// What a process computes on: each of a host has a GPU of its own, from the one that `spec` names.
///
/// # Errors
/// When the device is not there.
pub fn device(spec: DeviceSpec, launch: Option<&Launch>) -> Result<Device> {
    let device = spec.resolve().bad_input()?;
    let several = launch.filter(|launch| launch.world > 1);
    let Some(local) = several.and_then(|launch| launch.local_rank) else {
        return Ok(device);
    };
    // Slurm and others may show each process its own GPU alone.
    let visible = std::env::var("CUDA_VISIBLE_DEVICES");
    let own = visible.is_ok_and(|gpus| !gpus.is_empty() && !gpus.contains(','));
    match DeviceSpec::of(&device) {
        Some(DeviceSpec::Cuda(first)) if !own => DeviceSpec::Cuda(first + local).resolve(),
        Some(DeviceSpec::Wgpu(first)) => DeviceSpec::Wgpu(first + local).resolve(),
        _ => Ok(device),
    }
    .bad_input()
}

/// Calls `f` on every rank. An error that they have agreed on is said by rank 0; one of this rank alone
/// is said here, and ends all of them.
pub fn run(exchange: &Exchange, f: impl FnOnce() -> Result<ExitCode>) -> Result<ExitCode> {
    let result = f();
    let Err(error) = &result else {
        return result;
    };
    if exchange.is_alone() {
        return result;
    }
    let code = failure::code(error);
    if exchange.ended_together() {
        // Said while the others wait for the end of MPI, before any of them exits.
        if exchange.is_first() {
            failure::say(error);
        }
        // The others know only that a rank has failed, not whether bad input was the reason.
        let code = exchange.gather(vec![code]).into_iter().flatten().max().unwrap_or(code);
        return Ok(ExitCode::from(code));
    }
    failure::say(error);
    exchange.abort(i32::from(code))
}

/// What to do about an error between processes.
pub fn hint(error: &exchange::Error) -> Option<String> {
    let text = match error {
        exchange::Error::NotBuilt { .. } => {
            "build it with `cargo build --release --package matformer --features mpi`".to_owned()
        }
        exchange::Error::NoMpi { world, .. } => format!(
            "start it with `mpirun -n {world} matformer train …` or `srun --mpi=pmix -n {world} \
             matformer train …`"
        ),
        exchange::Error::World { .. } => {
            "start it with the launcher of the MPI that it was built with; with Slurm that is \
             `srun --mpi=pmix` for Open MPI, `srun --mpi=pmi2` for MPICH"
                .to_owned()
        }
        exchange::Error::Differs { .. } => {
            "all ranks need the same program, run file, data and run folder".to_owned()
        }
        _ => return None,
    };
    Some(text)
}
