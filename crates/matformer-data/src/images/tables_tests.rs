use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::super::testing::{Place, png};
use super::super::{ImageLayout, ImageSet};
use crate::Result;

/// A file as `datasets` writes it, with row groups of 3: images with their bytes, or none, and labels.
fn write(place: &Place, name: &str, rows: &[(Option<Vec<u8>>, i64)], names: Option<&[&str]>) {
    let schema = "message rows { OPTIONAL GROUP image { OPTIONAL BYTE_ARRAY bytes; \
                  OPTIONAL BYTE_ARRAY path (UTF8); } OPTIONAL INT64 label; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let label = match names {
        Some(names) => serde_json::json!({ "_type": "ClassLabel", "names": names }),
        None => serde_json::json!({ "_type": "Value", "dtype": "int64" }),
    };
    let features = serde_json::json!({ "image": { "_type": "Image" }, "label": label });
    let info = serde_json::json!({ "info": { "features": features } }).to_string();
    let properties = WriterProperties::builder()
        .set_key_value_metadata(Some(vec![KeyValue::new("huggingface".into(), Some(info))]));
    let path = place.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build())).unwrap();
    for rows in rows.chunks(3) {
        let mut group = writer.next_row_group().unwrap();
        let bytes: Vec<ByteArray> =
            rows.iter().filter_map(|(image, _)| image.clone()).map(ByteArray::from).collect();
        let levels: Vec<i16> =
            rows.iter().map(|(image, _)| if image.is_some() { 2 } else { 1 }).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&bytes, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let paths = vec![ByteArray::from("a.png"); rows.len()];
        let levels = vec![2; rows.len()];
        column.typed::<ByteArrayType>().write_batch(&paths, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let labels: Vec<i64> = rows.iter().map(|(_, label)| *label).collect();
        let levels = vec![1; rows.len()];
        column.typed::<Int64Type>().write_batch(&labels, Some(&levels), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn rows(greys: std::ops::Range<u8>) -> Vec<(Option<Vec<u8>>, i64)> {
    greys.map(|grey| (Some(png(4, [grey; 3])), i64::from(grey % 2))).collect()
}

fn images(set: Result<ImageSet>) -> Vec<(usize, u8)> {
    let set = set.unwrap();
    (0..set.len()).map(|at| (set.label(at), set.pixels(at)[0])).collect()
}

#[test]
fn columns_of_images_and_labels_are_read() {
    let place = Place::new();
    let names = Some(&["owl", "hare"][..]);
    write(&place, "data/train-00000-of-00002.parquet", &rows(0..7), names);
    write(&place, "data/train-00001-of-00002.parquet", &rows(7..10), names);
    write(&place, "data/test-00000-of-00001.parquet", &rows(20..24), names);
    assert!(crate::holds_images(&place.path("data")).unwrap());
    let prepared = place.prepare(4, 1).unwrap();
    let summary = &prepared.summary;
    assert_eq!(
        (summary.layout, &summary.classes[..]),
        (ImageLayout::Parquet, &["owl".to_owned(), "hare".to_owned()][..])
    );
    assert!(summary.own_held_out);
    let expected = |greys: std::ops::Range<u8>| -> Vec<(usize, u8)> {
        greys.map(|grey| (usize::from(grey % 2), grey)).collect()
    };
    assert_eq!(images(prepared.train()), expected(0..10));
    assert_eq!(images(prepared.held_out()), expected(20..24));
    let names = prepared.train_names().unwrap();
    assert_eq!(
        names[6..8],
        ["data/train-00000-of-00002.parquet:7", "data/train-00001-of-00002.parquet:1"]
    );
    assert!(prepared.notes.is_empty());
    assert!(place.prepare(4, 1).unwrap().reused);
    // A numbered file that is not there is missed, also when the others are reused.
    write(&place, "data/test-00001-of-00003.parquet", &rows(24..26), Some(&["owl", "hare"]));
    for reused in [false, true] {
        let prepared = place.prepare(4, 1).unwrap();
        let said = "missing: 2 of 3 files, the first is `data/test-00000-of-00003.parquet`; the others are read";
        assert_eq!((&prepared.notes[..], prepared.reused), (&[said.to_owned()][..], reused));
    }
    // A validation split goes before that of a test.
    write(&place, "data/validation.parquet", &rows(30..32), None);
    assert_eq!(images(place.prepare(4, 1).unwrap().held_out()), expected(30..32));
}

#[test]
fn a_class_is_known_by_its_name_in_every_file() {
    let place = Place::new();
    write(&place, "test.parquet", &rows(20..24), Some(&["hare", "owl", "fox"]));
    write(&place, "train.parquet", &rows(0..8), Some(&["owl", "hare"]));
    let prepared = place.prepare(4, 1).unwrap();
    assert_eq!(prepared.summary.classes, ["owl", "hare", "fox"]);
    let labels = |set: Result<ImageSet>| -> Vec<usize> {
        images(set).into_iter().map(|(label, _)| label).collect()
    };
    assert_eq!(labels(prepared.train()), [0, 1, 0, 1, 0, 1, 0, 1]);
    assert_eq!(labels(prepared.held_out()), [1, 0, 1, 0]);
    // What a number means where others disagree cannot be known.
    write(&place, "train-2.parquet", &rows(8..10), None);
    let said = place.prepare(4, 1).unwrap_err().to_string();
    assert!(said.contains("train-2.parquet`, row 1: the label is 0"), "{said}");
}

#[test]
fn files_without_splits_are_divided() {
    let place = Place::new();
    write(&place, "rows.parquet", &rows(0..40), None);
    let prepared = place.prepare(4, 3).unwrap();
    let summary = &prepared.summary;
    assert_eq!(
        (&summary.classes[..], summary.own_held_out),
        (&["0".to_owned(), "1".to_owned()][..], false)
    );
    assert_eq!((summary.train.images, summary.held_out.images), (36, 4));
}

#[test]
fn bad_images_are_counted_and_bad_labels_refused() {
    let place = Place::new();
    let mut all = rows(0..200);
    all[5].0 = None;
    all[6].0 = Some(b"no image".to_vec());
    write(&place, "rows.parquet", &all, None);
    let skipped = place.prepare(4, 1).unwrap().summary.skipped;
    assert_eq!(skipped.images, 2);
    assert_eq!(
        skipped.first[0].to_string(),
        "`rows.parquet:6`: no bytes, expected: those of an image"
    );
    (all[3].1, all[6].0) = (-1, Some(png(4, [6; 3])));
    write(&place, "rows.parquet", &all, Some(&["a", "b"]));
    let skipped = place.prepare(4, 1).unwrap().summary.skipped;
    assert_eq!(
        (skipped.images, skipped.first[0].to_string()),
        (2, "`rows.parquet:4`: no label".into())
    );
    let none: Vec<_> = rows(0..30).into_iter().map(|(image, _)| (image, -1)).collect();
    for (names, expected) in [
        (None, "rows.parquet`: no row has a label"),
        (Some(&["a", "b"][..]), "images are bad out of 30"),
    ] {
        let place = Place::new();
        write(&place, "rows.parquet", &none, names);
        let said = place.prepare(4, 1).unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    }
    all[3].1 = -2;
    write(&place, "rows.parquet", &all, Some(&["a", "b"]));
    let said = place.prepare(4, 1).unwrap_err().to_string();
    assert!(
        said.ends_with("row 4: the label is -2, expected: a number of a class, or its name"),
        "{said}"
    );
    let path = place.path("rows.parquet");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(place.prepare(4, 1).unwrap_err().to_string().contains("cannot be read as parquet"));
}
