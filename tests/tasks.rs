//! `matformer eval --tasks`

use serde_json::{Value, json};

use crate::support::{Output, Place, keys};

const TASK: &str = "\
task: stones
dataset_path: json
dataset_kwargs:
  data_files:
    train: shots.jsonl
    test: stones.jsonl
output_type: multiple_choice
training_split: train
test_split: test
doc_to_text: \"The {{who}} finds\"
doc_to_choice: \"{{choices}}\"
doc_to_target: label
metric_list:
  - metric: acc
  - metric: acc_norm
";

const ROWS: &str = "\
{\"who\": \"fox\", \"choices\": [\"a red stone\", \"xq zz\"], \"label\": 0}
{\"who\": \"owl\", \"choices\": [\"q\", \"dry leaves\", \"the old key\"], \"label\": 1}
{\"who\": \"crow\", \"choices\": [\"two coats\", \"a bell\"], \"label\": 7}
{\"who\": \"hare\", \"choices\": [], \"label\": 0}
";

fn place() -> Place {
    let place = Place::trained();
    place.write("tasks/stones.yaml", TASK);
    place.write("tasks/stones.jsonl", ROWS);
    let shots: Vec<&str> = ROWS.lines().take(2).collect();
    place.write("tasks/shots.jsonl", shots.join("\n"));
    place
}

const EVAL: [&str; 6] = ["eval", "run", "--tasks", "stones", "--task-path", "tasks"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&EVAL[..], more].concat()
}

#[test]
fn json_is_as_documented() {
    let place = place();
    let json = place.matformer(&with(&["--submodels", "S,XL", "--json"])).ok().json();
    let before = place.tree();
    let again = place.matformer(&with(&["--submodels", "XL,S", "--json"])).ok().json();
    assert!(place.tree() == before, "nothing is measured again");
    let results = |json: &Value, at: usize| json["tasks"][0]["results"][at].clone();
    assert_eq!((results(&again, 0), results(&again, 1)), (results(&json, 1), results(&json, 0)));
    assert_eq!(keys(&json), ["model", "tasks"]);
    let task = &json["tasks"][0];
    let expected = [
        "task",
        "split",
        "num_fewshot",
        "examples",
        "truncated",
        "own_shots",
        "problems",
        "results",
    ];
    assert_eq!(keys(task), [&expected[..], &["samples"]].concat());
    assert_eq!((&task["examples"], &task["truncated"]), (&json!(3), &json!(0)));
    assert_eq!(
        task["problems"],
        json!([
            { "row": "tasks/stones.jsonl:3", "reason": "label 7, expected 0 to 1", "counts": true },
            { "row": "tasks/stones.jsonl:4", "reason": "the list of choices is empty", "counts": false },
        ])
    );
    let result = &task["results"][1];
    assert_eq!(keys(result), ["submodel", "widths", "scores"]);
    assert_eq!(result["submodel"], "XL");
    assert_eq!(keys(&result["scores"][0]), ["metric", "value", "stderr"]);
    let samples = task["samples"].as_array().unwrap();
    assert_eq!(keys(&samples[0]), ["row", "gold", "loglikelihoods"]);
    // Recomputed from the log-likelihoods.
    let right = |sample: &&Value| {
        let logliks: Vec<f64> = sample["loglikelihoods"][1]
            .as_array()
            .unwrap()
            .iter()
            .map(|l| l.as_f64().unwrap())
            .collect();
        let best = (0..logliks.len()).max_by(|a, b| logliks[*a].total_cmp(&logliks[*b])).unwrap();
        sample["gold"].as_array().unwrap().contains(&json!(best))
    };
    let acc = samples.iter().filter(right).count() as f64 / 3.0;
    assert!((result["scores"][0]["value"].as_f64().unwrap() - acc).abs() < 1e-12);
}

/// Without a context, a continuation follows the begin token, as a text does in `score`.
#[test]
fn loglikelihoods_are_those_of_score() {
    let place = place();
    let empty = TASK.replace("\"The {{who}} finds\"", "\"\"");
    place.write("tasks/stones.yaml", empty);
    let json =
        place.matformer(&with(&["--submodels", "S,M", "--limit", "1", "--json"])).ok().json();
    let sample = &json["tasks"][0]["samples"][0];
    for (at, submodel) in ["S", "M"].into_iter().enumerate() {
        for (choice, text) in [" a red stone", " xq zz"].into_iter().enumerate() {
            let scored = ["score", "run", "--submodel", submodel, "--json", "--text", text];
            let logprobs = place.matformer(&scored).ok().json()["logprobs"].clone();
            let expected: f64 = logprobs.as_array().unwrap().iter().filter_map(Value::as_f64).sum();
            let found = sample["loglikelihoods"][at][choice].as_f64().unwrap();
            assert!((found - expected).abs() < 1e-4, "{submodel} {text}: {found} {expected}");
        }
    }
}

const KINDS: [(&str, &str); 4] = [
    (
        "last",
        "output_type: loglikelihood\ndoc_to_text: \"{{text.split(' ')[:-1]|join(' ')}}\"\n\
         doc_to_target: \"{{' ' + text.split(' ')[-1]}}\"\n",
    ),
    ("whole", "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: text\n"),
    (
        "more",
        "output_type: generate_until\ndoc_to_text: text\ndoc_to_target: text\n\
         generation_kwargs: { max_gen_toks: 6, until: ['e'] }\n",
    ),
    (
        "first",
        "output_type: multiple_choice\ndoc_to_text: '{{1}}'\ndoc_to_target: text\n\
         doc_to_choice: ['The fox saw', 'Zq zq zq']\nmetric_list: [{ metric: acc }]\n",
    ),
];

/// Scores them.
pub const KINDS_EVAL: [&str; 6] =
    ["eval", "run", "--tasks", "last,whole,more,first", "--task-path", "tasks"];

/// A place with a task of each other kind.
pub fn kinds() -> Place {
    let place = Place::trained();
    for (name, kind) in KINDS {
        let data = "dataset_path: json\ndataset_kwargs: { data_files: { test: text.jsonl } }\n";
        let yaml = format!("task: {name}\n{data}test_split: test\n{kind}");
        place.write(format!("tasks/{name}.yaml"), yaml);
    }
    let long = "The fox saw the old house and the red stone. ".repeat(40);
    let rows = [json!({ "text": "The hare ran to the river" }), json!({ "text": long.trim() })];
    place.write("tasks/text.jsonl", rows.map(|row| row.to_string()).join("\n"));
    place
}

#[test]
fn all_kinds_of_tasks_are_scored() {
    let place = kinds();
    let eval = |more: &[&str]| place.matformer(&[&KINDS_EVAL[..], more].concat()).ok();
    let json = eval(&["--submodels", "S,XL", "--json"]).json();
    let metrics = |at: usize| -> Vec<String> {
        let scores = json["tasks"][at]["results"][1]["scores"].as_array().unwrap();
        scores.iter().map(|score| score["metric"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(metrics(0), ["perplexity", "acc"]);
    assert_eq!(metrics(1), ["word_perplexity", "byte_perplexity", "bits_per_byte"]);
    assert_eq!((metrics(2), metrics(3)), (vec!["exact_match".to_owned()], vec!["acc".to_owned()]));
    let sample = |at: usize| &json["tasks"][at]["samples"][0];
    assert_eq!(keys(sample(0)), ["row", "loglikelihoods", "greedy"]);
    assert_eq!(keys(sample(1)), ["row", "loglikelihoods"]);
    assert_eq!(keys(sample(2)), ["row", "answers", "generated"]);
    assert_eq!(keys(sample(3)), ["row", "gold", "loglikelihoods"]);
    assert_eq!(
        (&json["tasks"][1]["truncated"], &json["tasks"][0]["truncated"]),
        (&json!(0), &json!(1))
    );

    // A whole text is scored as in `score`, a generated one is that of `generate`.
    let text = "The hare ran to the river";
    let score = place.matformer(&["score", "run", "--json", "--text", text]).ok().json();
    let expected: f64 =
        score["logprobs"].as_array().unwrap().iter().filter_map(Value::as_f64).sum();
    let found = sample(1)["loglikelihoods"][1][0].as_f64().unwrap();
    assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    let generated = sample(2)["generated"].as_array().unwrap();
    assert!(generated.iter().all(|text| !text.as_str().unwrap().contains('e')), "{generated:?}");

    let before = place.tree();
    let table = eval(&["--submodels", "XL"]).table("task");
    assert!(place.tree() == before, "nothing is measured or generated again");
    assert_eq!(table.len(), 7);
    assert!(!table[3]["XL"].contains('±'), "as in the harness");
}

/// A data set in the hub's cache, and a built-in task over it.
#[test]
fn built_in_tasks_read_the_cache_of_the_hub() {
    let place = Place::trained();
    let set = "hub/datasets--aps--super_glue";
    place.write(format!("{set}/refs/main"), "0123");
    let readme = "---\nconfigs:\n- config_name: boolq\n  data_files:\n  - split: train\n    path: \
                  boolq/train-*\n  - split: validation\n    path: boolq/validation-*\n---\n";
    place.write(format!("{set}/snapshots/0123/README.md"), readme);
    let row = |place: &str, label: usize| {
        let passage = format!("The key is in the {place}.");
        json!({ "passage": passage, "question": "is it in the mill", "label": label }).to_string()
    };
    let files = format!("{set}/snapshots/0123/boolq");
    place.write(format!("{files}/train-0.jsonl"), [row("boat", 0), row("box", 1)].join("\n"));
    place.write(format!("{files}/validation-0.jsonl"), [row("mill", 1), row("inn", 0)].join("\n"));
    let eval = |more: &[&str]| {
        let mut command = place.command(&[&["eval", "run", "--tasks", "boolq"], more].concat());
        command.env("HF_HUB_CACHE", place.path("hub")).env("HF_HUB_OFFLINE", "1");
        Output::of(command.output().unwrap())
    };
    let task = eval(&["--json"]).ok().json()["tasks"][0].clone();
    assert_eq!((&task["num_fewshot"], &task["examples"]), (&json!(1), &json!(2)));
    let row = task["samples"][1]["row"].as_str().unwrap();
    assert!(row.ends_with("boolq/validation-0.jsonl:2"), "{row}");
    assert_eq!(eval(&["--num-fewshot", "0"]).ok().table("task")[0]["shots"], "0");

    std::fs::remove_file(place.path(format!("{files}/train-0.jsonl"))).unwrap();
    let error = eval(&[]).stderr;
    assert!(error.contains("`aps/super_glue`: it has no files of the split `train`"), "{error}");
}

/// A folder with a validation split alone, in place of the hub.
#[test]
fn built_in_tasks_read_a_folder() {
    let place = Place::trained();
    let row = |at: usize| {
        let sol = ["a hammer", "a spoon"];
        json!({ "goal": "drive a nail", "sol1": sol[at], "sol2": sol[1 - at], "label": at })
    };
    let rows = [row(0).to_string(), row(1).to_string()].join("\n");
    place.write("sets/piqa/plain_text/validation/rows.jsonl", rows);
    let piqa = ["eval", "run", "--tasks", "piqa", "--task-data", "sets"];
    let found = place.matformer(&[&piqa[..], &["--json"]].concat()).ok();
    let said = "note: piqa: no split `train` in sets: few-shot examples are from `validation`";
    assert!(found.stderr.contains(said), "{}", found.stderr);
    let task = found.json()["tasks"][0].clone();
    assert_eq!((&task["split"], &task["examples"]), (&json!("validation"), &json!(2)));

    let boolq = ["eval", "run", "--tasks", "boolq", "--task-data", "sets"];
    let error = place.refused(&boolq);
    assert!(
        error.contains("`aps/super_glue`: sets has no folder `aps/super_glue` or `super_glue`"),
        "{error}"
    );
    let error = place.refused(&["eval", "run", "--tasks", "piqa", "--task-data", "nowhere"]);
    assert!(error.contains("nowhere has no folder"), "{error}");
    let prose = ["eval", "run", "--tasks", "piqa", "--task-data", "fetch:prose"];
    let error = place.refused(&prose);
    assert!(error.contains("source `prose` holds text, expected: evaluation sets"), "{error}");
}

#[test]
fn too_many_new_tokens_are_refused() {
    let place = kinds();
    let (name, yaml) = (KINDS[2].0, KINDS[2].1.replace('6', "100000"));
    let data = "dataset_path: json\ndataset_kwargs: { data_files: { test: text.jsonl } }\n";
    place.write("tasks/more.yaml", format!("task: {name}\n{data}test_split: test\n{yaml}"));
    let error = place.refused(&["eval", "run", "--tasks", "more", "--task-path", "tasks"]);
    let expected = "error: tasks/more.yaml: `generation_kwargs.max_gen_toks`: found 100000, expected less \
                    than";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn a_table_for_people() {
    let place = place();
    let output = place.matformer(&with(&["--submodels", "S,XL", "--num-fewshot", "1"])).ok();
    let table = output.table("task");
    assert_eq!(table.len(), 2);
    assert_eq!(table[0]["metric"], "acc");
    assert_eq!((table[1]["shots"].as_str(), table[1]["examples"].as_str()), ("1", "3"));
    assert!(table[0].contains_key("S") && table[0]["XL"].contains('±'), "{output}");
}

#[test]
fn bad_input_is_refused() {
    let place = place();
    let refused = |arguments: &[&str], expected: &str| {
        let error = place.refused(arguments);
        assert!(error.starts_with(&format!("error: {expected}")), "{error}");
    };
    let unknown = ["eval", "run", "--tasks", "coal", "--task-path", "tasks"];
    refused(&unknown, "task `coal`: none of the 1 YAML files in tasks defines it");
    place.write("tasks/stones.yaml", TASK.replace("- metric: acc\n", "- metric: mcc\n"));
    let expected = "tasks/stones.yaml:14: `metric_list.metric`: found `mcc`, expected `acc`";
    refused(&EVAL, expected);
    place.write("tasks/stones.yaml", format!("{TASK}process_docs: !function utils.clean\n"));
    refused(
        &EVAL,
        "tasks/stones.yaml:16: `process_docs`: found `!function utils.clean`, expected a value, a template",
    );
    refused(&EVAL[..4], "task `stones`: no such built-in task");
    refused(
        &["eval", "run", "--task-path", "tasks"],
        "the following required arguments were not provided",
    );
}
