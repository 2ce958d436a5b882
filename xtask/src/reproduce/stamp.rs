//! When, where and from which commit something was measured: each row of a page keeps its own.

use anyhow::Result;
use serde_json::{Value, json};
use xshell::{Shell, cmd};

/// The stamp of what is measured now: `{"date", "machine", "commit"}`.
///
/// # Errors
/// When the date cannot be had.
pub fn now(shell: &Shell) -> Result<Value> {
    Ok(json!({
        "date": cmd!(shell, "date -u +%F").quiet().read()?,
        "machine": machine(),
        "commit": commit(shell),
    }))
}

/// The commit that is checked out, with a `+` where files of it were changed; null outside of a repository.
fn commit(shell: &Shell) -> Option<String> {
    let head = cmd!(shell, "git rev-parse --short HEAD").quiet().ignore_stderr().read().ok()?;
    // Pages are written while others are measured.
    let code = ["crates", "configs", "Cargo.lock"];
    let changed = cmd!(shell, "git status --porcelain -- {code...}").quiet().read().ok()?;
    Some(format!("{head}{}", if changed.is_empty() { "" } else { "+" }))
}

/// Cores and what they are.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let avx512 = field("flags").is_some_and(|flags| flags.contains("avx512f"));
    format!(
        "{cores} core{}, {}{}",
        if cores == 1 { "" } else { "s" },
        field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        if avx512 { ", AVX-512" } else { "" }
    )
}

/// A line below a table that says when and where its rows were made: `what` is `Measured` or `Trained`,
/// `stamps` are those of groups of rows, each with the group's name. Groups of equal stamps are named
/// together.
pub fn line<'a>(what: &str, stamps: impl IntoIterator<Item = (String, &'a Value)>) -> String {
    let stamps: Vec<(String, &Value)> = stamps.into_iter().collect();
    let mut groups: Vec<(Vec<&str>, &Value)> = Vec::new();
    for (name, stamp) in &stamps {
        match groups.iter_mut().find(|(_, other)| other == stamp) {
            Some((names, _)) if !names.contains(&name.as_str()) => names.push(name),
            Some(_) => {}
            None => groups.push((vec![name], stamp)),
        }
    }
    match &groups[..] {
        [] => String::new(),
        [(_, stamp)] => format!("{what} {}.\n", said(stamp)),
        _ => {
            let group = |(names, stamp): &(Vec<&str>, &Value)| {
                format!("{}: {}", names.join(", "), said(stamp))
            };
            format!("{what} {}.\n", groups.iter().map(group).collect::<Vec<_>>().join("; "))
        }
    }
}

fn said(stamp: &Value) -> String {
    let of = |key: &str| stamp[key].as_str();
    match (of("date"), of("machine")) {
        (Some(date), Some(machine)) => {
            let commit = of("commit").map_or(String::new(), |commit| format!(", commit {commit}"));
            format!("{date} on {machine}{commit}")
        }
        _ => "at a time that was not recorded".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(date: &str) -> Value {
        json!({ "date": date, "machine": "2 cores", "commit": "abc" })
    }

    #[test]
    fn rows_of_several_days_are_told_apart() {
        let (old, new) = (stamp("2026-01-01"), stamp("2026-02-02"));
        let line = |stamps: &[(&str, &Value)]| {
            line("Measured", stamps.iter().map(|(name, stamp)| ((*name).to_owned(), *stamp)))
        };
        let expected = "Measured 2026-01-01 on 2 cores, commit abc.\n";
        assert_eq!(line(&[("a", &old), ("b", &old)]), expected);
        assert_eq!(
            line(&[("a", &old), ("b", &new), ("c", &old)]),
            "Measured a, c: 2026-01-01 on 2 cores, commit abc; b: 2026-02-02 on 2 cores, commit abc.\n"
        );
        assert_eq!(line(&[("a", &Value::Null)]), "Measured at a time that was not recorded.\n");
        assert_eq!(line(&[]), "");
    }

    #[test]
    fn a_stamp_says_date_machine_and_commit() {
        let stamp = now(&crate::build::shell().unwrap()).unwrap();
        assert_eq!(stamp["date"].as_str().unwrap().len(), 10);
        assert!(stamp["machine"].as_str().unwrap().contains(" core"));
        assert!(stamp.get("commit").is_some());
    }
}
