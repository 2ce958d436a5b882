//! Submodels for budgets: every method, on both kinds of model, and the paper's comparisons.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{Binary, matvit, page::list};

/// A trained model, and what is searched of it.
struct Case {
    name: &'static str,
    config: &'static str,
    run: &'static str,
    /// What is trained otherwise than the run file says.
    sets: &'static [&'static str],
    budgets: [&'static str; 5],
    methods: &'static [&'static str],
    /// Held-out targets of the half that chooses, and of the half that judges.
    tokens: [&'static str; 2],
    /// Whether the methods are timed on it, and tried with other seeds.
    timed: bool,
}

const LM: Case = Case {
    name: "demo MatLM, draw sampled",
    config: "configs/lm/demo.toml",
    run: "runs/demo",
    sets: &[],
    budgets: ["35%", "45%", "55%", "70%", "85%"],
    methods: &METHODS,
    // More than there are: all of the half judge.
    tokens: ["50000", "1000000"],
    timed: true,
};

const CASES: [Case; 3] = [
    LM,
    Case {
        name: "demo MatLM, draw per-layer",
        run: "runs/demo-per-layer",
        sets: &["--set", "train.draw=per-layer"],
        timed: false,
        ..LM
    },
    Case {
        name: "Fashion-MNIST MatViT, draw sampled",
        config: matvit::CONFIG,
        run: "runs/matvit-0",
        sets: &["--set", "train.seed=0"],
        budgets: ["46%", "53%", "60%", "75%", "90%"],
        tokens: ["1500", "1000000"],
        ..LM
    },
];

/// The two draws of Figure 6 once more, trained with another seed.
const AGAIN: [Case; 2] = [
    Case {
        name: "demo MatLM, draw sampled, seed 1",
        run: "runs/demo-1",
        sets: &["--set", "train.seed=1"],
        methods: &["mix", "evolution"],
        timed: false,
        ..LM
    },
    Case {
        name: "demo MatLM, draw per-layer, seed 1",
        run: "runs/demo-per-layer-1",
        sets: &["--set", "train.seed=1", "--set", "train.draw=per-layer"],
        methods: &["mix", "evolution"],
        timed: false,
        ..LM
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

/// Where nobody reads what is judged.
const NOBODY: &str = "1000";

/// The budget at which times are taken and seeds are tried.
pub const MIDDLE: usize = 2;

/// Every case at every budget.
pub fn document(binary: &Binary) -> Result<Value> {
    let train = |case: &Case| Ok((case.name, binary.train(case.config, case.run, case.sets)?));
    let trained = CASES.iter().chain(&AGAIN).map(train).collect::<Result<Vec<_>>>()?;
    let trained: BTreeMap<&str, Value> = trained.into_iter().collect();
    let all = |cases: &[Case]| cases.iter().map(|c| printed(binary, c)).collect::<Result<Vec<_>>>();
    let first = all(&CASES)?;
    let mut draws = vec![compared(binary, (0, &CASES), &first)?];
    let mut cases = Vec::new();
    for (case, mut budgets) in CASES.iter().zip(first) {
        budgets.iter_mut().for_each(shorten);
        let mut found = json!({
            "name": case.name,
            "config": case.config,
            "sets": case.sets,
            "tokens": case.tokens,
            "budgets": budgets,
        });
        if case.timed {
            found["seeds"] = seeds(binary, case)?;
            found["seconds"] = seconds(binary, case)?;
        }
        cases.push(found);
    }
    draws.push(compared(binary, (1, &AGAIN), &all(&AGAIN)?)?);
    Ok(json!({ "trained_stamps": trained, "cases": cases, "draws": draws }))
}

/// Thousands of numbers that what is shown is made of.
fn shorten(printed: &mut Value) {
    if let Some(fields) = printed.as_object_mut() {
        fields.remove("per_document");
        fields.remove("clusters");
    }
    for found in printed["found"].as_array_mut().into_iter().flatten() {
        found["tried"] = list(&found["tried"]).len().into();
    }
}

/// What the case's methods find within each budget.
fn printed(binary: &Binary, case: &Case) -> Result<Vec<Value>> {
    let methods = case.methods.join(",");
    let of = |budget: &&str| {
        let mut arguments = arguments(case, case.run, budget, &methods, case.tokens[1]);
        arguments.push("--per-document");
        binary.kept(&[case.run], &format!("reproduced-{budget}.json"), &arguments, || Ok(()))
    };
    case.budgets.iter().map(of).collect()
}

fn arguments<'a>(
    case: &Case,
    run: &'a str,
    budget: &'a str,
    methods: &'a str,
    judge_tokens: &'a str,
) -> Vec<&'a str> {
    let part = ["--tokens", case.tokens[0], "--judge-tokens", judge_tokens];
    [&["search", run, "--budget", budget, "--method", methods], &part[..]].concat()
}

/// What each method takes where nothing was measured before, at the budget in the middle.
fn seconds(binary: &Binary, case: &Case) -> Result<Value> {
    let mut found = Vec::new();
    for method in &METHODS[..SEARCHING] {
        let copied = copied(case, method);
        let arguments = arguments(case, &copied, case.budgets[MIDDLE], method, NOBODY);
        let file = format!("reproduced-{method}.json");
        let before = || copy(binary, case, &copied, &[]);
        let printed = binary.kept(&[case.run], &file, &arguments, before)?;
        let entry = &printed["found"][0];
        let tried = list(&entry["tried"]).len();
        found.push(json!({
            "method": method,
            "tried": tried,
            "seconds": entry["seconds"],
            "stamp": printed["stamp"],
        }));
        binary.shell.remove_path(&copied)?;
    }
    Ok(Value::from(found))
}

/// What methods that draw come to with other seeds, at the budget in the middle: losses on the half that
/// chooses.
fn seeds(binary: &Binary, case: &Case) -> Result<Value> {
    let mut found = Vec::new();
    for seed in SEEDS {
        let (copied, methods) = (copied(case, &format!("seed-{seed}")), DRAWING.join(","));
        let mut arguments = arguments(case, &copied, case.budgets[MIDDLE], &methods, NOBODY);
        arguments.extend(["--seed", seed]);
        let file = format!("reproduced-seed-{seed}.json");
        let before = || copy(binary, case, &copied, &["measurements.jsonl"]);
        let printed = binary.kept(&[case.run], &file, &arguments, before)?;
        let all = list(&printed["found"]).iter();
        let stamp = &printed["stamp"];
        found.extend(all.map(
            |f| json!({ "method": f["method"], "seed": f["seed"], "a": f["a"], "stamp": stamp }),
        ));
        binary.shell.remove_path(&copied)?;
    }
    Ok(Value::from(found))
}

/// Where a copy of the case's model is.
fn copied(case: &Case, name: &str) -> String {
    format!("runs/.search/{}-{name}", case.run.replace('/', "-"))
}

/// The case's model in a folder of its own, with nothing that was measured of it but `also`.
fn copy(binary: &Binary, case: &Case, to: &str, also: &[&str]) -> Result<()> {
    let shell = &binary.shell;
    shell.remove_path(to)?;
    shell.create_dir(to)?;
    for file in shell.read_dir(case.run)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let model = name.ends_with(".safetensors") || name.ends_with(".json") || name == "run.toml";
        let ours = model && name != "named.json" && !name.starts_with("reproduced-");
        if ours || also.contains(&name.as_str()) {
            shell.copy_file(&file, Path::new(to))?;
        }
    }
    Ok(())
}

/// The paper's Figure 6: what is best of a model that was trained on random widths per layer, and of one that
/// saw uniform widths only, each above Mix'n'Match's on the latter, paired by document.
fn compared(
    binary: &Binary,
    (seed, cases): (usize, &[Case]),
    printed: &[Vec<Value>],
) -> Result<Value> {
    let [sampled, per_layer, ..] = cases else { bail!("two draws are compared") };
    let rows = sampled.budgets.iter().enumerate().map(|(at, budget)| {
        // What the command compares with, as it printed it.
        let reference = Path::new(sampled.run).join(format!("reproduced-reference-{budget}.json"));
        binary.shell.write_file(&reference, printed[0][at].to_string())?;
        let reference = reference.display().to_string();
        let above = |case: &Case| {
            let mut arguments = arguments(case, case.run, budget, "mix,evolution", case.tokens[1]);
            arguments.extend(["--paired-to", &reference]);
            let file = format!("reproduced-above-{budget}.json");
            binary.kept(&[case.run, sampled.run], &file, &arguments, || Ok(()))
        };
        let (ours, theirs) = (above(sampled)?, above(per_layer)?);
        Ok(json!({
            "budgets": printed[0][at]["found"][0]["budgets"],
            "sampled, evolution": ours["above"]["evolution"],
            "per-layer, mix": theirs["above"]["mix"],
            "per-layer, evolution": theirs["above"]["evolution"],
            "stamps": { "sampled": ours["stamp"], "per-layer": theirs["stamp"] },
        }))
    });
    Ok(json!({ "seed": seed, "rows": rows.collect::<Result<Vec<_>>>()? }))
}

/// What a method found; null if it did not.
pub fn found(printed: &Value, method: &str) -> Value {
    let found = list(&printed["found"]).iter().find(|f| f["method"] == method);
    found.cloned().unwrap_or_default()
}
