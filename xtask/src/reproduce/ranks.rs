//! `cargo xtask bench ranks`: several processes beside one, and on slow networks; `docs/results/ranks.*`.

mod hosts;
mod tables;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use xshell::{Shell, cmd};

use self::hosts::Hosts;
use super::{
    page::{Page, list},
    stamp,
};
use crate::build;

const PAGE: Page = Page { path: "docs/results/ranks", command: "cargo xtask bench ranks" };
/// Presets, and how many steps of them are timed.
const TRAINED: [(&str, u64); 2] = [("demo", 40), ("small", 12)];
/// Steps that warm up and do not count.
const FIRST: usize = 3;
/// Of the slow network.
const HOSTS: usize = 4;
const DELAY_MS: f64 = 1.0;
const GBIT: f64 = 1.0;
/// Steps there, and those of a round.
const STEPS: u64 = 100;
const ROUNDS: [u64; 2] = [5, 25];

/// What is measured.
#[derive(Debug, Args)]
pub struct Ranks {
    /// Rounds, in each of which what is compared takes turns
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Python that passes on the packets of the slow network
    #[arg(long, default_value = "python3")]
    python: String,
    /// The command built with the feature `mpi`, where it is built already
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Print what was found as JSON; the page stays as it is
    #[arg(long)]
    json: bool,
}

/// Measures, and writes the page.
pub fn run(args: &Ranks) -> Result<()> {
    ensure!(args.rounds > 0, "--rounds 0: expected at least 1");
    let shell = build::shell()?;
    PAGE.check(&shell)?;
    cmd!(shell, "mpirun --version").quiet().ignore_stdout().run().context("Open MPI is needed")?;
    let matformer = match &args.binary {
        Some(binary) => binary.clone(),
        None => build::matformer_with(&shell, &["--features", "mpi"])?,
    };
    let bench = Bench::new(&shell, matformer)?;
    let mut found = json!({ "load": load(), "stamp": stamp::now(&shell)? });
    found["training"] = bench.training(args.rounds)?;
    found["sweep"] = bench.sweep(args.rounds)?;
    found["network"] = match Hosts::new(&bench.folder, &args.python, HOSTS, DELAY_MS, GBIT) {
        Ok(hosts) => bench.network(hosts)?,
        Err(error) => {
            eprintln!("no hosts with a slow network: {error:#}");
            Value::Null
        }
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
        return Ok(());
    }
    let tables = tables::all(&found);
    PAGE.write(&shell, found, &tables)
}

/// Processes that were running or waited on average over the last minute: above 0, others disturb the times.
fn load() -> Value {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse::<f64>().ok()).map_or(Value::Null, Value::from)
}

/// How a command is started.
enum Launch<'a> {
    /// As one process of so many threads.
    Alone(usize),
    /// As so many ranks of one thread.
    Ranks(usize),
    /// As one rank of one thread on each of these hosts.
    Hosts(&'a Hosts),
}

struct Bench<'a> {
    shell: &'a Shell,
    matformer: PathBuf,
    /// Where everything is written, anew.
    folder: PathBuf,
}

impl<'a> Bench<'a> {
    fn new(shell: &'a Shell, matformer: PathBuf) -> Result<Self> {
        let folder = build::target(shell)?.join("ranks");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        // Text that is here anyhow.
        let mut sources: Vec<PathBuf> =
            shell.read_dir("crates")?.into_iter().map(|dir| dir.join("src")).collect();
        sources.sort();
        let run = format!(
            "[data]\npaths = {sources:?}\nvocab_size = 2048\n\n[train]\ntokens_per_step = 2048\n\
             warmup = 20\neval_tokens = 16384\n"
        );
        fs::write(folder.join("run.toml"), run)?;
        Ok(Self { shell, matformer: fs::canonicalize(matformer)?, folder })
    }

    /// What a command prints as JSON.
    fn json(&self, launch: &Launch<'_>, arguments: &[String]) -> Result<Value> {
        let (before, threads) = match launch {
            Launch::Alone(threads) => (Vec::new(), *threads),
            Launch::Ranks(ranks) => (mpirun(*ranks, &[]), 1),
            Launch::Hosts(hosts) => (hosts.mpirun(), 1),
        };
        let whole: Vec<String> = before
            .into_iter()
            .chain([self.matformer.display().to_string()])
            .chain(arguments.iter().cloned())
            .chain(["--json".to_owned()])
            .collect();
        let (program, rest) = whole.split_first().context("no program")?;
        let found = cmd!(self.shell, "{program} {rest...}")
            .env("RAYON_NUM_THREADS", threads.to_string())
            .env("MATFORMER_CACHE", self.folder.join("data"))
            .quiet()
            .ignore_stderr()
            .read()?;
        Ok(serde_json::from_str(&found)?)
    }

    /// Trains a preset: tokens per second, the losses in the end, and what was sent.
    fn train(
        &self,
        launch: &Launch<'_>,
        preset: &str,
        steps: u64,
        sets: &[String],
    ) -> Result<Value> {
        let out = self.folder.join("run");
        if out.exists() {
            fs::remove_dir_all(&out)?;
        }
        let run = self.folder.join("run.toml").display().to_string();
        let mut arguments = vec!["train".to_owned(), run, "--out".to_owned()];
        arguments.push(out.display().to_string());
        let every = ["steps", "eval_every", "checkpoint_every"];
        let steps = every.iter().map(|key| format!("train.{key}={steps}"));
        let sets =
            [format!("model.preset={preset:?}")].into_iter().chain(steps).chain(sets.to_vec());
        arguments.extend(sets.flat_map(|set| ["--set".to_owned(), set]));
        let ended = self.json(launch, &arguments)?;
        let lines = fs::read_to_string(out.join("metrics.jsonl"))?;
        let lines: Vec<Value> =
            lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let rates: Vec<f64> =
            lines.iter().filter_map(|line| line["tokens_per_second"].as_f64()).collect();
        let timed = rates.get(FIRST..).filter(|timed| !timed.is_empty());
        let timed = timed.context("too few steps to time")?;
        // Every step has as many tokens: the mean of their times.
        let rate = timed.len() as f64 / timed.iter().map(|rate| 1.0 / rate).sum::<f64>();
        let held_out = lines.iter().rev().find(|line| line["held_out"].is_object());
        Ok(json!({
            "tokens_per_second": rate,
            "held_out": held_out.map_or(Value::Null, |line| line["held_out"].clone()),
            "sent_bytes": ended["sent_bytes"],
        }))
    }

    /// One process with two threads, and two ranks with one each.
    fn training(&self, rounds: usize) -> Result<Value> {
        let mut rows = Vec::new();
        for (preset, steps) in TRAINED {
            let mut pairs = Vec::new();
            for _ in 0..rounds {
                let rate = |launch| -> Result<f64> {
                    let found = self.train(&launch, preset, steps, &[])?;
                    found["tokens_per_second"].as_f64().context("no rate")
                };
                pairs.push([rate(Launch::Alone(2))?, rate(Launch::Ranks(2))?]);
            }
            let [one, two] = medians(&pairs);
            let efficiency = median(pairs.iter().map(|[one, two]| two / one));
            let row = json!({
                "preset": preset, "steps": steps, "rounds": rounds, "one_process": one,
                "two_ranks": two, "efficiency": efficiency,
            });
            eprintln!("{row}");
            rows.push(row);
        }
        Ok(Value::from(rows))
    }

    /// A sweep over submodels by one process with one thread, and by two ranks with one each.
    fn sweep(&self, rounds: usize) -> Result<Value> {
        self.train(&Launch::Alone(2), "demo", 20, &[])?;
        let model = self.folder.join("run");
        let arguments = "--budget 100% --method non-decreasing --tokens 8192 --judge-tokens 2048";
        let (name, rest) = (model.display().to_string(), arguments.split_whitespace());
        let arguments: Vec<String> =
            ["search", &name].into_iter().chain(rest).map(str::to_owned).collect();
        let (mut pairs, mut losses) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let mut seconds = |launch| -> Result<f64> {
                forget(&model)?;
                let found = self.json(&launch, &arguments)?["found"][0].clone();
                losses.push(found["tried"].clone());
                found["seconds"].as_f64().context("no time")
            };
            pairs.push([seconds(Launch::Alone(1))?, seconds(Launch::Ranks(2))?]);
        }
        ensure!(losses.iter().all(|of| *of == losses[0]), "the ranks found other losses");
        let [one, two] = medians(&pairs);
        let speedup = median(pairs.iter().map(|[one, two]| one / two));
        let row = json!({
            "submodels": list(&losses[0]).len(), "rounds": rounds, "one_thread_s": one,
            "two_ranks_s": two, "speedup": speedup,
        });
        eprintln!("{row}");
        Ok(row)
    }

    /// The same run by one process, and on hosts with a slow network: gradients in every step, and rounds.
    fn network(&self, hosts: Hosts) -> Result<Value> {
        let mut rows = Vec::new();
        let mut add = |what: String, launch: &Launch<'_>, sets: &[String]| -> Result<()> {
            let mut row = self.train(launch, "demo", STEPS, sets)?;
            row["exchange"] = what.into();
            eprintln!("{row}");
            rows.push(row);
            Ok(())
        };
        add("one process, two threads".to_owned(), &Launch::Alone(2), &[])?;
        add(format!("{HOSTS} ranks, memory"), &Launch::Ranks(HOSTS), &[])?;
        add(format!("{HOSTS} hosts, every step"), &Launch::Hosts(&hosts), &[])?;
        for every in ROUNDS {
            let sets = [format!("train.exchange={{every={every}}}")];
            add(format!("{HOSTS} hosts, rounds of {every}"), &Launch::Hosts(&hosts), &sets)?;
        }
        let passed = hosts.end()?;
        Ok(json!({
            "hosts": HOSTS, "delay_ms": DELAY_MS, "gbit_per_second": GBIT, "preset": "demo",
            "steps": STEPS, "rows": rows, "bytes_passed_on": passed,
        }))
    }
}

/// The launcher, with further options.
fn mpirun(ranks: usize, more: &[&str]) -> Vec<String> {
    let ranks = ranks.to_string();
    let common = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"];
    let variables = ["-x", "RAYON_NUM_THREADS", "-x", "MATFORMER_CACHE", "-n", &ranks];
    [&common[..], more, &variables].concat().into_iter().map(str::to_owned).collect()
}

/// Removes what was measured of a model.
fn forget(model: &Path) -> Result<()> {
    for folder in ["measured", "search"].map(|name| model.join(name)) {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
    }
    Ok(())
}

fn medians(pairs: &[[f64; 2]]) -> [f64; 2] {
    [0, 1].map(|side| median(pairs.iter().map(|pair| pair[side])))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
