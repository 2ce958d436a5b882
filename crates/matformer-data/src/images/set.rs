//! A prepared file of images: one split, memory-mapped.
//!
//! Everything is little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | magic, `MFIMAGES` |
//! | 8..12 | format version, u32: 1 |
//! | 12..16 | channels, u32: 1 or 3 |
//! | 16..20 | height and width, u32 |
//! | 20..24 | number of classes, u32 |
//! | 24..32 | number of images, u64 |
//! | 32.. | the pixels, u8: \[images, channels, height, width\] |
//! | … | the labels, u32: \[images\] |
//!
//! Nothing follows the last label. Labels come last because it is known only at the end which images
//! could be decoded.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use matformer_core::fs;
use memmap2::Mmap;

use super::{ImageShape, MAX_IMAGE_SIZE};
use crate::{Error, Result};

const MAGIC: [u8; 8] = *b"MFIMAGES";
const VERSION: u32 = 1;
const HEADER: usize = 32;
const LABEL: usize = 4;
/// The largest height and width: what can be asked for, with its margin.
const MAX_SIZE: usize = 2 * MAX_IMAGE_SIZE;

/// Images of one size with their labels, on disk. Clones share the mapping.
#[derive(Debug, Clone)]
pub struct ImageSet {
    map: Arc<Mmap>,
    classes: Arc<[String]>,
    clusters: Option<Arc<[Option<usize>]>>,
    /// The class of each label of the file, if that is not the label.
    places: Option<Arc<[usize]>>,
    shape: ImageShape,
    images: usize,
}

/// What the header of a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    shape: ImageShape,
    images: usize,
}

impl ImageSet {
    /// Opens a file of images of `classes`, and checks its header, its length and its labels.
    ///
    /// # Errors
    /// [`Error::File`], or [`Error::Prepared`] with the malformation.
    pub fn open(path: &Path, classes: Vec<String>) -> Result<Self> {
        let file = fs::open(path)?;
        // SAFETY: files are published whole by a rename and never written again; as with every
        // mapped file, a program that truncates one while it is open ends this process.
        let map = unsafe { Mmap::map(&file) }.map_err(fs::error(path, "map"))?;
        let Header { shape, images } =
            parse(&map, classes.len()).map_err(|fault| fault_of(path, fault))?;
        let (map, classes) = (Arc::new(map), classes.into());
        Ok(Self { map, classes, clusters: None, places: None, shape, images })
    }

    /// Writes a file of images: a label and the pixels ([channels, size, size]) of each.
    ///
    /// It is written in its place, not beside it: until this returns, the file is none.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written; [`Error::Prepared`] for a label that is no class, or
    /// pixels of another shape.
    pub fn write<P: AsRef<[u8]>>(
        path: &Path,
        shape: ImageShape,
        classes: usize,
        images: impl IntoIterator<Item = (usize, P)>,
    ) -> Result<()> {
        let mut writer = SetWriter::create(path, shape, classes)?;
        for (label, pixels) in images {
            writer.push(label, pixels.as_ref())?;
        }
        writer.finish()
    }

    /// The same images, of which those of one cluster are not independent.
    pub(super) fn with_clusters(self, clusters: Vec<Option<usize>>) -> Self {
        Self { clusters: Some(clusters.into()), ..self }
    }

    /// The cluster of image `index`; none for one that stands for itself.
    pub fn cluster(&self, index: usize) -> Option<usize> {
        self.clusters.as_ref().and_then(|clusters| clusters.get(index).copied().flatten())
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.images
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.images == 0
    }

    /// Height and width of an image.
    pub fn size(&self) -> usize {
        self.shape.size
    }

    /// 1 for grey, 3 for red, green and blue.
    pub fn channels(&self) -> usize {
        self.shape.channels
    }

    /// Height, width and channels.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// The names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The class of image `index`, a place in [`classes`](Self::classes).
    ///
    /// # Panics
    /// If there is no such image, as a slice does.
    pub fn label(&self, index: usize) -> usize {
        self.check(index);
        let label = word(&self.map, HEADER + self.images * self.shape.bytes() + index * LABEL);
        self.places.as_ref().map_or(label, |places| places[label])
    }

    /// The same images with other classes: `places` has the place of each class among them.
    ///
    /// # Panics
    /// If there is not a place below the number of `classes` for each class.
    pub fn among(self, classes: Vec<String>, places: &[usize]) -> Self {
        assert_eq!(places.len(), self.classes.len(), "a place for each class");
        assert!(places.iter().all(|place| *place < classes.len()), "places among the classes");
        let places = match &self.places {
            Some(before) => before.iter().map(|place| places[*place]).collect(),
            None => places.into(),
        };
        Self { classes: classes.into(), places: Some(places), ..self }
    }

    /// The pixels of image `index`: [channels, size, size].
    ///
    /// # Panics
    /// If there is no such image, as a slice does.
    pub fn pixels(&self, index: usize) -> &[u8] {
        self.check(index);
        let start = HEADER + index * self.shape.bytes();
        &self.map[start..start + self.shape.bytes()]
    }

    fn check(&self, index: usize) {
        assert!(index < self.images, "image {index} of a set of {}", self.images);
    }
}

/// Writes a file of images, image by image.
pub(super) struct SetWriter {
    path: PathBuf,
    out: BufWriter<File>,
    shape: ImageShape,
    classes: usize,
    labels: Vec<u32>,
}

impl SetWriter {
    pub(super) fn create(path: &Path, shape: ImageShape, classes: usize) -> Result<Self> {
        if let Some((key, found, expected)) = shape.fault(MAX_SIZE) {
            return Err(fault_of(path, no_shape(key, found, &expected)));
        }
        let file = File::create(path).map_err(fs::error(path, "write"))?;
        let mut writer = Self {
            path: path.into(),
            out: BufWriter::with_capacity(1 << 20, file),
            shape,
            classes,
            labels: Vec::new(),
        };
        // A file that is not finished has no magic.
        writer.bytes(&[0; HEADER])?;
        Ok(writer)
    }

    pub(super) fn push(&mut self, label: usize, pixels: &[u8]) -> Result<()> {
        let (index, classes, expected) = (self.labels.len(), self.classes, self.shape.bytes());
        if label >= classes {
            return Err(fault_of(&self.path, no_class(index, label, classes)));
        }
        if pixels.len() != expected {
            let found = pixels.len();
            let reason = format!("image {index} has {found} bytes, expected: {expected}");
            return Err(fault_of(&self.path, reason));
        }
        self.labels.push(label as u32);
        self.bytes(pixels)
    }

    pub(super) fn finish(mut self) -> Result<()> {
        let mut labels = Vec::with_capacity(self.labels.len() * LABEL);
        labels.extend(self.labels.iter().flat_map(|label| label.to_le_bytes()));
        self.bytes(&labels)?;
        let mut header = Vec::with_capacity(HEADER);
        header.extend(MAGIC);
        for word in [VERSION as usize, self.shape.channels, self.shape.size, self.classes] {
            header.extend((word as u32).to_le_bytes());
        }
        header.extend((self.labels.len() as u64).to_le_bytes());
        self.out.seek(SeekFrom::Start(0)).map_err(fs::error(&self.path, "write"))?;
        self.bytes(&header)?;
        Ok(self.out.flush().map_err(fs::error(&self.path, "write"))?)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.out.write_all(bytes).map_err(fs::error(&self.path, "write"))?)
    }
}

pub(super) fn fault_of(path: &Path, reason: String) -> Error {
    Error::Prepared { what: "image file", path: path.into(), reason }
}

fn no_shape(key: &str, found: usize, expected: &str) -> String {
    format!("images of {key} {found}, expected: {expected}")
}

fn no_class(index: usize, found: usize, classes: usize) -> String {
    format!("the label of image {index} is {found}, expected: below {classes}")
}

/// The file is not the one that its summary is about.
pub(super) fn other(key: &str, found: usize, expected: usize) -> String {
    format!("{key} {found}, expected: {expected} (`summary.json`)")
}

/// Reads and checks a whole file, whose labels must be below `classes`.
fn parse(bytes: &[u8], classes: usize) -> Result<Header, String> {
    let short = || format!("{} bytes are shorter than the header: {HEADER}", bytes.len());
    let (magic, rest) = bytes.split_first_chunk().ok_or_else(short)?;
    let (words, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
    let (images, rest) = rest.split_first_chunk().ok_or_else(short)?;
    if *magic != MAGIC {
        let (found, expected) = (magic.escape_ascii(), MAGIC.escape_ascii());
        return Err(format!("starts with `{found}`, expected: `{expected}`"));
    }
    let [version, channels, size, found] = [0, 4, 8, 12].map(|at| word(words, at));
    if version != VERSION as usize {
        return Err(format!("format version {version}, expected: {VERSION}"));
    }
    let shape = ImageShape { size, channels };
    if let Some((key, found, expected)) = shape.fault(MAX_SIZE) {
        return Err(no_shape(key, found, &expected));
    }
    if found != classes {
        return Err(other("classes", found, classes));
    }
    let expected = u128::from(u64::from_le_bytes(*images)) * (shape.bytes() + LABEL) as u128;
    if rest.len() as u128 != expected {
        let found = rest.len();
        return Err(format!(
            "{found} bytes of pixels and labels, expected: {expected} (the header's count)"
        ));
    }
    let images = rest.len() / (shape.bytes() + LABEL);
    let labels = images * shape.bytes();
    for index in 0..images {
        let found = word(rest, labels + index * LABEL);
        if found >= classes {
            return Err(no_class(index, found, classes));
        }
    }
    Ok(Header { shape, images })
}

/// The u32 at a place; 0 behind the end.
fn word(bytes: &[u8], at: usize) -> usize {
    let word = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    word.map_or(0, |word| u32::from_le_bytes(*word) as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHAPE: ImageShape = ImageShape { size: 2, channels: 3 };

    fn classes(count: usize) -> Vec<String> {
        (0..count).map(|class| class.to_string()).collect()
    }

    /// A good file of two images, damaged by `change`.
    fn open_damaged(change: impl FnOnce(&mut Vec<u8>)) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.bin");
        ImageSet::write(&path, SHAPE, 3, [(0, [1; 12]), (2, [2; 12])]).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let error = ImageSet::open(&path, classes(3)).unwrap_err();
        let hint = error.hint().unwrap();
        let expected = format!("remove `{}`; it is prepared again", folder.path().display());
        assert!(hint.starts_with(&expected), "{hint}");
        let message = error.to_string();
        let start = format!("image file `{}`: ", path.display());
        message.strip_prefix(&start).unwrap().to_owned()
    }

    #[test]
    fn malformed_headers_are_named() {
        for length in [0, 7, 31] {
            assert_eq!(
                open_damaged(|bytes| bytes.truncate(length)),
                format!("{length} bytes are shorter than the header: 32")
            );
        }
        for (at, byte, message) in [
            (0, b'X', "starts with `XFIMAGES`, expected: `MFIMAGES`"),
            (8, 9, "format version 9, expected: 1"),
            (12, 2, "images of channels 2, expected: 1 or 3"),
            (16, 0, "images of size 0, expected: 1 to 4096"),
            (18, 1, "images of size 65538, expected: 1 to 4096"),
            (20, 4, "classes 4, expected: 3 (`summary.json`)"),
        ] {
            assert_eq!(open_damaged(|bytes| bytes[at] = byte), message);
        }
    }

    #[test]
    fn the_length_is_what_the_header_says() {
        let said = |found: usize, expected: &str| {
            format!("{found} bytes of pixels and labels, expected: {expected} (the header's count)")
        };
        assert_eq!(open_damaged(|bytes| bytes.truncate(63)), said(31, "32"));
        assert_eq!(open_damaged(|bytes| bytes.push(0)), said(33, "32"));
        assert_eq!(open_damaged(|bytes| bytes[24] = 3), said(32, "48"));
        assert_eq!(
            open_damaged(|bytes| bytes[24..32].fill(255)),
            said(32, "295147905179352825840")
        );
    }

    #[test]
    fn labels_are_classes() {
        assert_eq!(
            open_damaged(|bytes| bytes[60] = 3),
            "the label of image 1 is 3, expected: below 3"
        );
    }

    #[test]
    fn what_cannot_be_opened_again_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        let message = |label, pixels: usize| {
            let written = ImageSet::write(&path, SHAPE, 3, [(label, vec![0; pixels])]);
            let error = written.unwrap_err().to_string();
            assert!(ImageSet::open(&path, classes(3)).is_err());
            error.split_once("`: ").unwrap().1.to_owned()
        };
        assert_eq!(message(3, 12), "the label of image 0 is 3, expected: below 3");
        assert_eq!(message(0, 11), "image 0 has 11 bytes, expected: 12");
        let shape = ImageShape { channels: 2, ..SHAPE };
        let error = ImageSet::write(&path, shape, 3, [(0, [0; 8])]).unwrap_err();
        assert!(error.to_string().ends_with("images of channels 2, expected: 1 or 3"));
    }

    #[test]
    #[should_panic = "image 1 of a set of 1"]
    fn there_is_no_image_behind_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        ImageSet::write(&path, SHAPE, 1, [(0, [0; 12])]).unwrap();
        ImageSet::open(&path, classes(1)).unwrap().pixels(1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn images_round_trip(
            size in 1_usize..5,
            colour: bool,
            images in prop::collection::vec((0_usize..5, any::<u8>()), 0..20),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.bin");
            let shape = ImageShape { size, channels: if colour { 3 } else { 1 } };
            let pixels = |first: u8| -> Vec<u8> {
                (0..shape.bytes()).map(|at| first.wrapping_add(at as u8)).collect()
            };
            let written = images.iter().map(|(label, first)| (*label, pixels(*first)));
            ImageSet::write(&path, shape, 5, written).unwrap();
            let set = ImageSet::open(&path, classes(5)).unwrap();
            prop_assert_eq!((set.len(), set.shape()), (images.len(), shape));
            prop_assert_eq!(set.classes(), classes(5));
            for (index, (label, first)) in images.into_iter().enumerate() {
                prop_assert_eq!(set.label(index), label);
                prop_assert_eq!(set.pixels(index), pixels(first));
            }
        }

        #[test]
        fn any_bytes_are_a_set_or_a_fault(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            magic: bool,
        ) {
            let mut bytes = bytes;
            if magic && bytes.len() >= 16 {
                bytes[..16].copy_from_slice(b"MFIMAGES\x01\0\0\0\x01\0\0\0");
            }
            if let Ok(header) = parse(&bytes, 3) {
                let image = header.shape.bytes() + LABEL;
                prop_assert_eq!(HEADER + header.images * image, bytes.len());
            }
        }
    }
}
