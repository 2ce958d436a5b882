//! Requests are those of lm-evaluation-harness: `fixtures/make.py` wrote what it asks.

use std::{collections::BTreeMap, path::PathBuf};

use matformer_tasks::Task;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

#[test]
fn requests_are_those_of_the_harness() {
    let text = std::fs::read_to_string(fixtures().join("requests.json")).unwrap();
    let expected: BTreeMap<String, Vec<[String; 2]>> = serde_json::from_str(&text).unwrap();
    assert_eq!(expected.len(), 3);
    for (name, expected) in expected {
        let found = Task::find(&fixtures(), &name).unwrap().examples(None, None).unwrap();
        assert_eq!(found.problems, []);
        let pairs = found.examples.iter().flat_map(|example| {
            example.continuations.iter().map(|c| [example.context.clone(), c.clone()])
        });
        let found: Vec<[String; 2]> = pairs.collect();
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "{name}");
        }
        assert_eq!(found.len(), expected.len(), "{name}");
    }
}

/// A task of two rows, with lines of YAML appended and replaced.
fn task(more: &str, rows: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let yaml = "\
task: t
dataset_path: json
dataset_kwargs:
  data_files:
    test: t.jsonl
output_type: multiple_choice
test_split: test
doc_to_text: q
doc_to_choice: c
doc_to_target: label
";
    let path = folder.path().join("t.yaml");
    std::fs::write(&path, format!("{yaml}{more}")).unwrap();
    std::fs::write(folder.path().join("t.jsonl"), rows).unwrap();
    (folder, path)
}

const ROW: &str = "{\"q\": \"a\", \"c\": [\"x\", \"y\"], \"label\": 1}\n";

/// The error of a task file, without its folder.
fn refused(more: &str) -> String {
    let (folder, path) = task(more, ROW);
    let error = Task::read(&path).and_then(|task| task.examples(None, None)).unwrap_err();
    error.to_string().replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn what_would_change_scores_is_refused() {
    let error = refused("process_docs: !function utils.process_docs\n");
    assert!(
        error.starts_with("t.yaml:11: `process_docs` is not a key that is supported"),
        "{error}"
    );
    assert_eq!(
        refused("description: !function utils.description\n"),
        "t.yaml:11: `description`: found `!function utils.description`, expected a value or a \
         template: Python functions are not run"
    );
    assert_eq!(
        refused("metric_list:\n  - metric: acc\n    aggregation: mean\n  - metric: mcc\n"),
        "t.yaml:14: `metric_list.metric`: found `mcc`, expected `acc`, `acc_norm` or `acc_bytes`"
    );
    assert_eq!(refused("repeats: 2\n"), "t.yaml:11: `repeats`: found `2`, expected 1");
}

#[test]
fn malformed_yaml_has_a_line() {
    let error = refused("description: [a\n");
    assert!(error.starts_with("t.yaml:1") && error.contains("invalid YAML"), "{error}");
    let error = refused("task: other\n");
    assert!(error.starts_with("t.yaml:1") && error.contains("invalid YAML"), "{error}");
}

#[test]
fn bad_rows_are_listed() {
    let rows = [
        ROW,
        "{\"c\": [\"x\", \"y\"], \"label\": 1}\n",
        "{\"q\": \"a\", \"c\": [], \"label\": 0}\n",
        "\n",
        "{\"q\": \"a\", \"c\": [\"x\", \"\"], \"label\": 0}\n",
        "{\"q\": \"a\", \"c\": [\"x\", \"y\"], \"label\": 2}\n",
        "{\"q\": \"a\", \"c\": \"xy\", \"label\": 0}\n",
    ];
    let (folder, path) = task("", &rows.concat());
    let found = Task::read(&path).unwrap().examples(None, None).unwrap();
    let place = format!("{}/", folder.path().display());
    let problem =
        |p: &matformer_tasks::Problem| (p.row.replace(&place, ""), p.reason.clone(), p.counts);
    let problems: Vec<_> = found.problems.iter().map(problem).collect();
    let expected = [
        ("t.jsonl:2", "column `q` is missing", false),
        ("t.jsonl:3", "the list of choices is empty", false),
        ("t.jsonl:5", "choice 1 is empty", false),
        ("t.jsonl:6", "label 2, expected 0 to 1", true),
        ("t.jsonl:7", "choices `c` are string, expected a list of texts", false),
    ];
    let expected = expected.map(|(row, why, counts)| (row.to_owned(), why.to_owned(), counts));
    assert_eq!(problems, expected);
    assert_eq!(found.examples.len(), 2);
    assert!(found.examples[1].gold.is_empty(), "counts as wrong");
}

#[test]
fn a_row_that_is_not_json_has_a_line() {
    let (_folder, path) = task("", &format!("{ROW}{{\"q\": \n"));
    let error = Task::read(&path).unwrap().examples(None, None).unwrap_err().to_string();
    assert!(error.contains("t.jsonl:2: EOF while parsing"), "{error}");
}
