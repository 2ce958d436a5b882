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
    /// Held-out targets, half of which choose.
    tokens: &'static str,
}

const CASES: [Case; 3] = [
    Case {
        name: "demo MatLM, draw sampled",
        config: "configs/lm/demo.toml",
        run: "runs/demo",
        sets: &[],
        budgets: ["35%", "45%", "55%", "70%", "85%"],
        tokens: "100000",
    },
    Case {
        name: "demo MatLM, draw per-layer",
        config: "configs/lm/demo.toml",
        run: "runs/demo-per-layer",
        sets: &["--set", "train.draw=per-layer"],
        budgets: ["35%", "45%", "55%", "70%", "85%"],
        tokens: "100000",
    },
    Case {
        name: "Fashion-MNIST MatViT, draw sampled",
        config: matvit::CONFIG,
        run: "runs/matvit-0",
        sets: &["--set", "train.seed=0"],
        budgets: ["46%", "53%", "60%", "75%", "90%"],
        tokens: "4000",
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
    let mut cases = Vec::new();
    for case in &CASES {
        binary.train(case.config, case.run, case.sets)?;
        let mut budgets = Vec::new();
        for budget in case.budgets {
            let methods = METHODS.join(",");
            let arguments = arguments(case.run, budget, case.tokens, &methods);
            budgets.push(binary.json(&arguments)?);
        }
        cases.push(json!({
            "name": case.name,
            "config": case.config,
            "sets": case.sets,
            "tokens": case.tokens,
            "budgets": budgets,
            "seconds": seconds(binary, case)?,
        }));
    }
    Ok(json!({ "cases": cases }))
}

fn arguments<'a>(run: &'a str, budget: &'a str, tokens: &'a str, methods: &'a str) -> Vec<&'a str> {
    vec!["search", run, "--budget", budget, "--tokens", tokens, "--method", methods]
}

/// What each method takes where nothing was measured before: in a copy of the model without its
/// measurements, at the budget in the middle.
fn seconds(binary: &Binary, case: &Case) -> Result<Value> {
    let (shell, mut found) = (&binary.shell, Vec::new());
    for method in &METHODS[..SEARCHING] {
        let copy = format!("runs/.search/{}-{method}", case.run.replace('/', "-"));
        let arguments = arguments(&copy, case.budgets[TIMED], case.tokens, method);
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

pub fn tables(document: &Value) -> String {
    let cases = list(&document["cases"]);
    let per_case = cases
        .iter()
        .map(|case| format!("{}\n\n{}\n{}", text(&case["name"]), regrets(case), spent(case)));
    let all: String = per_case.map(|part| part + "\n").collect();
    format!("{all}{}", draws(cases))
}

/// What each method found above the best that any found, in thousandths of a nat; a column per budget.
fn regrets(case: &Value) -> String {
    let budgets = list(&case["budgets"]);
    let mut head = vec!["loss above the best found, mnat".to_owned()];
    head.extend(budgets.iter().map(|b| text(&b["name"]).replace("best@", "")));
    let entry = |budget: &Value, method: &str| -> Value {
        let found = list(&budget["found"]).iter().find(|f| f["method"] == method);
        found.cloned().unwrap_or_default()
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for method in METHODS {
        let cells = budgets.iter().map(|b| milli(&entry(b, method)));
        rows.push(std::iter::once(method.to_owned()).chain(cells).collect());
    }
    let best = budgets.iter().map(|b| text(&b["best"]));
    rows.push(std::iter::once("the best, by the half that chose".to_owned()).chain(best).collect());
    table(&head, rows)
}

fn milli(found: &Value) -> String {
    match (found["regret"].as_f64(), found["stderr"].as_f64()) {
        (Some(regret), Some(stderr)) => format!("{:+.1} ± {:.1}", 1e3 * regret, 1e3 * stderr),
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

/// The paper's Figure 6: evolution on a model that was trained on random widths per layer beside
/// Mix'n'Match and evolution on one that saw uniform widths only.
fn draws(cases: &[Value]) -> String {
    let [sampled, per_layer, ..] = cases else {
        return String::new();
    };
    let loss = |budget: &Value, method: &str| {
        let found = list(&budget["found"]).iter().find(|f| f["method"] == method);
        let b = found.map(|f| f["b"].clone()).unwrap_or_default();
        match (b["value"].as_f64(), b["stderr"].as_f64()) {
            (Some(loss), Some(stderr)) => format!("{loss:.4} ± {stderr:.4}"),
            _ => String::new(),
        }
    };
    let head =
        ["budget", "sampled, mix", "sampled, evolution", "per-layer, mix", "per-layer, evolution"];
    let pairs = list(&sampled["budgets"]).iter().zip(list(&per_layer["budgets"]));
    let rows = pairs.map(|(a, b)| {
        let name = text(&a["name"]).replace("best@", "");
        vec![name, loss(a, "mix"), loss(a, "evolution"), loss(b, "mix"), loss(b, "evolution")]
    });
    table(&head.map(str::to_owned), rows.collect())
}
