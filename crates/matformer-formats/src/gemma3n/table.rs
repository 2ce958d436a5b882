//! Tables of published slices: `google/gemma3n-slicing-configs`, and that of mistral.rs.

use std::path::Path;

use matformer_core::fs;
use matformer_nn::{Error, Result};

use super::{Gemma3nPlan, Gemma3nWidths, Run};

const NAME: &str = "name";
const WIDTHS: &str = "FFN Hidden Dims";
const SKIPPED: &str = "Layers Skipped";

impl Gemma3nPlan {
    /// The row called `name` of a table in CSV: its columns `FFN Hidden Dims`, a list such as
    /// `[2_048 * 4, 16384]` with a width for each layer that is kept, and `Layers Skipped`, a list of
    /// numbers that may be empty. Other columns are not read.
    ///
    /// # Errors
    /// When the file cannot be read or is not such a table, or has no row of that name, or several.
    pub fn from_table(path: &Path, name: &str) -> Result<Self> {
        let wrong = |found: String, expected: String| Error::File {
            path: path.to_owned(),
            found,
            expected,
        };
        let text = fs::read_to_string(path)?;
        let rows = rows(text.trim_start_matches('\u{feff}'))
            .map_err(|found| wrong(found, "comma-separated values".to_owned()))?;
        let (head, rows) = rows
            .split_first()
            .ok_or_else(|| wrong("an empty file".to_owned(), "a table with a head".to_owned()))?;
        let column = |name: &str| {
            head.iter().position(|cell| cell.trim() == name).ok_or_else(|| {
                wrong(format!("the columns {}", quoted(head)), format!("a column `{name}`"))
            })
        };
        let (names, widths, skipped) = (column(NAME)?, column(WIDTHS)?, column(SKIPPED)?);
        let cell = |row: &[String], column: usize| {
            row.get(column).map(|cell| cell.trim().to_owned()).unwrap_or_default()
        };
        let found: Vec<_> = rows.iter().filter(|row| cell(row, names) == name.trim()).collect();
        let [row] = found[..] else {
            let known: Vec<_> = rows.iter().map(|row| cell(row, names)).collect();
            let found = format!("{} rows are named `{name}`", found.len());
            return Err(wrong(found, format!("one of {}", quoted(&known))));
        };
        let list = |column: usize, title: &str| {
            let cell = cell(row, column);
            numbers(&cell).ok_or_else(|| {
                let expected = "a list of whole numbers, such as `[2_048 * 4, 16384]`".to_owned();
                wrong(format!("row `{name}`, `{title}`: `{cell}`"), expected)
            })
        };
        let run = |width| Run { width, layers: 1 };
        let widths = list(widths, WIDTHS)?.into_iter().map(run).collect();
        Ok(Self { widths: Gemma3nWidths::Runs(widths), skipped: list(skipped, SKIPPED)? })
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Numbers between brackets; none for an empty cell. A number may be a product: `2_048 * 4`.
fn numbers(cell: &str) -> Option<Vec<usize>> {
    if cell.is_empty() {
        return Some(Vec::new());
    }
    let inner = cell.strip_prefix('[')?.strip_suffix(']')?.trim();
    if inner.is_empty() {
        return Some(Vec::new());
    }
    // Python allows a comma behind the last one.
    inner.strip_suffix(',').unwrap_or(inner).split(',').map(product).collect()
}

fn product(text: &str) -> Option<usize> {
    text.split('*').try_fold(1usize, |product, factor| product.checked_mul(number(factor.trim())?))
}

/// Digits, which `_` may group.
fn number(text: &str) -> Option<usize> {
    let fits = text.starts_with(|c: char| c.is_ascii_digit())
        && text.ends_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    fits.then(|| text.replace('_', "").parse().ok()).flatten()
}

/// The rows of a table in CSV; blank lines are none. Cells in quotes may hold commas, line ends and, doubled,
/// quotes.
fn rows(text: &str) -> Result<Vec<Vec<String>>, String> {
    let mut rows = Vec::new();
    let (mut row, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => cell.push('"'),
            '"' => quoted = !quoted,
            c if quoted => cell.push(c),
            ',' => row.push(std::mem::take(&mut cell)),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            c => cell.push(c),
        }
    }
    if quoted {
        return Err("a quote that is not closed".to_owned());
    }
    row.push(cell);
    rows.push(row);
    rows.retain(|row| row.iter().any(|cell| !cell.is_empty()));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "name,# Layers,# Effective Params (B),MMLU PT accuracy,FFN Hidden Dims,Layers Skipped\r\n\
        Main model,3,3.98,62.30%,\"[2_048 * 8, 16384, 16_384]\",\n\
        Config for E1 (layer-level),2,1.91,50.90%,\"[2_048 * 4, 2_048 * 8]\",\"[1]\"\n\
        twice,,,,[8],[]\n\ntwice,,,,\"[8,\n 9,]\",\n\
        odd,,,,\"[2_048 * x]\",\n";

    fn plan(text: &str, name: &str) -> Result<Gemma3nPlan, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Gemma3nPlan::from_table(file.path(), name).map_err(|error| {
            error.to_string().replace(&file.path().display().to_string(), "table.csv")
        })
    }

    #[test]
    fn a_row_is_a_plan() {
        let found = plan(TABLE, "Config for E1 (layer-level)").unwrap();
        assert_eq!((found.widths.to_string(), found.skipped), ("8192x1+16384x1".into(), vec![1]));
        let found = plan(TABLE, "Main model").unwrap();
        assert_eq!(found.widths.to_string(), "16384x1+16384x1+16384x1");
        assert!(found.skipped.is_empty());
    }

    #[test]
    fn a_table_that_does_not_serve_is_told() {
        let error = |text: &str, name: &str| plan(text, name).unwrap_err();
        assert_eq!(
            error(TABLE, "E1"),
            "table.csv: 0 rows are named `E1`; expected one of `Main model`, \
             `Config for E1 (layer-level)`, `twice`, `twice`, `odd`"
        );
        assert!(error(TABLE, "twice").starts_with("table.csv: 2 rows are named `twice`; "));
        assert_eq!(
            error(TABLE, "odd"),
            "table.csv: row `odd`, `FFN Hidden Dims`: `[2_048 * x]`; expected a list of whole \
             numbers, such as `[2_048 * 4, 16384]`"
        );
        assert!(error("name,widths\na,b\n", "a").contains("a column `FFN Hidden Dims`"));
        assert!(error("", "a").contains("an empty file") || error("", "a").contains("column"));
        assert!(error("name,\"b", "a").contains("a quote that is not closed"));
    }

    #[test]
    fn lists_are_read_and_never_run() {
        assert_eq!(numbers("[1, 2_0*3 , 4]"), Some(vec![1, 60, 4]));
        assert_eq!((numbers(""), numbers("[ ]")), (Some(vec![]), Some(vec![])));
        for wrong in [
            "1",
            "[1",
            "[1,,2]",
            "[a]",
            "[1+1]",
            "[-1]",
            "[_1]",
            "[1_]",
            "[1]*2",
            "[2**3]",
            "[1.0]",
            "[99999999999999999999]",
            "[9999999999 * 9999999999]",
            "[__import__('os')]",
        ] {
            assert_eq!(numbers(wrong), None, "{wrong}");
        }
    }
}
