//! `cargo xtask test`, `cargo xtask check` and `cargo xtask ci`.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use xshell::{Shell, cmd};

use crate::build;

/// Which features are compiled in, and which device tests run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The CPU, in pure Rust: the default features
    Flex,
    /// A GPU through wgpu, or a software Vulkan device
    Wgpu,
    /// An NVIDIA GPU
    Cuda,
}

impl Backend {
    /// Its feature, and its device.
    fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
        }
    }
}

/// Kernels are compiled once per shape: property tests then try a fixed list of shapes.
const SHAPES: [(&str, &str); 3] = [
    ("PROPTEST_CASES", "12"),
    ("PROPTEST_RNG_SEED", "1"),
    // The first kernel of a family that runs, not the fastest.
    ("CUBECL_AUTOTUNE_LEVEL", "minimal"),
];

/// All tests of the workspace, doctests and examples' builds included; for another backend than
/// flex those that touch a device, beside flex in the same process.
pub fn test(backend: Backend, filter: Option<&str>) -> Result<()> {
    let shell = build::shell()?;
    match backend {
        Backend::Flex => return test_flex(&shell, &[], filter),
        Backend::Wgpu => check_vulkan(&shell)?,
        Backend::Cuda => {}
    }
    let name = backend.name();
    let _device = shell.push_env("MATFORMER_DEVICE", name);
    // Mesa complains about its absence on standard error, test by test.
    let runtime =
        std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_else(|| std::env::temp_dir().into());
    let _runtime = shell.push_env("XDG_RUNTIME_DIR", runtime);
    let _settings: Vec<_> =
        SHAPES.iter().map(|(variable, value)| shell.push_env(variable, value)).collect();
    // The command is selected so that Burn is built with the same features as for flex; of its own
    // tests only those of its library run here. One process per test target, one after the other.
    let selected = "--package matformer --package matformer-nn --package matformer-lm \
                    --package matformer-vit --package matformer-train --features";
    let selected = &selected.split_whitespace().chain([name]).collect::<Vec<_>>()[..];
    cmd!(shell, "cargo test --locked {selected...} --lib --test lm --test vit {filter...}")
        .quiet()
        .run()?;
    // Of the training loop what depends on the device: that it follows flex.
    let steps = filter.unwrap_or("twenty_steps");
    cmd!(shell, "cargo test --locked {selected...} --test train {steps}").quiet().run()?;
    Ok(())
}

/// All tests of the workspace, with further features.
fn test_flex(shell: &Shell, features: &[&str], filter: Option<&str>) -> Result<()> {
    Ok(cmd!(shell, "cargo test --locked --workspace {features...} {filter...}").quiet().run()?)
}

/// The features for tests on several processes, where Open MPI and its headers are installed: all tests are
/// then built once, with MPI.
fn over_mpi(shell: &Shell) -> Vec<&'static str> {
    // Others do not know the option.
    let found = cmd!(shell, "mpicc --showme:version").quiet().ignore_stderr().read();
    if found.is_ok_and(|version| version.contains("Open MPI")) {
        vec!["--features", "matformer/mpi"]
    } else {
        eprintln!("no Open MPI: tests on several processes are left out");
        Vec::new()
    }
}

/// The command built with one backend alone, and what holds on any device: it trains, describes and
/// scores. Builds everything below Burn once more.
pub fn alone(backend: Backend) -> Result<()> {
    let shell = build::shell()?;
    let name = backend.name();
    let _device = shell.push_env("MATFORMER_DEVICE", name);
    cmd!(
        shell,
        "cargo test --locked --package matformer --no-default-features --features {name}
         --test end_to_end on_any_device"
    )
    .quiet()
    .run()?;
    Ok(())
}

/// Clippy over the features of a backend; for CUDA a build, because what can fail there is LLVM.
pub fn check(backend: Backend) -> Result<()> {
    let shell = build::shell()?;
    match backend {
        Backend::Flex => {
            cmd!(shell, "cargo clippy --locked --workspace --all-targets -- -D warnings").run()?;
        }
        Backend::Wgpu => {
            cmd!(
                shell,
                "cargo clippy --locked --workspace --all-targets --no-default-features
                 --features wgpu -- -D warnings"
            )
            .run()?;
        }
        Backend::Cuda => build_cuda(&shell)?,
    }
    Ok(())
}

fn build_cuda(shell: &Shell) -> Result<()> {
    with_llvm(|| {
        cmd!(
            shell,
            "cargo build --locked --package matformer --no-default-features --features cuda"
        )
        .run()
    })
}

/// Runs a build with CUDA; where it fails for the lack of LLVM, the error says so.
pub fn with_llvm<T>(build: impl FnOnce() -> xshell::Result<T>) -> Result<T> {
    let marker = llvm_marker()?;
    if !marker.exists() {
        eprintln!("no LLVM at {}: the build tries to download it", marker.display());
    }
    match build() {
        Err(_) if !marker.exists() => bail!(
            "CUDA was not built: its compiler needs LLVM 23.1, which is not at {} and could not be \
             downloaded",
            marker.display()
        ),
        built => Ok(built?),
    }
}

/// Where the build looks for the LLVM that CUDA's kernels are compiled with.
fn llvm_marker() -> Result<PathBuf> {
    let data = match std::env::var_os("XDG_DATA_HOME") {
        Some(dir) => PathBuf::from(dir),
        None => {
            PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".local/share")
        }
    };
    Ok(data.join("tracel/tracel-llvm-23.1.0-4/.tracel-llvm-installed"))
}

/// On Linux, wgpu needs a Vulkan driver: say which package brings one where there is none.
fn check_vulkan(shell: &Shell) -> Result<()> {
    let folders = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    let named = std::env::var_os("VK_DRIVER_FILES").or(std::env::var_os("VK_ICD_FILENAMES"));
    let found =
        |folder: &&str| shell.read_dir(Path::new(folder)).is_ok_and(|drivers| !drivers.is_empty());
    if cfg!(target_os = "linux") && named.is_none() && !folders.iter().any(found) {
        bail!(
            "no Vulkan driver in {}; a software one is in Debian's and Ubuntu's package \
             mesa-vulkan-drivers",
            folders.join(" or ")
        );
    }
    Ok(())
}

/// The fuzz targets compile. They are a workspace of their own, with the versions of this one and its target
/// directory.
fn fuzz(shell: &Shell) -> Result<()> {
    shell.copy_file("Cargo.lock", "fuzz/Cargo.lock")?;
    let target = build::target(shell)?;
    cmd!(shell, "cargo check --manifest-path fuzz/Cargo.toml --bins --target-dir {target}")
        .run()?;
    Ok(())
}

/// How long the checks may take before those on wgpu are left out, which take 1.3 times as long: all of them
/// fit into an hour.
const BEFORE_WGPU: Duration = Duration::from_secs(1400);

/// The list of everything that must hold, cheapest first; the tests' own summary comes last.
pub fn ci() -> Result<()> {
    let started = Instant::now();
    let shell = build::shell()?;
    cmd!(shell, "cargo fmt --all --check").run()?;
    check(Backend::Flex)?;
    {
        let _flags = shell.push_env("RUSTDOCFLAGS", "-D warnings");
        cmd!(shell, "cargo doc --locked --workspace --no-deps").run()?;
    }
    fuzz(&shell)?;
    let mpi = over_mpi(&shell);
    if !mpi.is_empty() {
        let exchange = "--package matformer-exchange --features mpi --all-targets";
        let exchange: Vec<&str> = exchange.split_whitespace().collect();
        cmd!(shell, "cargo clippy --locked {exchange...} -- -D warnings").run()?;
    }
    test_flex(&shell, &mpi, None)?;
    let taken = started.elapsed();
    if taken < BEFORE_WGPU {
        check(Backend::Wgpu)?;
        test(Backend::Wgpu, None)
    } else {
        let (taken, most) = (taken.as_secs(), BEFORE_WGPU.as_secs());
        eprintln!("wgpu is left out: {taken} s were used, of {most} s at most");
        Ok(())
    }
}
