//! Which device runs a model: text on the command line, a [`Device`] below.

use std::{fmt, str::FromStr};

use burn::tensor::Device;

use crate::{Error, Result};

/// A device as a person names it: `auto`, `flex`, `wgpu`, `wgpu:1`, `cuda`, `cuda:0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceSpec {
    /// The first available of CUDA, a GPU through wgpu, the CPU (flex) and a software adapter of
    /// wgpu.
    #[default]
    Auto,
    /// The CPU, through Burn's pure-Rust backend.
    Flex,
    /// A GPU through wgpu (Vulkan, Metal, DX12, WebGPU), by index among those found.
    Wgpu(usize),
    /// An NVIDIA GPU, by index.
    Cuda(usize),
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Flex => f.write_str("flex"),
            Self::Wgpu(i) => write!(f, "wgpu:{i}"),
            Self::Cuda(i) => write!(f, "cuda:{i}"),
        }
    }
}

impl FromStr for DeviceSpec {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let unknown = || Error::Device {
            asked: s.to_owned(),
            why: "not a device name; expected `auto`, `flex`, `wgpu[:N]` or `cuda[:N]`".to_owned(),
            available: available(),
        };
        let (name, index) = s.split_once(':').unwrap_or((s, "0"));
        let index: usize = index.parse().map_err(|_| unknown())?;
        match name {
            "auto" if s == name => Ok(Self::Auto),
            "flex" | "cpu" if s == name => Ok(Self::Flex),
            "wgpu" => Ok(Self::Wgpu(index)),
            "cuda" => Ok(Self::Cuda(index)),
            _ => Err(unknown()),
        }
    }
}

impl DeviceSpec {
    /// Environment variable that names the device where nothing else does.
    pub const ENV: &'static str = "MATFORMER_DEVICE";

    /// What [`DeviceSpec::ENV`] says; `auto` if it is not set.
    ///
    /// # Errors
    /// When it is not a device name.
    pub fn from_env() -> Result<Self> {
        let Ok(name) = std::env::var(Self::ENV) else {
            return Ok(Self::Auto);
        };
        name.parse().map_err(|error| match error {
            Error::Device { asked, why, available } => {
                Error::Device { asked: format!("{}={asked}", Self::ENV), why, available }
            }
            error => error,
        })
    }

    /// The device, without gradients (`.autodiff()` turns them on).
    ///
    /// # Errors
    /// [`Error::Device`] when this build or this machine does not have it.
    pub fn resolve(self) -> Result<Device> {
        match self {
            Self::Auto => Self::Cuda(0)
                .found()
                .or_else(|| gpus().into_iter().next())
                .or_else(|| Self::Flex.found())
                .or_else(|| Self::Wgpu(0).found())
                .ok_or_else(|| self.missing("this build has no backend for this machine")),
            _ => self.found().ok_or_else(|| self.missing("not in this build or on this machine")),
        }
    }

    /// The name of a device, if it is one of this build and machine.
    pub fn of(device: &Device) -> Option<Self> {
        let cards = (0..cuda().len()).map(Self::Cuda).chain((0..wgpu().len()).map(Self::Wgpu));
        let mut all = std::iter::once(Self::Flex).chain(cards);
        all.find(|spec| spec.found().as_ref() == Some(device))
    }

    fn found(self) -> Option<Device> {
        match self {
            Self::Auto => None,
            Self::Flex => flex(),
            Self::Wgpu(i) => wgpu().into_iter().nth(i),
            Self::Cuda(i) => cuda().into_iter().nth(i),
        }
    }

    fn missing(self, why: &str) -> Error {
        Error::Device { asked: self.to_string(), why: why.to_owned(), available: available() }
    }
}

/// Names of the devices that this build finds on this machine.
pub fn available() -> String {
    let mut names: Vec<String> = Vec::new();
    names.extend(flex().map(|_| DeviceSpec::Flex.to_string()));
    names.extend((0..wgpu().len()).map(|i| DeviceSpec::Wgpu(i).to_string()));
    names.extend((0..cuda().len()).map(|i| DeviceSpec::Cuda(i).to_string()));
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Whether a device uses host memory: flex, or a software adapter of wgpu.
pub fn in_host_memory(device: &Device) -> bool {
    is_cpu(device) || (wgpu().contains(device) && !gpus().contains(device))
}

/// The CPU, which other devices are compared with; none where this build is without it.
pub fn cpu() -> Option<Device> {
    flex()
}

/// Whether a device is the CPU itself, with or without gradients.
pub fn is_cpu(device: &Device) -> bool {
    flex().as_ref() == Some(device)
}

fn flex() -> Option<Device> {
    #[cfg(feature = "flex")]
    return Some(Device::flex());
    #[cfg(not(feature = "flex"))]
    None
}

fn cuda() -> Vec<Device> {
    #[cfg(feature = "cuda")]
    return Device::enumerate(burn::tensor::DeviceType::Cuda).into_vec();
    #[cfg(not(feature = "cuda"))]
    Vec::new()
}

fn wgpu() -> Vec<Device> {
    #[cfg(feature = "wgpu")]
    return Device::enumerate(burn::tensor::DeviceType::Wgpu).into_vec();
    #[cfg(not(feature = "wgpu"))]
    Vec::new()
}

/// Devices behind wgpu that are not the CPU in disguise: a software adapter is slower than flex.
fn gpus() -> Vec<Device> {
    #[cfg(feature = "wgpu")]
    return wgpu()
        .into_iter()
        .filter(|device| *device != Device::wgpu(burn::tensor::DeviceKind::Cpu))
        .collect();
    #[cfg(not(feature = "wgpu"))]
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for name in ["auto", "flex", "wgpu:0", "wgpu:2", "cuda:1"] {
            assert_eq!(name.parse::<DeviceSpec>().unwrap().to_string(), name);
        }
        for device in ["flex", "wgpu:0"]
            .into_iter()
            .filter_map(|name| name.parse::<DeviceSpec>().unwrap().resolve().ok())
        {
            let spec = DeviceSpec::of(&device).unwrap();
            assert_eq!(spec.resolve().unwrap(), device);
        }
        assert_eq!("cuda".parse::<DeviceSpec>().unwrap(), DeviceSpec::Cuda(0));
        for name in ["", "gpu", "cuda:", "cuda:x", "flex:1", "auto:0"] {
            let message = name.parse::<DeviceSpec>().unwrap_err().to_string();
            assert!(message.contains("expected `auto`"), "{message}");
        }
    }

    #[test]
    #[cfg(all(feature = "flex", not(any(feature = "wgpu", feature = "cuda"))))]
    fn auto_picks_what_is_there() {
        assert_eq!(DeviceSpec::Auto.resolve().unwrap(), Device::flex());
        let message = DeviceSpec::Cuda(0).resolve().unwrap_err().to_string();
        assert!(message.contains("available: flex"), "{message}");
    }
}
