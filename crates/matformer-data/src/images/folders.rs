//! A folder per class: `CLASS/…`, or `train/CLASS/…` beside a folder of held-out images.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use image::ImageFormat;

use super::ImageError;
use super::found::{Found, ImageLayout, Images};
use super::listing::{Listed, Listing};
use crate::Result;
use crate::format::suffix;

const TRAIN: &str = "train";
/// Folders of held-out images; the first that has any is taken.
const HELD_OUT: [&str; 3] = ["val", "validation", "test"];
/// Files that are images by their name, whether or not they can be decoded. One that cannot is a
/// bad image; any other file without a known content is none.
const SUFFIXES: [&str; 12] = [
    "png", "jpg", "jpeg", "jpe", "jfif", "webp", // decoded
    "gif", "bmp", "tif", "tiff", "avif", "heic",
];

/// The images of each class in `listing`. Without any there is no class.
///
/// # Errors
/// [`ImageError::UnknownClass`].
pub(super) fn find(listing: &Listing) -> Result<Found> {
    let images: Vec<&Listed> =
        listing.files.iter().filter(|file| is_image(&listing.path(file), file)).collect();
    let top = top(&images);
    let trained = format!("{top}{TRAIN}/");
    let split = by_class(&images, &trained);
    // Images right in `train` are those of a class of that name.
    let (all, held_out) = match split.is_empty() {
        true => (by_class(&images, &top), None),
        false => (split, held_out(&images, &top)),
    };
    let classes: Vec<String> = all.keys().cloned().collect();
    let train = labelled(listing, all, &classes, "")?;
    let held_out = match held_out {
        Some((folder, images)) => Some(labelled(listing, images, &classes, &folder)?),
        None => None,
    };
    let used = train.len() + held_out.as_ref().map_or(0, Images::len);
    let ignored = listing.files.len() - used;
    let (layout, folders) = (ImageLayout::Folders, Vec::new());
    Ok(Found { layout, classes, train, held_out, ignored, folders })
}

/// The files of each class.
type ByClass = BTreeMap<String, Vec<Listed>>;

/// The folder that `train` lies in, with a `/` behind it: the root (nothing), or the one folder in
/// it, and so on, as archives are unpacked. The root where there is no `train`.
fn top(images: &[&Listed]) -> String {
    let mut top = String::new();
    loop {
        let folder_in_top = |file: &&Listed| {
            let name = file.name();
            Some(name.strip_prefix(&top)?.split_once('/')?.0.to_owned())
        };
        let below: BTreeSet<String> = images.iter().filter_map(folder_in_top).collect();
        let mut folders = below.iter();
        match (folders.next(), folders.next()) {
            _ if below.contains(TRAIN) => return top,
            (Some(only), None) => top = format!("{top}{only}/"),
            _ => return String::new(),
        }
    }
}

/// The images below `folder` by the folder in it that they lie in; those right in it have none.
fn by_class(images: &[&Listed], folder: &str) -> ByClass {
    let mut classes = ByClass::new();
    for file in images {
        let name = file.name();
        if let Some((class, _)) = name.strip_prefix(folder).and_then(|name| name.split_once('/')) {
            classes.entry(class.to_owned()).or_default().push((*file).clone());
        }
    }
    classes
}

/// The held-out images beside `train`, and their folder.
fn held_out(images: &[&Listed], top: &str) -> Option<(String, ByClass)> {
    let mut there = HELD_OUT.into_iter().filter_map(|name| {
        let folder = format!("{top}{name}/");
        let classes = by_class(images, &folder);
        (!classes.is_empty()).then_some((folder, classes))
    });
    let first = there.next()?;
    for (folder, _) in there {
        tracing::warn!("`{folder}` is not read: `{}` has the held-out images", first.0);
    }
    Some(first)
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
            return Err(ImageError::UnknownClass { path, class }.into());
        };
        files.extend(images.into_iter().map(|file| (file, label as u32)));
    }
    Ok(Images::files(&listing.root, files))
}

/// Whether a file is an image, by its name or else by its content.
fn is_image(path: &Path, file: &Listed) -> bool {
    SUFFIXES.contains(&suffix(&file.inside).as_str()) || {
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

    /// Classes, images to train on, held-out images, and how many files were ignored.
    fn found(place: &Place) -> (Vec<String>, Labelled, Labelled, usize) {
        let found = find(&Listing::of(&place.root(), &mut PassedOver::default()).unwrap()).unwrap();
        let list = |images: &Images| {
            (0..images.len()).map(|index| (images.name(index), images.labels[index])).collect()
        };
        let held_out = found.held_out.as_ref().map(list).unwrap_or_default();
        (found.classes, list(&found.train), held_out, found.ignored)
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
