//! Numbers, sizes and times as people read them. Nothing else formats them.

mod date;

pub use date::utc;

/// A number of parameters or tokens, as budgets are typed: `1.20B`.
pub fn count(n: f64) -> String {
    scaled(n, 'B')
}

/// A number of operations: `1.20G`.
pub fn operations(n: f64) -> String {
    scaled(n, 'G')
}

fn scaled(n: f64, billion: char) -> String {
    match n {
        n if n >= 1e12 => format!("{:.2}T", n / 1e12),
        n if n >= 1e9 => format!("{:.2}{billion}", n / 1e9),
        n if n >= 1e6 => format!("{:.2}M", n / 1e6),
        n if n >= 1e3 => format!("{:.1}k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

/// A whole number with separators: `1,234,567`.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Units of bytes, powers of ten.
const BYTES: [(f64, &str); 6] =
    [(1e18, "EB"), (1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];

/// An amount of memory: `512 B`, `3.20 GB`.
pub fn memory(bytes: f64) -> String {
    match BYTES.into_iter().find(|(scale, _)| bytes >= *scale) {
        Some((scale, unit)) => format!("{:.2} {unit}", bytes / scale),
        None => format!("{bytes:.0} B"),
    }
}

/// The size of a file: `512 bytes`, `3.2 MB`.
pub fn file_size(bytes: u64) -> String {
    let number = bytes as f64;
    match BYTES.into_iter().find(|(scale, _)| number >= *scale) {
        Some((scale, unit)) => format!("{:.1} {unit}", number / scale),
        None => counted(bytes as usize, "byte"),
    }
}

/// Seconds: `42s`, `3m05s`, `2h07m`, `4d 3h`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..345_600 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A number of things: `1 document`, `12 documents`.
pub fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// The first part of a hash, which tells two apart.
pub fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_scaled() {
        let found = [999.0, 1500.0, 1.25e6, 2e9, 3e12].map(count);
        assert_eq!(found, ["999", "1.5k", "1.25M", "2.00B", "3.00T"]);
        assert_eq!(operations(2e9), "2.00G");
        let found = [0, 999, 1000, 12_345_678].map(thousands);
        assert_eq!(found, ["0", "999", "1,000", "12,345,678"]);
        assert_eq!([0, 1, 2].map(|n| counted(n, "step")), ["0 steps", "1 step", "2 steps"]);
    }

    #[test]
    fn bytes_are_readable() {
        assert_eq!([512.0, 3.2e9, 4e21].map(memory), ["512 B", "3.20 GB", "4000.00 EB"]);
        let found = [1, 512, 1500, 3_240_000].map(file_size);
        assert_eq!(found, ["1 byte", "512 bytes", "1.5 kB", "3.2 MB"]);
    }

    #[test]
    fn durations_have_two_units() {
        let found = [42.4, 185.0, 7620.0, 3.6e5].map(duration);
        assert_eq!(found, ["42s", "3m05s", "2h07m", "4d 4h"]);
    }
}
