//! The tables of the page about submodel search.

use serde_json::{Value, json};

use super::{
    page::{list, table, text},
    search::{DRAWING, METHODS, MIDDLE, found},
};

/// Per case what every method found, how well it searched, and what it took; then the paper's Figure 6.
pub fn tables(document: &Value) -> String {
    let of_case = |case: &Value| {
        let spent = if case["seconds"].is_null() { String::new() } else { spent(case) };
        let (name, chosen) = (text(&case["name"]), chosen(case));
        format!("### {name}\n\n{}\n{chosen}\n{spent}\n", regrets(case))
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

/// How far what the methods that draw found is above the optimum on the half that chose, at the budget in the
/// middle, with every seed: how well they search, whatever the choice is worth on other data.
fn chosen(case: &Value) -> String {
    let printed = &list(&case["budgets"])[MIDDLE];
    let optimum = found(printed, "exhaustive")["a"].as_f64().unwrap_or(f64::NAN);
    let head = [format!("above the optimum by the half that chose, {}, mnat", budget(printed))];
    let first = DRAWING.map(|method| found(printed, method));
    let all: Vec<&Value> = first.iter().chain(list(&case["seeds"])).collect();
    let mut seeds: Vec<String> = all.iter().map(|entry| text(&entry["seed"])).collect();
    seeds.dedup();
    let head: Vec<String> =
        head.into_iter().chain(seeds.iter().map(|seed| format!("seed {seed}"))).collect();
    let row = |method: &str| {
        let own = all.iter().filter(|entry| entry["method"] == method);
        let above = own.map(|entry| 1e3 * (entry["a"].as_f64().unwrap_or(f64::NAN) - optimum));
        std::iter::once(method.to_owned()).chain(above.map(|above| format!("{above:.2}"))).collect()
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
    fn differences_are_in_thousandths_of_a_nat() {
        let of = |value: f64, stderr: f64| milli(&json!({ "value": value, "stderr": stderr }));
        assert_eq!(of(0.0012, 0.00041), "+1.2 ± 0.4");
        assert_eq!((of(0.0, 0.0), milli(&Value::Null)), ("0".to_owned(), String::new()));
    }
}
