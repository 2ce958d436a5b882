//! What graphics cards and drivers a machine has, as far as this build can ask.

use std::process::Command;

use serde::Serialize;

/// A device that computes, beside the CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hardware {
    /// What it is reached through: `CUDA`, or `wgpu (Vulkan)`.
    pub through: String,
    /// Its name.
    pub name: String,
    /// Its driver and the driver's version, where they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Its own memory in bytes, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
}

/// The cards that NVIDIA's driver names, and the adapters of wgpu if this build has it: the same card may be
/// both.
pub fn hardware() -> Vec<Hardware> {
    let mut found = cards();
    found.extend(adapters());
    found
}

/// NVIDIA's cards; none where its `nvidia-smi` is missing or fails.
fn cards() -> Vec<Hardware> {
    let query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits"];
    match Command::new("nvidia-smi").args(query).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).lines().filter_map(card).collect()
        }
        _ => Vec::new(),
    }
}

/// A line of `nvidia-smi`: name, driver, memory in MiB.
fn card(line: &str) -> Option<Hardware> {
    let parts: Vec<&str> = line.split(',').map(str::trim).collect();
    let [name, driver, memory] = parts[..] else { return None };
    Some(Hardware {
        through: "CUDA".to_owned(),
        name: name.to_owned(),
        driver: Some(format!("NVIDIA {driver}")),
        memory: memory.parse::<u64>().ok().map(|mib| mib << 20),
    })
}

#[cfg(feature = "wgpu")]
fn adapters() -> Vec<Hardware> {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };
    let instance = wgpu::Instance::default();
    let found = pin!(instance.enumerate_adapters(wgpu::Backends::all()));
    // Outside a browser it is ready at once.
    let Poll::Ready(found) = found.poll(&mut Context::from_waker(Waker::noop())) else {
        return Vec::new();
    };
    let adapter = |adapter: wgpu::Adapter| {
        let info = adapter.get_info();
        let driver = [info.driver, info.driver_info].join(" ").trim().to_owned();
        Hardware {
            through: format!("wgpu ({:?})", info.backend),
            name: info.name,
            driver: (!driver.is_empty()).then_some(driver),
            memory: None,
        }
    };
    found.into_iter().map(adapter).collect()
}

#[cfg(not(feature = "wgpu"))]
fn adapters() -> Vec<Hardware> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_nvidia_smi_is_a_card() {
        let found = card("NVIDIA H200, 570.86.15, 143771").unwrap();
        assert_eq!((found.name.as_str(), found.memory), ("NVIDIA H200", Some(143_771 << 20)));
        assert_eq!(found.driver.as_deref(), Some("NVIDIA 570.86.15"));
        assert_eq!(card("NVIDIA GH200, 570, [N/A]").unwrap().memory, None);
        assert_eq!(card("no devices were found"), None);
    }
}
