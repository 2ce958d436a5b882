//! Which columns of a `.parquet` file are images and their classes.

use std::path::Path;

use parquet::basic::{ConvertedType, Type as Physical};
use parquet::schema::types::{Type, TypePtr};
use serde_json::Value;

use super::found::composed;
use super::tables::BYTES;
use crate::format::{Format, Kind};
use crate::inputs::Input;
use crate::parquet_rows::ParquetRows;
use crate::{Error, Result};

/// Names of the column of images, where there are several.
const IMAGES: [&str; 3] = ["image", "img", "pixel_values"];
/// Names of the column of labels; the first that is there.
const LABELS: [&str; 4] = ["label", "fine_label", "labels", "class"];

/// Whether a `.parquet` file says that one of its columns holds images, or has one with their bytes in a field.
pub(crate) fn declares_images(path: &Path) -> bool {
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
pub(super) struct Columns {
    pub image: String,
    pub label: String,
    /// The names of the classes, where the file says them.
    pub names: Option<Vec<String>>,
}

impl Columns {
    /// Those of a file, if it has both.
    ///
    /// # Errors
    /// Several columns of either kind, none of which has a usual name.
    pub fn of(rows: &ParquetRows, input: &Input) -> Result<Option<Self>> {
        let features = features(rows);
        let of_kind = |kind: &str| features_of(rows, kind);
        let fields = rows.fields();
        let there = |names: Vec<String>| -> Vec<String> {
            let is_there = |name: &String| fields.iter().any(|field| field.name() == name);
            names.into_iter().filter(is_there).collect()
        };
        let images = fields.iter().filter(|field| is_image(field));
        let images: Vec<String> = images.map(|field| field.name().to_owned()).collect();
        let usual = there(LABELS.map(str::to_owned).to_vec()).into_iter().next();
        let classes = usual.map_or_else(|| there(of_kind("ClassLabel")), |usual| vec![usual]);
        if images.is_empty() || classes.is_empty() {
            return Ok(None);
        }
        let mut declared = there(of_kind("Image"));
        declared.retain(|name| images.contains(name));
        let images = if declared.is_empty() { images } else { declared };
        let image = chosen(&images, &IMAGES, "images", input)?;
        let label = chosen(&classes, &LABELS, "classes", input)?;
        let names = features[&label]["names"].as_array().map(|names| {
            names.iter().filter_map(Value::as_str).map(composed).collect::<Vec<String>>()
        });
        Ok(Some(Self { image, label, names: names.filter(|names| !names.is_empty()) }))
    }
}

/// The column that is meant: the one with a usual name, or the only one.
fn chosen(found: &[String], usual: &[&str], what: &str, input: &Input) -> Result<String> {
    let known = usual.iter().find_map(|name| found.iter().find(|found| found == name));
    match (known, found) {
        (Some(name), _) | (None, [name]) => Ok(name.clone()),
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
            && field.get_basic_info().converted_type() == ConvertedType::NONE
    };
    match field.is_group() {
        true => field.get_fields().iter().any(|field| field.name() == BYTES && bytes(field)),
        false => bytes(field),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_columns_the_one_with_a_usual_name_is_meant() {
        let format = Format { kind: Kind::Parquet, compression: None };
        let input = Input::new(Path::new("a.parquet"), String::new(), "a.parquet".into(), format);
        let names = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let chosen = |found: &[&str]| chosen(&names(found), &IMAGES, "images", &input);
        assert_eq!(chosen(&["mask", "image"]).unwrap(), "image");
        assert_eq!(chosen(&["photo"]).unwrap(), "photo");
        let refused = chosen(&["mask", "photo"]).unwrap_err().to_string();
        assert_eq!(refused, "`a.parquet`: has several columns of images: mask, photo");
    }
}
