//! A vision model from images to report, and what is refused.

use serde_json::Value;

use crate::support::{Output, Place, keys};

/// Classes that can be told apart at a glance: which quarter of the image is light.
pub const CLASSES: usize = 4;
pub const SIZE: usize = 8;
pub const NAMES: [&str; CLASSES] = ["upper left", "upper right", "lower left", "lower right"];

pub const RUN_FILE: &str = r#"
[model.vit]
image_size = 8
patch_size = 4
d_model = 16
n_heads = 2
n_layers = 2
d_ff = 32
width_multiple = 4
drop_path = 0.1

[data]
path = "images"

[data.augment]
pad = 1
smoothing = 0.1
mixup = 0.2

[train]
steps = 120
images_per_step = 32
learning_rate = 1e-2
warmup = 5
ema = 0.9
eval_every = 60
eval_images = 20
checkpoint_every = 60
"#;

/// Pixels of image number `i`, whose class is `i % CLASSES`.
pub fn pixels(i: usize) -> Vec<u8> {
    let class = i % CLASSES;
    let light = |at: usize| (at / SIZE / 4, at % SIZE / 4) == (class / 2, class % 2);
    let noise = |at: usize| ((i * 37 + at * 101 + i * at * 13) % 61) as u8;
    (0..SIZE * SIZE).map(|at| noise(at) + if light(at) { 160 } else { 0 }).collect()
}

/// The two files of a split, as MNIST has them.
fn idx(place: &Place, split: &str, images: usize) {
    let size = (SIZE as u32).to_be_bytes();
    let count = (images as u32).to_be_bytes();
    let mut file = [[0, 0, 8, 3], count, size, size].concat();
    (0..images).for_each(|i| file.extend(pixels(i)));
    place.write(format!("images/{split}-images-idx3-ubyte"), file);
    let mut labels = [[0, 0, 8, 1], count].concat();
    labels.extend((0..images).map(|i| (i % CLASSES) as u8));
    place.write(format!("images/{split}-labels-idx1-ubyte"), labels);
}

/// With images, and a run file for them.
pub fn place() -> Place {
    let place = Place::new();
    place.write("vit.toml", RUN_FILE);
    idx(&place, "train", 200);
    idx(&place, "t10k", 60);
    place.write("images/classes.txt", NAMES.join("\n"));
    place
}

/// A run of a vision model, in `run`.
pub fn trained() -> (Place, Output) {
    let place = place();
    let output = place.matformer(&["train", "vit.toml", "--out", "run"]).ok();
    (place, output)
}

fn top1(result: &Value) -> f64 {
    result["top1"]["value"].as_f64().unwrap()
}

#[test]
fn a_vision_model_goes_through_every_command() {
    let (place, output) = trained();
    assert!(output.stderr.contains("200 training images of 4 classes, 60 held out"), "{output}");
    assert!(output.stderr.contains("images/s") && !output.stderr.contains("tokens"), "{output}");
    assert!(output.stdout.contains("nearest training image by its pixels"), "{output}");
    assert_eq!(place.measured("run").len(), 1, "all sizes in one walk");
    place.remove("run/measured");
    insta::assert_snapshot!(place.list("run"), @"
    .lock
    checkpoints/step-000060/config.json
    checkpoints/step-000060/matformer.json
    checkpoints/step-000060/model.safetensors
    checkpoints/step-000060/preprocessor_config.json
    checkpoints/step-000060/train/optimizer.safetensors
    checkpoints/step-000060/train/state.json
    checkpoints/step-000120/config.json
    checkpoints/step-000120/matformer.json
    checkpoints/step-000120/model.safetensors
    checkpoints/step-000120/preprocessor_config.json
    checkpoints/step-000120/train/optimizer.safetensors
    checkpoints/step-000120/train/state.json
    config.json
    matformer.json
    measurements.jsonl
    metrics.jsonl
    model.safetensors
    preprocessor_config.json
    resources.json
    run.toml
    train.log
    ");
    let config = place.read_json("run/config.json");
    assert_eq!(config["model_type"], "vit");
    assert_eq!(config["id2label"]["3"], "lower right");
    assert_eq!(place.read_json("run/matformer.json")["kind"], "matvit");

    let eval = ["eval", "run", "--submodels", "S,M,L,XL,4x1+32x1", "--json"];
    let json = place.matformer(&eval).ok().json();
    assert_eq!(json["data"]["documents"], 60);
    let results = json["results"].as_array().unwrap();
    assert_eq!(
        keys(&results[0]),
        [
            "submodel",
            "widths",
            "params",
            "loss",
            "stderr",
            "perplexity",
            "bits_per_byte",
            "top1",
            "top5",
            "paired"
        ]
    );
    for result in results {
        assert!(top1(result) > 0.8, "{result}");
        assert_eq!(result["bits_per_byte"], Value::Null);
    }
    // A part of the images, and again on all of them.
    let beside = place.matformer(&["eval", "run", "--consistency", "--json"]).ok().json();
    let beside = &beside["consistency"];
    assert_eq!(keys(beside), ["to", "targets", "results"], "nothing is continued");
    assert_eq!(
        (&beside["targets"], &beside["results"][3]["held_out"]["equal"]["value"]),
        (&60.into(), &1.0.into())
    );
    let kl = |at: usize| beside["results"][at]["held_out"]["kl"]["value"].as_f64().unwrap();
    assert!(kl(0) > 1e-4 && kl(3) < 1e-6, "{beside}");
    let part = place.matformer(&["eval", "run", "--tokens", "10", "--json"]).ok().json();
    assert_eq!(part["data"]["documents"], 10);

    let report = place.matformer(&["report", "run"]).ok();
    assert!(report.stdout.contains("top-1 %"), "{report}");
    let page = place.read("run/report/index.html");
    assert!(page.contains("top-1 accuracy") && page.contains("nearest training image"));

    place.matformer(&["slice", "run", "--submodel", "M", "--out", "slim"]).ok();
    let slim = place.matformer(&["eval", "slim", "--data", "run", "--json"]).ok().json();
    let slim = slim["results"].as_array().unwrap();
    assert_eq!(slim.last().unwrap()["top1"], results[1]["top1"]);
    let info = place.matformer(&["info", "run"]).ok();
    assert!(info.stdout.contains("images 8×8×1, patches 4×4, 5 tokens"), "{info}");
    assert!(info.stdout.contains("FLOPs/image"), "{info}");
}

#[test]
fn what_a_vision_model_cannot_do_is_said() {
    let (place, _) = trained();
    snapshot!(place.refused(&["generate", "run", "--prompt", "a"]), @"
    error: run: a vision model
    hint: generate needs a language model; `eval` and `report` take every kind
    ");
    snapshot!(place.refused(&["score", "run", "--text", "a"]), @"
    error: run: a vision model
    hint: score needs a language model; `eval` and `report` take every kind
    ");
}

#[test]
fn data_and_models_of_another_kind_are_refused() {
    let (place, _) = trained();
    place.matformer(&["train", "run.toml", "--out", "words"]).ok();
    assert!(place.refused(&["report", "run", "words"]).contains("another kind of model"));
    assert!(place.refused(&["eval", "run", "--data", "words"]).contains("one kind of model"));
    place.write("images/classes.txt", "a\nb\nc\nd\n");
    place.matformer(&["train", "vit.toml", "--out", "other", "--set", "train.steps=1"]).ok();
    snapshot!(place.refused(&["eval", "run", "--data", "other"]), @"
    decoding images
    note: not the training run's data: the model may have seen held-out images in training, and only losses with equal data hash are comparable
    error: run: a model of 4 classes (upper left, upper right, lower left, lower right); the data has 4 classes (a, b, c, d)
    hint: give data of the model's classes; `matformer train --init` makes a model of others
    ");
}

#[test]
fn a_run_that_was_stopped_ends_as_one_that_was_not() {
    let (place, _) = trained();
    let halves = ["train", "vit.toml", "--out", "halves", "--set"];
    place
        .matformer(&[&halves[..], &["train.steps=60", "--set", "train.schedule=wsd"]].concat())
        .ok();
    place.matformer(&["train", "vit.toml", "--out", "whole", "--set", "train.schedule=wsd"]).ok();
    let longer = place.read("halves/run.toml").replace("steps = 60", "steps = 120");
    place.write("halves/run.toml", longer);
    // The decay of a shorter run begins earlier: only until then are they the same.
    let weights = |run: &str| {
        std::fs::read(place.path(format!("{run}/checkpoints/step-000060/model.safetensors")))
    };
    assert_eq!(weights("whole").unwrap().len(), weights("halves").unwrap().len());
    place.matformer(&["train", "halves", "--resume"]).ok();
    assert_eq!(place.read_json("halves/matformer.json")["provenance"]["steps"], 120);
}

#[test]
fn fine_tuning_takes_the_weights_and_makes_a_new_head() {
    let (place, _) = trained();
    place.write("images/classes.txt", "a\nb\nc\nd\n");
    let tune = ["train", "vit.toml", "--init", "run", "--out", "tuned"];
    // As a preset has it: the data decides.
    let classes = ["--set", "model.vit.classes=10"];
    let sets = ["--set", "train.layer_decay=0.8", "--set", "train.draw=baseline:XL"];
    place.matformer(&[&tune[..], &classes, &sets].concat()).ok();
    assert_eq!(place.read_json("tuned/config.json")["id2label"]["0"], "a");
    let manifest = place.read_json("tuned/matformer.json");
    let parent = place.read_json("run/matformer.json")["weights_sha256"].clone();
    assert_eq!(manifest["provenance"]["parent"], parent);
    // Twice the size of image: the positions are interpolated.
    let large = ["train", "vit.toml", "--init", "run", "--out", "large"];
    let size = ["--set", "model.vit.image_size=16", "--set", "train.steps=2"];
    place.matformer(&[&large[..], &size].concat()).ok();
    let wider =
        ["train", "vit.toml", "--init", "run", "--out", "x", "--set", "model.vit.d_model=32"];
    snapshot!(place.refused(&wider), @"
    error: `model.vit.d_model` is 32; expected 16, as in `run`
    hint: leave it out of the run file: a run takes its shape from the folder that it starts from
    ");
}

#[test]
fn baselines_stand_beside_the_elastic_sizes() {
    let (place, _) = trained();
    let output = place.matformer(&["baselines", "run", "--json"]).ok();
    let json = output.json();
    assert_eq!(keys(&json), ["run", "results", "costs"]);
    let results = json["results"].as_array().unwrap();
    assert_eq!(keys(&results[0]), ["size", "budget", "seed", "n", "metric", "value", "stderr"]);
    let alone: Vec<&Value> = results
        .iter()
        .filter(|r| r["budget"] == "per-width" && r["metric"] == "top1")
        .map(|r| &r["size"])
        .collect();
    assert_eq!(alone, ["S", "M", "L", "XL"]);
    let costs = json["costs"].as_array().unwrap();
    let names: Vec<&Value> = costs.iter().map(|cost| &cost["what"]).collect();
    assert_eq!(names, ["elastic", "S alone", "M alone", "L alone", "XL alone", "all alone"]);
    // Together they see what the elastic run saw.
    assert_eq!(costs[5]["steps"], costs[0]["steps"]);
    let own = place.read_json("run/baselines/per-width/S/matformer.json");
    assert_eq!(own["provenance"]["steps"], 30);
    // What is there is not trained again, and is on the page.
    let again = place.matformer(&["baselines", "run"]).ok();
    assert!(again.stderr.contains("complete, nothing to do"), "{again}");
    place.matformer(&["report", "run"]).ok();
    assert!(place.read("run/report/index.html").contains("XL alone"));
    let eval = ["eval", "run", "--submodels", "S,4x1+32x1,XL"];
    let json = place.matformer(&[&eval[..], &["--json"]].concat()).ok().json();
    let beside: Vec<&str> = json["alone"]
        .as_array()
        .unwrap()
        .iter()
        .map(|alone| alone["result"]["submodel"].as_str().unwrap())
        .collect();
    assert_eq!((beside, json["results"].as_array().unwrap().len()), (vec!["S", "XL"], 3));
    assert!(place.matformer(&eval).ok().stdout.contains("per-width"));
    snapshot!(place.refused(&["baselines", "run/baselines/per-width/S"]), @"
    error: run/baselines/per-width/S: a run of S alone
    hint: baselines are those of an elastic run
    ");
}

#[test]
fn images_that_do_not_serve_are_refused() {
    let place = place();
    let train = |sets: &[&str]| {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let all: Vec<&str> = ["train", "vit.toml"].into_iter().chain(sets).collect();
        place.refused(&all)
    };
    snapshot!(train(&["model.vit.patch_size=3"]), @"error: `model.vit`: `patch_size` is 3; expected a divisor of `image_size` 8");
    snapshot!(train(&["data.path=nowhere"]), @"
    decoding images
    error: cannot read `nowhere`: No such file or directory (os error 2)
    ");
    snapshot!(train(&["data.augment.flip=2"]), @"error: `data.augment.flip` is 2.0, expected: a probability from 0 to 1");
    snapshot!(train(&["model.lm.d_model=8"]), @"
    error: --set: unknown key `model.lm`
    hint: a run is of one kind of model: it has `model.lm` or `model.vit`
    ");
    snapshot!(train(&["train.seq_len=8"]), @"error: `train.seq_len` is 8; expected none: only a language model has rows of tokens");
    let few = ["train", "vit.toml", "--set", "train.images_per_step=300"];
    let few = place.matformer(&few);
    assert_eq!(few.code, Some(2));
    assert!(
        few.stderr.ends_with("error: 200 training images, expected: at least 300, a batch\n"),
        "{few}"
    );
    // A header that promises more than there is.
    let labels = place.path("images/train-labels-idx1-ubyte");
    let mut bytes = std::fs::read(&labels).unwrap();
    bytes[7] = 250;
    std::fs::write(&labels, bytes).unwrap();
    snapshot!(train(&[]), @"
    decoding images
    error: `images/train-labels-idx1-ubyte` ends after 208 bytes, expected: 258 (its header)
    hint: it is damaged, or not what its name says
    ");
    place.remove("images");
    std::fs::create_dir_all(place.path("images/cat")).unwrap();
    let image = image::GrayImage::from_pixel(9, 9, image::Luma([90]));
    image.save(place.path("images/cat/1.png")).unwrap();
    snapshot!(train(&[]), @"
    decoding images
    error: `images` has images of one class, `cat`, expected: at least two
    hint: images lie in a folder per class: name the folder that holds those
    ");
}
