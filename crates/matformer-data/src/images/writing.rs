//! Decodes images into the files of a prepared folder.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use matformer_core::fs;

use super::decode::{Decoded, Decoder, Dimensions};
use super::found::{Found, Images};
use super::set::{ImageSet, SetWriter};
use super::split::{Member, split};
use super::summary::{FORMAT_VERSION, HELD_OUT, NAMED, SUMMARY, TRAIN, Unended};
use super::{
    Copies, ImageConfig, ImageLayout, ImagePair, ImageShape, ImageSummary, PixelSizes, Resized,
    Skipped, SkippedImage, SplitImages,
};
use crate::hash::Hasher;
use crate::progress::{Progress, Stage};
use crate::{Error, Hash, Result};

/// All images, before it is known which are held out; deleted then.
const ALL: &str = "all.bin";

/// Writes both splits and the summary: images of the shape `kept`, of which models see `seen` pixels.
pub(super) fn write(
    found: &Found,
    config: &ImageConfig,
    kept: ImageShape,
    seen: usize,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let mut writing = Writing::new(found, config, folder, progress);
    let decoder = Decoder::new(kept, seen);
    let [train, held_out] = match &found.held_out {
        Some(own) => {
            let train = writing.given(&found.train, &decoder, Part::TRAIN, Known::Kept)?;
            let folders = found.layout == ImageLayout::Folders;
            let known = if folders { Known::Dropped } else { Known::Kept };
            [train, writing.given(own, &decoder, Part::HELD_OUT, known)?]
        }
        None => writing.divided(&found.train, &decoder, config.held_out)?,
    };
    let summary = ImageSummary {
        format_version: FORMAT_VERSION,
        data_hash: writing.hasher.finish(),
        layout: found.layout,
        classes: found.classes.clone(),
        channels: kept.channels,
        size: kept.size,
        train,
        held_out,
        own_held_out: found.held_out.is_some(),
        held_out_folder: found.held_out_folder.clone(),
        pixels: writing.pixels(),
        copies: writing.seen.copies,
        skipped: writing.skipped,
        unended: writing.unended,
        unread: found.unread.clone(),
        ignored: found.ignored,
        folders: found.folders.clone(),
    };
    Ok(fs::write_json(folder.join(SUMMARY), "summary", &summary)?)
}

/// A split's name, and the names of its files.
#[derive(Clone, Copy)]
struct Part {
    name: &'static str,
    files: [&'static str; 2],
}

impl Part {
    const TRAIN: Self = Self { name: "train", files: TRAIN };
    const HELD_OUT: Self = Self { name: "held_out", files: HELD_OUT };
}

/// What to do with held-out images that also occur in the training split.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Kept,
    Dropped,
}

/// An image that was decoded.
struct Entry {
    label: u32,
    name: String,
    /// Name within its folder; images in other folders may have the same name.
    inside: String,
    content: Hash,
}

/// What goes on over both splits.
struct Writing<'a> {
    folder: &'a Path,
    classes: &'a [String],
    /// Images in both splits, good or bad.
    images: usize,
    /// The share of them that may be bad, if any may.
    allowed: Option<f64>,
    skipped: Skipped,
    unended: Unended,
    as_they_are: usize,
    resized: BTreeMap<Dimensions, usize>,
    seen: Seen,
    hasher: Hasher,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(Progress),
}

/// Takes an image that was decoded, and its pixels.
type Take<'t, 'w> = dyn FnMut(&mut Writing<'w>, Entry, &[u8]) -> Result<()> + 't;

impl<'a> Writing<'a> {
    fn new(
        found: &'a Found,
        config: &ImageConfig,
        folder: &'a Path,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Self {
        let mut hasher = Hasher::default();
        hasher.part(found.classes.len().to_le_bytes());
        for class in &found.classes {
            hasher.part(class);
        }
        Self {
            folder,
            classes: &found.classes,
            images: found.images().map(Images::len).sum(),
            allowed: config.allowed(),
            skipped: Skipped::default(),
            unended: Unended::default(),
            as_they_are: 0,
            resized: BTreeMap::new(),
            seen: Seen::default(),
            hasher,
            done: 0,
            total: found.images().map(Images::bytes).sum(),
            progress,
        }
    }

    /// Writes a split that the data has.
    fn given(
        &mut self,
        images: &Images,
        decoder: &Decoder,
        part: Part,
        known: Known,
    ) -> Result<SplitImages> {
        let mut out = SplitWriter::create(self, part, decoder.shape())?;
        let before = self.seen.first.len();
        self.decode(images, decoder, &mut |writing, entry, pixels| {
            let of = writing.seen.add(&entry);
            if let Some(of) = of.filter(|of| *of < before) {
                writing.seen.is_in_both(of, &entry, known);
                if known == Known::Dropped {
                    return Ok(());
                }
            }
            out.push(writing, entry.label, entry.name, pixels)
        })?;
        out.finish(self)
    }

    /// Divides the images, with all copies of one in one split.
    fn divided(
        &mut self,
        images: &Images,
        decoder: &Decoder,
        share: f64,
    ) -> Result<[SplitImages; 2]> {
        let path = self.folder.join(ALL);
        let mut all = SetWriter::create(&path, decoder.shape(), self.classes.len())?;
        let mut entries = Vec::new();
        self.decode(images, decoder, &mut |writing, entry, pixels| {
            writing.seen.add(&entry);
            all.push(entry.label as usize, pixels)?;
            entries.push(entry);
            Ok(())
        })?;
        all.finish()?;
        let members: Vec<Member<'_>> = entries
            .iter()
            .map(|entry| Member { label: entry.label, name: &entry.inside, content: entry.content })
            .collect();
        let [train, held_out] = split(&members, share);
        let all = ImageSet::open(&path, self.classes.to_vec())?;
        let mut chosen = |part: Part, places: Vec<usize>| {
            let mut out = SplitWriter::create(self, part, decoder.shape())?;
            for place in places {
                let entry = &entries[place];
                out.push(self, entry.label, entry.name.clone(), all.pixels(place))?;
            }
            out.finish(self)
        };
        let splits = [chosen(Part::TRAIN, train)?, chosen(Part::HELD_OUT, held_out)?];
        drop(all);
        std::fs::remove_file(&path).map_err(fs::error(&path, "remove"))?;
        Ok(splits)
    }

    /// Decodes images, hands over the good ones, and counts what became of them.
    fn decode(
        &mut self,
        images: &Images,
        decoder: &Decoder,
        take: &mut Take<'_, 'a>,
    ) -> Result<()> {
        let kept = decoder.shape().size;
        images.decode(decoder, &mut |index, bytes, decoded| {
            let name = images.name(index);
            match decoded {
                Ok(Decoded { pixels, from, unended }) => {
                    if from.is_square_of(kept) {
                        self.as_they_are += 1;
                    } else {
                        *self.resized.entry(from).or_default() += 1;
                    }
                    if unended {
                        self.unended.images += 1;
                        self.unended.first.get_or_insert_with(|| name.clone());
                    }
                    let (label, inside) = (images.labels[index], images.name_inside(index));
                    let content = Hash::of(&pixels);
                    take(self, Entry { label, name, inside, content }, &pixels)?;
                }
                Err(reason) => self.skip(SkippedImage { name, reason })?,
            }
            self.done += bytes;
            let (done, total) = (self.done as usize, self.total as usize);
            (self.progress)(Progress { stage: Stage::Images, done, total });
            Ok(())
        })?;
        self.skipped.check(self.images, self.allowed)
    }

    /// Counts an image that is left out.
    ///
    /// # Errors
    /// [`Error::Images`] as soon as there are more of them than may be, and enough to name.
    fn skip(&mut self, image: SkippedImage) -> Result<()> {
        self.skipped.images += 1;
        if self.skipped.first.len() < NAMED {
            self.skipped.first.push(image);
        }
        if self.skipped.first.len() < NAMED {
            return Ok(());
        }
        self.skipped.check(self.images, self.allowed)
    }

    /// What became of the pixels.
    fn pixels(&self) -> PixelSizes {
        let of_size = |(from, images): (&Dimensions, &usize)| Resized {
            width: from.width,
            height: from.height,
            images: *images,
        };
        let mut most: Vec<Resized> = self.resized.iter().map(of_size).collect();
        let resized = most.iter().map(|size| size.images).sum();
        most.sort_by_key(|size| std::cmp::Reverse(size.images));
        most.truncate(NAMED);
        PixelSizes { as_they_are: self.as_they_are, resized, most }
    }
}

/// The files of a split.
struct SplitWriter {
    part: Part,
    out: SetWriter,
    names: Vec<String>,
    /// Images of each class.
    counts: Vec<usize>,
}

impl SplitWriter {
    fn create(writing: &mut Writing<'_>, part: Part, shape: ImageShape) -> Result<Self> {
        writing.hasher.part(part.name);
        let classes = writing.classes.len();
        let out = SetWriter::create(&writing.folder.join(part.files[0]), shape, classes)?;
        Ok(Self { part, out, names: Vec::new(), counts: vec![0; classes] })
    }

    fn push(
        &mut self,
        writing: &mut Writing<'_>,
        label: u32,
        name: String,
        pixels: &[u8],
    ) -> Result<()> {
        writing.hasher.part(label.to_le_bytes()).part(pixels);
        self.counts[label as usize] += 1;
        self.names.push(name);
        self.out.push(label as usize, pixels)
    }

    fn finish(self, writing: &Writing<'_>) -> Result<SplitImages> {
        self.out.finish()?;
        fs::write_json(writing.folder.join(self.part.files[1]), "names of images", &self.names)?;
        let classes = writing.classes.iter().zip(&self.counts);
        let empty_classes =
            classes.filter(|(_, count)| **count == 0).map(|(class, _)| class.clone()).collect();
        match self.names.len() {
            0 => {
                let (split, images) = (self.part.name, writing.images);
                let copies = writing.seen.copies.dropped;
                let also = match copies {
                    0 => String::new(),
                    _ => format!("; {copies} held-out images are training images too"),
                };
                Err(Error::images(
                    format!("no image is left for `{split}` out of {images}{also}"),
                    "give more images, or change `data.held_out`",
                ))
            }
            images => Ok(SplitImages { images, empty_classes }),
        }
    }
}

/// The images so far, by what they show.
#[derive(Default)]
struct Seen {
    /// The first image of each content.
    first: Vec<(u32, String)>,
    places: HashMap<Hash, usize>,
    copies: Copies,
}

impl Seen {
    /// Adds an image; returns the place of the first one with the same pixels, if there was one.
    fn add(&mut self, entry: &Entry) -> Option<usize> {
        let place = *self.places.entry(entry.content).or_insert(self.first.len());
        let Some((label, name)) = self.first.get(place) else {
            self.first.push((entry.label, entry.name.clone()));
            return None;
        };
        self.copies.images += 1;
        if *label != entry.label {
            self.copies.in_two_classes += 1;
            if self.copies.of_two_classes.len() < NAMED {
                let pair = ImagePair { first: name.clone(), second: entry.name.clone() };
                self.copies.of_two_classes.push(pair);
            }
        }
        Some(place)
    }

    /// Counts a held-out image with the pixels of a training image.
    fn is_in_both(&mut self, of: usize, entry: &Entry, known: Known) {
        match known {
            Known::Kept => self.copies.in_both += 1,
            Known::Dropped => self.copies.dropped += 1,
        }
        let first = self.first[of].1.clone();
        let pair = ImagePair { first, second: entry.name.clone() };
        self.copies.first.get_or_insert(pair);
    }
}
