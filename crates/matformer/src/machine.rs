//! What the machine has.

use sysinfo::{
    IS_SUPPORTED_SYSTEM, MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, System,
    get_current_pid,
};

/// Memory that this process may still take, in bytes: what the machine has available, and what its
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
    // Pages of files in the group make way: they are not counted.
    let group = limits.map(|limits| limits.total_memory.saturating_sub(limits.rss));
    Some(machine.min(group.unwrap_or(u64::MAX))).filter(|bytes| *bytes > 0)
}

/// The most memory that this process has held so far, in bytes. `None` where the system does not say.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_memory() {
        let bytes = super::available_memory().unwrap();
        assert!(bytes > 64 << 20 && bytes < 1 << 50, "{bytes}");
        let peak = super::peak_memory().unwrap();
        assert!(peak > 1 << 20 && peak < 1 << 40, "{peak}");
    }
}
