//! What the machine is and has: processor, threads, memory. Graphics cards are in
//! [`hardware`](crate::hardware).

use sysinfo::{
    IS_SUPPORTED_SYSTEM, MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, System,
    get_current_pid,
};

/// Processor, instruction set and number of threads, in one line.
pub fn describe() -> String {
    let threads = match threads() {
        1 => "1 thread".to_owned(),
        n => format!("{n} threads"),
    };
    format!("{} ({}), {threads}", processor(), instructions())
}

/// The processor's name.
fn processor() -> String {
    let named = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?.to_owned();
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    named.unwrap_or_else(|| "unknown processor".to_owned())
}

/// Threads that compute: those of Rayon's pool (`RAYON_NUM_THREADS`).
#[cfg(feature = "flex")]
fn threads() -> usize {
    rayon::current_num_threads()
}

/// Threads that the system would run at once.
#[cfg(not(feature = "flex"))]
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

fn instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    return if is_x86_feature_detected!("avx512f") {
        "AVX-512"
    } else if is_x86_feature_detected!("avx2") {
        "AVX2"
    } else {
        "no AVX2"
    };
    #[cfg(not(target_arch = "x86_64"))]
    std::env::consts::ARCH
}

/// Memory in bytes that this process may still take: what the machine has available, and what its
/// control group leaves. `None` where the system does not say.
pub fn available_memory() -> Option<u64> {
    if !IS_SUPPORTED_SYSTEM {
        return None;
    }
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let machine = system.available_memory();
    let limits = get_current_pid().ok().and_then(|pid| {
        let this = ProcessesToUpdate::Some(&[pid]);
        system.refresh_processes_specifics(this, true, ProcessRefreshKind::nothing());
        system.process(pid)?.cgroup_limits()
    });
    // The group's cached file pages can be reclaimed: they are not counted.
    let group = limits.map(|limits| limits.total_memory.saturating_sub(limits.rss));
    Some(machine.min(group.unwrap_or(u64::MAX))).filter(|bytes| *bytes > 0)
}

/// The memory in bytes that this process holds now. `None` where the system does not say.
pub fn resident_memory() -> Option<u64> {
    status("VmRSS:")
}

/// The most memory in bytes that this process has held so far, or since [`reset_peak`]. `None` where
/// the system does not say.
pub fn peak_memory() -> Option<u64> {
    status("VmHWM:")
}

/// A number of kB in the system's record of this process, in bytes; Linux only.
fn status(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Forgets the peak; Linux only.
///
/// # Errors
/// When the system refuses.
pub fn reset_peak() -> std::io::Result<()> {
    std::fs::write("/proc/self/clear_refs", "5")
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_memory() {
        let bytes = super::available_memory().unwrap();
        assert!(bytes > 64 << 20 && bytes < 1 << 50, "{bytes}");
        let (held, peak) = (super::resident_memory().unwrap(), super::peak_memory().unwrap());
        assert!(held > 1 << 20 && held <= peak && peak < 1 << 40, "{held} {peak}");
    }
}
