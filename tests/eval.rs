//! `matformer eval`

use serde_json::{Value, json};

use crate::support::{GRANULARITIES, Place, keys};

const SUBMODELS: [&str; 2] = ["--submodels", "S,M,L,XL,60%,32x1+256x1"];

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn json_is_as_documented() {
    let place = Place::trained();
    let arguments = [&["eval", "run", "--json", "--paired-to", "S"], &SUBMODELS[..]].concat();
    let json = place.matformer(&arguments).ok().json();
    assert_eq!(keys(&json), ["model", "data", "results"]);
    assert_eq!(json["model"], "run");
    assert_eq!(keys(&json["data"]), ["hash", "tokens", "documents", "context"]);
    let manifest = place.read_json("run/matformer.json");
    assert_eq!(json["data"]["hash"], manifest["provenance"]["data_hash"]);

    let results = json["results"].as_array().unwrap();
    let labels: Vec<&Value> = results.iter().map(|r| &r["submodel"]).collect();
    assert_eq!(labels, ["S", "M", "L", "XL", "L", "32x1+256x1"], "60 % of XL is L");
    let costs = place.matformer(&["info", "run", "--json"]).ok().json();
    let (smallest, bits) = (number(&results[0]["loss"]), |r: &Value| number(&r["bits_per_byte"]));
    for (i, r) in results.iter().enumerate() {
        let expected = [
            "submodel",
            "widths",
            "params",
            "loss",
            "stderr",
            "perplexity",
            "bits_per_byte",
            "paired",
        ];
        assert_eq!(keys(r), expected);
        assert_eq!(keys(&r["params"]), ["total", "non_embedding", "ffn"]);
        if let Some((_, width)) = GRANULARITIES.get(i) {
            assert_eq!(r["widths"], json!([width, width]));
            assert_eq!(r["params"], costs["granularities"][i]["params"]);
        }
        let loss = number(&r["loss"]);
        assert!(number(&r["stderr"]) > 0.0);
        assert!((number(&r["perplexity"]) / loss.exp() - 1.0).abs() < 1e-9);
        // All on the same bytes.
        assert!((bits(r) / loss / (bits(&results[0]) / smallest) - 1.0).abs() < 1e-9);
        match i {
            0 => assert_eq!(r["paired"], Value::Null, "S with itself"),
            _ => {
                assert_eq!(keys(&r["paired"]), ["to", "diff", "stderr"]);
                assert_eq!(r["paired"]["to"], "S");
                assert!((number(&r["paired"]["diff"]) - (loss - smallest)).abs() < 1e-9);
                assert!(number(&r["paired"]["stderr"]) > 0.0);
            }
        }
    }
    assert_eq!(results[5]["widths"], json!([32, 256]));
    // Asked for twice, measured once.
    assert_eq!(results[2], results[4]);
}

#[test]
fn people_get_a_table() {
    let place = Place::trained();
    measured_snapshot!(place.matformer(&[&["eval", "run"], &SUBMODELS[..]].concat()), @"
    exit code 0
    --- standard output
    held-out: 3.7k tokens of 13 documents in windows of 32, data [hash]
     submodel  params  non-emb.  loss  bits/byte  loss above XL
     S  22.0k  12.4k  [number]  [number]  [number]
     M  28.2k  18.6k  [number]  [number]  [number]
     L  40.5k  30.9k  [number]  [number]  [number]
     XL  65.1k  55.5k  [number]  [number]
     L (60%)  40.5k  30.9k  [number]  [number]  [number]
     32x1+256x1  43.6k  34.0k  [number]  [number]  [number]
    ± one standard error over 13 documents; differences are paired
    --- standard error
    reading documents
    ");
}

#[test]
fn a_reference_outside_the_list_is_not_shown() {
    let place = Place::trained();
    let arguments = ["eval", "run", "--submodels", "S,M", "--paired-to", "32x1+64x1", "--json"];
    let json = place.matformer(&arguments).ok().json();
    let found: Vec<(&Value, &Value)> = json["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (&r["submodel"], &r["paired"]["to"]))
        .collect();
    let to = json!("32x1+64x1");
    assert_eq!(found, [(&json!("S"), &to), (&json!("M"), &to)]);
}

#[test]
fn what_was_measured_is_kept() {
    let place = Place::trained();
    let eval = |more: &[&str]| {
        let arguments = [&["eval", "run", "--submodels", "S,XL", "--json"], more].concat();
        let json = place.matformer(&arguments).ok().json();
        (json, place.read_lines("run/measurements.jsonl"))
    };
    let (json, lines) = eval(&[]);
    let hash = &place.read_json("run/matformer.json")["weights_sha256"];
    let data = json!(format!("{}@32", json["data"]["hash"].as_str().unwrap()));
    let mut expected = Vec::new();
    for r in json["results"].as_array().unwrap() {
        for metric in ["loss", "bits_per_byte"] {
            expected.push((&r["submodel"], json!(metric), &r[metric], &data, hash));
        }
    }
    let found: Vec<_> = lines
        .iter()
        .map(|l| (&l["submodel"], l["metric"].clone(), &l["value"], &l["data"], &l["weights"]))
        .collect();
    assert_eq!(found, expected);
    // A part of the data has a name of its own, and lines are only ever added.
    let (part, more) = eval(&["--tokens", "300"]);
    assert_eq!(more[..4], lines[..]);
    assert_eq!(more.len(), 8);
    let tokens = part["data"]["tokens"].as_u64().unwrap();
    assert!(tokens < json["data"]["tokens"].as_u64().unwrap());
    let name = format!("{}:{tokens}@32", part["data"]["hash"].as_str().unwrap());
    assert_eq!(more[4]["data"], name);
    // Other windows are another measurement.
    let (short, more) = eval(&["--context", "8"]);
    assert_eq!(short["data"]["context"], 8);
    assert_ne!(short["results"][1]["loss"], json["results"][1]["loss"]);
    let name = format!("{}@8", short["data"]["hash"].as_str().unwrap());
    assert_eq!(more[8]["data"], name);
    snapshot!(place.refused(&["eval", "run", "--context", "33"]), @r"
    error: --context 33: the context of run is 32
    hint: expected at most 32
    ");
}

#[test]
fn consistency_is_measured_once() {
    let place = Place::trained();
    let arguments = ["eval", "run", "--submodels", "S,60%,XL", "--consistency"];
    let json = place.matformer(&[&arguments[..], &["--json"]].concat()).ok().json();
    let found = &json["consistency"];
    assert_eq!(keys(found), ["to", "targets", "continued", "results"]);
    assert_eq!((&found["to"], &found["targets"]), (&json!("XL"), &json["data"]["tokens"]));
    assert_eq!(found["continued"]["tokens"], 16, "half of the context");
    let share = |of: &Value| number(&of["equal"]["value"]);
    for (result, label) in found["results"].as_array().unwrap().iter().zip(["S", "L", "XL"]) {
        assert_eq!(keys(result), ["submodel", "held_out", "written", "own"]);
        assert_eq!(result["submodel"], label);
        for text in ["held_out", "written"] {
            let of = &result[text];
            let [kl, reverse] = ["kl", "reverse_kl"].map(|key| number(&of[key]["value"]));
            let is_itself = label == "XL";
            assert!(!is_itself || share(of) == 1.0, "{of}");
            let near = |x: f64| x.abs() < 1e-6;
            assert!(near(kl) == is_itself && near(reverse) == is_itself, "{of}");
        }
        // Behind the first token that differs, texts differ all the more.
        let own = number(&result["own"]["value"]);
        assert!(own <= share(&result["written"]), "{result}");
    }
    let shares: Vec<f64> =
        found["results"].as_array().unwrap().iter().map(|r| share(&r["held_out"])).collect();
    assert!(shares.is_sorted(), "{shares:?}");
    // Nothing is measured again, here or for a report.
    let measured = place.measured("run");
    let shown = place.matformer(&arguments).ok().stdout;
    let head = "consistency with XL at 3.7k held-out tokens\n\
                and along 13 texts that continue held-out documents by 16 tokens each\n";
    assert!(shown.contains(head), "{shown}");
    let columns =
        ["submodel", "equal %", "KL(XL ‖ ·)", "KL(· ‖ XL)", "along XL's", "along its own"];
    assert!(columns.iter().all(|column| shown.contains(column)), "{shown}");
    assert_eq!(place.measured("run"), measured);
    let report = |more: &[&str]| place.matformer(&[&["report", "run"], more].concat()).ok();
    let reported = report(&["--json"]).json();
    assert_eq!(reported["consistency"]["results"][0], found["results"][0]);
    let page = place.read("run/report/index.html");
    assert!(page.contains("<h2>Consistency with XL</h2>"), "{page}");
    let measured = place.measured("run");
    report(&[]);
    assert_eq!(place.measured("run"), measured);
}

#[test]
fn a_checkpoint_and_a_slice_are_measured_on_named_data() {
    let place = Place::trained();
    place.matformer(&["slice", "run", "--submodel", "M", "--out", "slim"]).ok();
    let eval = |model: &str, submodels: &str, more: &[&str]| {
        let arguments = [&["eval", model, "--json", "--submodels", submodels], more].concat();
        let output = place.matformer(&arguments).ok();
        assert!(!output.stderr.contains("note:"), "{output}");
        let json = output.json();
        (json["data"].clone(), json["results"][0]["loss"].clone())
    };
    let whole = eval("run", "M", &[]);
    assert_eq!(eval("slim", "M", &["--data", "run"]), whole);
    assert_eq!(eval("slim", "M", &["--data", "run.toml"]), whole);
    assert_eq!(eval("run/checkpoints/step-000012", "M", &["--data", "run"]), whole);
}

#[test]
fn text_that_has_changed_is_read_with_the_models_tokenizer() {
    let place = Place::trained();
    // Another text trains another tokenizer, whose tokens the model does not know.
    for i in 0..20 {
        place
            .write(format!("text/more-{i}.txt"), "zyx wvu tsr qpo nml kji hgf edc ba\n".repeat(20));
    }
    let eval = |more: &[&str]| {
        let arguments = [&["eval", "run", "--submodels", "S", "--json"], more].concat();
        let output = place.matformer(&arguments).ok();
        assert!(output.stderr.contains("note: not the training run's data"), "{output}");
        output.json()
    };
    let own = eval(&[]);
    assert_eq!(own, eval(&["--data", "run.toml"]));
    assert_ne!(
        own["data"]["hash"],
        place.read_json("run/matformer.json")["provenance"]["data_hash"]
    );
}

#[test]
fn other_data_than_it_was_trained_on_is_noted() {
    let place = Place::trained();
    let run = place.read("run.toml").replace("held_out = 0.2", "held_out = 0.4");
    place.write("other.toml", run);
    let arguments = ["eval", "run", "--data", "other.toml", "--submodels", "S"];
    measured_snapshot!(place.matformer(&arguments), @"
    exit code 0
    --- standard output
    held-out: 7.1k tokens of 25 documents in windows of 32, data [hash]
     submodel  params  non-emb.  loss  bits/byte  loss above XL
     S  22.0k  12.4k  [number]  [number]  [number]
    ± one standard error over 25 documents; differences are paired
    --- standard error
    reading documents
    encoding documents
    note: not the training run's data: the model may have seen held-out documents in training, and only losses with equal data hash are comparable
    ");
}

#[test]
fn a_run_whose_text_is_gone_is_measured_on_what_was_prepared_from_it() {
    let place = Place::trained();
    std::fs::rename(place.path("text"), place.path("moved")).unwrap();
    let said = place.matformer(&["eval", "run", "--submodels", "S"]).ok().stderr;
    let gone = "note: the text is not there any more (cannot read `text`); what was prepared from it is used\n";
    assert!(said.starts_with(gone), "{said}");
    std::fs::remove_dir_all(place.path("cache")).unwrap();
    snapshot!(place.refused(&["eval", "run"]), @"
    reading documents
    error: cannot read `text`: No such file or directory (os error 2)
    hint: run/run.toml names the data; `matformer eval` measures with other data (--data)
    ");
}
