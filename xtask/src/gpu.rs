//! `cargo xtask gpu`: what measures a graphics card, as one archive to carry there, and the page of what it found.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xshell::{Shell, cmd};

use crate::{
    build, check,
    reproduce::page::{Page, head, list, some_table, text},
};

/// Crates whose programs are built with all backends.
const PACKAGES: [&str; 2] = ["matformer", "matformer-nn"];

/// Where a program goes in the archive, by package and target.
const PROGRAMS: [(&str, &str, &str); 4] = [
    ("matformer", "matformer", "matformer"),
    ("matformer", "speed", "speed"),
    ("matformer-nn", "matformer_nn", "suites/nn"),
    ("matformer", "device", "suites/models"),
];

/// Files of the repository that go along, with where they go.
const FILES: [(&str, &str); 5] = [
    ("xtask/gpu/gpu-check.sh", "."),
    ("xtask/gpu/check.toml", "."),
    ("crates/matformer-lm/tests/fixtures", "crates/matformer-lm/tests"),
    ("crates/matformer-vit/tests/fixtures", "crates/matformer-vit/tests"),
    ("crates/matformer-core/src", "corpus"),
];

/// Bytes of the archive at most.
const MOST: u64 = 60 << 20;

/// Builds the command and the tests with every backend and packs them: `out` unpacks to a folder `gpu` with
/// `gpu-check.sh`.
pub fn pack(out: &Path) -> Result<()> {
    let started = Instant::now();
    let shell = build::shell()?;
    let out = std::path::absolute(out)?;
    let programs = built(&shell)?;
    let folder = shell.create_temp_dir()?;
    let gpu = folder.path().join("gpu");
    for (package, target, to) in PROGRAMS {
        let from = programs
            .get(&(package.to_owned(), target.to_owned()))
            .with_context(|| format!("cargo built no program for {target} of {package}"))?;
        let to = gpu.join(to);
        shell.create_dir(to.parent().unwrap_or(&gpu))?;
        cmd!(shell, "strip --strip-all -o {to} {from}").quiet().run()?;
    }
    for (from, to) in FILES {
        let to = gpu.join(to);
        shell.create_dir(&to)?;
        cmd!(shell, "cp -r {from} {to}").quiet().run()?;
    }
    let head = cmd!(shell, "git rev-parse --short HEAD").quiet().read()?;
    shell.write_file(gpu.join("commit"), head)?;
    eprintln!("packing: about five minutes");
    // The programs have most of their code in common: the window of the compression holds all of them.
    let _window = shell.push_env("XZ_OPT", "-T1 --lzma2=preset=6,dict=768MiB");
    let inside = folder.path();
    cmd!(shell, "tar --create --xz --sort=name --file {out} --directory {inside} gpu")
        .quiet()
        .run()?;
    let bytes = std::fs::metadata(&out)?.len();
    println!(
        "{}: {:.1} MiB, in {:.0} minutes",
        out.display(),
        bytes as f64 / f64::from(1 << 20),
        started.elapsed().as_secs_f64() / 60.0
    );
    ensure!(bytes <= MOST, "found {bytes} bytes, expected at most {MOST}");
    Ok(())
}

/// The programs of one build, by package and target.
fn built(shell: &Shell) -> Result<BTreeMap<(String, String), PathBuf>> {
    let packages = PACKAGES.iter().flat_map(|package| ["--package", *package]);
    let messages = check::with_llvm(|| {
        cmd!(
            shell,
            "cargo test --release --locked --no-run --message-format=json-render-diagnostics
             {packages...} --features wgpu,cuda --bin matformer --bench speed --lib
             --test device"
        )
        .read()
    })?;
    let mut found = BTreeMap::new();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line)?;
        let (Some(program), Some(target)) =
            (message["executable"].as_str(), message["target"]["name"].as_str())
        else {
            continue;
        };
        // path+file:///…/crates/matformer-nn#0.1.0
        let package = message["package_id"].as_str().unwrap_or_default();
        let package = package.rsplit('/').next().and_then(|last| last.split('#').next());
        // The command itself, not its unit tests.
        let tests = message["profile"]["test"] == true;
        let command = message["target"]["kind"][0] == "bin";
        if let Some(package) = package.filter(|_| !(command && tests)) {
            found.insert((package.to_owned(), target.to_owned()), PathBuf::from(program));
        }
    }
    Ok(found)
}

/// Where a page of results is kept.
const PAGE: Page = Page { path: "docs/results/gpu", command: "cargo xtask gpu page gpu.json" };

/// Puts what `gpu-check.sh` found into `docs/results/gpu.*`, in place of what was found on the same kind of device.
pub fn page(found: &Path) -> Result<()> {
    let shell = build::shell()?;
    PAGE.check(&shell)?;
    let text = std::fs::read_to_string(found).with_context(|| found.display().to_string())?;
    let found: Value =
        serde_json::from_str(&text).with_context(|| format!("{}", found.display()))?;
    let device = found["device"].as_str().context("`device`: found none, expected a name")?;
    let mut document = PAGE.document(&shell)?;
    document["devices"][device] = found.clone();
    PAGE.write(&shell, document.clone(), &tables(&document))
}

fn tables(document: &Value) -> String {
    let devices = document["devices"].as_object().into_iter().flatten();
    devices.map(|(name, found)| of_device(name, found)).collect()
}

fn of_device(name: &str, found: &Value) -> String {
    let card = text(&found["card"]);
    let on = if card.is_empty() { text(&found["doctor"]["machine"]) } else { card };
    let title = format!(
        "## `{name}`\n\n{on}; {}, commit {}, {} s in all.\n",
        text(&found["date"]),
        text(&found["commit"]),
        text(&found["seconds"])
    );
    let failed = failures(found);
    let parts = [
        ("Tests of each crate on the device.", suites(found)),
        (
            "Beside the CPU: the largest relative error of an op and its gradients, and of a training loss.",
            beside(found),
        ),
        ("What the device can do.", rates(found)),
        (
            "A training step at full width; *limit* is that of its matrix products at the best rate that any of them reached.",
            training(found),
        ),
        ("Memory held while one model trains.", memory(found)),
    ];
    let said = |(says, table): (&str, String)| {
        if table.is_empty() { String::new() } else { format!("\n{says}\n\n{table}") }
    };
    format!("{title}{}{failed}\n", parts.map(said).concat())
}

/// The parts that did not end, with the last of what they said.
fn failures(found: &Value) -> String {
    let parts = found.as_object().into_iter().flatten();
    let failed = parts.filter(|(_, part)| part["failed"].is_number() && part["passed"].is_null());
    let line = |(name, part): (&String, &Value)| {
        let log = text(&part["log"]);
        let last = log.lines().last().unwrap_or("it said nothing").to_owned();
        format!("\n- `{name}` did not end (status {}): {last}", text(&part["failed"]))
    };
    failed.map(line).collect()
}

fn suites(found: &Value) -> String {
    let parts = found.as_object().into_iter().flatten();
    let row = |(name, part): (&String, &Value)| {
        let suite = name.strip_prefix("suite-")?;
        part.get("passed")?;
        let of = |key: &str| text(&part[key]);
        Some(vec![
            suite.to_owned(),
            of("passed"),
            of("failed"),
            of("names").replace('\n', ", "),
            of("seconds"),
        ])
    };
    some_table(
        &head(&["tests", "passed", "failed", "which failed", "seconds"]),
        parts.filter_map(row).collect(),
    )
}

fn beside(found: &Value) -> String {
    let ops = list(&found["doctor"]["ops"]);
    let error = |value: &Value| match value.as_f64() {
        None => "no number".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(error) => format!("{error:.1e}"),
    };
    let mut rows: Vec<_> =
        ops.iter().map(|op| vec![text(&op["op"]), error(&op["error"])]).collect();
    let training = &found["doctor"]["training"];
    if training.is_object() {
        rows.push(vec![
            format!("{} training steps", text(&training["steps"])),
            error(&training["error"]),
        ]);
    }
    some_table(&head(&["op", "error"]), rows)
}

fn rates(found: &Value) -> String {
    let doctor = &found["doctor"];
    let rate = |value: &Value, unit: &str| {
        let value = value.as_f64().unwrap_or(f64::NAN);
        let (by, prefix) = if value < 1e12 { (1e9, "G") } else { (1e12, "T") };
        (format!("{:.2}", value / by), format!("{prefix}{unit}"))
    };
    let mut rows: Vec<_> = list(&doctor["matrices"])
        .iter()
        .map(|m| {
            let size = text(&m["size"]);
            let (value, unit) = rate(&m["flops_per_second"], "FLOP/s");
            vec![format!("product of {size} × {size}, f32"), value, unit]
        })
        .collect();
    let bytes = &doctor["bytes_per_second"];
    if bytes.is_number() {
        let (value, unit) = rate(bytes, "B/s");
        rows.push(vec!["reading memory".to_owned(), value, unit]);
    }
    for speed in list(&doctor["speeds"]) {
        let of = |key: &str| speed[key].as_f64().unwrap_or(f64::NAN);
        let name = format!("a model of {:.1} M parameters", of("params") / 1e6);
        rows.push(vec![
            format!("{name}, training"),
            format!("{:.0}", of("training")),
            "tokens/s".to_owned(),
        ]);
        // Each token reads all weights once, in f32.
        let share = bytes.as_f64().map_or(String::new(), |bytes| {
            format!(
                ", {:.0} % of reading memory",
                100.0 * 4.0 * of("params") * of("generation") / bytes
            )
        });
        rows.push(vec![
            format!("{name}, generating"),
            format!("{:.0}", of("generation")),
            format!("tokens/s{share}"),
        ]);
    }
    some_table(&head(&["what", "rate", ""]), rows)
}

fn training(found: &Value) -> String {
    let parts = found.as_object().into_iter().flatten();
    let of_part = |(name, part): (&String, &Value)| {
        if !name.starts_with("train-") {
            return Vec::new();
        }
        let dtype = text(&part["dtype"]);
        list(&part["rows"])
            .iter()
            .map(|row| {
                let number = |key: &str, digits: usize| {
                    row[key].as_f64().map_or("-".to_owned(), |v| format!("{v:.digits$}"))
                };
                let share = row["vs_limit"]
                    .as_f64()
                    .map_or("-".to_owned(), |v| format!("{:.0} %", 100.0 / v));
                vec![
                    text(&row["shape"]),
                    dtype.clone(),
                    number("tokens_per_second", 0),
                    number("step_ms", 1),
                    share,
                    number("torch_eager_ms", 1),
                    number("torch_compile_ms", 1),
                    number("vs_torch", 2),
                ]
            })
            .collect()
    };
    some_table(
        &head(&[
            "model",
            "products in",
            "tokens/s",
            "ms",
            "of the limit",
            "PyTorch eager, ms",
            "compiled, ms",
            "our time / its",
        ]),
        parts.flat_map(of_part).collect(),
    )
}

fn memory(found: &Value) -> String {
    let parts = found.as_object().into_iter().flatten();
    let mb = |value: &Value| value.as_f64().map_or(String::new(), |v| format!("{v:.0}"));
    let of_part = |(name, part): (&String, &Value)| {
        let readings = if name.starts_with("memory") { list(&part["readings"]) } else { &[] };
        let row = |r: &Value| {
            vec![text(&part["shape"]), text(&r["step"]), mb(&r["used_mb"]), mb(&r["held_mb"])]
        };
        readings.iter().map(row).collect::<Vec<_>>()
    };
    let head = head(&["model", "after step", "in use, MB", "held, MB"]);
    some_table(&head, parts.flat_map(of_part).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_result_that_was_broken_off_still_makes_a_page() {
        let found = json!({
            "device": "cuda", "date": "2026-01-02", "commit": "abc", "seconds": 9, "card": "H",
            "doctor": {
                "ops": [
                    { "op": "rope", "error": 1e-6 },
                    { "op": "linear", "error": null },
                    { "op": "adamw", "error": 0.0 },
                ],
                "matrices": [{ "size": 512, "flops_per_second": 1.117e9 }],
                "bytes_per_second": 4e12,
                "speeds": [{ "params": 1e9, "training": 10.4, "generation": 500.0 }],
            },
            "suite-nn": { "passed": 68, "failed": 1, "names": "a::b", "seconds": 7 },
            "train-180m-bf16": { "failed": 124, "log": "first\nlast" },
        });
        let page = tables(&json!({ "devices": { "cuda": found } }));
        for expected in [
            "## `cuda`\n\nH; 2026-01-02, commit abc, 9 s in all.",
            "| nn | 68 | 1 | a::b | 7 |",
            "| rope | 1.0e-6 |\n| linear | no number |\n| adamw | 0 |",
            "| product of 512 × 512, f32 | 1.12 | GFLOP/s |\n| reading memory | 4.00 | TB/s |",
            "| a model of 1000.0 M parameters, generating | 500 | tokens/s, 50 % of reading memory |",
            "- `train-180m-bf16` did not end (status 124): last",
        ] {
            assert!(page.contains(expected), "{expected}: {page}");
        }
        assert!(!page.contains("PyTorch"), "{page}");
        assert_eq!(tables(&json!({})), "");
    }
}
