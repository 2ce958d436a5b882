//! Small data sets for tests.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use tempfile::TempDir;

use super::{ImageConfig, ImageShape, PreparedImages, prepare_images};
use crate::{Error, Result};

/// A folder with data in it, and a cache beside it.
pub(super) struct Place(TempDir);

impl Place {
    pub(super) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.root()).unwrap();
        place
    }

    pub(super) fn root(&self) -> PathBuf {
        self.0.path().join("data")
    }

    pub(super) fn cache(&self) -> PathBuf {
        self.0.path().join("cache")
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub(super) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub(super) fn config(&self) -> ImageConfig {
        ImageConfig { path: Some(self.root().into()), ..ImageConfig::default() }
    }

    pub(super) fn prepare(&self, size: usize, channels: usize) -> Result<PreparedImages> {
        self.prepare_with(&self.config(), size, channels)
    }

    pub(super) fn prepare_with(
        &self,
        config: &ImageConfig,
        size: usize,
        channels: usize,
    ) -> Result<PreparedImages> {
        prepare_images(config, ImageShape { size, channels }, None, &self.cache(), &mut |_| {})
    }

    /// What an error says, without the place's path.
    pub(super) fn message(&self, error: &Error) -> String {
        let root = |path: &Path| format!("{}/", path.display());
        error.to_string().replace(&root(&self.root()), "").replace(&root(self.0.path()), "")
    }

    /// What [`prepare`](Self::prepare) refuses, at 4 grey pixels by 4.
    pub(super) fn refused(&self) -> String {
        self.message(&self.prepare(4, 1).unwrap_err())
    }
}

pub(super) fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A PNG of one colour.
pub(super) fn png(size: u32, colour: [u8; 3]) -> Vec<u8> {
    encode(&RgbImage::from_pixel(size, size, Rgb(colour)).into(), ImageFormat::Png)
}

/// A PNG whose header promises 20,000 by 30,000 pixels, which it has not.
pub(super) fn huge_png() -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], data: &[u8]| {
        bytes.extend((data.len() as u32).to_be_bytes());
        let mut crc = flate2::Crc::new();
        crc.update(kind);
        crc.update(data);
        bytes.extend(kind.iter().chain(data));
        bytes.extend(crc.sum().to_be_bytes());
    };
    let size = [20_000_u32.to_be_bytes(), 30_000_u32.to_be_bytes()].concat();
    chunk(b"IHDR", &[&size[..], &[8, 2, 0, 0, 0]].concat());
    chunk(b"IDAT", &[0x78, 0x01]);
    chunk(b"IEND", &[]);
    bytes
}

/// A file of big-endian words, then bytes.
pub(super) fn idx(words: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    file.extend(bytes);
    file
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}
