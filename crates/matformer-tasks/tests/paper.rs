//! The built-in tasks ask what lm-evaluation-harness asks: `fixtures/paper/make.py` wrote that.

use std::{collections::BTreeMap, path::Path};

use matformer_core::fs::sha256_bytes;
use matformer_tasks::{
    Aggregation, Error, Example, Loglik, PAPER, Part, Question, Reply, Split, Task, macro_f1,
};
use serde_json::{Value, json};

fn fixture(name: &str) -> BTreeMap<String, Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/paper").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The task with these rows in the place of its data set.
fn with_rows(name: &str, rows: &Value, folder: &Path) -> Task {
    let task = Task::built_in(name).unwrap().unwrap();
    assert!(matches!(task.examples(None, None), Err(Error::NotFetched { .. })), "{name}");
    let split = |(split, rows): (&String, &Value)| {
        let path = folder.join(format!("{name}-{split}.jsonl"));
        std::fs::write(&path, rows.to_string()).unwrap();
        Split { name: split.clone(), files: vec![path] }
    };
    task.over(rows.as_object().unwrap().iter().map(split).collect())
}

fn requests(example: &Example) -> Vec<[Option<String>; 2]> {
    match &example.question {
        Question::Generation { context, .. } => vec![[Some(context.clone()), None]],
        question => {
            let prompts = question.prompts().iter();
            prompts.map(|p| [Some(p.context.clone()), Some(p.continuation.clone())]).collect()
        }
    }
}

fn reply(of_row: &Value) -> Reply {
    let of_row = of_row.as_array().unwrap();
    if let Some(text) = of_row[0].as_str() {
        return Reply::Text(text.to_owned());
    }
    let loglik =
        |told: &Value| Loglik { sum: told[0].as_f64().unwrap(), greedy: told[1].as_bool() };
    Reply::Logliks(of_row.iter().map(loglik).collect())
}

/// `tests/fixtures/paper/make.py` wrote what it asks for ten rows of each task, and what it makes of some replies.
#[test]
fn prompts_and_scores_are_those_of_the_harness() {
    let folder = tempfile::tempdir().unwrap();
    let (rows, expected) = (fixture("rows.json"), fixture("requests.json"));
    let mut names: Vec<&str> = PAPER.to_vec();
    names.sort_unstable();
    assert!(expected.keys().eq(names), "all are compared");
    for (name, expected) in &expected {
        let task = with_rows(name, &rows[name], folder.path());
        let shots = expected["shots"].as_u64().map(|shots| shots as usize);
        let found = task.examples(shots, None).unwrap();
        assert_eq!((found.examples.len(), &found.problems[..]), (10, &[][..]), "{name}");
        let first = requests(&found.examples[0]);
        assert_eq!(json!(first), expected["first"], "{name}");
        let all: Vec<_> = found.examples.iter().flat_map(requests).collect();
        let hash = sha256_bytes(serde_json::to_string(&all).unwrap().as_bytes());
        assert_eq!(hash, expected["sha256"].as_str().unwrap(), "{name}: other rows");
        check_scores(&task, &found.examples, expected);
    }
}

fn check_scores(task: &Task, examples: &[Example], expected: &Value) {
    let replies: Vec<Reply> = expected["replies"].as_array().unwrap().iter().map(reply).collect();
    assert_eq!(task.metrics.len(), expected["scores"].as_object().unwrap().len());
    for metric in &task.metrics {
        let part =
            |(example, reply)| task.part((*metric, &task.filters[0]), example, reply).unwrap();
        let parts: Vec<Part> = examples.iter().zip(&replies).map(part).collect();
        let mean = parts.iter().map(|part| part.sum).sum::<f64>() / parts.len() as f64;
        let found = match metric.aggregation() {
            Aggregation::Mean => mean,
            Aggregation::MacroF1 => macro_f1(&parts),
            Aggregation::Perplexity => (-mean).exp(),
            other => panic!("{other:?}"),
        };
        let expected = expected["scores"][metric.name()][0].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-12, "{} {metric:?}: {found} {expected}", task.name);
    }
}

#[test]
fn each_answer_of_web_questions_is_a_choice() {
    let folder = tempfile::tempdir().unwrap();
    let task = with_rows("webqs", &fixture("rows.json")["webqs"], folder.path());
    let found = task.examples(None, None).unwrap();
    assert_eq!((found.shots, found.problems.len()), (1, 0));
    let Question::Choice { gold, choices, .. } = &found.examples[1].question else {
        panic!("no choices")
    };
    assert_eq!(gold.len(), choices.len());
}
