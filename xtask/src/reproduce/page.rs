//! A measured page: a document for machines, and tables between two marks of a text.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use xshell::Shell;

/// `PATH.json`, and the tables in `PATH.md`.
pub struct Page {
    pub path: &'static str,
    pub command: &'static str,
}

impl Page {
    /// That the text is there, with its marks: before hours of work.
    pub fn check(&self, shell: &Shell) -> Result<()> {
        let page = format!("{}.md", self.path);
        with_tables(&shell.read_file(&page)?, "").with_context(|| page).map(drop)
    }

    /// The document as it was last written.
    pub fn document(&self, shell: &Shell) -> Result<Value> {
        let json = format!("{}.json", self.path);
        serde_json::from_str(&shell.read_file(&json)?).with_context(|| json)
    }

    /// Writes both; the document says how it was made, and each of its parts where and when it was
    /// measured ([`stamp`](super::stamp)).
    pub fn write(&self, shell: &Shell, document: Value, tables: &str) -> Result<()> {
        let mut all = json!({ "command": self.command });
        if let (Some(all), Value::Object(fields)) = (all.as_object_mut(), document) {
            all.extend(fields);
        }
        let (json, page) = (format!("{}.json", self.path), format!("{}.md", self.path));
        shell.write_file(&json, format!("{}\n", serde_json::to_string_pretty(&all)?))?;
        let old = shell.read_file(&page)?;
        shell.write_file(&page, with_tables(&old, tables)?)?;
        println!("{json}, {page}");
        Ok(())
    }
}

/// The page with what stands between its two marks replaced.
fn with_tables(page: &str, tables: &str) -> Result<String> {
    const MARKS: [&str; 2] = ["<!-- tables -->", "<!-- end of tables -->"];
    let (before, rest) =
        page.split_once(MARKS[0]).context("the page has no mark for its tables")?;
    let (_, after) = rest.split_once(MARKS[1]).context("the page has no mark behind its tables")?;
    Ok(format!("{before}{}\n\n{tables}\n{}{after}", MARKS[0], MARKS[1]))
}

/// A Markdown table.
///
/// # Panics
/// If a row has not a cell for each column: Markdown would drop or shift some.
pub fn table(head: &[String], rows: Vec<Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = vec!["---".to_owned(); head.len()];
    for row in &rows {
        assert_eq!(row.len(), head.len(), "cells of {row:?} under {head:?}");
    }
    let rows: String = rows.iter().map(|row| line(row)).collect();
    format!("{}{}{rows}", line(head), line(&rule))
}

/// As [`table`]; nothing where it has no rows.
pub fn some_table(head: &[String], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() { String::new() } else { table(head, rows) }
}

/// Names of columns.
pub fn head(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Head of a table with columns for every seed.
pub fn per_seed(seeds: &[u64], first: &[&str], each: &[&str]) -> Vec<String> {
    let of_seed = |seed: &u64| {
        let seed = *seed;
        each.iter().map(move |name| format!("{name}, seed {seed}"))
    };
    let first = first.iter().map(|name| (*name).to_owned());
    first.chain(seeds.iter().flat_map(of_seed)).collect()
}

/// `88.12 ± 0.32` of a share and its standard error.
pub fn percent(estimate: &Value) -> String {
    match shares(estimate) {
        (Some(value), Some(stderr)) => format!("{value:.2} ± {stderr:.2}"),
        (Some(value), None) => format!("{value:.2}"),
        _ => String::new(),
    }
}

/// `-0.42 ± 0.17` of a difference of shares.
pub fn points(estimate: &Value) -> String {
    match shares(estimate) {
        (Some(value), Some(stderr)) => format!("{value:+.2} ± {stderr:.2}"),
        (Some(value), None) => format!("{value:+.2}"),
        _ => String::new(),
    }
}

fn shares(estimate: &Value) -> (Option<f64>, Option<f64>) {
    let number = |value: &Value| value.as_f64().map(|value| 100.0 * value);
    (number(&estimate["value"]), number(&estimate["stderr"]))
}

/// A string without its quotes, anything else as it is.
pub fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The entries of a list; none if it is no list.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_take_the_place_of_the_old_ones() {
        let page = "a\n<!-- tables -->\nold\n<!-- end of tables -->\nb\n";
        let new = with_tables(page, "| x |\n").unwrap();
        assert_eq!(new, "a\n<!-- tables -->\n\n| x |\n\n<!-- end of tables -->\nb\n");
        assert_eq!(with_tables(&new, "| x |\n").unwrap(), new);
        assert!(with_tables("a", "").is_err());
    }

    #[test]
    fn shares_are_written_as_percents() {
        assert_eq!(percent(&json!({ "value": 0.8812, "stderr": 0.00321 })), "88.12 ± 0.32");
        assert_eq!(points(&json!({ "value": -0.01, "stderr": 0.002 })), "-1.00 ± 0.20");
        assert_eq!(
            (percent(&Value::Null), points(&json!({ "value": 1.0 }))),
            ("".into(), "+100.00".into())
        );
    }
}
