//! IDX: the files of MNIST and the sets that took its place.
//!
//! Big-endian: a magic, a count for each dimension, then bytes. Images have the magic `0x00000803`
//! and three dimensions (images, rows, columns), labels `0x00000801` and one. Y. LeCun, C. Cortes and
//! C. Burges, *The MNIST database of handwritten digits*, 1998.

use std::path::Path;

use super::MAX_IMAGE_PIXELS;
use super::decode::Raster;
use super::found::{Found, ImageLayout, Images, class_names};
use super::listing::{Listed, Listing};
use super::packed::{
    Bytes, Packed, PackedFile, is_gzip, missing, too_long, too_short, wrong_label,
};
use crate::{Error, Result};

const TRAIN: [&str; 2] = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"];
const HELD_OUT: [&str; 2] = ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];
const CLASSES: &str = "classes.txt";
const IMAGES: u32 = 0x0803;
const LABELS: u32 = 0x0801;

/// The IDX files in `listing`, if there are any.
///
/// # Errors
/// Two sets, a file that is missing, of another magic or of another length than its header says,
/// labels that are no classes or not as many as images.
pub(super) fn find(listing: &Listing) -> Result<Option<Found>> {
    let [images, _] = TRAIN;
    let Some(folder) = listing.folder_with(&[images, &format!("{images}.gz")])? else {
        return Ok(None);
    };
    let names = listing.get(&folder.join(CLASSES));
    let classes = match names {
        Some(file) => class_names(&listing.path(file))?,
        None => (0..10).map(|class| class.to_string()).collect(),
    };
    let set = Set { listing, folder, classes: classes.len() };
    let train = set.split(TRAIN)?;
    let held_out = match HELD_OUT.iter().any(|name| set.file(name).is_ok()) {
        true => Some(set.split(HELD_OUT)?),
        false => None,
    };
    Ok(Some(Found::new(ImageLayout::Idx, classes, train, held_out)))
}

/// A folder of IDX files.
struct Set<'a> {
    listing: &'a Listing,
    folder: &'a Path,
    classes: usize,
}

impl Set<'_> {
    /// A file, as it is or packed.
    fn file(&self, name: &str) -> Result<&Listed> {
        let packed = format!("{name}.gz");
        let found =
            [name, &packed].into_iter().find_map(|name| self.listing.get(&self.folder.join(name)));
        found.ok_or_else(|| missing(&self.listing.root.join(self.folder), name))
    }

    fn split(&self, [images, labels]: [&str; 2]) -> Result<Images> {
        let (images, labels) = (self.file(images)?, self.file(labels)?);
        let file = self.images(images)?;
        let path = self.listing.path(labels);
        let labels = self.labels(labels)?;
        if labels.len() != file.images {
            let (path, labels) = (path.display(), labels.len());
            let reason = format!("has {} images and `{path}` {labels} labels", file.images);
            return Err(Error::damaged(&file.path, reason));
        }
        Ok(Images::packed(labels, Packed { files: vec![file], label: 0 }))
    }

    /// Reads the header of a file of images.
    fn images(&self, listed: &Listed) -> Result<PackedFile> {
        let path = self.listing.path(listed);
        let mut file = Bytes::open(&path)?;
        let [images, rows, columns] = header(&mut file, &path, IMAGES)?;
        let pixels = u64::from(rows) * u64::from(columns);
        if !(1..=MAX_IMAGE_PIXELS).contains(&pixels) {
            let reason = format!(
                "has images of {rows} by {columns} pixels, expected: 1 to {MAX_IMAGE_PIXELS} pixels"
            );
            return Err(Error::damaged(&path, reason));
        }
        let expected = 16 + u128::from(images) * u128::from(pixels);
        check_length(&path, listed, expected)?;
        Ok(PackedFile {
            name: listed.name(),
            header: 16,
            images: images as usize,
            raster: Raster { channels: 1, rows: rows as usize, columns: columns as usize },
            path,
        })
    }

    /// Reads a file of labels.
    fn labels(&self, listed: &Listed) -> Result<Vec<u32>> {
        let path = self.listing.path(listed);
        let mut file = Bytes::open(&path)?;
        let [count] = header(&mut file, &path, LABELS)?;
        file.expected = 8 + u128::from(count);
        check_length(&path, listed, file.expected)?;
        let labels = file.take(count.into())?;
        file.end()?;
        let labels: Vec<u32> = labels.into_iter().map(u32::from).collect();
        match labels.iter().position(|&label| label as usize >= self.classes) {
            Some(index) => Err(wrong_label(&path, index, labels[index], self.classes)),
            None => Ok(labels),
        }
    }
}

/// The dimensions by the header of a file.
fn header<const N: usize>(file: &mut Bytes, path: &Path, expected: u32) -> Result<[u32; N]> {
    file.expected = 4 + 4 * N as u128;
    let mut word = || -> Result<u32> {
        Ok(file.take(4)?.into_iter().fold(0, |word, byte| word << 8 | u32::from(byte)))
    };
    let found = word()?;
    if found != expected {
        let reason = format!("starts with 0x{found:08x}, expected: 0x{expected:08x}");
        return Err(Error::damaged(path, reason));
    }
    let mut dimensions = [0; N];
    for dimension in &mut dimensions {
        *dimension = word()?;
    }
    Ok(dimensions)
}

/// Checks the length of a file where it can be had without unpacking; of a packed one it is checked
/// when its images are read.
fn check_length(path: &Path, file: &Listed, expected: u128) -> Result<()> {
    let found = file.bytes;
    if is_gzip(path) || u128::from(found) == expected {
        return Ok(());
    }
    match u128::from(found) < expected {
        true => Err(too_short(path, found, expected)),
        false => Err(too_long(path, expected)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Place, gzip, idx};
    use super::*;

    /// Images of 4 pixels by 4, each of one grey, in `name`'s files of images and labels.
    fn write(place: &Place, [images, labels]: [&str; 2], of: &[(u8, u8)], packed: bool) {
        let pixels: Vec<u8> = of.iter().flat_map(|(grey, _)| [*grey; 16]).collect();
        let count = of.len() as u32;
        let all: Vec<u8> = of.iter().map(|(_, label)| *label).collect();
        for (name, bytes) in
            [(images, idx(&[IMAGES, count, 4, 4], &pixels)), (labels, idx(&[LABELS, count], &all))]
        {
            match packed {
                true => place.write(&format!("usr/share/{name}.gz"), gzip(&bytes)),
                false => place.write(&format!("usr/share/{name}"), bytes),
            }
        }
    }

    fn made(packed: bool) -> Place {
        let place = Place::new();
        write(&place, TRAIN, &[(10, 3), (20, 0), (30, 9)], packed);
        write(&place, HELD_OUT, &[(40, 1), (50, 9)], packed);
        place
    }

    fn images(set: &crate::ImageSet) -> Vec<(u8, usize)> {
        (0..set.len())
            .map(|index| {
                let pixels = set.pixels(index);
                assert!(pixels.len() == 16 && pixels.iter().all(|grey| *grey == pixels[0]));
                (pixels[0], set.label(index))
            })
            .collect()
    }

    #[test]
    fn plain_and_packed_files_are_the_same_data() {
        let prepared = [false, true].map(|packed| made(packed).prepare(4, 1).unwrap());
        let place = made(false);
        let again = place.prepare(4, 1).unwrap();
        assert_eq!(images(&again.train().unwrap()), [(10, 3), (20, 0), (30, 9)]);
        assert_eq!(images(&again.held_out().unwrap()), [(40, 1), (50, 9)]);
        let [first, second] = prepared;
        assert_eq!(first.data_hash(), second.data_hash());
        assert_eq!(first.summary.layout, ImageLayout::Idx);
        assert_eq!(first.summary.classes, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
        assert_eq!(first.summary.held_out.empty_classes.len(), 8);
        assert!(first.summary.own_held_out && first.summary.size == 4);
    }

    #[test]
    fn images_of_another_size_keep_a_margin() {
        let place = made(true);
        assert_eq!(place.prepare(8, 3).unwrap().summary.size, 10);
        let set = place.prepare(8, 3).unwrap().train().unwrap();
        assert_eq!((set.channels(), set.pixels(2)), (3, &[30; 300][..]));
    }

    #[test]
    fn without_held_out_files_a_share_is_held_out() {
        let place = Place::new();
        let all: Vec<(u8, u8)> = (0..60).map(|grey| (grey, grey % 2)).collect();
        write(&place, TRAIN, &all, true);
        let prepared = place.prepare(4, 1).unwrap();
        let [train, held_out] =
            [prepared.train().unwrap(), prepared.held_out().unwrap()].map(|set| images(&set));
        assert!(!prepared.summary.own_held_out);
        let count = |class| held_out.iter().filter(|(_, label)| *label == class).count();
        assert_eq!((held_out.len(), count(0), count(1)), (6, 3, 3));
        let mut both = [train, held_out].concat();
        both.sort_unstable();
        assert!(both.into_iter().eq(all.into_iter().map(|(grey, label)| (grey, label.into()))));
    }

    #[test]
    fn classes_may_have_names() {
        let place = made(false);
        place.write("usr/share/classes.txt", "a\nb\n\n c \nd\ne\nf\ng\nh\ni\nj\n");
        let prepared = place.prepare(4, 1).unwrap();
        assert_eq!(prepared.summary.classes[..3], ["a", "b", "c"]);
        place.write("usr/share/classes.txt", "a\nb\nc\nd\n");
        assert_eq!(
            place.refused(),
            "`usr/share/train-labels-idx1-ubyte`: the label of image 2 is 9, expected: below 4"
        );
        let error = place.prepare(4, 1).unwrap_err();
        assert!(error.hint().unwrap().contains("classes.txt"));
        place.write("usr/share/classes.txt", "a\nb\na\n");
        assert_eq!(place.refused(), "class names `usr/share/classes.txt`: `a` is there twice");
        place.write("usr/share/classes.txt", "a\n");
        assert!(place.refused().starts_with("`usr/share/train-labels-idx1-ubyte`: the label"));
    }

    /// What is said of a good set of which one file was replaced.
    fn damaged(name: &str, words: &[u32], bytes: &[u8]) -> String {
        let place = made(false);
        place.write(&format!("usr/share/{name}"), idx(words, bytes));
        place.refused().replace("usr/share/", "").replace("-ubyte", "")
    }

    #[test]
    fn malformed_files_are_named() {
        let [images, labels] = TRAIN;
        assert_eq!(
            damaged(images, &[0x0801, 3], &[0; 3]),
            "`train-images-idx3` starts with 0x00000801, expected: 0x00000803"
        );
        assert_eq!(
            damaged(labels, &[0x1f8b_0800], &[]),
            "`train-labels-idx1` starts with 0x1f8b0800, expected: 0x00000801"
        );
        assert_eq!(
            damaged(images, &[IMAGES, 3, 4, 4], &[0; 47]),
            "`train-images-idx3` ends after 63 bytes, expected: 64 (its header)"
        );
        assert_eq!(
            damaged(images, &[IMAGES, 3, 4, 4], &[0; 49]),
            "`train-images-idx3` goes on after 64 bytes (its header)"
        );
        assert_eq!(
            damaged(images, &[IMAGES, 3], &[]),
            "`train-images-idx3` ends after 8 bytes, expected: 16 (its header)"
        );
        assert_eq!(
            damaged(images, &[IMAGES, u32::MAX, 8000, 8000], &[]),
            "`train-images-idx3` ends after 16 bytes, expected: 274877906880000016 (its header)"
        );
        for (rows, columns) in [(0, 4), (8001, 8000), (u32::MAX, u32::MAX)] {
            assert_eq!(
                damaged(images, &[IMAGES, 3, rows, columns], &[]),
                format!(
                    "`train-images-idx3` has images of {rows} by {columns} pixels, expected: 1 to \
                     64000000 pixels"
                )
            );
        }
        assert_eq!(
            damaged(labels, &[LABELS, 3], &[0; 2]),
            "`train-labels-idx1` ends after 10 bytes, expected: 11 (its header)"
        );
        assert_eq!(
            damaged(labels, &[LABELS, 2], &[0; 2]),
            "`train-images-idx3` has 3 images and `train-labels-idx1` 2 labels"
        );
        assert_eq!(
            damaged(labels, &[LABELS, 3], &[0, 10, 0]),
            "`train-labels-idx1`: the label of image 1 is 10, expected: below 10"
        );
    }

    /// What is said of a packed set of which one file was replaced.
    fn damaged_packed(name: &str, bytes: Vec<u8>) -> String {
        let place = made(true);
        place.write(&format!("usr/share/{name}.gz"), bytes);
        place.refused().replace("usr/share/", "").replace("-ubyte.gz", "")
    }

    #[test]
    fn packed_files_are_checked_as_they_are_unpacked() {
        let [images, labels] = TRAIN;
        let packed = |words: &[u32], bytes: &[u8]| gzip(&idx(words, bytes));
        assert_eq!(
            damaged_packed(images, packed(&[IMAGES, 3, 4, 4], &[0; 40])),
            "`train-images-idx3` ends after 56 bytes, expected: 64 (its header)"
        );
        assert_eq!(
            damaged_packed(images, packed(&[IMAGES, 3, 4, 4], &[0; 50])),
            "`train-images-idx3` goes on after 64 bytes (its header)"
        );
        assert_eq!(
            damaged_packed(labels, packed(&[LABELS, u32::MAX], &[0; 2])),
            "`train-labels-idx1` ends after 10 bytes, expected: 4294967303 (its header)"
        );
        assert_eq!(
            damaged_packed(labels, packed(&[LABELS, 3], &[0; 4])),
            "`train-labels-idx1` goes on after 11 bytes (its header)"
        );
        let mut cut = packed(&[IMAGES, 3, 4, 4], &[0; 48]);
        cut.truncate(cut.len() - 4);
        let message = damaged_packed(images, cut);
        assert!(message.starts_with("`train-images-idx3` cannot be read as gzip: "), "{message}");
    }

    #[test]
    fn files_that_belong_together_must_be_there() {
        for (gone, message) in [
            (TRAIN[1], "`usr/share` has no `train-labels-idx1-ubyte`"),
            (HELD_OUT[0], "`usr/share` has no `t10k-images-idx3-ubyte`"),
            (HELD_OUT[1], "`usr/share` has no `t10k-labels-idx1-ubyte`"),
        ] {
            let place = made(false);
            std::fs::remove_file(place.path(&format!("usr/share/{gone}"))).unwrap();
            assert_eq!(place.refused(), message);
        }
    }
}
