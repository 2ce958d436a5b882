//! `matformer search`

use serde_json::Value;

use crate::{
    support::{Place, keys},
    vision,
};

const SEARCH: [&str; 6] = ["search", "run", "--budget", "60%", "--evaluations", "12"];

/// What a search found, without what differs from call to call.
fn lasting(found: &Value) -> Vec<Value> {
    let mut found = found["found"].as_array().unwrap().clone();
    for entry in &mut found {
        let entry = entry.as_object_mut().unwrap();
        entry.remove("measured");
        entry.remove("seconds");
    }
    found.iter_mut().for_each(rounded);
    found
}

/// What was measured beside other submodels differs in the last digits.
fn rounded(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let rounded = (number.as_f64().unwrap() * 1e5).round() / 1e5;
            *value = Value::from(rounded);
        }
        Value::Array(list) => list.iter_mut().for_each(rounded),
        Value::Object(fields) => fields.values_mut().for_each(rounded),
        _ => {}
    }
}

#[test]
fn the_winner_gets_a_name_that_every_command_takes() {
    let place = Place::trained();
    let json = place.matformer(&[&SEARCH[..], &["--json"]].concat()).ok().json();
    let expected = [
        "model",
        "submodels",
        "documents",
        "known",
        "best",
        "best_costs",
        "name",
        "found",
        "judged",
    ];
    assert_eq!(keys(&json), expected);
    assert_eq!(json["name"], "best@60%");
    assert_eq!(json["submodels"].as_u64(), Some(16), "a whole number");
    let found = json["found"].as_array().unwrap();
    let methods: Vec<&str> = found.iter().map(|f| f["method"].as_str().unwrap()).collect();
    let expected = [
        "mix",
        "exact",
        "exact-surrogate",
        "predictor",
        "non-decreasing",
        "random",
        "evolution",
        "exhaustive",
    ];
    assert_eq!(methods, expected);
    // By the half that chose, nothing is better than the best of all.
    let a = |f: &Value| f["a"].as_f64().unwrap();
    let exhaustive = &found[7];
    assert!(found.iter().all(|f| a(f) >= a(exhaustive)), "{found:?}");
    assert_eq!(exhaustive["winner"], json["best"]);
    assert_eq!(
        (exhaustive["regret"].as_f64(), exhaustive["stderr"].as_f64()),
        (Some(0.0), Some(0.0))
    );
    let limit =
        0.6 * place.matformer(&["info", "run", "--json"]).ok().json()["granularities"][3]["params"]
            ["non_embedding"]
            .as_f64()
            .unwrap();
    for entry in found {
        assert!(entry["costs"][0].as_f64().unwrap() <= limit, "{entry}");
        assert!(entry["b"]["value"].as_f64().unwrap() > 0.0 && entry["regret"].is_number());
        let file = format!("run/search/60%.{}.json", entry["method"].as_str().unwrap());
        assert_eq!(place.read_json(file), *entry);
    }
    // Two layers of four widths: what one method measured the others need not.
    let measured: u64 = found.iter().map(|f| f["measured"].as_u64().unwrap()).sum();
    assert!(measured <= 16, "{measured}");

    let winner = json["best"].as_str().unwrap();
    let named = place.matformer(&["eval", "run", "--submodels", "best@60%", "--json"]).ok().json();
    assert_eq!(named["results"][0]["submodel"], winner);
    let other = "best@60.0%non_embedding";
    place.matformer(&["score", "run", "--submodel", other, "--text", "fn main"]).ok();
    snapshot!(place.refused(&["eval", "run", "--submodels", "best@61%"]), @"
    error: unknown submodel: `best@61%`, expected one of `S`, `M`, `L`, `XL`, `best@60%`
    hint: run `matformer search MODEL --budget 61%` to find it
    ");
    let info = place.matformer(&["info", "run"]).ok().stdout;
    assert!(info.contains(&format!("best@60% is {winner}, ")), "{info}");
    place.matformer(&["report", "run"]).ok();
    let page = place.read("run/report/index.html");
    assert!(page.contains("<h2>Search") && page.contains("exact-surrogate"), "{page}");
}

#[test]
fn what_judges_is_what_did_not_choose() {
    let place = Place::trained();
    let search =
        ["search", "run", "--budget", "60%", "--method", "mix", "--per-document", "--json"];
    let json = place.matformer(&search).ok().json();
    let winner = json["found"][0]["winner"].as_str().unwrap();
    let eval = ["eval", "run", "--submodels", winner, "--json"];
    let whole = place.matformer(&eval).ok().json();
    let of = |data: &Value, key: &str| data[key].as_f64().unwrap();
    let (all, judged) = (&whole["data"], &json["judged"]["data"]);
    // Of 13 documents seven choose and six judge.
    assert_eq!((of(all, "documents"), of(judged, "documents")), (13.0, 6.0));
    let chose = of(all, "tokens") - of(judged, "tokens");
    // Both halves together are all that is held out.
    let (a, b) = (of(&json["found"][0], "a"), of(&json["found"][0]["b"], "value"));
    let nats = a * chose + b * of(judged, "tokens");
    let expected = of(&whole["results"][0], "loss") * of(all, "tokens");
    assert!((nats - expected).abs() < 1e-4 * expected, "{nats}, not {expected}");
}

#[test]
fn a_search_that_was_ended_goes_on_and_comes_to_the_same() {
    let place = Place::trained();
    let whole = place.matformer(&[&SEARCH[..], &["--json"]].concat()).ok().json();
    place.remove("run/search");
    place.remove("run/named.json");
    // As a kill leaves it that came before the last walk.
    place.remove(&place.measured("run")[0]);
    let again = place.matformer(&[&SEARCH[..], &["--json"]].concat()).ok().json();
    assert_eq!(lasting(&again), lasting(&whole));
    // Once more: nothing is left to measure.
    let files = place.measured("run");
    let again = place.matformer(&[&SEARCH[..], &["--json"]].concat()).ok().json();
    assert_eq!(lasting(&again), lasting(&whole));
    assert_eq!(place.measured("run"), files);
    // One method more knows what the others found.
    place.remove("run/search/60%.random.json");
    let one = [&SEARCH[..], &["--method", "random", "--json"]].concat();
    assert_eq!(place.matformer(&one).ok().json()["found"].as_array().unwrap().len(), 8);
}

#[test]
fn a_shorter_search_does_not_take_the_name_from_a_longer_one() {
    let place = Place::trained();
    let first = place.matformer(&[&SEARCH[..], &["--json"]].concat()).ok().json();
    place.remove("run/search");
    let short =
        ["search", "run", "--budget", "60%", "--method", "random", "--evaluations", "1", "--json"];
    let second = place.matformer(&short).ok().json();
    assert_eq!(second["found"].as_array().unwrap().len(), 1);
    assert_eq!((&second["best"], &second["name"]), (&first["best"], &first["name"]));
}

#[test]
fn more_may_judge_than_chooses_document_by_document() {
    let place = Place::trained();
    let some = ["--method", "mix", "--tokens", "300", "--judge-tokens", "600"];
    let search = [&SEARCH[..], &some, &["--per-document"]].concat();
    snapshot!(place.refused(&search), @"
    error: --per-document: a table has no room for them
    hint: add --json
    ");
    let json = place.matformer(&[&search[..], &["--json"]].concat()).ok().json();
    let found = &json["found"][0];
    assert_eq!((&found["tokens"], &found["judge_tokens"]), (&300.into(), &600.into()));
    assert_eq!(json["judged"]["data"]["tokens"], 600);
    // What is printed of each document makes up what is printed of all.
    let documents = json["per_document"][found["winner"].as_str().unwrap()].as_array().unwrap();
    assert_eq!(json["documents"], documents.len());
    let sum = |at: usize| documents.iter().map(|d| d[at].as_f64().unwrap()).sum::<f64>();
    assert_eq!(sum(1), 600.0);
    let loss = found["b"]["value"].as_f64().unwrap();
    assert!((sum(0) / sum(1) - loss).abs() < 1e-9, "{found}");
}

#[test]
fn a_search_on_a_part_does_not_take_the_name() {
    let place = Place::trained();
    place.matformer(&SEARCH).ok();
    let named = place.read("run/named.json");
    let part = [&SEARCH[..], &["--method", "mix", "--tokens", "500", "--json"]].concat();
    let output = place.matformer(&part).ok();
    assert_eq!(output.json()["name"], Value::Null);
    assert!(output.stderr.contains("note: `best@60%` stays "), "{output}");
    assert_eq!(place.read("run/named.json"), named);
    assert_eq!(place.read_json("run/search/60%-500.mix.json")["tokens"], 500);
    // As many tokens as there are, or more, are all.
    let all = [&SEARCH[..], &["--method", "mix", "--tokens", "99999999"]].concat();
    let shown = place.matformer(&all).ok();
    assert!(
        shown.stdout.contains("`best@60%` is ") && shown.stdout.contains("exhaustive"),
        "{shown}"
    );
    // A damaged file of names costs the name, and is said.
    place.write("run/named.json", "{");
    let output = place.matformer(&SEARCH);
    assert_eq!(output.code, Some(1), "{output}");
    assert!(output.stderr.contains("hint: remove the file"), "{output}");
    assert!(output.stdout.contains(" is the best of "), "{output}");
}

#[test]
fn searches_at_the_same_time_agree_on_the_best() {
    let place = Place::trained();
    let methods = ["mix", "random", "exact", "exhaustive"];
    std::thread::scope(|scope| {
        for method in methods {
            let place = &place;
            scope.spawn(move || {
                place.matformer(&["search", "run", "--budget", "60%", "--method", method]).ok()
            });
        }
    });
    let found = methods.map(|method| place.read_json(format!("run/search/60%.{method}.json")));
    let exhaustive = found.iter().find(|f| f["method"] == "exhaustive").unwrap();
    let named = &place.read_json("run/named.json")["best@60%"];
    assert_eq!(named["widths"], exhaustive["widths"]);
    // Whoever was last has written all regrets anew.
    for found in &found {
        let above =
            found["b"]["value"].as_f64().unwrap() - exhaustive["b"]["value"].as_f64().unwrap();
        assert!((found["regret"].as_f64().unwrap() - above).abs() < 1e-9, "{found}");
    }
}

#[test]
fn what_a_search_left_may_be_damaged_or_out_of_date() {
    let place = Place::trained();
    place.matformer(&SEARCH).ok();
    place.write("run/search/60%.exact.json", "{");
    let output = place.matformer(&[&SEARCH[..], &["--method", "mix"]].concat()).ok();
    let note = "note: run/search/60%.exact.json is not what a search writes: passed over";
    assert!(output.stderr.contains(note) && !output.stdout.contains(" exact "), "{output}");
    // Less would judge than judged the others: it judges like them.
    let less = [&SEARCH[..], &["--method", "mix", "--judge-tokens", "100", "--json"]].concat();
    let output = place.matformer(&less).ok();
    assert!(output.stderr.contains("note: all tokens judge, as in searches before"), "{output}");
    assert_eq!(output.json()["found"][0]["judge_tokens"], Value::Null);
    // Milliseconds of another machine.
    place.write(
        "run/latency.json",
        r#"{"machine":"an abacus","device":"","config":"","workloads":{}}"#,
    );
    let found = place.read("run/search/60%.mix.json").replace("\"60%\"", "\"8ms\"");
    place.write("run/search/8ms.mix.json", found);
    let output = place.matformer(&["report", "run"]).ok();
    assert!(output.stderr.contains("note: what mix found within 8ms is left out: "), "{output}");
    let refused = place.refused(&["eval", "run", "--submodels", "8ms"]);
    assert!(refused.contains("measured for the machine `an abacus`, here is `"), "{refused}");
}

#[test]
fn several_budgets_hold_at_once() {
    let (place, _) = vision::trained();
    let search = ["search", "run", "--budget", "80%", "--budget", "70%flops", "--evaluations", "9"];
    // Of one resource the tightest counts.
    let shown = place.matformer(&[&search[..], &["--budget", "200%"]].concat()).ok();
    assert!(shown.stderr.contains("note: 200% has no effect beside 80%"), "{shown}");
    assert!(shown.stdout.contains(" FLOPs and "), "{shown}");
    assert!(shown.stdout.contains("`best@70%flops_80%` is "), "{shown}");
    let found = place.read_json("run/search/70%flops_80%.mix.json");
    // Costs are in the order of the budgets, whatever was typed first.
    assert_eq!(found["budgets"], serde_json::json!(["70%flops", "80%"]));
    assert_eq!(found["costs"][1], found["non_embedding"].as_f64().unwrap());
    place.matformer(&["report", "run"]).ok();
    let page = place.read("run/report/index.html");
    assert!(page.contains(" FLOPs, "), "{page}");
    place.matformer(&["eval", "run", "--submodels", "best@70%flops_80%"]).ok();
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let place = Place::trained();
    let refused = |arguments: &[&str]| place.refused(&[&["search"], arguments].concat());
    snapshot!(refused(&["run", "--budget", "1%"]), @"
    error: budget: 555 non-embedding parameters (1.0 % of the largest submodel), the smallest submodel `S` costs 12.4k non-embedding parameters (22.4 %)
    hint: `22.5%` is enough
    ");
    snapshot!(refused(&["run", "--budget", "8ms"]), @"
    error: nothing was measured in `ms` for this model; known costs: `params`, `non_embedding`, `ffn`, `flops`, `kv_bytes`
    hint: run `matformer bench layers` first, or use a budget such as `60%`, `60%flops` or `1.2B`
    ");
    snapshot!(refused(&["run", "--budget", "60%", "--method", "annealing"]), @"
    error: invalid value 'annealing' for '--method <LIST>': method `annealing`, expected one of `mix`, `exact`, `exact-surrogate`, `predictor`, `non-decreasing`, `random`, `evolution`, `exhaustive`, `decreasing`, `up-down`, `down-up`, `extremes`

    For more information, try '--help'.
    ");
    snapshot!(refused(&["run", "--budget", "60%", "--method", "predictor", "--evaluations", "2"]), @"error: evaluations is 2; expected at least 3 for a method that fits a surrogate");
    snapshot!(refused(&["run"]), @"
    error: the following required arguments were not provided:
      --budget <BUDGET>

    Usage: matformer search --budget <BUDGET> <MODEL>

    For more information, try '--help'.
    ");
    place.matformer(&["slice", "run", "--submodel", "S", "--out", "slim"]).ok();
    snapshot!(refused(&["slim", "--budget", "60%"]), @"
    error: slim: a model of one size
    hint: search needs a model of several granularities
    ");
}
