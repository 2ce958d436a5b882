//! The tables of the language study.

use serde_json::Value;

use super::{
    matlm::SIZES,
    page::{head, list, some_table, text},
    stamp,
};

pub fn tables(document: &Value) -> String {
    let runs = list(&document["runs"]);
    let parts = [
        ("Elastic and alone", alone(runs)),
        ("The seeds of the smallest model", seeds(runs)),
        ("Consistency with XL", consistency(runs)),
        ("Sizes in between", between(runs)),
        ("Draws at equal compute", draws(document)),
        ("Scaling", scaling(&document["scaling"])),
        ("Cost", costs(runs)),
    ];
    let parts = parts.into_iter().filter(|(_, table)| !table.is_empty());
    let parts = parts.map(|(title, table)| format!("### {title}\n\n{table}\n"));
    let named = |key: &'static str| {
        let name = |run: &Value| {
            format!("{} {} {}", text(&run["corpus"]), text(&run["size"]), text(&run["draw"]))
        };
        let all = runs.iter().chain(list(&document["draws"]));
        all.map(move |run| (name(run), &run[key]))
    };
    let stamps = [
        stamp::line("Trained", named("trained_stamp")),
        stamp::line("Measured", named("measured_stamp")),
    ];
    parts.collect::<String>() + &stamps.join("\n")
}

/// A number and its error.
type Number = (f64, Option<f64>);

fn number(of: &Value) -> Option<Number> {
    Some((of["value"].as_f64()?, of["stderr"].as_f64()))
}

fn nats(of: Option<Number>) -> String {
    match of {
        Some((value, Some(stderr))) => format!("{value:.3} ± {stderr:.3}"),
        Some((value, None)) => format!("{value:.3}"),
        None => String::new(),
    }
}

fn signed(of: Option<Number>) -> String {
    match of {
        Some((value, Some(stderr))) => format!("{value:+.3} ± {stderr:.3}"),
        Some((value, None)) => format!("{value:+.3}"),
        None => String::new(),
    }
}

fn percent(of: Option<Number>) -> String {
    match of {
        Some((value, Some(stderr))) => format!("{:.1} ± {:.1}", 100.0 * value, 100.0 * stderr),
        Some((value, None)) => format!("{:.1}", 100.0 * value),
        None => String::new(),
    }
}

/// Of several seeds, the mean, with an error that counts both what seeds and what documents do: the variance of the
/// mean over seeds, and the documents', which are the same for all seeds.
fn over_seeds(of: &[Number]) -> Option<Number> {
    let n = of.len() as f64;
    let mean = of.iter().map(|(value, _)| value).sum::<f64>() / n;
    let documents =
        of.iter().map(|(_, stderr)| stderr.map(|s| s * s)).sum::<Option<f64>>().map(|sum| sum / n);
    if of.len() < 2 {
        return of.first().copied();
    }
    let spread = of.iter().map(|(value, _)| (value - mean).powi(2)).sum::<f64>() / (n - 1.0) / n;
    Some((mean, Some((spread + documents.unwrap_or(0.0)).sqrt())))
}

/// A model of the study, with its runs, one a seed.
fn models(runs: &[Value]) -> Vec<(String, Vec<&Value>)> {
    let mut all: Vec<(String, Vec<&Value>)> = Vec::new();
    for run in runs {
        let name = format!("{}, {}", text(&run["corpus"]), text(&run["size"]));
        match all.iter_mut().find(|(other, _)| *other == name) {
            Some((_, runs)) => runs.push(run),
            None => all.push((name, vec![run])),
        }
    }
    all
}

/// The loss of a size of a run.
fn loss(run: &Value, size: &str) -> Option<Number> {
    let result = list(&run["results"]).iter().find(|result| result["submodel"] == size)?;
    Some((result["loss"].as_f64()?, result["stderr"].as_f64()))
}

/// A size of a run that was trained alone.
fn baseline<'a>(run: &'a Value, size: &str, budget: &str) -> Option<&'a Value> {
    let fits = |one: &&Value| one["budget"] == budget && one["result"]["submodel"] == size;
    list(&run["alone"]).iter().find(fits)
}

fn all_seeds(runs: &[&Value], of: impl Fn(&Value) -> Option<Number>) -> Option<Number> {
    let all: Option<Vec<Number>> = runs.iter().map(|run| of(run)).collect();
    over_seeds(&all?)
}

fn alone(runs: &[Value]) -> String {
    let mut rows = Vec::new();
    for (name, runs) in models(runs) {
        for size in SIZES {
            let alone_loss = |budget: &'static str| {
                move |run: &Value| {
                    let result = &baseline(run, size, budget)?["result"];
                    Some((result["loss"].as_f64()?, result["stderr"].as_f64()))
                }
            };
            let above = |run: &Value| number(&baseline(run, size, "per-width")?["elastic_above"]);
            let above_total = |run: &Value| number(&baseline(run, size, "total")?["elastic_above"]);
            rows.push(vec![
                name.clone(),
                size.to_owned(),
                nats(all_seeds(&runs, |run| loss(run, size))),
                nats(all_seeds(&runs, alone_loss("per-width"))),
                signed(all_seeds(&runs, above)),
                signed(all_seeds(&runs[..1], above_total)),
            ]);
        }
    }
    let columns = [
        "model",
        "size",
        "elastic",
        "alone, per-width",
        "elastic − alone",
        "elastic − alone, total",
    ];
    some_table(&head(&columns), rows)
}

fn seeds(runs: &[Value]) -> String {
    let models = models(runs);
    let Some((_, runs)) = models.iter().find(|(_, runs)| runs.len() > 1) else {
        return String::new();
    };
    let row = |run: &&Value| {
        let mut row = vec![text(&run["seed"])];
        for size in SIZES {
            row.push(nats(loss(run, size).map(|(value, _)| (value, None))));
            let above =
                baseline(run, size, "per-width").and_then(|one| number(&one["elastic_above"]));
            row.push(signed(above));
        }
        row
    };
    let columns = SIZES
        .iter()
        .flat_map(|size| [format!("{size}, elastic"), format!("{size}, elastic − alone")]);
    let columns: Vec<String> = std::iter::once("seed".to_owned()).chain(columns).collect();
    some_table(&columns, runs.iter().map(row).collect())
}

/// What was found of a size, elastic or alone.
fn likeness<'a>(run: &'a Value, size: &str, alone: bool) -> Option<&'a Value> {
    let fits = |one: &&Value| {
        one["submodel"] == size
            && if alone { one["alone"] == "per-width" } else { one["alone"].is_null() }
    };
    list(&run["consistency"]["results"]).iter().find(fits)
}

fn consistency(runs: &[Value]) -> String {
    let mut rows = Vec::new();
    for (name, runs) in models(runs) {
        for size in &SIZES[..3] {
            for (of, alone) in [("elastic", false), ("alone", true)] {
                let at = |path: &'static [&'static str]| {
                    all_seeds(&runs, |run| {
                        let found = likeness(run, size, alone)?;
                        number(path.iter().fold(found, |value, key| &value[*key]))
                    })
                };
                rows.push(vec![
                    name.clone(),
                    format!("{size}, {of}"),
                    percent(at(&["held_out", "equal"])),
                    nats(at(&["held_out", "kl"])),
                    nats(at(&["held_out", "reverse_kl"])),
                    percent(at(&["written", "equal"])),
                    percent(at(&["own"])),
                ]);
            }
        }
    }
    let columns = [
        "model",
        "size",
        "equal %",
        "KL(XL ‖ ·)",
        "KL(· ‖ XL)",
        "equal % along XL's text",
        "along its own",
    ];
    some_table(&head(&columns), rows)
}

fn between(runs: &[Value]) -> String {
    let row = |run: &Value| {
        let outside: Vec<String> = list(&run["outside"]).iter().map(text).collect();
        vec![
            text(&run["corpus"]),
            text(&run["size"]),
            text(&run["seed"]),
            text(&run["in_between"]),
            if outside.is_empty() { "none".to_owned() } else { outside.join(", ") },
        ]
    };
    let columns = [
        "corpus",
        "model",
        "seed",
        "sizes in between",
        "outside of their neighbours by more than two errors",
    ];
    some_table(&head(&columns), runs.iter().map(row).collect())
}

fn draws(document: &Value) -> String {
    let draws = list(&document["draws"]);
    let Some(first) = draws.first() else { return String::new() };
    let fits = |run: &&Value| ["corpus", "size", "seed"].iter().all(|key| run[*key] == first[*key]);
    let sampled = list(&document["runs"]).iter().find(fits);
    let mut rows = Vec::new();
    for run in sampled.into_iter().chain(draws) {
        let name = text(&run["draw"]);
        let mut row = vec![name.clone(), text(&run["steps"])];
        row.extend(SIZES.map(|size| nats(loss(run, size).map(|(value, _)| (value, None)))));
        let there = &document["at_equal_tokens"][&name]["held_out"];
        let nats =
            |size: &str| there[size].as_f64().map_or(String::new(), |nats| format!("{nats:.3}"));
        row.push(nats("S"));
        row.push(nats("XL"));
        rows.push(row);
    }
    let columns = [
        "draw",
        "steps",
        "S",
        "M",
        "L",
        "XL",
        "S of `sampled` at these tokens",
        "XL of `sampled` at these tokens",
    ];
    some_table(&head(&columns), rows)
}

fn scaling(found: &Value) -> String {
    let mut rows = Vec::new();
    for (corpus, found) in found.as_object().into_iter().flatten() {
        for of in ["elastic", "alone"] {
            let fit = &found[of]["fit"];
            let digits = |key: &str, digits: usize| {
                let value = fit[key].as_f64().or_else(|| fit["law"][key].as_f64());
                value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
            };
            rows.push(vec![
                corpus.clone(),
                of.to_owned(),
                list(&found[of]["points"]).len().to_string(),
                digits("a", 1),
                digits("b", 3),
                digits("c", 2),
            ]);
        }
    }
    some_table(&head(&["corpus", "", "points", "a", "b", "c"]), rows)
}

/// What an elastic run costs, and its four baselines together, beside the largest of them.
fn costs(runs: &[Value]) -> String {
    let row = |run: &Value| {
        let costs = list(&run["costs"]["per-width"]);
        let flops = |what: &str| costs.iter().find(|cost| cost["what"] == what)?["flops"].as_f64();
        let (elastic, xl) = (flops("elastic"), flops("XL alone"));
        let ratio = |of: Option<f64>| match (of, xl) {
            (Some(of), Some(xl)) => format!("{:.2}", of / xl),
            _ => String::new(),
        };
        vec![
            text(&run["corpus"]),
            text(&run["size"]),
            text(&run["seed"]),
            elastic.map_or(String::new(), |flops| format!("{:.1}", flops / 1e12)),
            ratio(elastic),
            ratio(flops("all alone")),
        ]
    };
    let columns = [
        "corpus",
        "model",
        "seed",
        "elastic, TFLOP",
        "elastic / XL alone",
        "four alone / XL alone",
    ];
    some_table(&head(&columns), runs.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_know_about_seeds_and_documents() {
        let of = |values: &[f64], stderr: f64| {
            over_seeds(&values.iter().map(|value| (*value, Some(stderr))).collect::<Vec<_>>())
                .unwrap()
        };
        assert_eq!(of(&[3.0], 0.2), (3.0, Some(0.2)));
        let (mean, error) = of(&[2.9, 3.0, 3.1], 0.0);
        assert!((mean - 3.0).abs() < 1e-9 && (error.unwrap() - 0.1 / 3f64.sqrt()).abs() < 1e-9);
        let (_, error) = of(&[3.0, 3.0], 0.2);
        assert!((error.unwrap() - 0.2).abs() < 1e-9, "more seeds are no more documents");
    }

    #[test]
    fn a_run_is_beside_its_baselines_in_every_table() {
        let estimate = |value: f64| json!({ "value": value, "stderr": 0.01 });
        let result =
            |size: &str, loss: f64| json!({ "submodel": size, "loss": loss, "stderr": 0.05 });
        let likeness = |size: &str, alone: Option<&str>, equal: f64| {
            let mut of = json!({ "submodel": size, "own": estimate(0.3), "written": { "equal": estimate(0.9) } });
            of["held_out"] = json!({ "equal": estimate(equal), "kl": estimate(0.02), "reverse_kl": estimate(0.03) });
            if let Some(alone) = alone {
                of["alone"] = alone.into();
            }
            of
        };
        let run = |draw: &str, steps: u64| {
            json!({
                "corpus": "prose", "size": "d64", "draw": draw, "seed": 0, "steps": steps,
                "results": [result("S", 4.5), result("XL", 4.25)], "in_between": 12, "outside": [],
                "alone": [{ "budget": "per-width", "result": result("S", 4.75), "elastic_above": estimate(-0.25) }],
                "consistency": { "results": [likeness("S", None, 0.84), likeness("S", Some("per-width"), 0.5)] },
                "costs": { "per-width": [
                    { "what": "elastic", "flops": 5e12 }, { "what": "XL alone", "flops": 2e12 },
                    { "what": "all alone", "flops": 5e12 },
                ] },
            })
        };
        let document = json!({
            "runs": [run("sampled", 100)], "draws": [run("joint", 25)],
            "at_equal_tokens": { "joint": { "held_out": { "S": 5.5, "XL": 5.25 } } },
            "scaling": { "prose": { "elastic": { "points": [1, 2], "fit": null } } },
        });
        let page = tables(&document);
        for row in [
            "| prose, d64 | S | 4.500 ± 0.050 | 4.750 ± 0.050 | -0.250 ± 0.010 |  |",
            "| prose, d64 | S, elastic | 84.0 ± 1.0 | 0.020 ± 0.010 | 0.030 ± 0.010 | 90.0 ± 1.0 | 30.0 ± 1.0 |",
            "| prose, d64 | S, alone | 50.0 ± 1.0 |",
            "| prose | d64 | 0 | 12 | none |",
            "| sampled | 100 | 4.500 |  |  | 4.250 |  |  |",
            "| joint | 25 | 4.500 |  |  | 4.250 | 5.500 | 5.250 |",
            "| prose | elastic | 2 | – | – | – |",
            "| prose | d64 | 0 | 5.0 | 2.50 | 2.50 |",
        ] {
            assert!(page.contains(row), "{row}\n{page}");
        }
    }
}
