//! What a device is good for: whether it computes what the CPU does, and how fast it is.

mod measure;
mod verdict;

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::Device;
use matformer_nn::{
    DeviceSpec,
    agreement::{Agreement, Op},
    device,
    hardware::{Hardware, hardware},
};
use serde::Serialize;

use self::measure::Timer;
use matformer_nn::machine;

pub use measure::{Followed, MatrixRate, Speed};
pub use verdict::{Verdict, verdict};

/// All that was found. Parts that have not been measured yet, or could not be, are empty.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    /// The version of this program.
    pub version: &'static str,
    /// The device, as `--device` names it.
    pub device: String,
    /// All devices of this build and machine.
    pub available: String,
    /// Processor, instructions and threads.
    pub machine: String,
    /// Memory of the host that is free, in bytes.
    pub free_memory: Option<u64>,
    /// Graphics cards and drivers.
    pub hardware: Vec<Hardware>,
    /// Whether the device's memory is the host's: the CPU, or a driver that computes on it.
    pub in_host_memory: bool,
    /// Each op beside the CPU's; empty where the device is the CPU, or this build is without it.
    pub ops: Vec<OpError>,
    /// Training beside the CPU's.
    pub training: Option<Followed>,
    /// Products of square matrices.
    pub matrices: Vec<MatrixRate>,
    /// Bytes per second that a sum over a large tensor reads.
    pub bytes_per_second: Option<f64>,
    /// Training and generation.
    pub speeds: Vec<Speed>,
    /// What failed, and with what.
    pub problems: Vec<Problem>,
    /// What it comes to.
    pub verdict: Option<Verdict>,
}

/// An op beside the CPU's.
#[derive(Clone, Debug, Serialize)]
pub struct OpError {
    /// The op.
    pub op: &'static str,
    /// The largest relative error of its output and gradients; none where one is no number.
    pub error: Option<f64>,
}

impl From<Agreement> for OpError {
    fn from(found: Agreement) -> Self {
        Self { op: found.op, error: found.error.is_finite().then_some(found.error) }
    }
}

/// A part that failed.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// The part: `op attention`, `training`.
    pub part: String,
    /// What was said.
    pub message: String,
    /// Whether results of the device cannot be relied on because of it.
    #[serde(skip)]
    decides: bool,
}

/// The parts that say whether a device computes right begin so.
const OP: &str = "op ";
const TRAINING: &str = "training";

/// Result of one part of the check.
type Measured<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

impl Findings {
    fn of(spec: DeviceSpec, device: &Device) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            device: spec.to_string(),
            available: device::available(),
            machine: machine::describe(),
            free_memory: machine::available_memory(),
            hardware: hardware(),
            in_host_memory: device::in_host_memory(device),
            ..Self::default()
        }
    }

    /// What a part found; a failure is kept among the problems. Drivers panic where they should fail.
    fn part<T>(&mut self, part: &str, measure: impl FnOnce() -> Measured<T>) -> Option<T> {
        let message = match catch_unwind(AssertUnwindSafe(measure)) {
            Ok(Ok(found)) => return Some(found),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => said(&*panic),
        };
        let decides = part.starts_with(OP) || part == TRAINING;
        self.problems.push(Problem { part: part.to_owned(), message, decides });
        None
    }
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}

/// Examines a device, part by part. Before each part `progress` sees what was found so far, and what comes
/// next. A `quick` examination times each thing for a fifth of a second, and leaves the medium
/// model out.
pub fn examine(
    spec: DeviceSpec,
    device: &Device,
    quick: bool,
    progress: &mut dyn FnMut(&Findings, &str),
) -> Findings {
    let mut found = Findings::of(spec, device);
    if let Some(cpu) = device::cpu().filter(|cpu| cpu != device) {
        progress(&found, "each op and its gradients");
        for op in Op::ALL {
            let compared =
                found.part(&format!("{OP}{}", op.name), || Ok(op.compare(device, &cpu)?));
            found.ops.extend(compared.map(OpError::from));
        }
        progress(&found, "training beside the CPU's");
        found.training = found.part(TRAINING, || measure::followed(device, &cpu));
    }
    let timer = Timer::new(device, quick);
    progress(&found, "matrix products");
    for size in measure::SIZES {
        let rate = found.part(&format!("product of {size}"), || timer.matrix_rate(size));
        let slow = rate.as_ref().is_none_or(|rate| rate.seconds > measure::LONG);
        found.matrices.extend(rate);
        // The next is eight times as much work.
        if slow {
            break;
        }
    }
    progress(&found, "memory");
    found.bytes_per_second = found.part("memory", || timer.bytes_per_second());
    for shape in measure::shapes(found.in_host_memory, quick) {
        progress(&found, &format!("a {} model", shape.name));
        let speed = found.part(shape.name, || timer.speed(&shape));
        found.speeds.extend(speed);
    }
    found.verdict = Some(verdict(&found));
    found
}
