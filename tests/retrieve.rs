//! `matformer embed` and `matformer retrieve`

use safetensors::SafeTensors;
use serde_json::Value;

use crate::{
    support::{Place, keys},
    vision,
};

#[test]
fn embeddings_are_written_for_an_index_of_ones_own() {
    let (place, _) = vision::trained();
    let embed = |more: &[&str]| place.matformer(&[&["embed", "run"], more].concat()).ok();
    snapshot!(embed(&["--out", "all.npy"]), @"
    exit code 0
    --- standard output
    all.npy, all.json: 60 vectors of 16 by XL
    --- standard error
    decoding images
    ");
    let npy = std::fs::read(place.path("all.npy")).unwrap();
    assert!(npy.starts_with(b"\x93NUMPY\x01\x00"));
    let header = String::from_utf8_lossy(&npy[10..128]);
    assert!(header.contains("'shape': (60, 16), "), "{header}");
    assert_eq!(npy.len(), 128 + 60 * 16 * 4);
    let beside = place.read_json("all.json");
    assert_eq!(keys(&beside), ["submodel", "weights", "data", "classes", "labels", "names"]);
    assert_eq!(beside["names"][59], "t10k-images-idx3-ubyte:59");
    assert_eq!((&beside["labels"][1], &beside["classes"][1]), (&1.into(), &"upper right".into()));

    snapshot!(embed(&["--out", "index/S.safetensors", "--submodel", "S", "--part", "train", "--images", "7"]), @"
    exit code 0
    --- standard output
    index/S.safetensors: 7 vectors of 16 by S
    --- standard error
    decoding images
    ");
    let bytes = std::fs::read(place.path("index/S.safetensors")).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().unwrap();
    let names: Vec<String> = serde_json::from_str(&metadata["names"]).unwrap();
    assert_eq!((names.len(), names[1].as_str()), (7, "train-images-idx3-ubyte:28"));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("labels").unwrap().shape(), [7]);
    let embeddings = file.tensor("embeddings").unwrap();
    assert_eq!(embeddings.shape(), [7, 16]);
    for row in embeddings.data().chunks(16 * 4) {
        let square = |b: &[u8]| f32::from_le_bytes(b.try_into().unwrap()).powi(2);
        let length: f32 = row.chunks(4).map(square).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
}

#[test]
fn queries_of_every_size_find_images_of_their_class() {
    let (place, _) = vision::trained();
    let retrieve = ["retrieve", "run", "--submodels", "S,4x1+32x1,XL"];
    let json = place.matformer(&[&retrieve[..], &["--json"]].concat()).ok().json();
    assert_eq!(
        keys(&json),
        [
            "model",
            "weights",
            "data",
            "gallery_images",
            "queries",
            "searched",
            "relevant",
            "chance",
            "results"
        ]
    );
    assert_eq!((&json["gallery_images"], &json["queries"]), (&200.into(), &60.into()));
    let results = json["results"].as_array().unwrap();
    assert_eq!(
        keys(&results[0]),
        [
            "query",
            "gallery",
            "query_params",
            "query_flops",
            "nearest",
            "recall_5",
            "recall_10",
            "map",
            "above"
        ]
    );
    let pairs = |results: &[Value]| -> Vec<String> {
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        results
            .iter()
            .map(|r| format!("{} in {}", text(&r["query"]), text(&r["gallery"])))
            .collect()
    };
    assert_eq!(pairs(results), ["S in XL", "4x1+32x1 in XL", "XL in XL"]);
    for result in results {
        assert!(result["nearest"]["value"].as_f64().unwrap() > 0.8, "{result}");
        assert!(result["map"]["value"].as_f64().unwrap() > 0.5, "{result}");
    }
    assert_eq!(results[2]["above"], Value::Null);
    assert_eq!(place.read_json("run/report/retrieval.json"), json);
    // The same twice.
    assert_eq!(place.matformer(&[&retrieve[..], &["--json"]].concat()).ok().json(), json);

    place.matformer(&["baselines", "run"]).ok();
    let all = place.matformer(&[&retrieve[..], &["--symmetric", "--json"]].concat()).ok().json();
    let all = pairs(all["results"].as_array().unwrap());
    let expected = [
        "S in XL",
        "4x1+32x1 in XL",
        "XL in XL",
        "S in S",
        "4x1+32x1 in 4x1+32x1",
        "S alone in XL alone",
        "XL alone in XL alone",
        "S alone in S alone",
    ];
    assert_eq!(all, expected);
    // It is on the page.
    place.matformer(&["report", "run"]).ok();
    let page = place.read("run/report/index.html");
    assert!(
        page.contains("<h2>Retrieval, relevant by class</h2>")
            && page.contains("S alone (per-width)")
    );
    let part = ["--images", "9", "--gallery-images", "30", "--gallery", "M"];
    let shown = place.matformer(&[&retrieve[..], &part].concat()).ok();
    assert!(shown.stdout.starts_with("9 held-out images as queries into 30 training"), "{shown}");
    assert!(shown.stdout.contains("per-width") && shown.stdout.contains("mAP %"), "{shown}");
}

#[test]
fn embeddings_of_before_are_not_overwritten() {
    let (place, _) = vision::trained();
    place.write("old.npy", "mine");
    snapshot!(place.refused(&["embed", "run", "--out", "old.npy"]), @"
    error: old.npy: exists
    hint: choose another --out, or remove it
    ");
    // The file beside it counts too.
    place.write("other.json", "mine");
    assert!(place.refused(&["embed", "run", "--out", "other.npy"]).contains("other.json: exists"));
    place.matformer(&["embed", "run", "--out", "other.safetensors", "--images", "2"]).ok();
}

#[test]
fn what_a_search_cannot_find_is_said_before_anything_is_embedded() {
    let (place, _) = vision::trained();
    let output = place.matformer(&["retrieve", "run", "--gallery-images", "1"]);
    assert_eq!(output.code, Some(2), "{output}");
    snapshot!(output.stderr, @"
    decoding images
    error: of 60 queries, 45 are of classes of which the 1 gallery images have none, such as `upper right`
    hint: search more training images (--gallery-images), or leave such classes out
    ");
    // A baseline that is damaged.
    place.matformer(&["baselines", "run"]).ok();
    place.write("run/baselines/per-width/S/model.safetensors", "short");
    let output = place.matformer(&["retrieve", "run"]);
    assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{output}");
    assert!(output.stderr.contains("run/baselines/per-width/S/model.safetensors"), "{output}");
}

#[test]
fn what_cannot_be_embedded_is_refused() {
    let place = Place::trained();
    snapshot!(place.refused(&["embed", "run", "--out", "x.npy"]), @"
    error: run: a language model
    hint: embed needs a vision model; `eval` and `report` take every kind
    ");
    snapshot!(place.refused(&["retrieve", "run"]), @"
    error: run: a language model
    hint: retrieve needs a vision model; `eval` and `report` take every kind
    ");
    let (place, _) = vision::trained();
    snapshot!(place.refused(&["embed", "run", "--out", "x.bin"]), @"
    error: --out x.bin: of no known form
    hint: expected a name that ends in .npy or .safetensors
    ");
    snapshot!(place.refused(&["retrieve", "run", "--submodels", "S,Q"]), @"
    error: unknown submodel: `Q`, expected one of `S`, `M`, `L`, `XL`
    hint: a width `128`, runs of layers `64x1+128x4` or a budget `60%` also work
    ");
    place.matformer(&["slice", "run", "--submodel", "M", "--out", "slim"]).ok();
    snapshot!(place.refused(&["retrieve", "slim"]), @"
    error: slim/run.toml: no such file
    hint: name the images with --data: a run file, or the folder of a run
    ");
}
