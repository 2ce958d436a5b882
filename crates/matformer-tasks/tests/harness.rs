//! Requests are those of lm-evaluation-harness: `fixtures/make.py` wrote what it asks.

use std::{collections::BTreeMap, path::PathBuf};

use matformer_tasks::{
    Aggregation, Example, Generation, Loglik, Part, Question, Reply, Task, macro_f1,
};
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn fixture(name: &str) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(fixtures().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// What the harness would ask for an example.
fn requests(task: &Task, example: &Example) -> Vec<Value> {
    let Generation { until, max_tokens } = &task.generation;
    let kwargs = || json!({ "until": until, "max_gen_toks": max_tokens, "do_sample": false, "temperature": 0.0 });
    match &example.question {
        Question::Text { text, .. } => vec![json!([text])],
        Question::Generation { context, .. } => vec![json!([context, kwargs()])],
        question => {
            let prompts = question.prompts().iter();
            prompts.map(|prompt| json!([prompt.context, prompt.continuation])).collect()
        }
    }
}

#[test]
fn requests_are_those_of_the_harness() {
    let expected = fixture("requests.json");
    assert_eq!(expected.len(), 11);
    for (name, expected) in expected {
        let task = Task::find(&fixtures(), &name).unwrap();
        let found = task.examples(None, None).unwrap();
        assert_eq!(found.problems, []);
        let asked = found.examples.iter().flat_map(|example| requests(&task, example));
        let (asked, expected): (Vec<Value>, _) = (asked.collect(), expected.as_array().unwrap());
        for (found, expected) in asked.iter().zip(expected) {
            assert_eq!(found, expected, "{name}");
        }
        assert_eq!(asked.len(), expected.len(), "{name}");
    }
}

/// Means over examples are those of the harness; other aggregations are not this crate's.
#[test]
fn scores_are_those_of_the_harness() {
    let mut scores = 0;
    for (name, expected) in fixture("scores.json") {
        let task = Task::find(&fixtures(), &name).unwrap();
        let examples = task.examples(None, None).unwrap().examples;
        let replies: Vec<Reply> =
            expected["replies"].as_array().unwrap().iter().map(reply).collect();
        let each =
            task.filters.iter().flat_map(|filters| task.metrics.iter().map(move |m| (*m, filters)));
        for (metric, filters) in each {
            let part = |(e, r)| task.part((metric, filters), e, r).unwrap();
            let parts: Vec<Part> = examples.iter().zip(&replies).map(part).collect();
            let [sum, of] =
                [|p: &Part| p.sum, |p: &Part| p.of].map(|f| parts.iter().map(f).sum::<f64>());
            let found = match metric.aggregation() {
                Aggregation::Mean => sum / of,
                Aggregation::MacroF1 => macro_f1(&parts),
                Aggregation::Perplexity | Aggregation::WeightedPerplexity => (-sum / of).exp(),
                Aggregation::BitsPerByte => -sum / of / std::f64::consts::LN_2,
            };
            let name = format!("{name} {} {}", filters.name, metric.name());
            let of_filters = &expected["scores"][&filters.name];
            let expected = of_filters[metric.name()][0].as_f64().unwrap();
            assert!((found - expected).abs() < 1e-12, "{name}: {found} {expected}");
            scores += 1;
        }
    }
    assert_eq!(scores, 19);
}

/// What the harness was told for a row.
fn reply(of_row: &Value) -> Reply {
    let of_row = of_row.as_array().unwrap();
    if let Some(text) = of_row[0].as_str() {
        return Reply::Text(text.to_owned());
    }
    let loglik = |told: &Value| match told {
        Value::Array(pair) => Loglik { sum: pair[0].as_f64().unwrap(), greedy: pair[1].as_bool() },
        sum => Loglik { sum: sum.as_f64().unwrap(), greedy: None },
    };
    Reply::Logliks(of_row.iter().map(loglik).collect())
}

#[test]
fn a_row_among_its_own_examples_is_counted() {
    let own = |name| Task::find(&fixtures(), name).unwrap().examples(None, None).unwrap().own_shots;
    // The harness leaves a row out only where the split of examples has the name of `test_split`.
    assert_eq!(own("endings"), OWN);
    assert_eq!((own("entails"), own("blanks"), own("colours")), (0, 0, 0));
}
const OWN: usize = 2;

/// A task of one type, with lines of YAML appended.
fn task(more: &str, rows: &str) -> (tempfile::TempDir, PathBuf) {
    task_as("output_type: multiple_choice\n", more, rows)
}

fn task_as(output: &str, more: &str, rows: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let yaml = "\
task: t
dataset_path: json
dataset_kwargs:
  data_files:
    test: t.jsonl
test_split: test
doc_to_text: q
doc_to_choice: c
doc_to_target: label
";
    let path = folder.path().join("t.yaml");
    std::fs::write(&path, format!("{yaml}{output}{more}")).unwrap();
    std::fs::write(folder.path().join("t.jsonl"), rows).unwrap();
    (folder, path)
}

const ROW: &str = "{\"q\": \"a\", \"c\": [\"x\", \"y\"], \"label\": 1}\n";

/// The error of a task file, without its folder.
fn refused(more: &str) -> String {
    refused_as("output_type: multiple_choice\n", more)
}

fn refused_as(output: &str, more: &str) -> String {
    let (folder, path) = task_as(output, more, ROW);
    let error = Task::read(&path).and_then(|task| task.examples(None, None)).unwrap_err();
    error.to_string().replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn a_template_with_a_syntax_error_has_a_line() {
    let (folder, path) = task("", ROW);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("doc_to_text: q", "doc_to_text: '{{ q'")).unwrap();
    let error = Task::read(&path).unwrap_err().to_string();
    let error = error.replace(&format!("{}/", folder.path().display()), "");
    let expected = "t.yaml:7: `doc_to_text`: found `{{ q`, expected a Jinja template; syntax error";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn what_would_change_scores_is_refused() {
    let error = refused("process_docs: !function utils.process_docs\n");
    assert!(
        error.starts_with(
            "t.yaml:11: `process_docs`: found `!function utils.process_docs`, expected a value"
        ),
        "{error}"
    );
    assert_eq!(
        refused("description: !function utils.description\n"),
        "t.yaml:11: `description`: found `!function utils.description`, expected a value or a \
         template: Python functions are not run"
    );
    assert_eq!(
        refused("metric_list:\n  - metric: acc\n    aggregation: mean\n  - metric: mcc\n"),
        "t.yaml:14: `metric_list.metric`: found `mcc`, expected `acc`, `acc_norm`, \
         `acc_bytes`, `exact_match` or `f1`"
    );
    assert_eq!(
        refused("metric_list: [{ metric: f1 }]\n"),
        "t.yaml:11: `metric_list.metric`: found `f1`, expected a score, or `aggregation: !function` \
         of CommitmentBank"
    );
    let error = refused("metric_list: [{ metric: f1, aggregation: !function other.f1 }]\n");
    assert!(
        error.starts_with("t.yaml:11: `metric_list.aggregation`: found `!function other.f1`"),
        "{error}"
    );
    let generate = "output_type: generate_until\n";
    let expected = [
        (
            "output_type: winning\n",
            "`output_type`: found `winning`, expected `multiple_choice`, \
          `loglikelihood`, `loglikelihood_rolling` or `generate_until`",
        ),
        (
            "generation_kwargs: { do_sample: true }\n",
            "`generation_kwargs.do_sample`: found `true`, \
          expected `false`: nothing is drawn",
        ),
        (
            "generation_kwargs: { top_k: 3 }\n",
            "`generation_kwargs.top_k` is not a key that is \
          supported, expected one of `generation_kwargs.until`",
        ),
        (
            "filter_list: [{ name: a, filter: [{ function: map }] }]\n",
            "`filter_list.filter.function`: found `map`, expected `take_first`; for generated texts",
        ),
        (
            "filter_list: [{ name: a, filter: [{ function: regex, regex_pattern: '(' }] }]\n",
            "`filter_list.filter.regex_pattern`: found `(`, expected a regular expression",
        ),
        (
            "filter_list: [{ name: a, filter: [{ function: regex, group_select: all }] }]\n",
            "`filter_list.filter.group_select`: found `all`, expected a whole number",
        ),
        (
            "filter_list: [{ name: a, filter: [{ function: take_first, fallback: x }] }]\n",
            "`filter_list.filter.fallback` is not a key that is supported, expected one of \
             `filter_list.filter.function`",
        ),
        (
            "filter_list: []\n",
            "`filter_list`: found `a list of 0`, expected at least one list of filters",
        ),
        (
            "metric_list: [{ metric: exact_match, regexes_to_ignore: ['(?a)'] }]\n",
            "`metric_list.regexes_to_ignore`: found `(?a)`, expected a regular expression",
        ),
        (
            "metric_list: [{ metric: exact_match, aggregation: median }]\n",
            "`metric_list.aggregation`: found `median`, expected `mean`",
        ),
        (
            "metric_list: [{ metric: acc }]\n",
            "`metric_list.metric`: found `acc`, expected \
          `exact_match`",
        ),
    ];
    for (line, expected) in expected {
        let more =
            if line.starts_with("output") { line.to_owned() } else { format!("{generate}{line}") };
        let error = refused_as("", &more);
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(refused("repeats: 2\n"), "t.yaml:11: `repeats`: found `2`, expected 1");
}

/// A function that is known, in the place of another: it is known by the folder of its task.
#[test]
fn functions_that_give_no_row_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copa/t.yaml");
    std::fs::create_dir(folder.path().join("copa")).unwrap();
    let (place, text) = task("process_docs: !function utils.doc_to_text\n", ROW);
    let rows = "{\"premise\": \"It rained. \", \"question\": \"effect\"}\n";
    std::fs::copy(text, &path).unwrap();
    std::fs::write(folder.path().join("copa/t.jsonl"), rows).unwrap();
    let error = Task::read(&path).unwrap().examples(None, None).unwrap_err().to_string();
    let expected = "t.jsonl:1: `process_docs`: gives \"It rained therefore\", expected a row";
    assert!(error.ends_with(expected), "{error}");
    drop(place);
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
    let Question::Choice { gold, .. } = &found.examples[1].question else { panic!("no choices") };
    assert!(gold.is_empty(), "counts as wrong");
}

#[test]
fn a_bad_few_shot_example_costs_the_rows_behind_it() {
    let bad = "{\"q\": \"a\", \"c\": [\"x\", \"y\"], \"label\": 2}\n";
    let rows = [ROW, bad].concat().repeat(8);
    let (folder, path) = task("num_fewshot: 1\n", &rows);
    let found = Task::read(&path).unwrap().examples(None, None).unwrap();
    let before = format!("few-shot example {}/t.jsonl:", folder.path().display());
    let is_lost = |problem: &&matformer_tasks::Problem| {
        let of_shot = problem.reason.starts_with(&before);
        of_shot && problem.reason.ends_with(": label 2 of 2 choices") && !problem.counts
    };
    let lost = found.problems.iter().filter(is_lost).count();
    assert!((1..16).contains(&lost), "{:?}", found.problems);
    assert_eq!(found.examples.len() + lost, found.rows);
}

#[test]
fn a_row_that_is_not_json_has_a_line() {
    let (_folder, path) = task("", &format!("{ROW}{{\"q\": \n"));
    let error = Task::read(&path).unwrap().examples(None, None).unwrap_err().to_string();
    assert!(error.contains("t.jsonl:2: EOF while parsing"), "{error}");
}
