//! Timings, and what they were measured on.

use std::time::Instant;

/// Processor, instruction set and threads, in one line: the threads that compute, which are those of
/// Rayon's pool (`RAYON_NUM_THREADS`).
pub fn describe() -> String {
    let processor = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?.to_owned();
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| "unknown processor".to_owned());
    let threads = match rayon::current_num_threads() {
        1 => "1 thread".to_owned(),
        n => format!("{n} threads"),
    };
    format!("{processor} ({}), {threads}", instructions())
}

fn instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    return match (is_x86_feature_detected!("avx512f"), is_x86_feature_detected!("avx2")) {
        (true, _) => "AVX-512",
        (false, true) => "AVX2",
        (false, false) => "no AVX2",
    };
    #[cfg(not(target_arch = "x86_64"))]
    std::env::consts::ARCH
}

/// Milliseconds that `work` takes.
pub fn millis(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64() * 1e3
}

/// The middle of some timings; of an even number the lower of the two.
pub fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// Resident memory of this process and the most since [`reset_peak`], in MB; Linux only.
pub fn resident() -> Option<(f64, f64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1e3)
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

/// Forgets the peak.
pub fn reset_peak() -> std::io::Result<()> {
    std::fs::write("/proc/self/clear_refs", "5")
}
