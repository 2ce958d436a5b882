//! Images that lie uncompressed in a file, one record after the other.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use matformer_core::fs;

use super::decode::{Decoder, Raster};
use super::in_order::{InOrder, Sink};
use crate::format::{self, Compression};
use crate::{Error, Result};

/// The most that is allocated before it is known to be there, in bytes.
const AT_ONCE: u64 = 1 << 16;

/// Files of records: each a label of some bytes, then the pixels of an image.
#[derive(Debug)]
pub(super) struct Packed {
    /// The files, in the order of their images.
    pub files: Vec<PackedFile>,
    /// Bytes of a record before its pixels.
    pub label: usize,
}

/// A file of records.
#[derive(Debug)]
pub(super) struct PackedFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its path from the folder of the data.
    pub name: String,
    /// Bytes before its first record.
    pub header: usize,
    /// The number of records.
    pub images: usize,
    /// What the pixels of a record are.
    pub raster: Raster,
}

impl PackedFile {
    /// Hands every record over, in order.
    ///
    /// # Errors
    /// A file that cannot be read or unpacked, [`Error::Damaged`], and what
    /// `take` returns.
    pub(super) fn records(
        &self,
        label: usize,
        take: &mut dyn FnMut(Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let record = label + self.raster.bytes();
        let mut file = Bytes::open(&self.path)?;
        file.expected = self.header as u128 + self.images as u128 * record as u128;
        file.take(self.header as u64)?;
        for _ in 0..self.images {
            take(file.take(record as u64)?)?;
        }
        file.end()
    }
}

impl Packed {
    /// Decodes the images, many at once, and hands each over in order: its place among all, its bytes in
    /// the file, and its pixels or why there are none.
    ///
    /// # Errors
    /// As [`PackedFile::records`].
    pub(super) fn decode(&self, decoder: &Decoder, sink: &mut Sink<'_>) -> Result<()> {
        let mut images = InOrder::new(decoder, sink, |(record, raster): (Vec<u8>, Raster)| {
            decoder.raster(record.get(self.label..).unwrap_or_default(), raster)
        });
        for file in &self.files {
            file.records(self.label, &mut |record| {
                let bytes = record.len();
                images.push((record, file.raster), bytes as u64, bytes)
            })?;
            images.flush()?;
        }
        Ok(())
    }

    /// The sizes and colors of up to `most` images, spread evenly.
    pub(super) fn sample(&self, most: usize) -> Vec<Raster> {
        let each = |file: &PackedFile| std::iter::repeat_n(file.raster, file.images);
        let step = self.len().div_ceil(most).max(1);
        self.files.iter().flat_map(each).step_by(step).collect()
    }

    /// The number of images.
    pub(super) fn len(&self) -> usize {
        self.files.iter().map(|file| file.images).sum()
    }

    /// The bytes of the images, with their labels.
    pub(super) fn bytes(&self) -> u64 {
        let of_file = |file: &PackedFile| (file.images * (self.label + file.raster.bytes())) as u64;
        self.files.iter().map(of_file).sum()
    }

    /// The name of an image: that of its file, and its place in it.
    pub(super) fn name(&self, index: usize) -> String {
        let mut place = index;
        for file in &self.files {
            if place < file.images {
                return format!("{}:{place}", file.name);
            }
            place -= file.images;
        }
        index.to_string()
    }
}

/// The bytes of a file, unpacked where its name ends in `.gz`; says how far it came.
pub(super) struct Bytes {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    compression: Option<Compression>,
    read: u64,
    /// The bytes that the file should have, for errors.
    pub expected: u128,
}

impl Bytes {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let compression = is_gzip(path).then_some(Compression::Gzip);
        let reader = format::open(path, compression)?;
        Ok(Self { path: path.into(), reader, compression, read: 0, expected: 0 })
    }

    /// The next `count` bytes; allocates for the bytes present, not for the claimed length.
    ///
    /// # Errors
    /// [`Error::Damaged`], or a file that cannot be read or unpacked.
    pub(super) fn take(&mut self, count: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(count.min(AT_ONCE) as usize);
        let read = (&mut self.reader).take(count).read_to_end(&mut bytes);
        self.read += read.map_err(|error| self.unreadable(error))? as u64;
        if (bytes.len() as u64) < count {
            return Err(self.short());
        }
        Ok(bytes)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`Error::Damaged`], or a file that cannot be read or unpacked.
    pub(super) fn end(mut self) -> Result<()> {
        // A packed file's checksum is looked at here: a failure to read is not the end.
        match self.reader.fill_buf() {
            Ok([]) => Ok(()),
            Ok(_) => Err(too_long(&self.path, self.expected)),
            Err(error) => Err(self.unreadable(error)),
        }
    }

    fn short(&self) -> Error {
        too_short(&self.path, self.read, self.expected)
    }

    fn unreadable(&self, error: std::io::Error) -> Error {
        match self.compression {
            Some(_) => Error::unreadable(self.path.display().to_string(), "gzip", error),
            None => fs::error(&self.path, "read")(error).into(),
        }
    }
}

/// A file that ends before its header says.
pub(super) fn too_short(path: &Path, found: u64, expected: u128) -> Error {
    Error::damaged(path, format!("ends after {found} bytes, expected: {expected} (its header)"))
}

/// A file that goes on after its end.
pub(super) fn too_long(path: &Path, expected: u128) -> Error {
    Error::damaged(path, format!("goes on after {expected} bytes (its header)"))
}

/// A set without one of its files.
pub(super) fn missing(folder: &Path, name: &str) -> Error {
    let problem = format!("`{}` has no `{name}`", folder.display());
    Error::images(problem, "all files of a set lie in one folder: add it")
}

/// A label that is no class.
pub(super) fn wrong_label(path: &Path, index: usize, found: u32, classes: usize) -> Error {
    let (path, expected) = (path.display(), format!("expected: below {classes}"));
    Error::images(
        format!("`{path}`: the label of image {index} is {found}, {expected}"),
        "it is damaged, or a list of class names lies beside it that is not its own: `classes.txt` for \
         IDX files, `batches.meta.txt` for CIFAR-10, `fine_label_names.txt` for CIFAR-100",
    )
}

pub(super) fn is_gzip(path: &Path) -> bool {
    format::suffix(path) == "gz"
}
