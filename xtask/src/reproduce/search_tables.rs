//! The tables of the page about submodel search.

use serde_json::{Value, json};

use super::{
    page::{list, table, text},
    search::{DRAWING, METHODS, MIDDLE, found},
    stamp,
};

/// Per case what every method found, how well it searched, and what it took; then the paper's Figure 6.
pub fn tables(document: &Value) -> String {
    let of_case = |case: &Value| {
        let budgets = list(&case["budgets"]).iter();
        let measured = stamp::line("Measured", budgets.map(|b| (budget(b), &b["stamp"])));
        let mut parts = vec![format!("### {}", text(&case["name"])), regrets(case), measured];
        if !case["seconds"].is_null() {
            let by = |key: &str, name: &'static str| {
                let stamps = list(&case[key]).iter();
                stamp::line("Measured", stamps.map(|e| (text(&e[name]), &e["stamp"])))
            };
            parts.extend([chosen(case), by("seeds", "seed"), spent(case), by("seconds", "method")]);
        }
        parts.join("\n\n").replace("\n\n\n", "\n\n")
    };
    let mut parts: Vec<String> = list(&document["cases"]).iter().map(of_case).collect();
    parts.extend(list(&document["draws"]).iter().map(figure_6));
    let trained = document["trained_stamps"].as_object().into_iter().flatten();
    parts.push(stamp::line("Trained", trained.map(|(name, stamp)| (name.clone(), stamp))));
    parts.iter().map(|part| format!("{}\n\n", part.trim_end())).collect::<String>()
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

/// How far what the methods that draw found is above the optimum on the half that chose, at the budget in the
/// middle, with every seed: how well they search, whatever the choice is worth on other data.
fn chosen(case: &Value) -> String {
    let printed = &list(&case["budgets"])[MIDDLE];
    let optimum = found(printed, "exhaustive")["a"].as_f64().unwrap_or(f64::NAN);
    let first = DRAWING.map(|method| found(printed, method));
    let all: Vec<&Value> = first.iter().chain(list(&case["seeds"])).collect();
    let mut seeds: Vec<u64> = all.iter().filter_map(|entry| entry["seed"].as_u64()).collect();
    seeds.dedup();
    let head = format!("above the optimum by the half that chose, {}, mnat", budget(printed));
    let columns = seeds.iter().map(|seed| format!("seed {seed}"));
    let head: Vec<String> = std::iter::once(head).chain(columns).collect();
    let cell = |method: &str, seed: u64| {
        let own = all.iter().find(|entry| entry["method"] == method && entry["seed"] == seed);
        let a = own.and_then(|entry| entry["a"].as_f64());
        a.map_or(String::new(), |a| format!("{:.2}", 1e3 * (a - optimum)))
    };
    let row = |method: &str| {
        let cells = seeds.iter().map(|seed| cell(method, *seed));
        std::iter::once(method.to_owned()).chain(cells).collect()
    };
    table(&head, DRAWING.map(row).to_vec())
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
    let mut head = vec!["from nothing, budget in the middle, one run each".to_owned()];
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

/// The two draws of one seed.
fn figure_6(draws: &Value) -> String {
    let columns = ["sampled, evolution", "per-layer, mix", "per-layer, evolution"];
    let head = ["above sampled, mix; mnat"].into_iter().chain(columns).map(str::to_owned);
    let rows = list(&draws["rows"]).iter().map(|row| {
        let budgets: Vec<String> = list(&row["budgets"]).iter().map(text).collect();
        let cells = columns.iter().map(|column| milli(&row[*column]));
        std::iter::once(budgets.join(" and ")).chain(cells).collect()
    });
    let table = table(&head.collect::<Vec<_>>(), rows.collect());
    let stamps = list(&draws["rows"]).iter().flat_map(|row| {
        let budgets: Vec<String> = list(&row["budgets"]).iter().map(text).collect();
        let name = move |draw: &str| format!("{draw} {}", budgets.join(" and "));
        ["sampled", "per-layer"].map(|draw| (name(draw), &row["stamps"][draw]))
    });
    let measured = stamp::line("Measured", stamps);
    format!("### Figure 6, both trained with seed {}\n\n{table}\n{measured}", draws["seed"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_in_thousandths_of_a_nat() {
        let of = |value: f64, stderr: f64| milli(&json!({ "value": value, "stderr": stderr }));
        assert_eq!(of(0.0012, 0.00041), "+1.2 ± 0.4");
        assert_eq!((of(0.0, 0.0), milli(&Value::Null)), ("0".to_owned(), String::new()));
    }
}
