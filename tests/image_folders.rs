//! Folders of images as people have them: what is read, what becomes of it, and what is said.

use image::{DynamicImage, GrayImage, ImageFormat, Luma};

use crate::{
    support::Place,
    vision::{CLASSES, NAMES, SIZE, pixels, trained},
};

const RUN_FILE: &str = r#"
[model.vit]
image_size = 8
patch_size = 4
d_model = 16
n_heads = 2
n_layers = 1
d_ff = 32
width_multiple = 4

[data]
path = "pictures"

[train]
steps = 2
images_per_step = 4
eval_every = 2
"#;

fn encoded(image: GrayImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    DynamicImage::from(image).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Image number `i` of the classes of [`pixels`].
fn image(i: usize) -> GrayImage {
    GrayImage::from_raw(SIZE as u32, SIZE as u32, pixels(i)).unwrap()
}

fn png(i: usize) -> Vec<u8> {
    encoded(image(i), ImageFormat::Png)
}

#[test]
fn what_is_read_and_what_becomes_of_it_is_said() {
    let place = Place::new();
    place.write("vit.toml", RUN_FILE);
    for i in 0..40 {
        let class = ["cat", "dog"][i % 2];
        place.write(format!("pictures/Train/{class}/{i}.png"), png(i));
        place.write(format!("pictures/valid/{class}/{i}.png"), png(i + 100));
        place.write(format!("pictures/Test/{class}/{i}.png"), png(i + 200));
    }
    // One of another size, one without its end, one that is there twice, one that is both.
    let odd = GrayImage::from_fn(12, 9, |x, y| Luma([(x * 20 + y) as u8]));
    place.write("pictures/Train/cat/odd.png", encoded(odd, ImageFormat::Png));
    let jpeg = encoded(image(300), ImageFormat::Jpeg);
    place.write("pictures/Train/cat/unended.jpg", &jpeg[..jpeg.len() - 2]);
    place.write("pictures/valid/cat/copy.png", png(2));
    place.write("pictures/Train/dog/both.png", png(4));
    place.write("pictures/notes.txt", "no image");
    let output = place.matformer(&["train", "vit.toml", "--out", "run"]).ok();
    for said in [
        "43 training images of 2 classes, 40 held out (`valid/`); passed over: 1 other file",
        "pixels: 83 images of 8×8 kept as they are; of 1 the short side becomes 8 and the middle is kept: 1 \
         of 12×9",
        "not read: `Test/` (40 images)",
        "note: 1 image used whose file lacks its end, but no pixel (first `Train/cat/unended.jpg`)",
        "note: 1 held-out image also among the training images (`Train/cat/2.png` and \
         `valid/cat/copy.png`); not used",
        "note: the same image is in two classes: `Train/cat/4.png` and `Train/dog/both.png`",
    ] {
        assert!(output.stderr.contains(said), "{said}\n{output}");
    }
    let processor = place.read_json("run/preprocessor_config.json");
    assert_eq!(processor["size"]["shortest_edge"], 8);
    assert_eq!(processor["crop_size"]["height"], 8);

    // Without a validation set the test set is held out.
    place.remove("pictures/valid");
    let output = place.matformer(&["train", "vit.toml", "--out", "tested"]).ok();
    assert!(output.stderr.contains("40 held out (`Test/`)"), "{output}");
    assert!(!output.stderr.contains("not read"), "{output}");
}

#[test]
fn pixels_are_those_of_the_folders_processor_whatever_the_data() {
    let place = Place::new();
    place.write("vit.toml", RUN_FILE);
    for i in 0..40 {
        let class = ["cat", "dog"][i % 2];
        place.write(format!("pictures/{class}/{i}.png"), png(i));
        let large = image::imageops::resize(&image(i), 30, 20, image::imageops::Triangle);
        place.write(format!("large/{class}/{i}.png"), encoded(large, ImageFormat::Png));
    }
    let short_side = |run: &str| {
        place.read_json(format!("{run}/preprocessor_config.json"))["size"]["shortest_edge"].clone()
    };
    let large = ["train", "vit.toml", "--set", "data.path=large", "--out", "large-run"];
    let output = place.matformer(&large).ok();
    assert!(output.stderr.contains("0 images of 10×10 kept as they are; of 40"), "{output}");
    assert_eq!(short_side("large-run"), 10);
    place.matformer(&["train", "vit.toml", "--out", "run"]).ok();
    assert_eq!(short_side("run"), 8);
    // For timm, the share of the resized image that is seen.
    let timm = ["slice", "large-run", "--submodel", "S", "--out", "timm", "--format", "timm"];
    place.matformer(&timm).ok();
    let config = place.read_json("timm/config.json");
    assert_eq!(config["pretrained_cfg"]["crop_pct"], 0.8);
    assert_eq!(config["pretrained_cfg"]["interpolation"], "bilinear");
    // The model of small images gets large ones as its processor makes them, and keeps its own apart.
    let hash = |data: &str| {
        let eval = ["eval", "run", "--data", data, "--json"];
        place.matformer(&eval).ok().json()["data"]["hash"].clone()
    };
    assert_ne!(
        hash("large-run"),
        place.read_json("large-run/matformer.json")["provenance"]["data_hash"]
    );
    assert_eq!(hash("run"), place.read_json("run/matformer.json")["provenance"]["data_hash"]);
}

#[test]
fn the_share_of_bad_images_can_be_raised() {
    let place = Place::new();
    place.write("vit.toml", RUN_FILE);
    for i in 0..40 {
        place.write(format!("pictures/{}/{i}.png", ["cat", "dog"][i % 2]), png(i));
    }
    place.write("pictures/cat/torn.png", &png(1)[..50]);
    let refused = place.matformer(&["train", "vit.toml", "--out", "run"]);
    assert_eq!(refused.code, Some(2));
    for said in ["more than `data.max_bad_images` = 0.01 allows", "raise `data.max_bad_images`"] {
        assert!(refused.stderr.contains(said), "{refused}");
    }
    let more = ["train", "vit.toml", "--out", "run", "--set", "data.max_bad_images=0.05"];
    let output = place.matformer(&more).ok();
    assert!(output.stderr.contains("skipped: 1 that could not be decoded"), "{output}");
}

#[test]
fn classes_are_matched_by_name() {
    let (place, _) = trained();
    let top1 = |arguments: &[&str]| {
        let output = place.matformer(&[arguments, &["--submodels", "XL", "--json"]].concat()).ok();
        (output.json()["results"][0]["top1"]["value"].as_f64().unwrap(), output.stderr)
    };
    let (own, _) = top1(&["eval", "run"]);
    // The same images in folders, whose names are sorted, and one class less.
    for (folder, classes) in [("all", CLASSES), ("some", CLASSES - 1)] {
        for i in (0..60).filter(|i| i % CLASSES < classes) {
            let name = NAMES[i % CLASSES];
            place.write(format!("{folder}/val/{name}/{i}.png"), png(i));
            place.write(format!("{folder}/train/{name}/{i}.png"), png(i + 1000));
        }
        let run_file = place.read("vit.toml").replace("\"images\"", &format!("{folder:?}"));
        place.write(format!("{folder}.toml"), run_file);
    }
    let (found, said) = top1(&["eval", "run", "--data", "all.toml"]);
    assert!((found - own).abs() < 1e-9, "{found} {own}");
    assert!(said.contains("in another order; they are matched by name"), "{said}");
    let (_, said) = top1(&["eval", "run", "--data", "some.toml"]);
    assert!(said.contains("note: the data has 3 of the 4 classes of run"), "{said}");

    // A head for them starts from the same weights.
    let tune = ["train", "all.toml", "--init", "run", "--out", "tuned", "--set", "train.steps=1"];
    let output = place.matformer(&tune).ok();
    assert!(output.stderr.contains("the head starts from the weights"), "{output}");
    let (tuned, _) = top1(&["eval", "tuned"]);
    assert!(tuned > 0.8, "{tuned}");

    // A model without names: the order is taken, and said.
    let mut config = place.read_json("run/config.json");
    config.as_object_mut().unwrap().remove("label2id");
    for (class, name) in config["id2label"].as_object_mut().unwrap() {
        *name = format!("LABEL_{class}").into();
    }
    place.write("run/config.json", config.to_string());
    let (_, said) = top1(&["eval", "run", "--data", "all.toml"]);
    assert!(said.contains("have no names; they are taken in the order of the data's"), "{said}");
}
