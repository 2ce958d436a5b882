//! A folder per class: `CLASS/…`, or `train/CLASS/…` beside a folder of held-out images.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use image::ImageFormat;

use super::UnreadFolder;
use super::found::{Found, ImageLayout, Images, composed};
use super::listing::{Listed, Listing};
use crate::format::suffix;
use crate::{Error, Result, walk};

/// Names of the folder of training images, in any case; the first that is there is taken.
const TRAIN: [&str; 2] = ["train", "training"];
/// Names of the folder of a validation set: the held-out images.
const VALIDATION: [&str; 5] = ["val", "valid", "validation", "dev", "eval"];
/// Names of the folder of a test set: held out where there is no validation set.
const TEST: [&str; 2] = ["test", "testing"];
/// Files that are images by their name, whether or not they can be decoded. One that cannot is a
/// bad image; any other file without a known content is none.
const SUFFIXES: [&str; 12] = [
    "png", "jpg", "jpeg", "jpe", "jfif", "webp", // decoded
    "gif", "bmp", "tif", "tiff", "avif", "heic",
];

/// The images of each class in `listing`. Without any there is no class.
///
/// # Errors
/// [`Error::Images`].
pub(super) fn find(listing: &Listing) -> Result<Found> {
    let images: Vec<&Listed> =
        listing.files.iter().filter(|file| is_image(&listing.path(file), file)).collect();
    let top = top(&images);
    let mut beside = folders(&images, &top);
    // Images right in `train` are those of a class of that name.
    let split = |names: &[&str]| {
        let named = beside.keys().filter_map(|folder| {
            let place = names.iter().position(|name| folder.to_lowercase() == *name)?;
            let images = by_class(&images, &format!("{top}{folder}/"));
            (!images.is_empty()).then_some((place, folder.clone(), images))
        });
        // As they are usually written, first.
        let key = |folder: &String| (folder.to_lowercase() != *folder, folder.clone());
        named.min_by_key(|(place, folder, _)| (*place, key(folder))).map(|(_, f, i)| (f, i))
    };
    let validation = split(&VALIDATION);
    let held_out = validation.or_else(|| split(&TEST));
    let (train, held_out) = match split(&TRAIN) {
        Some((folder, train)) => {
            beside.remove(&folder);
            (train, held_out)
        }
        None => {
            let is_held_out = |folder: &String| {
                [&VALIDATION[..], &TEST].concat().contains(&folder.to_lowercase().as_str())
            };
            if let Some((folder, _)) = held_out.filter(|_| beside.keys().all(is_held_out)) {
                let folder = listing.root.join(format!("{top}{folder}"));
                let (root, folder) = (listing.root.display(), folder.display());
                let expected = "training images in a folder `train` beside it";
                return Err(Error::images(
                    format!("`{root}` has held-out images in `{folder}`, expected: {expected}"),
                    "to train on these images, name their folder in `data.path`",
                ));
            }
            let is_split = |folder: &String| {
                is_held_out(folder) || TRAIN.contains(&folder.to_lowercase().as_str())
            };
            if beside.len() > 1 && beside.keys().all(is_split) {
                let (root, expected) =
                    (listing.root.display(), "expected: a folder per class in each");
                let folders: Vec<_> = beside.keys().map(|f| format!("`{top}{f}/`")).collect();
                let folders = folders.join(", ");
                return Err(Error::images(
                    format!("`{root}`: images lie right in {folders}, {expected}"),
                    "a class is told by its folder: `train/CLASS/1.jpg`, `test/CLASS/2.jpg`",
                ));
            }
            let holds_runs = |folder: &String| holds_models(&listing.root.join(&top).join(folder));
            let runs: Vec<String> = beside.keys().filter(|f| holds_runs(f)).cloned().collect();
            let mut train = by_class(&images, &top);
            train.retain(|class, _| !runs.iter().any(|folder| composed(folder) == *class));
            beside.retain(|folder, _| runs.contains(folder));
            (train, None)
        }
    };
    let classes: Vec<String> = train.keys().cloned().collect();
    let train = labelled(listing, train, &classes, "")?;
    let (mut own, mut held_out_folder) = (None, None);
    if let Some((folder, images)) = held_out {
        beside.remove(&folder);
        let folder = format!("{top}{folder}/");
        own = Some(labelled(listing, images, &classes, &folder)?);
        held_out_folder = Some(folder);
    }
    let unread: Vec<UnreadFolder> = beside
        .into_iter()
        .map(|(folder, images)| UnreadFolder { name: format!("{top}{folder}/"), images })
        .collect();
    let used = train.len() + own.as_ref().map_or(0, Images::len);
    let ignored = listing.files.len() - used - unread.iter().map(|f| f.images).sum::<usize>();
    let found = Found::new(ImageLayout::Folders, classes, train, own);
    Ok(Found { held_out_folder, unread, ignored, ..found })
}

/// The files of each class.
type ByClass = BTreeMap<String, Vec<Listed>>;

/// The folder that `train` lies in, with a `/` behind it: the root (nothing), or the one folder in
/// it, and so on, as archives are unpacked. The root where there is no `train`.
fn top(images: &[&Listed]) -> String {
    let mut top = String::new();
    loop {
        let below = folders(images, &top);
        let mut names = below.keys();
        let is_train = |name: &String| TRAIN.contains(&name.to_lowercase().as_str());
        match (names.next(), names.next()) {
            _ if below.keys().any(is_train) => return top,
            (Some(only), None) => top = format!("{top}{only}/"),
            _ => return String::new(),
        }
    }
}

/// The folders right in `folder`, with the number of images below each.
fn folders(images: &[&Listed], folder: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for file in images {
        let name = file.name();
        if let Some((inside, _)) = name.strip_prefix(folder).and_then(|name| name.split_once('/')) {
            *found.entry(inside.to_owned()).or_default() += 1;
        }
    }
    found
}

/// The images below `folder` by the folder in it that they lie in; those right in it have none.
fn by_class(images: &[&Listed], folder: &str) -> ByClass {
    let mut classes = ByClass::new();
    for file in images {
        let name = file.name();
        if let Some((class, _)) = name.strip_prefix(folder).and_then(|name| name.split_once('/')) {
            classes.entry(composed(class)).or_default().push((*file).clone());
        }
    }
    classes
}

/// Whether models or training runs lie right in a folder: then it is no class.
fn holds_models(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| path.is_dir() && walk::is_model(&path))
}

/// The images with the places of their classes in `classes`.
fn labelled(
    listing: &Listing,
    images: ByClass,
    classes: &[String],
    folder: &str,
) -> Result<Images> {
    let mut files = Vec::new();
    for (class, images) in images {
        let Ok(label) = classes.binary_search(&class) else {
            let path = listing.root.join(folder);
            let problem =
                format!("`{}` has a class `{class}`, which is not in `train`", path.display());
            let hint = "give the class training images, or move its folder away";
            return Err(Error::images(problem, hint));
        };
        files.extend(images.into_iter().map(|file| (file, label as u32)));
    }
    Ok(Images::files(&listing.root, files))
}

/// Whether a file is an image by its name.
pub(super) fn has_image_suffix(path: &Path) -> bool {
    SUFFIXES.contains(&suffix(path).as_str())
}

/// Whether a file is an image, by its name or else by its content.
fn is_image(path: &Path, file: &Listed) -> bool {
    has_image_suffix(&file.inside) || {
        let mut start = Vec::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
        read.is_ok()
            && matches!(
                image::guess_format(&start),
                Ok(ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)
            )
    }
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma};

    use super::super::testing::{Place, encode, png};
    use super::*;
    use crate::PassedOver;

    fn made(names: &[&str]) -> Place {
        let place = Place::new();
        for (grey, name) in names.iter().enumerate() {
            place.write(name, png(4, [grey as u8; 3]));
        }
        place
    }

    type Labelled = Vec<(String, u32)>;

    /// Classes, images to train on, held-out images, and how many files were ignored, also in folders
    /// that were not read.
    fn found(place: &Place) -> (Vec<String>, Labelled, Labelled, usize) {
        let found = find(&Listing::of(&place.root(), &mut PassedOver::default()).unwrap()).unwrap();
        let list = |images: &Images| {
            (0..images.len()).map(|index| (images.name(index), images.labels[index])).collect()
        };
        let held_out = found.held_out.as_ref().map(list).unwrap_or_default();
        let unread: usize = found.unread.iter().map(|folder| folder.images).sum();
        (found.classes, list(&found.train), held_out, found.ignored + unread)
    }

    fn pairs(list: &[(&str, u32)]) -> Labelled {
        list.iter().map(|(name, label)| ((*name).to_owned(), *label)).collect()
    }

    #[test]
    fn folders_are_classes_and_what_is_below_belongs_to_them() {
        let place =
            made(&["b/2.png", "b/sub/er/1.png", "a/3.png", "c d/.x.png", "stray.png", "c d/4.JPG"]);
        place.write("a/notes.txt", "no image");
        let (classes, train, held_out, ignored) = found(&place);
        assert_eq!(classes, ["a", "b", "c d"]);
        let expected = [("a/3.png", 0), ("b/2.png", 1), ("b/sub/er/1.png", 1), ("c d/4.JPG", 2)];
        assert_eq!(train, pairs(&expected));
        assert_eq!((held_out, ignored), (vec![], 2));
    }

    #[test]
    fn train_stands_beside_held_out_images() {
        for (own, other) in [("val", "test"), ("validation", "test"), ("test", "other")] {
            let place = made(&[
                "in/here/train/b/1.png",
                "in/here/train/a/2.png",
                &format!("in/here/{own}/b/3.png"),
                &format!("in/here/{other}/b/4.png"),
                "in/here/train/5.png",
            ]);
            let (classes, train, held_out, ignored) = found(&place);
            assert_eq!(classes, ["a", "b"]);
            let expected = [("in/here/train/a/2.png", 0), ("in/here/train/b/1.png", 1)];
            assert_eq!(train, pairs(&expected));
            assert_eq!(held_out, pairs(&[(&format!("in/here/{own}/b/3.png"), 1)]));
            assert_eq!(ignored, 2);
        }
    }

    #[test]
    fn splits_are_known_by_their_usual_names_in_any_case() {
        for (train, own, other) in [
            ("Train", "Test", None),
            ("training", "TESTING", None),
            ("TRAIN", "valid", Some("Test")),
            ("train", "Validation", Some("test")),
            ("Training", "dev", Some("testing")),
            ("train", "eval", Some("TEST")),
            // The first of two names.
            ("train", "val", Some("dev")),
        ] {
            let place = made(&[
                &format!("{train}/a/1.png"),
                &format!("{train}/b/2.png"),
                &format!("{own}/a/3.png"),
                "extra/a/4.png",
            ]);
            if let Some(other) = other {
                place.write(&format!("{other}/b/5.png"), png(4, [5; 3]));
            }
            let listing = Listing::of(&place.root(), &mut PassedOver::default()).unwrap();
            let found = find(&listing).unwrap();
            assert_eq!(found.classes, ["a", "b"]);
            assert_eq!(found.held_out_folder, Some(format!("{own}/")));
            assert_eq!(found.held_out.unwrap().name(0), format!("{own}/a/3.png"));
            let mut unread: Vec<String> = found.unread.iter().map(ToString::to_string).collect();
            unread.sort();
            let mut expected = vec!["`extra/` (1 image)".to_owned()];
            expected.extend(other.map(|other| format!("`{other}/` (1 image)")));
            expected.sort();
            assert_eq!(unread, expected);
        }
        let message = made(&["val/a/1.png", "val/b/2.png", "Test/a/3.png"]).refused();
        assert!(message.contains("expected: training images in a folder `train`"), "{message}");
    }

    #[test]
    fn class_names_are_composed() {
        let place = made(&["train/cafe\u{301}/1.png", "train/tea/2.png", "val/caf\u{e9}/3.png"]);
        let (classes, _, held_out, _) = found(&place);
        assert_eq!(classes, ["caf\u{e9}", "tea"]);
        assert_eq!(held_out[0].1, 0);
    }

    #[test]
    fn a_folder_of_runs_is_no_class() {
        let place = made(&["a/1.png", "b/2.png", "runs/plot.png", "runs/x/report/3.png"]);
        place.write("runs/x/matformer.json", "{}");
        let listing = Listing::of(&place.root(), &mut PassedOver::default()).unwrap();
        let found = find(&listing).unwrap();
        assert_eq!((found.classes, found.train.len()), (vec!["a".into(), "b".into()], 2));
        let unread: Vec<String> = found.unread.iter().map(ToString::to_string).collect();
        assert_eq!(unread, ["`runs/` (1 image)"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed() {
        let (place, far) = (made(&["a/1.png"]), made(&["b/2.png", "c/3.png"]));
        let link = |to: &str, name: &str| {
            std::os::unix::fs::symlink(far.path(to), place.path(name)).unwrap();
        };
        link("b", "b");
        link("c/3.png", "a/3.png");
        std::os::unix::fs::symlink(place.root(), place.path("a/up")).unwrap();
        let (_, train, ..) = found(&place);
        assert_eq!(train, pairs(&[("a/1.png", 0), ("a/3.png", 0), ("b/2.png", 1)]));
    }

    #[test]
    fn splits_without_classes_are_no_classes() {
        let message = made(&["set/train/1.jpg", "set/train/2.jpg", "set/test/3.jpg"]).refused();
        assert!(
            message.ends_with(
                "`: images lie right in `set/test/`, `set/train/`, expected: a folder per class in each"
            ),
            "{message}"
        );
    }

    #[test]
    fn a_class_may_be_called_train() {
        let (classes, train, ..) = found(&made(&["train/1.png", "bus/2.png", "test/3.png"]));
        assert_eq!((classes.len(), train.len()), (3, 3));
        // Held-out images without classes are none.
        let (classes, train, held_out, ignored) =
            found(&made(&["train/a/1.png", "train/b/2.png", "test/3.png"]));
        assert_eq!((classes.len(), train.len(), held_out.len(), ignored), (2, 2, 0, 1));
    }

    #[test]
    fn an_image_is_known_by_its_name_or_its_content() {
        let place = made(&["a/1.png", "b/no-suffix"]);
        let grey = GrayImage::from_pixel(4, 4, Luma([7])).into();
        place.write("b/x.dat", encode(&grey, ImageFormat::WebP));
        place.write("b/y.dat", encode(&grey, ImageFormat::Jpeg));
        place.write("b/Thumbs.db", "\x01\x02");
        place.write("b/empty", "");
        place.write("b/damaged.webp", "RIFF");
        place.write("b/other.gif", "GIF89a");
        let (_, train, _, ignored) = found(&place);
        let names: Vec<&str> = train.iter().map(|(name, _)| name.as_str()).collect();
        let expected =
            ["a/1.png", "b/damaged.webp", "b/no-suffix", "b/other.gif", "b/x.dat", "b/y.dat"];
        assert_eq!((names, ignored), (expected.to_vec(), 2));
    }

    #[test]
    fn what_cannot_be_told_apart_is_refused() {
        let place = made(&[]);
        place.write("notes/a.txt", "text");
        let said = |place: &Place| {
            let error = place.prepare(4, 1).unwrap_err();
            (error.to_string().replace(&place.root().display().to_string(), "DATA"), error.hint())
        };
        let (message, hint) = said(&place);
        assert_eq!(message, "no images in `DATA`");
        assert!(hint.unwrap().contains("a folder per class"));
        let (message, _) = said(&made(&["1.png", "2.png"]));
        assert_eq!(message, "no images in `DATA`");
        let (message, hint) = said(&made(&["set/a/1.png", "set/b/2.png"]));
        assert_eq!(message, "`DATA` has images of one class, `set`, expected: at least two");
        assert!(hint.unwrap().contains("name the folder"));
        let place = made(&["train/a/1.png", "train/b/2.png", "val/c/3.png"]);
        assert_eq!(place.refused(), "`val/` has a class `c`, which is not in `train`");
    }
}
