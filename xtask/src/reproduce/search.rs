//! Submodels for budgets: every method, on both kinds of model, and the paper's comparisons.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    Binary, matvit,
    page::{list, table, text},
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
const METHODS: [&str; 12] = [
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

/// Of the methods, those that search: the budget in the middle is timed.
const SEARCHING: usize = 8;
const TIMED: usize = 2;

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

/// What each method takes where nothing was measured before: in a copy of the model without its
/// measurements, at the budget in the middle.
fn seconds(binary: &Binary, case: &Case) -> Result<Value> {
    let (shell, mut found) = (&binary.shell, Vec::new());
    for method in &METHODS[..SEARCHING] {
        let copy = format!("runs/.search/{}-{method}", case.run.replace('/', "-"));
        let arguments = arguments(case, &copy, case.budgets[TIMED], method);
        drop(shell.remove_path(&copy));
        shell.create_dir(&copy)?;
        for file in shell.read_dir(case.run)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let model =
                name.ends_with(".safetensors") || name.ends_with(".json") || name == "run.toml";
            if model && name != "named.json" && !name.starts_with("reproduced-") {
                shell.copy_file(&file, Path::new(&copy))?;
            }
        }
        let printed = binary.kept(case.run, &format!("reproduced-{method}.json"), &arguments)?;
        let entry = &printed["found"][0];
        let tried = list(&entry["tried"]).len();
        found.push(json!({ "method": method, "tried": tried, "seconds": entry["seconds"] }));
        shell.remove_path(&copy)?;
    }
    Ok(Value::from(found))
}

/// The paper's Figure 6: what is best of a model that was trained on random widths per layer, and of one that
/// saw uniform widths only, each above Mix'n'Match's on the latter, paired by document.
fn draws(searched: &[Vec<Value>]) -> Value {
    let [sampled, per_layer, ..] = searched else {
        return Value::Null;
    };
    let pairs = sampled.iter().zip(per_layer).map(|(sampled, per_layer)| {
        let reference = documents(sampled, "mix");
        let above = |of: &Value, method| difference(&documents(of, method), &reference);
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

fn found(printed: &Value, method: &str) -> Value {
    let found = list(&printed["found"]).iter().find(|f| f["method"] == method);
    found.cloned().unwrap_or_default()
}

pub fn tables(document: &Value) -> String {
    let of_case = |case: &Value| {
        let spent = if case["seconds"].is_null() { String::new() } else { spent(case) };
        format!("### {}\n\n{}\n{spent}\n", text(&case["name"]), regrets(case))
    };
    let cases: String = list(&document["cases"]).iter().map(of_case).collect();
    format!("{cases}### Figure 6\n\n{}", figure_6(document))
}

/// The budget that a search was made for.
fn budget(printed: &Value) -> String {
    let budgets = list(&printed["found"][0]["budgets"]).iter().map(text);
    budgets.collect::<Vec<_>>().join(" and ")
}

/// What each method found above the best that any found, in thousandths of a nat; a column per budget.
fn regrets(case: &Value) -> String {
    let budgets = list(&case["budgets"]);
    let head = std::iter::once("above the best, mnat".to_owned());
    let head: Vec<String> = head.chain(budgets.iter().map(budget)).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for method in METHODS {
        let cells = budgets.iter().map(|printed| {
            let found = found(printed, method);
            milli(&json!({ "value": found["regret"], "stderr": found["stderr"] }))
        });
        rows.push(std::iter::once(method.to_owned()).chain(cells).collect());
    }
    let best = budgets.iter().map(|printed| text(&printed["best"]));
    rows.push(std::iter::once("the best, by the half that chose".to_owned()).chain(best).collect());
    table(&head, rows)
}

/// Thousandths of a nat: `+1.2 ± 0.4`.
fn milli(difference: &Value) -> String {
    match (difference["value"].as_f64(), difference["stderr"].as_f64()) {
        (Some(0.0), Some(0.0)) => "0".to_owned(),
        (Some(value), Some(stderr)) => format!("{:+.1} ± {:.1}", 1e3 * value, 1e3 * stderr),
        _ => String::new(),
    }
}

/// What the methods cost where nothing was known.
fn spent(case: &Value) -> String {
    let seconds = list(&case["seconds"]);
    let mut head = vec!["from nothing, budget in the middle".to_owned()];
    head.extend(seconds.iter().map(|entry| text(&entry["method"])));
    let row = |name: &str, cell: &dyn Fn(&Value) -> String| {
        std::iter::once(name.to_owned()).chain(seconds.iter().map(cell)).collect()
    };
    let rows = vec![
        row("submodels tried", &|entry| text(&entry["tried"])),
        row("seconds", &|entry| format!("{:.0}", entry["seconds"].as_f64().unwrap_or_default())),
    ];
    table(&head, rows)
}

fn figure_6(document: &Value) -> String {
    let columns = ["sampled, evolution", "per-layer, mix", "per-layer, evolution"];
    let head = ["above sampled, mix; mnat"].into_iter().chain(columns).map(str::to_owned);
    let rows = list(&document["draws"]).iter().map(|draw| {
        let all = list(&draw["sampled"]).iter().chain(list(&draw["per_layer"]));
        let budgets: Vec<String> = list(&draw["budgets"]).iter().map(text).collect();
        let cells = all.map(|entry| milli(&entry["above"]));
        std::iter::once(budgets.join(" and ")).chain(cells).collect()
    });
    table(&head.collect::<Vec<_>>(), rows.collect())
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
        assert_eq!(milli(&found), "+500.0 ± 500.0");
    }
}
