//! The paper's language study at a scale of its own: elastic sizes beside models trained alone, draws, consistency,
//! scaling and cost.

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::{Binary, stamp};

/// How large the study is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scale {
    /// Three models of 0.3 to 6 million parameters, about three hours on two cores
    Cpu,
    /// The paper's two smallest models, for a GPU
    Small,
    /// A few steps of each part, to see that all work; the page stays as it is
    Trial,
}

/// A model of the study.
pub struct Size {
    pub name: &'static str,
    /// What sets its shape.
    shape: &'static [&'static str],
    steps: u64,
}

/// Text that models are trained on.
pub struct Corpus {
    pub name: &'static str,
    config: &'static str,
}

/// What is trained and measured.
pub struct Study {
    pub scale: &'static str,
    pub corpora: [Corpus; 2],
    /// From the smallest; the second corpus has the first two.
    pub sizes: &'static [Size],
    /// Of the smallest size on the first corpus; others have the first.
    pub seeds: &'static [u64],
    /// Beside `sampled`, of the smallest size.
    pub draws: &'static [&'static str],
    tokens_per_step: u64,
    /// Held-out tokens that all is measured on.
    held_out: &'static str,
}

const TINY: Size = Size {
    name: "d64",
    shape: &["lm.d_model=64", "lm.n_layers=4", "lm.n_heads=2", "lm.n_kv_heads=1", "lm.d_ff=256"],
    steps: 1500,
};
const CPU: [Size; 3] = [
    TINY,
    Size {
        name: "d128",
        shape: &[
            "lm.d_model=128",
            "lm.n_layers=5",
            "lm.n_heads=4",
            "lm.n_kv_heads=2",
            "lm.d_ff=512",
        ],
        steps: 1500,
    },
    Size {
        name: "d256",
        shape: &[
            "lm.d_model=256",
            "lm.n_layers=6",
            "lm.n_heads=8",
            "lm.n_kv_heads=4",
            "lm.d_ff=1024",
        ],
        steps: 1500,
    },
];
const SMALL: [Size; 2] = [
    Size { name: "78m", shape: &["preset=78m"], steps: 20_000 },
    Size { name: "180m", shape: &["preset=180m"], steps: 40_000 },
];
const TRIAL: [Size; 2] = [
    Size {
        name: "d32",
        shape: &[
            "lm.d_model=32",
            "lm.n_layers=2",
            "lm.n_heads=2",
            "lm.n_kv_heads=1",
            "lm.d_ff=256",
        ],
        steps: 8,
    },
    Size {
        name: "d48",
        shape: &[
            "lm.d_model=48",
            "lm.n_layers=2",
            "lm.n_heads=2",
            "lm.n_kv_heads=1",
            "lm.d_ff=256",
        ],
        steps: 8,
    },
];
const DRAWS: [&str; 5] = ["sampled-xl-heavy", "joint", "joint-separate", "per-layer", "sandwich"];

impl Scale {
    pub fn study(self) -> Study {
        let corpora = [
            Corpus { name: "prose", config: "configs/lm/prose.toml" },
            Corpus { name: "rust", config: "configs/lm/demo.toml" },
        ];
        let study = Study {
            scale: "cpu",
            corpora,
            sizes: &CPU,
            seeds: &[0, 1, 2],
            draws: &DRAWS,
            tokens_per_step: 2048,
            held_out: "60000",
        };
        match self {
            Self::Cpu => study,
            Self::Small => Study {
                scale: "small",
                sizes: &SMALL,
                tokens_per_step: 65_536,
                held_out: "200000",
                ..study
            },
            Self::Trial => Study {
                scale: "trial",
                sizes: &TRIAL,
                seeds: &[0, 1],
                draws: &DRAWS[1..2],
                held_out: "2000",
                ..study
            },
        }
    }
}

/// One elastic run of the study.
struct Run<'a> {
    corpus: &'a Corpus,
    size: &'a Size,
    draw: &'a str,
    seed: u64,
}

impl Run<'_> {
    fn folder(&self, study: &Study) -> String {
        let Self { corpus, size, draw, seed } = self;
        format!("runs/matlm/{}/{}-{}-{draw}-{seed}", study.scale, corpus.name, size.name)
    }

    /// Trains and measures it, with its baselines of these budgets.
    fn measured(
        &self,
        binary: &Binary,
        study: &Study,
        steps: u64,
        budgets: &[&str],
    ) -> Result<Value> {
        let folder = self.folder(study);
        eprintln!("{folder}");
        let arguments = self.arguments(study, steps);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let trained = binary.train(self.corpus.config, &folder, &arguments)?;
        let (mut costs, mut alone) = (Map::new(), Vec::new());
        for budget in budgets {
            let made = binary.json(&[
                "baselines",
                &folder,
                "--budget",
                budget,
                "--tokens",
                study.held_out,
            ])?;
            costs.insert((*budget).to_owned(), made["costs"].clone());
            alone.extend(SIZES.map(|size| format!("{folder}/baselines/{budget}/{size}")));
        }
        let runs: Vec<&str> = std::iter::once(&folder).chain(&alone).map(String::as_str).collect();
        let report = ["report", &folder, "--tokens", study.held_out];
        let before = || binary.forget_reports(&runs);
        let report = binary.kept(&runs, "reproduced-report.json", &report, before)?;
        let measured = &report["measured"];
        Ok(json!({
            "corpus": self.corpus.name, "size": self.size.name, "draw": self.draw, "seed": self.seed,
            "steps": steps, "tokens": steps * study.tokens_per_step,
            "data": measured["results"]["data"], "results": measured["results"]["results"],
            "in_between": measured["in_between"], "outside": measured["outside"],
            "alone": report["alone"], "consistency": report["consistency"], "costs": costs,
            "trained_stamp": trained, "measured_stamp": report["stamp"],
        }))
    }

    fn arguments(&self, study: &Study, steps: u64) -> Vec<String> {
        let every = (steps / 16).max(1);
        let mut sets: Vec<String> =
            self.size.shape.iter().map(|set| format!("model.{set}")).collect();
        sets.extend([
            format!("train.seed={}", self.seed),
            format!("train.draw={}", self.draw),
            format!("train.steps={steps}"),
            format!("train.warmup={}", (steps / 20).max(1)),
            format!("train.tokens_per_step={}", study.tokens_per_step),
            format!("train.eval_every={every}"),
            format!("train.checkpoint_every={}", 2 * every),
            "train.keep=1".to_owned(),
        ]);
        sets.into_iter().flat_map(|set| ["--set".to_owned(), set]).collect()
    }
}

/// The trained sizes.
pub const SIZES: [&str; 4] = ["S", "M", "L", "XL"];

/// Trains and measures all. `write` is called with the document after each part.
pub(super) fn document(
    binary: &Binary,
    study: &Study,
    write: &dyn Fn(&Value) -> Result<()>,
) -> Result<Value> {
    let mut document = json!({ "scale": study.scale, "runs": [], "draws": [], "scaling": {} });
    let [first, second] = &study.corpora;
    smallest(binary, study, &mut document, write)?;
    corpus(binary, study, (first, study.sizes), &mut document, write)?;
    corpus(binary, study, (second, &study.sizes[..2]), &mut document, write)?;
    Ok(document)
}

/// Trains and measures on the second corpus alone; the rest stays as the document has it.
pub(super) fn second_corpus(
    binary: &Binary,
    study: &Study,
    mut document: Value,
    write: &dyn Fn(&Value) -> Result<()>,
) -> Result<Value> {
    let [_, second] = &study.corpora;
    if let Some(runs) = document["runs"].as_array_mut() {
        runs.retain(|run| run["corpus"] != second.name);
    }
    corpus(binary, study, (second, &study.sizes[..2]), &mut document, write)?;
    Ok(document)
}

/// Adds a run to one of the document's lists.
fn add(
    document: &mut Value,
    key: &str,
    run: Value,
    write: &dyn Fn(&Value) -> Result<()>,
) -> Result<()> {
    document[key].as_array_mut().context("a list of runs")?.push(run);
    write(document)
}

/// The smallest model on the first corpus: its seeds, and draws beside `sampled`.
fn smallest(
    binary: &Binary,
    study: &Study,
    document: &mut Value,
    write: &dyn Fn(&Value) -> Result<()>,
) -> Result<()> {
    let first = &study.corpora[0];
    let smallest = &study.sizes[0];
    for &seed in study.seeds {
        let run = Run { corpus: first, size: smallest, draw: "sampled", seed };
        let budgets: &[&str] =
            if seed == study.seeds[0] { &["per-width", "total"] } else { &["per-width"] };
        add(document, "runs", run.measured(binary, study, smallest.steps, budgets)?, write)?;
    }
    let flops = flops(
        binary,
        &Run { corpus: first, size: smallest, draw: "sampled", seed: study.seeds[0] }.folder(study),
    )?;
    for draw in study.draws {
        let run = Run { corpus: first, size: smallest, draw, seed: study.seeds[0] };
        let steps = equal_steps(smallest.steps, draw, &flops);
        add(document, "draws", run.measured(binary, study, steps, &[])?, write)?;
    }
    document["at_equal_tokens"] = at_equal_tokens(binary, study, document)?;
    Ok(())
}

/// Models of some sizes on a corpus, and the law that their losses follow.
fn corpus(
    binary: &Binary,
    study: &Study,
    (corpus, sizes): (&Corpus, &[Size]),
    document: &mut Value,
    write: &dyn Fn(&Value) -> Result<()>,
) -> Result<()> {
    let run = |size| Run { corpus, size, draw: "sampled", seed: study.seeds[0] };
    for size in sizes {
        // The smallest is there already, with its seeds.
        if corpus.name != study.corpora[0].name || size.name != study.sizes[0].name {
            let measured = run(size).measured(binary, study, size.steps, &["per-width"])?;
            add(document, "runs", measured, write)?;
        }
    }
    let folders: Vec<String> = sizes.iter().map(|size| run(size).folder(study)).collect();
    let arguments: Vec<&str> =
        std::iter::once("scaling").chain(folders.iter().map(String::as_str)).collect();
    document["scaling"][corpus.name] = binary.json(&arguments)?;
    document["stamp"] = stamp::now(&binary.shell)?;
    write(document)
}

/// FLOPs of a token in training at each size, up to a factor.
fn flops(binary: &Binary, run: &str) -> Result<[f64; 4]> {
    let info = binary.json(&["info", run])?;
    let of = |i: usize| {
        info["granularities"][i]["flops_per_token"].as_f64().context("`info --json` has no FLOPs")
    };
    Ok([of(0)?, of(1)?, of(2)?, of(3)?])
}

/// Steps of a draw that cost what `steps` of `sampled` do.
fn equal_steps(steps: u64, draw: &str, flops: &[f64; 4]) -> u64 {
    let all: f64 = flops.iter().sum();
    let [small, medium, large, xl] = flops;
    let per_step = match draw {
        "joint" | "joint-separate" => all,
        "sandwich" => small + xl + (medium + large) / 2.0,
        "sampled-xl-heavy" => 0.17 * small + 0.20 * medium + 0.22 * large + 0.41 * xl,
        _ => all / 4.0,
    };
    ((steps as f64 * all / 4.0 / per_step).round() as u64).max(1)
}

/// What the `sampled` run had at the tokens at which each other draw ended: its schedule was not at its end there.
fn at_equal_tokens(binary: &Binary, study: &Study, document: &Value) -> Result<Value> {
    let [corpus, _] = &study.corpora;
    let run = Run { corpus, size: &study.sizes[0], draw: "sampled", seed: study.seeds[0] };
    let log = binary.shell.read_file(format!("{}/metrics.jsonl", run.folder(study)))?;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let held_out: Vec<Value> = lines.filter(|line| line["held_out"].is_object()).collect();
    let mut found = Map::new();
    for draw in super::page::list(&document["draws"]) {
        let steps = draw["steps"].as_u64().unwrap_or_default();
        let off = |line: &&Value| line["step"].as_u64().unwrap_or_default().abs_diff(steps);
        if let (Some(line), Some(name)) = (held_out.iter().min_by_key(off), draw["draw"].as_str()) {
            found.insert(name.to_owned(), line.clone());
        }
    }
    Ok(found.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_cost_what_sampled_does() {
        let flops = [1.0, 2.0, 3.0, 6.0];
        let steps = |draw| equal_steps(1200, draw, &flops);
        assert_eq!(
            ["sampled", "per-layer", "joint", "joint-separate"].map(steps),
            [1200, 1200, 300, 300]
        );
        // 3 in the mean, against 9.5 and 3.69.
        assert_eq!(["sandwich", "sampled-xl-heavy"].map(steps), [379, 976]);
    }

    #[test]
    fn runs_have_folders_of_their_own() {
        let study = Scale::Cpu.study();
        let run =
            |draw, seed| Run { corpus: &study.corpora[0], size: &TINY, draw, seed }.folder(&study);
        assert_eq!(run("joint", 1), "runs/matlm/cpu/prose-d64-joint-1");
        let arguments = Run { corpus: &study.corpora[0], size: &TINY, draw: "joint", seed: 1 }
            .arguments(&study, 1000);
        assert!(arguments.contains(&"model.lm.d_model=64".to_owned()), "{arguments:?}");
        assert!(arguments.contains(&"train.warmup=50".to_owned()), "{arguments:?}");
    }
}
