//! Images in `.parquet` files, as `datasets` writes them: a column of images, each with its `bytes`, and one of
//! labels.

use std::collections::BTreeSet;
use std::path::Path;

use parquet::basic::Type as Physical;
use parquet::record::{Field, Row};
use parquet::schema::types::{Type, TypePtr};
use rayon::prelude::*;
use serde_json::Value;

use super::decode::{self, Decoder, Raster};
use super::found::{Found, ImageLayout, Images, MOST_BYTES, Sink, at_once, composed};
use super::listing::{Listed, Listing};
use crate::format::{self, Format, Kind};
use crate::inputs::Input;
use crate::parquet_rows::ParquetRows;
use crate::splits::{Named, named};
use crate::{Error, Result};

/// Names of the column of images, where there are several.
const IMAGES: [&str; 3] = ["image", "img", "pixel_values"];
/// Names of the column of labels; the first that is there.
const LABELS: [&str; 4] = ["label", "fine_label", "labels", "class"];
/// The field with the bytes of an image.
const BYTES: &str = "bytes";
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
    for (split, table, columns) in opened {
        let is_train = if any_train { split == Some(Named::Train) } else { split.is_none() };
        let part = match (is_train, split.is_some() && split == held_out) {
            (true, _) => &mut train,
            (false, true) => &mut own,
            _ => continue,
        };
        let mut labels = labels(&table, &columns)?;
        labels.iter_mut().for_each(|label| label.call(columns.names.as_deref()));
        classes.add(&columns, &labels);
        part.push((table, labels));
    }
    let names = classes.names();
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
    Ok(Some(Found::packed(ImageLayout::Parquet, names.clone(), images(train)?, own)))
}

fn input(path: &Path, file: &Listed) -> Input {
    let format = Format { kind: Kind::Parquet, compression: None };
    Input::new(path, file.name(), path.display().to_string(), format)
}

/// Whether a `.parquet` file says that one of its columns holds images, or has one with their bytes in a field.
pub(crate) fn declares_images(path: &Path) -> bool {
    if format::suffix(path) != "parquet" {
        return false;
    }
    let format = Format { kind: Kind::Parquet, compression: None };
    let input = Input::new(path, String::new(), path.display().to_string(), format);
    ParquetRows::open(&input, |_| true).is_ok_and(|rows| {
        let group = |field: &TypePtr| field.is_group() && is_image(field);
        !features_of(&rows, "Image").is_empty() || rows.fields().iter().any(group)
    })
}

/// The columns that a file says are of a kind, as `datasets` writes it.
fn features_of(rows: &ParquetRows, kind: &str) -> Vec<String> {
    let features = features(rows);
    let ours = |(_, feature): &(&String, &Value)| feature["_type"] == kind;
    let all = features.as_object().into_iter().flatten();
    all.filter(ours).map(|(name, _)| name.clone()).collect()
}

fn features(rows: &ParquetRows) -> Value {
    let text = rows.metadata("huggingface");
    let said = text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
    said.unwrap_or_default()["info"]["features"].clone()
}

/// The columns of a file with images.
struct Columns {
    image: String,
    label: String,
    /// The names of the classes, where the file says them.
    names: Option<Vec<String>>,
}

impl Columns {
    /// Those of a file, if it has both.
    ///
    /// # Errors
    /// Several columns of either kind, none of which has a usual name.
    fn of(rows: &ParquetRows, input: &Input) -> Result<Option<Self>> {
        let features = features(rows);
        let of_kind = |kind: &str| features_of(rows, kind);
        let fields = rows.fields();
        let there = |names: Vec<String>| -> Vec<String> {
            let is_there = |name: &String| fields.iter().any(|field| field.name() == name);
            names.into_iter().filter(is_there).collect()
        };
        let images = fields.iter().filter(|field| is_image(field));
        let images: Vec<String> = images.map(|field| field.name().to_owned()).collect();
        let declared: Vec<String> =
            there(of_kind("Image")).into_iter().filter(|name| images.contains(name)).collect();
        let images = if declared.is_empty() { images } else { declared };
        let usual = there(LABELS.map(str::to_owned).to_vec()).into_iter().next();
        let (Some(image), Some(label)) = (
            chosen(&images, &IMAGES, "images", input)?,
            match usual {
                Some(label) => Some(label),
                None => chosen(&there(of_kind("ClassLabel")), &LABELS, "classes", input)?,
            },
        ) else {
            return Ok(None);
        };
        let names = features[&label]["names"].as_array().map(|names| {
            names.iter().filter_map(Value::as_str).map(composed).collect::<Vec<String>>()
        });
        Ok(Some(Self { image, label, names: names.filter(|names| !names.is_empty()) }))
    }
}

/// The column that is meant: the one with a usual name, or the only one.
fn chosen(found: &[String], usual: &[&str], what: &str, input: &Input) -> Result<Option<String>> {
    let known = usual.iter().find_map(|name| found.iter().find(|found| found == name));
    match (known, found) {
        (Some(name), _) => Ok(Some(name.clone())),
        (None, []) => Ok(None),
        (None, [one]) => Ok(Some(one.clone())),
        (None, several) => Err(Error::images(
            format!("`{}`: has several columns of {what}: {}", input.label, several.join(", ")),
            "call the right one `image` or `label`, or remove the others",
        )),
    }
}

/// Whether a column holds images: bytes, or an object with them.
fn is_image(field: &Type) -> bool {
    let bytes = |field: &Type| {
        field.is_primitive()
            && field.get_physical_type() == Physical::BYTE_ARRAY
            && field.get_basic_info().logical_type_ref().is_none()
            && field.get_basic_info().converted_type() == parquet::basic::ConvertedType::NONE
    };
    match field.is_group() {
        true => field.get_fields().iter().any(|field| field.name() == BYTES && bytes(field)),
        false => bytes(field),
    }
}

/// What a row says of its class.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Label {
    Number(i64),
    Name(String),
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
                Label::Other(_) => {}
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
        let most = at_once(decoder.shape().bytes());
        let mut done = 0;
        let mut flush = |chunk: &mut Vec<Result<Vec<u8>, String>>, each: u64| -> Result<()> {
            let decoded: Vec<_> = chunk
                .par_drain(..)
                .map(|bytes| bytes.and_then(|bytes| decoder.bytes(&bytes)))
                .collect();
            for image in decoded {
                sink(done, each, image)?;
                done += 1;
            }
            Ok(())
        };
        for table in &self.0 {
            let (mut rows, mut chunk, mut held, mut read) = (table.images()?, Vec::new(), 0, 0);
            let each = table.listed.bytes / table.rows.max(1) as u64;
            while let Some((_, row)) = rows.next_row()? {
                let bytes = bytes_of(row);
                held += bytes.as_ref().map_or(0, Vec::len);
                read += 1;
                chunk.push(bytes);
                if chunk.len() >= most || held >= MOST_BYTES {
                    flush(&mut chunk, each)?;
                    held = 0;
                }
            }
            flush(&mut chunk, each)?;
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
