//! Folders of images through [`prepare_images`] and back.

use image::{GrayImage, ImageFormat, Luma};

use super::testing::{Place, encode, huge_png, idx, png};
use super::*;
use crate::{Error, Progress, Stage};

/// Two classes of `each` images, named by their grey.
fn made(each: u8) -> Place {
    let place = Place::new();
    for grey in 0..each {
        place.write(&format!("a/{grey}.png"), png(4, [grey; 3]));
        place.write(&format!("b/{grey}.png"), png(4, [grey ^ 128; 3]));
    }
    place
}

fn images(set: &ImageSet) -> Vec<(usize, u8)> {
    (0..set.len()).map(|index| (set.label(index), set.pixels(index)[0])).collect()
}

fn folders(place: &Place) -> usize {
    let tag = |entry: &std::fs::DirEntry| entry.file_name() == matformer_core::fs::CACHE_TAG;
    let entries = std::fs::read_dir(place.cache()).into_iter().flatten().flatten();
    entries.filter(|entry| !tag(entry)).count()
}

#[test]
fn every_image_is_in_one_split() {
    let place = made(20);
    let prepared = place.prepare(4, 1).unwrap();
    let summary = &prepared.summary;
    assert_eq!((summary.train.images, summary.held_out.images), (36, 4));
    assert_eq!((summary.size, summary.channels, summary.own_held_out), (4, 1, false));
    assert_eq!((summary.skipped.images, summary.ignored), (0, 0));
    assert_eq!(summary.layout, ImageLayout::Folders);
    let held_out = images(&prepared.held_out().unwrap());
    assert_eq!(held_out.iter().filter(|(label, _)| *label == 0).count(), 2);
    let mut all = [images(&prepared.train().unwrap()), held_out].concat();
    all.sort_unstable();
    let expected = (0..20).map(|grey| (0, grey)).chain((128..148).map(|grey| (1, grey)));
    assert!(all.into_iter().eq(expected));
}

#[test]
fn a_folder_is_reused_until_its_images_or_what_is_made_of_them_change() {
    let place = made(5);
    let config = ImageConfig { held_out: 0.4, ..place.config() };
    let first = place.prepare_with(&config, 4, 1).unwrap();
    assert!(!first.reused);
    let again = place.prepare_with(&config, 4, 1).unwrap();
    assert!(again.reused);
    assert_eq!((again.dir(), &again.summary), (first.dir(), &first.summary));
    assert_eq!(PreparedImages::open(first.dir()).unwrap().summary, first.summary);
    // Nobody is strict about images that are good.
    let strict = ImageConfig { strict: true, ..config.clone() };
    assert!(place.prepare_with(&strict, 4, 1).unwrap().reused);

    let mut others = vec![first.data_hash()];
    let mut other = |prepared: PreparedImages| {
        assert!(!prepared.reused && !others.contains(&prepared.data_hash()));
        others.push(prepared.data_hash());
    };
    other(place.prepare_with(&config, 4, 3).unwrap());
    other(place.prepare_with(&config, 7, 1).unwrap());
    other(place.prepare_with(&ImageConfig { held_out: 0.2, ..config.clone() }, 4, 1).unwrap());
    place.write("a/0.png", png(4, [50; 3]));
    other(place.prepare_with(&config, 4, 1).unwrap());
    std::fs::rename(place.path("b"), place.path("c")).unwrap();
    other(place.prepare_with(&config, 4, 1).unwrap());
    // A folder each, and nothing half-made.
    assert_eq!(folders(&place), others.len());
}

#[test]
fn the_same_images_have_the_same_hash_anywhere() {
    let prepared = [made(10), made(10)].map(|place| {
        let prepared = place.prepare(4, 3).unwrap();
        let files = ["train.bin", "held_out.bin"]
            .map(|file| std::fs::read(prepared.dir().join(file)).unwrap());
        (prepared.data_hash(), files)
    });
    assert_eq!(prepared[0], prepared[1]);
}

#[test]
fn images_of_one_size_are_kept_and_others_get_a_margin() {
    let place = made(5);
    assert_eq!(place.prepare(4, 1).unwrap().summary.size, 4);
    for grey in 0..5 {
        place.write(&format!("a/5-{grey}.png"), png(5, [grey + 90; 3]));
        place.write(&format!("b/6-{grey}.png"), png(6, [grey + 80; 3]));
    }
    assert_eq!(place.prepare(4, 1).unwrap().summary.size, 5);
    assert_eq!(place.prepare(14, 1).unwrap().summary.size, 16);
}

#[test]
fn one_odd_image_does_not_change_the_others() {
    let place = made(5);
    let before = images(&place.prepare(4, 1).unwrap().train().unwrap());
    let wide = GrayImage::from_fn(9, 5, |x, _| Luma([if x < 1 { 0 } else { 200 }]));
    place.write("a/wide.png", encode(&wide.into(), ImageFormat::Png));
    let prepared = place.prepare(4, 1).unwrap();
    let pixels = &prepared.summary.pixels;
    assert_eq!((prepared.summary.size, pixels.as_they_are, pixels.resized), (4, 10, 1));
    assert_eq!(pixels.most[0].to_string(), "1 of 9×5");
    let after = [prepared.train().unwrap(), prepared.held_out().unwrap()].map(|set| images(&set));
    assert!(before.iter().all(|image| after.concat().contains(image)));
    assert!(after.concat().contains(&(0, 200)), "its middle");
}

#[test]
fn a_size_that_is_known_is_taken_and_found_again() {
    let place = made(5);
    let shape = ImageShape { size: 4, channels: 1 };
    let prepare =
        |kept| prepare_images(&place.config(), shape, kept, &place.cache(), &mut |_| {}).unwrap();
    let first = prepare(None);
    let again = prepare(Some(4));
    assert_eq!((again.dir(), again.reused), (first.dir(), true));
    let wider = prepare(Some(6));
    assert_eq!((wider.summary.size, wider.reused), (6, false));
    assert!(prepare(Some(6)).reused && prepare(None).summary.size == 4);
}

#[test]
fn copies_are_in_one_split_and_counted() {
    let place = Place::new();
    // Each image four times, once in another format.
    for grey in 0..20 {
        for copy in 0..3 {
            place.write(&format!("a/{grey}-{copy}.png"), png(4, [grey; 3]));
        }
        let image = GrayImage::from_pixel(4, 4, Luma([grey])).into();
        place.write(&format!("a/{grey}.webp"), encode(&image, ImageFormat::WebP));
        place.write(&format!("b/{grey}.png"), png(4, [grey + 100; 3]));
    }
    place.write("b/same.png", png(4, [7; 3]));
    let prepared = place.prepare(4, 1).unwrap();
    let copies = &prepared.summary.copies;
    assert_eq!((copies.images, copies.dropped, copies.in_both), (61, 0, 0));
    assert_eq!(copies.in_two_classes, 1);
    assert_eq!(copies.of_two_classes[0].to_string(), "`a/7-0.png` and `b/same.png`");
    let [train, held_out] = [prepared.train().unwrap(), prepared.held_out().unwrap()]
        .map(|set| images(&set).into_iter().map(|(_, grey)| grey).collect::<Vec<_>>());
    assert!(held_out.iter().all(|grey| !train.contains(grey)), "{held_out:?}");
    // Two of twenty, four times each, and two of the other class.
    assert_eq!(held_out.iter().filter(|grey| **grey < 100).count() % 4, 0);
    assert!((8..=11).contains(&held_out.len()), "{held_out:?}");
}

#[test]
fn held_out_images_that_are_training_images_are_dropped() {
    let place = Place::new();
    for grey in 0..6 {
        place.write(&format!("train/a/{grey}.png"), png(4, [grey; 3]));
        place.write(&format!("train/b/{grey}.png"), png(4, [grey + 100; 3]));
        place.write(&format!("val/a/{grey}.png"), png(4, [grey + 4; 3]));
    }
    let prepared = place.prepare(4, 1).unwrap();
    let copies = &prepared.summary.copies;
    assert_eq!((copies.images, copies.dropped, prepared.summary.held_out.images), (2, 2, 4));
    assert_eq!(copies.first.as_ref().unwrap().to_string(), "`train/a/4.png` and `val/a/0.png`");
    assert_eq!(prepared.summary.held_out_folder.as_deref(), Some("val/"));
    // Nothing but copies.
    for grey in 2..6 {
        std::fs::remove_file(place.path(&format!("val/a/{grey}.png"))).unwrap();
    }
    let message =
        "no image is left for `held_out` out of 14; 2 held-out images are training images too";
    assert_eq!(place.refused(), message);
}

#[test]
fn a_published_set_is_kept_whole() {
    let place = Place::new();
    for (split, greys) in [("train", [1, 2, 3]), ("t10k", [3, 4, 5])] {
        let pixels: Vec<u8> = greys.iter().flat_map(|grey| [*grey; 16]).collect();
        place.write(&format!("{split}-images-idx3-ubyte"), idx(&[0x803, 3, 4, 4], &pixels));
        place.write(&format!("{split}-labels-idx1-ubyte"), idx(&[0x801, 3], &[0, 1, 0]));
    }
    let prepared = place.prepare(4, 1).unwrap();
    let copies = &prepared.summary.copies;
    assert_eq!((copies.dropped, copies.in_both, prepared.summary.held_out.images), (0, 1, 3));
}

#[test]
fn files_of_many_images_are_found_without_being_read() {
    let place = Place::new();
    let write = |greys: [u8; 6]| {
        let pixels: Vec<u8> = greys.iter().flat_map(|grey| [*grey; 16]).collect();
        place.write("train-images-idx3-ubyte", idx(&[0x803, 6, 4, 4], &pixels));
    };
    write([1, 2, 3, 4, 5, 6]);
    place.write("train-labels-idx1-ubyte", idx(&[0x801, 6], &[0, 1, 0, 1, 0, 1]));
    let config = ImageConfig { held_out: 0.4, ..place.config() };
    let prepare = || place.prepare_with(&config, 4, 1).unwrap();
    let first = prepare();
    let path = place.path("train-images-idx3-ubyte");
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    let touch = |time| {
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    };
    write([11, 12, 13, 14, 15, 16]);
    touch(time);
    let again = prepare();
    assert!(again.reused && again.dir() == first.dir(), "nobody has looked into it");
    touch(time + std::time::Duration::from_secs(1));
    let other = prepare();
    assert!(!other.reused && other.data_hash() != first.data_hash());
}

#[test]
fn a_file_without_its_end_is_used_and_counted() {
    let place = made(5);
    let jpeg = encode(&GrayImage::from_pixel(4, 4, Luma([200])).into(), ImageFormat::Jpeg);
    place.write("a/unended.jpg", &jpeg[..jpeg.len() - 2]);
    let whole = png(4, [220; 3]);
    place.write("b/unended.png", &whole[..whole.len() - 12]);
    let summary = place.prepare(4, 1).unwrap().summary;
    assert_eq!((summary.skipped.images, summary.unended.images), (0, 2));
    assert_eq!(summary.unended.first.as_deref(), Some("a/unended.jpg"));
}

#[test]
fn progress_goes_to_its_end() {
    let place = made(200);
    place.write("a/bad.png", "no image");
    let mut seen = Vec::new();
    let shape = ImageShape { size: 4, channels: 1 };
    prepare_images(&place.config(), shape, None, &place.cache(), &mut |at| seen.push(at)).unwrap();
    assert_eq!(seen[0], Progress { stage: Stage::Images, done: 0, total: 0 });
    assert!(seen.iter().all(|at| at.stage == Stage::Images));
    assert!(seen[1..].is_sorted_by_key(|at| at.done) && seen.len() == 402);
    let bytes: u64 = walkdir::WalkDir::new(place.root())
        .into_iter()
        .map(|entry| entry.unwrap().metadata().unwrap())
        .filter(|about| about.is_file())
        .map(|about| about.len())
        .sum();
    let last = seen.last().unwrap();
    assert_eq!((last.done, last.total), (bytes as usize, bytes as usize));
}

#[test]
fn a_few_bad_images_are_named_and_skipped() {
    let place = made(150);
    place.write("a/bad.png", "no image");
    place.write("b/cut.png", &png(4, [0; 3])[..40]);
    place.write("b/huge.png", huge_png());
    let prepared = place.prepare(4, 1).unwrap();
    let Skipped { images, first } = &prepared.summary.skipped;
    let named: Vec<&str> = first.iter().map(|image| image.name.as_str()).collect();
    assert_eq!((*images, named), (3, vec!["a/bad.png", "b/cut.png", "b/huge.png"]));
    assert_eq!(first[0].to_string(), "`a/bad.png`: it is no PNG, JPEG or WebP");
    let reason = "20000 by 30000 pixels, expected: 1 to 64000000 pixels";
    assert_eq!(first[2].reason, reason);
    let left = prepared.summary.train.images + prepared.summary.held_out.images;
    assert_eq!(left, 300);

    // Strict, whether or not it was prepared before.
    let strict = ImageConfig { strict: true, ..place.config() };
    let error = place.prepare_with(&strict, 4, 1).unwrap_err();
    let message = place.message(&error);
    assert!(
        message.starts_with(
            "3 images are bad out of 303, `data.strict` allows none:\n  `a/bad.png`: "
        ),
        "{message}"
    );
    std::fs::remove_dir_all(place.cache()).unwrap();
    let error = place.prepare_with(&strict, 4, 1).unwrap_err();
    assert_eq!(place.message(&error), message, "all are counted, few as they are");
    assert!(error.hint().unwrap().contains("data.strict"));
    assert_eq!(folders(&place), 0);
}

#[test]
fn too_many_bad_images_are_an_error() {
    let place = made(150);
    for number in 0..8 {
        place.write(&format!("b/x{number}.png"), "no image");
    }
    let config = ImageConfig { held_out: 0.001, ..place.config() };
    let error = place.prepare_with(&config, 4, 1).unwrap_err();
    // 3.08 of 308 may be bad; reading ends once five can be named. No class has an image to hold out.
    let message = place.message(&error);
    assert!(
        message.starts_with(
            "at least 5 images are bad out of 308, more than `data.max_bad_images` = 0.01 allows:\n  \
             `b/x0.png`: it is no PNG, JPEG or WebP\n  `b/x1.png`: "
        ),
        "{message}"
    );
    assert_eq!(message.lines().count(), 6);
    assert!(error.hint().unwrap().contains("data.max_bad_images"));
    assert_eq!(folders(&place), 0);
    let more = ImageConfig { max_bad_images: 0.05, ..place.config() };
    assert_eq!(place.prepare_with(&more, 4, 1).unwrap().summary.skipped.images, 8);
    // What was prepared under another limit is checked again.
    let error = place.prepare(4, 1).unwrap_err().to_string();
    assert!(error.starts_with("at least 8 images are bad out of 308, more than"), "{error}");
}

#[test]
fn a_class_without_held_out_images_is_in_the_summary() {
    let place = Place::new();
    for grey in 0..10 {
        place.write(&format!("train/a/{grey}.png"), png(4, [grey; 3]));
        place.write(&format!("train/b/{grey}.png"), png(4, [grey; 3]));
    }
    place.write("val/b/1.png", png(4, [77; 3]));
    let prepared = place.prepare(4, 1).unwrap();
    assert_eq!(prepared.summary.held_out.empty_classes, ["a"]);
    assert!(prepared.summary.train.empty_classes.is_empty());
    assert_eq!(images(&prepared.held_out().unwrap()), [(1, 77)]);
}

#[test]
fn an_empty_split_is_an_error() {
    let place = made(4);
    assert_eq!(place.refused(), "no image is left for `held_out` out of 8");
    let error = place.prepare(4, 1).unwrap_err();
    assert!(error.hint().unwrap().contains("data.held_out"));
    let most = ImageConfig { held_out: 0.99, ..place.config() };
    let error = place.prepare_with(&most, 4, 1).unwrap_err();
    assert_eq!(error.to_string(), "no image is left for `train` out of 8");
}

#[test]
fn paths_that_are_no_folder_are_named() {
    let place = Place::new();
    place.write("file.png", png(4, [0; 3]));
    let said = |name: &str| {
        let config = ImageConfig { path: Some(place.path(name).into()), ..place.config() };
        let error = place.prepare_with(&config, 4, 1).unwrap_err();
        (place.message(&error), error.hint())
    };
    assert_eq!(said("nowhere").0, "cannot read `nowhere`");
    let (message, hint) = said("file.png");
    assert_eq!(message, "`file.png` is a file, expected: a folder of images");
    assert!(hint.is_some());
    let unknown = ImageConfig { path: Some("fetch:poems".parse().unwrap()), ..place.config() };
    let error = place.prepare_with(&unknown, 4, 1).unwrap_err();
    assert!(matches!(error, Error::Unresolved { .. }), "{error}");
}

#[test]
fn a_damaged_folder_is_an_error_with_a_hint() {
    let place = made(10);
    let prepared = place.prepare(4, 1).unwrap();
    let file = prepared.dir().join("train.bin");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let error = place.prepare(4, 1).unwrap().train().unwrap_err();
    let message = error.to_string();
    assert!(
        message.ends_with("359 bytes of pixels and labels, expected: 360 (the header's count)"),
        "{message}"
    );
    let folder = prepared.dir().display().to_string();
    assert!(error.hint().unwrap().starts_with(&format!("remove `{folder}`; ")));
    // A good file of another folder.
    std::fs::copy(prepared.dir().join("held_out.bin"), &file).unwrap();
    let message = prepared.train().unwrap_err().to_string();
    assert!(message.ends_with("images 2, expected: 18 (`summary.json`)"), "{message}");

    let summary = prepared.dir().join("summary.json");
    let text = std::fs::read_to_string(&summary).unwrap();
    let newer = text.replace("\"format_version\": 4", "\"format_version\": 99");
    std::fs::write(&summary, newer).unwrap();
    let error = place.prepare(4, 1).unwrap_err();
    assert!(error.to_string().ends_with("format version 99, expected: 4"), "{error}");
    assert!(error.hint().unwrap().starts_with(&format!("remove `{folder}`; ")));
}

#[test]
fn a_folder_that_lacks_a_file_is_prepared_again() {
    let place = made(10);
    let first = place.prepare(4, 1).unwrap();
    for file in ["train.bin", "held_out.bin", "summary.json"] {
        std::fs::remove_file(first.dir().join(file)).unwrap();
        let again = place.prepare(4, 1).unwrap();
        assert!(!again.reused);
        assert_eq!((again.dir(), &again.summary), (first.dir(), &first.summary));
        assert_eq!(folders(&place), 1);
    }
}

#[test]
fn folders_are_joined_by_the_names_of_classes_and_images() {
    let place = Place::new();
    for grey in 0..20 {
        for folder in ["one/a", "one/b", "two/a", "two/c"] {
            place.write(&format!("{folder}/{grey}.png"), png(4, [grey; 3]));
        }
    }
    let config = |also: &str| ImageConfig {
        path: Some(place.path("one").into()),
        also: vec![place.path(also).into()],
        held_out: 0.2,
        ..place.config()
    };
    let prepared = place.prepare_with(&config("two"), 4, 1).unwrap();
    assert_eq!(prepared.summary.classes, ["a", "b", "c"]);
    let (set, names) = (prepared.held_out().unwrap(), prepared.held_out_names().unwrap());
    // Four of each class and folder.
    assert_eq!((names.len(), prepared.train_names().unwrap().len()), (16, 64));
    for (index, name) in names.iter().enumerate() {
        let class = set.label(index);
        assert_eq!(name.split('/').nth(1), Some(["a", "b", "c"][class]), "{name}");
        // What is held out of one folder is held out of the other.
        if let Some(image) = name.strip_prefix("one/a/") {
            assert!(names.contains(&format!("two/a/{image}")), "{name}");
        }
    }
    // Two images of one name are a cluster.
    for (index, name) in names.iter().enumerate() {
        let inside = &name[4..];
        let same = names.iter().position(|name| name.ends_with(inside)).unwrap();
        assert_eq!(set.cluster(index), set.cluster(same), "{name}");
        assert!((0..same).all(|other| set.cluster(other) != set.cluster(index)), "{name}");
    }
    let alone = ImageConfig { also: Vec::new(), ..config("two") };
    let alone = place.prepare_with(&alone, 4, 1).unwrap().held_out().unwrap();
    assert_eq!(alone.cluster(0), None);
    place.write("split/train/a/1.png", png(4, [1; 3]));
    place.write("split/train/b/1.png", png(4, [2; 3]));
    place.write("split/val/a/1.png", png(4, [3; 3]));
    let message = place.message(&place.prepare_with(&config("split"), 4, 1).unwrap_err());
    assert_eq!(
        message,
        "`split` cannot be joined with others: expected held-out images of its own or none, as in \
         `data.path`"
    );
}

#[test]
fn one_prepares_images_and_the_others_wait() {
    let place = made(20);
    let reused: Vec<bool> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| place.prepare(8, 3).unwrap().reused)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(reused.iter().filter(|reused| !**reused).count(), 1, "{reused:?}");
}
