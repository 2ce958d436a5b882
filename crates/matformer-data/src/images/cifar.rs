//! CIFAR-10 and CIFAR-100 in their binary form: records of a label, or a coarse and a fine one, and
//! 32 by 32 pixels, all red before all green before all blue. A. Krizhevsky, *Learning multiple
//! layers of features from tiny images*, 2009.

use std::path::Path;

use super::decode::Raster;
use super::found::{Found, ImageLayout, Images, class_names};
use super::listing::Listing;
use super::packed::{Packed, PackedFile, missing, wrong_label};
use crate::{Error, Result};

const RASTER: Raster = Raster { channels: 3, rows: 32, columns: 32 };
const FINE_NAMES: &str = "fine_label_names.txt";

/// The CIFAR files in `listing`, if there are any.
///
/// # Errors
/// Two sets, a file that is missing or has no whole number of records, labels that are no classes.
pub(super) fn find(listing: &Listing) -> Result<Option<Found>> {
    if let Some(folder) = listing.folder_with(&["data_batch_1.bin"])? {
        return ten(listing, folder).map(Some);
    }
    match listing.folder_with(&[FINE_NAMES])? {
        Some(folder) if listing.get(&folder.join("train.bin")).is_some() => {
            hundred(listing, folder).map(Some)
        }
        _ => Ok(None),
    }
}

fn ten(listing: &Listing, folder: &Path) -> Result<Found> {
    let batch = |number: usize| format!("data_batch_{number}.bin");
    let there = |number: usize| listing.get(&folder.join(batch(number))).is_some();
    let count = (1..).take_while(|&number| there(number)).count();
    // A batch that stands alone means that one before it was lost.
    if (count + 2..count + 10).any(there) {
        let folder = listing.root.join(folder);
        return Err(missing(&folder, &batch(count + 1)));
    }
    let classes = match listing.get(&folder.join("batches.meta.txt")) {
        Some(file) => class_names(&listing.path(file))?,
        None => (0..10).map(|class| class.to_string()).collect(),
    };
    let set = Set { listing, folder, label: 1, classes: classes.len() };
    let batches: Vec<String> = (1..=count).map(batch).collect();
    let names: Vec<&str> = batches.iter().map(String::as_str).collect();
    let train = set.split(&names)?;
    let held_out = set.split_if_there("test_batch.bin")?;
    Ok(Found::new(ImageLayout::Cifar10, classes, train, held_out))
}

fn hundred(listing: &Listing, folder: &Path) -> Result<Found> {
    let classes = class_names(&listing.root.join(folder).join(FINE_NAMES))?;
    let set = Set { listing, folder, label: 2, classes: classes.len() };
    let train = set.split(&["train.bin"])?;
    let held_out = set.split_if_there("test.bin")?;
    Ok(Found::new(ImageLayout::Cifar100, classes, train, held_out))
}

/// A folder of CIFAR files.
struct Set<'a> {
    listing: &'a Listing,
    folder: &'a Path,
    /// Bytes of a record's label; the last of them is used.
    label: usize,
    classes: usize,
}

impl Set<'_> {
    fn split_if_there(&self, name: &str) -> Result<Option<Images>> {
        match self.listing.get(&self.folder.join(name)) {
            Some(_) => self.split(&[name]).map(Some),
            None => Ok(None),
        }
    }

    fn split(&self, names: &[&str]) -> Result<Images> {
        let (mut files, mut labels) = (Vec::new(), Vec::new());
        for name in names {
            let file = self.file(name)?;
            self.labels(&file, &mut labels)?;
            files.push(file);
        }
        Ok(Images::packed(labels, Packed { files, label: self.label }))
    }

    fn file(&self, name: &str) -> Result<PackedFile> {
        let inside = self.folder.join(name);
        let path = self.listing.root.join(&inside);
        let Some(listed) = self.listing.get(&inside) else {
            let folder = self.listing.root.join(self.folder);
            return Err(missing(&folder, name));
        };
        let record = self.label + RASTER.bytes();
        if listed.bytes == 0 || listed.bytes % record as u64 != 0 {
            let reason = format!("has {} bytes, expected: records of {record}", listed.bytes);
            return Err(Error::damaged(&path, reason));
        }
        let images = (listed.bytes / record as u64) as usize;
        Ok(PackedFile { path, name: listed.name(), header: 0, images, raster: RASTER })
    }

    /// Adds the labels of a file.
    fn labels(&self, file: &PackedFile, labels: &mut Vec<u32>) -> Result<()> {
        let first = labels.len();
        file.records(self.label, &mut |record| {
            let found = u32::from(record[self.label - 1]);
            if found as usize >= self.classes {
                return Err(wrong_label(&file.path, labels.len() - first, found, self.classes));
            }
            labels.push(found);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Place;
    use super::*;

    /// Records of these labels, each with pixels of its number.
    fn records(labels: &[&[u8]]) -> Vec<u8> {
        let record = |(number, label): (usize, &&[u8])| {
            let colours = [10, 20, 30].map(|colour| [colour + number as u8; 1024]);
            [label.to_vec(), colours.concat()].concat()
        };
        labels.iter().enumerate().flat_map(record).collect()
    }

    fn ten() -> Place {
        let place = Place::new();
        place.write("cifar/data_batch_1.bin", records(&[&[3], &[9]]));
        place.write("cifar/data_batch_2.bin", records(&[&[0]]));
        place.write("cifar/test_batch.bin", records(&[&[1]]));
        place.write("cifar/batches.meta.txt", "plane\ncar\nbird\ncat\ne\nf\ng\nh\ni\nj\n\n");
        place
    }

    #[test]
    fn ten_classes_in_batches() {
        let place = ten();
        let prepared = place.prepare(32, 3).unwrap();
        assert_eq!(prepared.summary.layout, ImageLayout::Cifar10);
        assert_eq!((prepared.summary.size, prepared.summary.channels), (32, 3));
        let train = prepared.train().unwrap();
        let labels: Vec<usize> = (0..train.len()).map(|index| train.label(index)).collect();
        assert_eq!(labels, [3, 9, 0]);
        assert_eq!(train.classes()[3], "cat");
        // The second image of the first file, then the first of the second.
        for (image, number) in [(1, 1), (2, 0)] {
            let planes: Vec<&[u8]> = train.pixels(image).chunks(1024).collect();
            assert_eq!(planes, [10, 20, 30].map(|colour| [colour + number; 1024]));
        }
        assert_eq!(prepared.held_out().unwrap().label(0), 1);
        // The luma of (10, 20, 30) is 18.15.
        let grey = place.prepare(32, 1).unwrap().train().unwrap();
        assert!(grey.pixels(0) == [18; 1024]);
        std::fs::remove_file(place.path("cifar/batches.meta.txt")).unwrap();
        assert_eq!(place.prepare(32, 3).unwrap().summary.classes[3], "3");
    }

    #[test]
    fn a_hundred_classes_by_their_fine_labels() {
        let place = Place::new();
        place.write("a/train.bin", records(&[&[19, 2], &[0, 1], &[5, 0]]));
        place.write("a/test.bin", records(&[&[7, 2]]));
        place.write("a/fine_label_names.txt", "apple\nbaby\nbear\n");
        let prepared = place.prepare(32, 3).unwrap();
        assert_eq!(prepared.summary.layout, ImageLayout::Cifar100);
        let train = prepared.train().unwrap();
        assert_eq!([0, 1, 2].map(|image| train.label(image)), [2, 1, 0]);
        assert_eq!(train.pixels(0)[..2], [10, 10]);
        assert_eq!(prepared.summary.held_out.empty_classes, ["apple", "baby"]);
        place.write("a/train.bin", records(&[&[19, 3]]));
        let message = "`a/train.bin`: the label of image 0 is 3, expected: below 3";
        assert_eq!(place.refused(), message);
    }

    #[test]
    fn malformed_batches_are_named() {
        let place = ten();
        place.write("cifar/data_batch_2.bin", records(&[&[0], &[10]]));
        assert_eq!(
            place.refused(),
            "`cifar/data_batch_2.bin`: the label of image 1 is 10, expected: below 10"
        );
        place.write("cifar/data_batch_2.bin", &records(&[&[0]])[1..]);
        assert_eq!(
            place.refused(),
            "`cifar/data_batch_2.bin` has 3072 bytes, expected: records of 3073"
        );
        place.write("cifar/data_batch_2.bin", b"");
        assert_eq!(
            place.refused(),
            "`cifar/data_batch_2.bin` has 0 bytes, expected: records of 3073"
        );
        std::fs::remove_file(place.path("cifar/data_batch_2.bin")).unwrap();
        place.write("cifar/data_batch_4.bin", records(&[&[0]]));
        assert_eq!(place.refused(), "`cifar` has no `data_batch_2.bin`");
    }
}
