//! Submodels for budgets: every method, on both kinds of model, and the paper's comparisons.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    Binary, matvit,
    page::{list, text},
};

/// A trained model, and what is searched of it.
struct Case {
    name: &'static str,
    config: &'static str,
    run: &'static str,
    /// What is trained otherwise than the run file says.
    sets: &'static [&'static str],
    budgets: [&'static str; 5],
    /// Held-out targets of the half that chooses, and of the half that judges.
    tokens: [&'static str; 2],
    /// Whether the methods are timed on it.
    timed: bool,
}

const CASES: [Case; 3] = [
    Case {
        name: "demo MatLM, draw sampled",
        config: "configs/lm/demo.toml",
        run: "runs/demo",
        sets: &[],
        budgets: ["35%", "45%", "55%", "70%", "85%"],
        tokens: ["50000", "150000"],
        timed: true,
    },
    Case {
        name: "demo MatLM, draw per-layer",
        config: "configs/lm/demo.toml",
        run: "runs/demo-per-layer",
        sets: &["--set", "train.draw=per-layer"],
        budgets: ["35%", "45%", "55%", "70%", "85%"],
        tokens: ["50000", "150000"],
        timed: false,
    },
    Case {
        name: "Fashion-MNIST MatViT, draw sampled",
        config: matvit::CONFIG,
        run: "runs/matvit-0",
        sets: &["--set", "train.seed=0"],
        budgets: ["46%", "53%", "60%", "75%", "90%"],
        tokens: ["1500", "5000"],
        timed: true,
    },
];

/// All that search, and the other shapes of the paper.
pub const METHODS: [&str; 12] = [
    "mix",
    "exact",
    "exact-surrogate",
    "predictor",
    "non-decreasing",
    "random",
    "evolution",
    "exhaustive",
    "decreasing",
    "up-down",
    "down-up",
    "extremes",
];

/// Of the methods, those that search.
const SEARCHING: usize = 8;

/// Of these, those that draw, and the seeds that they are tried with beside 0.
pub const DRAWING: [&str; 4] = ["exact-surrogate", "predictor", "random", "evolution"];
const SEEDS: [&str; 4] = ["1", "2", "3", "4"];

/// The budget at which times are taken and seeds are tried.
pub const MIDDLE: usize = 2;

/// Every case at every budget.
pub fn document(binary: &Binary) -> Result<Value> {
    for case in &CASES {
        binary.train(case.config, case.run, case.sets)?;
    }
    let searched = CASES.iter().map(|case| searched(binary, case)).collect::<Result<Vec<_>>>()?;
    let draws = draws(&searched);
    let mut cases = Vec::new();
    for (case, mut budgets) in CASES.iter().zip(searched) {
        for budget in &mut budgets {
            // Thousands of numbers: the differences are made of them.
            budget.as_object_mut().map(|fields| fields.remove("per_document"));
        }
        cases.push(json!({
            "name": case.name,
            "config": case.config,
            "sets": case.sets,
            "tokens": case.tokens,
            "budgets": budgets,
            "seeds": seeds(binary, case)?,
            "seconds": if case.timed { seconds(binary, case)? } else { Value::Null },
        }));
    }
    Ok(json!({ "cases": cases, "draws": draws }))
}

/// What all methods find within each budget.
fn searched(binary: &Binary, case: &Case) -> Result<Vec<Value>> {
    let methods = METHODS.join(",");
    let of = |budget: &&str| {
        let mut arguments = arguments(case, case.run, budget, &methods);
        arguments.push("--per-document");
        binary.kept(case.run, &format!("reproduced-{budget}.json"), &arguments)
    };
    case.budgets.iter().map(of).collect()
}

fn arguments<'a>(case: &Case, run: &'a str, budget: &'a str, methods: &'a str) -> Vec<&'a str> {
    let [tokens, judge_tokens] = case.tokens;
    let part = ["--tokens", tokens, "--judge-tokens", judge_tokens];
    [&["search", run, "--budget", budget, "--method", methods], &part[..]].concat()
}

/// What each method takes where nothing was measured before, at the budget in the middle.
fn seconds(binary: &Binary, case: &Case) -> Result<Value> {
    let mut found = Vec::new();
    for method in &METHODS[..SEARCHING] {
        let copy = copy(binary, case, method, &[])?;
        let arguments = arguments(case, &copy, case.budgets[MIDDLE], method);
        let printed = binary.kept(case.run, &format!("reproduced-{method}.json"), &arguments)?;
        let entry = &printed["found"][0];
        let tried = list(&entry["tried"]).len();
        found.push(json!({ "method": method, "tried": tried, "seconds": entry["seconds"] }));
        binary.shell.remove_path(&copy)?;
    }
    Ok(Value::from(found))
}

/// What methods that draw come to with other seeds, at the budget in the middle: losses on the half that
/// chooses.
fn seeds(binary: &Binary, case: &Case) -> Result<Value> {
    let mut found = Vec::new();
    for seed in SEEDS {
        let copy = copy(binary, case, &format!("seed-{seed}"), &["measurements.jsonl"])?;
        let methods = DRAWING.join(",");
        let mut arguments = arguments(case, &copy, case.budgets[MIDDLE], &methods);
        // Nobody reads what is judged here.
        arguments.extend(["--seed", seed, "--judge-tokens", "1000"]);
        let printed = binary.kept(case.run, &format!("reproduced-seed-{seed}.json"), &arguments)?;
        let all = list(&printed["found"]).iter();
        found.extend(all.map(|f| json!({ "method": f["method"], "seed": f["seed"], "a": f["a"] })));
        binary.shell.remove_path(&copy)?;
    }
    Ok(Value::from(found))
}

/// The case's model in a folder of its own, with nothing that was measured of it but `also`.
fn copy(binary: &Binary, case: &Case, name: &str, also: &[&str]) -> Result<String> {
    let shell = &binary.shell;
    let copy = format!("runs/.search/{}-{name}", case.run.replace('/', "-"));
    drop(shell.remove_path(&copy));
    shell.create_dir(&copy)?;
    for file in shell.read_dir(case.run)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let model = name.ends_with(".safetensors") || name.ends_with(".json") || name == "run.toml";
        let ours = model && name != "named.json" && !name.starts_with("reproduced-");
        if ours || also.contains(&name.as_str()) {
            shell.copy_file(&file, Path::new(&copy))?;
        }
    }
    Ok(copy)
}

/// The paper's Figure 6: what is best of a model that was trained on random widths per layer, and of one that
/// saw uniform widths only, each above Mix'n'Match's on the latter, paired by document.
fn draws(searched: &[Vec<Value>]) -> Value {
    let [sampled, per_layer, ..] = searched else {
        return Value::Null;
    };
    let pairs = sampled.iter().zip(per_layer).map(|(sampled, per_layer)| {
        let reference = documents(sampled, "mix");
        let above = |of: &Value, method: &str| difference(&documents(of, method), &reference);
        let of = |of: &Value, method: &str| json!({ "method": method, "above": above(of, method) });
        json!({
            "budgets": sampled["found"][0]["budgets"],
            "sampled": [of(sampled, "evolution")],
            "per_layer": [of(per_layer, "mix"), of(per_layer, "evolution")],
        })
    });
    pairs.collect()
}

/// Nats and targets of every document, of what a method found.
fn documents(printed: &Value, method: &str) -> Vec<[f64; 2]> {
    let winner = text(&found(printed, method)["winner"]);
    let documents = list(&printed["per_document"][winner]).iter();
    documents.map(|d| [0, 1].map(|at| d[at].as_f64().unwrap_or(f64::NAN))).collect()
}

/// Nats per target of `a` above those of `b` on the same documents, with its error: of a ratio of sums over
/// documents, as `eval` has them.
fn difference(a: &[[f64; 2]], b: &[[f64; 2]]) -> Value {
    let pairs = a.iter().zip(b).map(|(a, b)| [a[0] - b[0], a[1]]);
    let pairs: Vec<[f64; 2]> = pairs.collect();
    let sum = |at: usize| pairs.iter().map(|pair| pair[at]).sum::<f64>();
    let (value, n) = (sum(0) / sum(1), pairs.len() as f64);
    let squares: f64 = pairs.iter().map(|[nats, of]| (nats - value * of).powi(2)).sum();
    json!({ "value": value, "stderr": (n / (n - 1.0) * squares).sqrt() / sum(1) })
}

/// What a method found; null if it did not.
pub fn found(printed: &Value, method: &str) -> Value {
    let found = list(&printed["found"]).iter().find(|f| f["method"] == method);
    found.cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_paired() {
        // Documents of 1 and 3 targets, 0.5 and 1.5 nats above: half a nat each, exactly.
        let (a, b) = ([[2.5, 1.0], [4.5, 3.0]], [[2.0, 1.0], [3.0, 3.0]]);
        assert_eq!(difference(&a, &b), json!({ "value": 0.5, "stderr": 0.0 }));
        let found = difference(&[[2.0, 1.0], [3.0, 1.0]], &[[1.0, 1.0], [3.0, 1.0]]);
        assert_eq!(found, json!({ "value": 0.5, "stderr": 0.5 }));
    }
}
