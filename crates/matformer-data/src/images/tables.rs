//! Images in `.parquet` files, as `datasets` writes them: a column of images, each with its `bytes`, and one of
//! labels.

use std::collections::BTreeSet;
use std::path::Path;

use parquet::record::{Field, Row};
use rayon::prelude::*;

use super::columns::Columns;
use super::decode::{self, Decoder, Raster};
use super::found::{Found, ImageLayout, Images, composed};
use super::in_order::{InOrder, Sink};
use super::listing::{Listed, Listing};
use crate::format::{self, Format, Kind};
use crate::inputs::Input;
use crate::parquet_rows::ParquetRows;
use crate::splits::{Named, named};
use crate::{Error, Result};

/// The field with the bytes of an image.
pub(super) const BYTES: &str = "bytes";
/// Rows of a file whose images are looked at for their sizes.
const SAMPLE: usize = 64;

/// Files with images.
#[derive(Debug)]
pub(super) struct Tables(Vec<Table>);

/// A file with images.
#[derive(Debug)]
struct Table {
    listed: Listed,
    input: Input,
    /// The column of images.
    column: String,
    rows: usize,
    /// Rows without a label, ascending.
    unlabelled: Vec<usize>,
}

/// The `.parquet` files with images in `listing`, if there are any.
///
/// # Errors
/// A damaged file, labels that are none.
pub(super) fn find(listing: &Listing) -> Result<Option<Found>> {
    let files: Vec<&Listed> =
        listing.files.iter().filter(|file| format::suffix(&file.inside) == "parquet").collect();
    let mut opened = Vec::new();
    for file in files {
        let input = input(&listing.path(file), file);
        let whole = ParquetRows::open(&input, |_| true)?;
        let Some(columns) = Columns::of(&whole, &input)? else { continue };
        let table = Table {
            listed: file.clone(),
            input,
            column: columns.image.clone(),
            rows: whole.len() as usize,
            unlabelled: Vec::new(),
        };
        opened.push((named(&file.name()), table, columns));
    }
    let has = |split: Named| opened.iter().any(|(named, ..)| *named == Some(split));
    let held_out = [Named::Validation, Named::Test].into_iter().find(|split| has(*split));
    let any_train = has(Named::Train);
    if opened.is_empty() {
        return Ok(None);
    }
    let mut classes = Classes::default();
    let (mut train, mut own) = (Vec::new(), Vec::new());
    // Classes have the order of the files to train on; others may say more of them, or in another order.
    opened.sort_by_key(
        |(split, ..)| if any_train { *split != Some(Named::Train) } else { split.is_some() },
    );
    for (split, mut table, columns) in opened {
        let is_train = if any_train { split == Some(Named::Train) } else { split.is_none() };
        let part = match (is_train, split.is_some() && split == held_out) {
            (true, _) => &mut train,
            (false, true) => &mut own,
            _ => continue,
        };
        let mut labels = labels(&table, &columns)?;
        labels.iter_mut().for_each(|label| label.call(columns.names.as_deref()));
        classes.add(&columns, &labels);
        let missing = |row: &usize| labels[*row] == Label::Missing;
        table.unlabelled = (0..labels.len()).filter(missing).collect();
        part.push((table, labels));
    }
    let names = classes.names();
    let unlabelled = train.iter().find(|(table, _): &&(Table, _)| !table.unlabelled.is_empty());
    if let Some((table, _)) = unlabelled.filter(|_| names.is_empty()) {
        return Err(Error::images(
            format!("`{}`: no row has a label", table.input.label),
            "expected: a number of a class, or its name, in a column `label`",
        ));
    }
    let images = |part: Vec<(Table, Vec<Label>)>| -> Result<Images> {
        let (tables, labels): (Vec<_>, Vec<_>) = part.into_iter().unzip();
        let mut places = Vec::new();
        for (table, labels) in tables.iter().zip(&labels) {
            for (row, label) in labels.iter().enumerate() {
                places
                    .push(classes.place(&names, label).ok_or_else(|| no_class(table, row, label))?);
            }
        }
        Ok(Images::tables(places, Tables(tables)))
    };
    let own = if own.is_empty() { None } else { Some(images(own)?) };
    Ok(Some(Found::new(ImageLayout::Parquet, names.clone(), images(train)?, own)))
}

fn input(path: &Path, file: &Listed) -> Input {
    let format = Format { kind: Kind::Parquet, compression: None };
    Input::new(path, file.name(), path.display().to_string(), format)
}

/// What a row says of its class.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Label {
    Number(i64),
    Name(String),
    /// Null, or -1, which `datasets` has for it.
    Missing,
    Other(String),
}

impl Label {
    /// Takes the name that a number has in its own file.
    fn call(&mut self, names: Option<&[String]>) {
        let Self::Number(number) = self else { return };
        let place = usize::try_from(*number).ok();
        if let Some(name) = place.zip(names).and_then(|(place, names)| names.get(place)) {
            *self = Self::Name(name.clone());
        }
    }
}

fn labels(table: &Table, columns: &Columns) -> Result<Vec<Label>> {
    let mut rows = ParquetRows::open(&table.input, |name| name == columns.label)?;
    let mut labels = Vec::new();
    while let Some((_, row)) = rows.next_row()? {
        labels.push(match row.get_column_iter().next().map(|(_, field)| field) {
            Some(Field::Null | Field::Long(-1) | Field::Int(-1)) => Label::Missing,
            Some(Field::Short(-1) | Field::Byte(-1)) => Label::Missing,
            Some(Field::Long(n)) => Label::Number(*n),
            Some(Field::Int(n)) => Label::Number(i64::from(*n)),
            Some(Field::Short(n)) => Label::Number(i64::from(*n)),
            Some(Field::Byte(n)) => Label::Number(i64::from(*n)),
            Some(Field::UByte(n)) => Label::Number(i64::from(*n)),
            Some(Field::Bool(value)) => Label::Number(i64::from(*value)),
            Some(Field::Str(name)) => Label::Name(composed(name)),
            other => Label::Other(other.map_or_else(|| "nothing".into(), ToString::to_string)),
        });
    }
    Ok(labels)
}

/// The classes of all files.
#[derive(Default)]
struct Classes {
    /// Those that files say, in their order, each list once.
    lists: Vec<Vec<String>>,
    /// The largest number without a name.
    largest: Option<i64>,
    names: BTreeSet<String>,
}

impl Classes {
    fn add(&mut self, columns: &Columns, labels: &[Label]) {
        self.lists.extend(columns.names.clone().filter(|names| !self.lists.contains(names)));
        for label in labels {
            match label {
                Label::Number(n) => self.largest = self.largest.max(Some(*n)),
                Label::Name(name) => drop(self.names.insert(name.clone())),
                Label::Missing | Label::Other(_) => {}
            }
        }
    }

    fn names(&self) -> Vec<String> {
        match self.largest {
            // More are no classes: the place of the label says so.
            Some(largest) if self.lists.is_empty() => {
                (0..=largest.min(1 << 16)).map(|n| n.to_string()).collect()
            }
            _ => {
                let mut all = Vec::new();
                for name in self.lists.iter().flatten().chain(&self.names) {
                    if !all.contains(name) {
                        all.push(name.clone());
                    }
                }
                all
            }
        }
    }

    fn place(&self, names: &[String], label: &Label) -> Option<u32> {
        match label {
            // The number of a file without names is that of the others, if they agree.
            Label::Number(n) => {
                let known = match &self.lists[..] {
                    [] => names.len(),
                    [list] => list.len(),
                    _ => 0,
                };
                usize::try_from(*n).ok().filter(|n| *n < known)
            }
            // The image is left out.
            Label::Missing => Some(0),
            Label::Name(name) if self.largest.is_none() || !self.lists.is_empty() => {
                names.iter().position(|known| known == name)
            }
            _ => None,
        }
        .and_then(|place| u32::try_from(place).ok())
    }
}

fn no_class(table: &Table, row: usize, label: &Label) -> Error {
    let found = match label {
        Label::Number(n) => n.to_string(),
        Label::Name(name) | Label::Other(name) => name.clone(),
        Label::Missing => "missing".to_owned(),
    };
    let (file, row) = (table.input.label.clone(), row + 1);
    let expected = "expected: a number of a class, or its name";
    Error::images(
        format!("`{file}`, row {row}: the label is {found}, {expected}"),
        "files without labels, such as those of a hidden test, are left out by naming a folder without \
         them",
    )
}

/// The bytes of the image in a row.
fn bytes_of(row: Row) -> Result<Vec<u8>, String> {
    let missing = || "no bytes, expected: those of an image".to_owned();
    let bytes = |field: &Field| match field {
        Field::Bytes(bytes) => Some(bytes.data().to_vec()),
        _ => None,
    };
    let field = row.into_columns().into_iter().next().map(|(_, field)| field);
    match field {
        Some(Field::Group(image)) => {
            let inside = image.get_column_iter().find(|(name, _)| *name == BYTES);
            inside.and_then(|(_, field)| bytes(field)).ok_or_else(missing)
        }
        Some(field) => bytes(&field).ok_or_else(missing),
        None => Err(missing()),
    }
}

impl Table {
    fn images(&self) -> Result<ParquetRows> {
        ParquetRows::open(&self.input, |name| name == self.column)
    }

    /// What the headers of the first images say.
    fn sample(&self, most: usize) -> Result<Vec<Raster>> {
        let mut rows = self.images()?;
        let mut found = Vec::new();
        for _ in 0..most.min(self.rows) {
            let Some((_, row)) = rows.next_row()? else { break };
            found.extend(bytes_of(row).ok().and_then(|bytes| decode::header_of(&bytes)));
        }
        Ok(found)
    }
}

impl Tables {
    /// The bytes of the files.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|table| table.listed.bytes).sum()
    }

    /// The name of an image: that of its file, and its row in it.
    pub(super) fn name(&self, index: usize) -> String {
        let mut place = index;
        for table in &self.0 {
            if place < table.rows {
                return format!("{}:{}", table.input.name, place + 1);
            }
            place -= table.rows;
        }
        index.to_string()
    }

    /// What the headers of some images say; those that cannot be read are left out.
    pub(super) fn sample(&self) -> Vec<Raster> {
        let each = |table: &Table| table.sample(SAMPLE).unwrap_or_default();
        self.0.par_iter().flat_map_iter(each).collect()
    }

    /// Decodes the images, some at once, and hands them over in order.
    ///
    /// # Errors
    /// A damaged file, one that has changed, and what `sink` returns.
    pub(super) fn decode(&self, decoder: &Decoder, sink: &mut Sink<'_>) -> Result<()> {
        let mut images = InOrder::new(decoder, sink, |bytes: Result<Vec<u8>, String>| {
            bytes.and_then(|bytes| decoder.bytes(&bytes))
        });
        for table in &self.0 {
            let (mut rows, mut read) = (table.images()?, 0);
            let each = table.listed.bytes / table.rows.max(1) as u64;
            while let Some((_, row)) = rows.next_row()? {
                let bytes = match table.unlabelled.binary_search(&read) {
                    Ok(_) => Err("no label".to_owned()),
                    Err(_) => bytes_of(row),
                };
                let held = bytes.as_ref().map_or(0, Vec::len);
                read += 1;
                images.push(bytes, each, held)?;
            }
            images.flush()?;
            if read != table.rows {
                return Err(Error::Changed { file: table.input.label.clone() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
