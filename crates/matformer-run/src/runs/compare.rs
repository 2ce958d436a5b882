//! In what runs differ.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Recorded;

/// In what runs differ, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// The settings that are not the same in all of them; `None` where one does not have the key.
    pub differences: BTreeMap<String, Vec<Option<String>>>,
    /// Whether their held-out losses and accuracies are of the same data.
    pub comparable: bool,
    /// Why not, or what else to know.
    pub notes: Vec<String>,
}

/// Compares what is recorded of runs; `names` are what notes call them.
pub fn compare(runs: &[Recorded], names: &[String]) -> Comparison {
    let keys: BTreeSet<&String> = runs.iter().flat_map(|run| run.settings.keys()).collect();
    let values = |key: &String| -> Vec<Option<String>> {
        runs.iter().map(|run| run.settings.get(key).cloned()).collect()
    };
    let differences = keys
        .into_iter()
        .map(|key| (key.clone(), values(key)))
        .filter(|(_, values)| !same(values))
        .collect();
    let mut notes = Vec::new();
    let comparable = comparability(runs, names, &mut notes);
    Comparison { differences, comparable, notes }
}

fn comparability(runs: &[Recorded], names: &[String], notes: &mut Vec<String>) -> bool {
    let by = |of: &dyn Fn(&Recorded) -> Option<String>| -> Option<String> {
        let values: Vec<Option<String>> = runs.iter().map(of).collect();
        let known: Vec<&String> = values.iter().flatten().collect();
        let differ = known.windows(2).any(|pair| pair[0] != pair[1]);
        let said = names
            .iter()
            .zip(&values)
            .map(|(name, value)| format!("{name} {}", value.as_deref().unwrap_or("unknown")));
        differ.then(|| said.collect::<Vec<_>>().join(", "))
    };
    if let Some(said) = by(&|run| Some(run.kind.to_owned())) {
        notes.push(format!("different kinds of models, whose numbers cannot be compared: {said}"));
        return false;
    }
    let short = |hash: &String| hash.get(..16).unwrap_or(hash).to_owned();
    if let Some(said) = by(&|run| run.data.as_ref().map(short)) {
        notes.push(format!("different data, so losses and accuracies cannot be compared: {said}"));
        return false;
    }
    if let Some(said) = by(&|run| run.window.map(|window| window.to_string())) {
        notes.push(format!(
            "held-out text was read in windows of different lengths, so losses cannot be compared: {said}"
        ));
        return false;
    }
    if runs.iter().any(|run| run.data.is_none()) {
        notes.push("the data of some is not recorded, so losses may not be comparable".to_owned());
        return false;
    }
    let read = |run: &Recorded| {
        let keys = ["train.eval_tokens", "train.eval_images"];
        keys.iter().find_map(|key| run.settings.get(*key).cloned())
    };
    if let Some(said) = by(&read) {
        notes.push(format!(
            "held-out losses while training are of different amounts of the data: {said}"
        ));
    }
    true
}

fn same<T: PartialEq>(values: &[T]) -> bool {
    values.windows(2).all(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runs::Role;

    fn run(data: Option<&str>, settings: &[(&str, &str)]) -> Recorded {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Recorded {
            kind: "text",
            role: Role::Run,
            steps: 1,
            total_steps: Some(1),
            finished: true,
            tokens: 1,
            data: data.map(str::to_owned),
            window: Some(32),
            settings: settings.iter().map(own).collect(),
            ..Recorded::default()
        }
    }

    fn compared(runs: &[Recorded]) -> Comparison {
        compare(runs, &["a".to_owned(), "b".to_owned()])
    }

    #[test]
    fn only_what_differs_is_there() {
        let a = run(Some("x"), &[("train.steps", "1"), ("train.seed", "0")]);
        let b = run(Some("x"), &[("train.steps", "1"), ("train.seed", "1"), ("train.ema", "0.9")]);
        let found = compared(&[a, b]);
        let keys: Vec<&String> = found.differences.keys().collect();
        assert_eq!(keys, ["train.ema", "train.seed"]);
        assert_eq!(found.differences["train.ema"], [None, Some("0.9".to_owned())]);
        assert!(found.comparable && found.notes.is_empty(), "{found:?}");
    }

    #[test]
    fn other_data_is_said() {
        let said = |a: Recorded, b: Recorded| {
            let found = compared(&[a, b]);
            assert!(!found.comparable);
            found.notes.join("\n")
        };
        assert_eq!(
            said(run(Some("x"), &[]), run(Some("y"), &[])),
            "different data, so losses and accuracies cannot be compared: a x, b y"
        );
        let longer = Recorded { window: Some(64), ..run(Some("x"), &[]) };
        assert!(said(run(Some("x"), &[]), longer).contains("windows of different lengths"));
        assert!(said(run(Some("x"), &[]), run(None, &[])).contains("is not recorded"));
        let images = Recorded { kind: "images", ..run(Some("x"), &[]) };
        assert!(said(run(Some("x"), &[]), images).contains("different kinds"));
        let less = |n| run(Some("x"), &[("train.eval_tokens", n)]);
        let found = compared(&[less("1"), less("2")]);
        assert!(found.comparable && found.notes.len() == 1, "{found:?}");
    }
}
