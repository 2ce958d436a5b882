//! Weights files that are not what they should be.

use std::fs::write;

use serde_json::{Value, json};

use super::*;

/// A safetensors file of this header and as many bytes of values.
fn file(header: &str, bytes: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; bytes]].concat()
}

/// A header of (name, dtype, shape, offsets).
fn header(tensors: &[(&str, &str, Value, [u64; 2])]) -> String {
    let tensor = |(name, dtype, shape, offsets): &(&str, &str, Value, [u64; 2])| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets:?}}}"#)
    };
    format!("{{{}}}", tensors.iter().map(tensor).collect::<Vec<_>>().join(","))
}

/// Opens a folder of these files and views every tensor.
fn open(files: &[(&str, &[u8])]) -> Result<usize, String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        write(dir.path().join(name), bytes).unwrap();
    }
    let said = |error: Error| error.to_string().replace(&format!("{}/", dir.path().display()), "");
    let files = WeightFiles::open(dir.path()).map_err(said)?;
    let tensors = files.tensors().map_err(said)?;
    for name in tensors.unread() {
        tensors.view(name).map_err(said)?;
    }
    Ok(tensors.len())
}

/// What is said of one file.
fn refused(bytes: &[u8]) -> String {
    let error = open(&[(WEIGHTS, bytes)]).unwrap_err();
    error.strip_prefix("model.safetensors: ").expect(&error).to_owned()
}

#[test]
fn headers_that_lie_are_refused() {
    let of = |tensors: &[(&str, &str, Value, [u64; 2])], bytes| file(&header(tensors), bytes);
    assert_eq!(open(&[(WEIGHTS, &of(&[("a", "F32", json!([2]), [0, 8])], 8))]), Ok(1));
    let many = json!([u32::MAX, u32::MAX, u32::MAX]);
    for (bytes, expected) in [
        (vec![], "header too small"),
        (vec![1; 7], "header too small"),
        (u64::MAX.to_le_bytes().to_vec(), "header too large"),
        (99_999_999u64.to_le_bytes().to_vec(), "invalid header length"),
        (file("[]", 0), "invalid JSON in header"),
        (file("{\"a\":{}}", 0), "invalid JSON in header"),
        (file("\u{1}\u{2}", 0), "invalid JSON in header"),
        // Truncated, and with something behind the values.
        (of(&[("a", "F32", json!([2]), [0, 8])], 7), "incomplete metadata"),
        (of(&[("a", "F32", json!([2]), [0, 8])], 9), "incomplete metadata"),
        // Overlapping, with a hole, backwards, and beyond the end.
        (
            of(&[("a", "F32", json!([2]), [0, 8]), ("b", "F32", json!([2]), [4, 12])], 12),
            "invalid offset",
        ),
        (
            of(&[("a", "F32", json!([1]), [0, 4]), ("b", "F32", json!([1]), [8, 12])], 12),
            "invalid offset",
        ),
        (of(&[("a", "F32", json!([2]), [8, 0])], 8), "invalid offset"),
        (of(&[("a", "F32", json!([2]), [0, u64::MAX])], 8), "invalid shape"),
        // Shapes that do not fit, that overflow, and that are no sizes.
        (of(&[("a", "F32", json!([3]), [0, 8])], 8), "invalid shape"),
        (of(&[("a", "BF16", json!([2]), [0, 8])], 8), "invalid shape"),
        (of(&[("a", "F32", many, [0, 8])], 8), "overflow"),
        (of(&[("a", "F32", json!([u64::MAX]), [0, 8])], 8), "overflow"),
        (of(&[("a", "F32", json!([-2]), [0, 8])], 8), "invalid JSON in header"),
        (of(&[("a", "F33", json!([2]), [0, 8])], 8), "invalid JSON in header"),
    ] {
        let said = refused(&bytes);
        assert!(said.contains(expected), "{said}: expected {expected}");
        assert!(said.ends_with("expected a safetensors file"), "{said}");
    }
}

#[test]
fn numbers_that_are_no_weights_are_refused_by_name() {
    for dtype in ["I32", "F64", "BOOL", "F8_E4M3"] {
        let size = match dtype {
            "F64" => 8,
            "I32" => 4,
            _ => 1,
        };
        let bytes = file(&header(&[("a", dtype, json!([1]), [0, size])]), size as usize);
        let expected = format!("tensor `a`: dtype {dtype}; expected F32, BF16 or F16");
        assert_eq!(refused(&bytes), expected);
    }
}

#[test]
fn an_index_that_lies_is_refused_by_name() {
    let one = |name: &str| file(&header(&[(name, "F32", json!([1]), [0, 4])]), 4);
    let (a, b) = (one("a"), one("b"));
    let with = |map: Value| {
        let index = json!({ "weight_map": map }).to_string();
        open(&[(INDEX, index.as_bytes()), ("1.safetensors", &a), ("2.safetensors", &b)])
    };
    let whole = json!({ "a": "1.safetensors", "b": "2.safetensors" });
    assert_eq!(with(whole.clone()), Ok(2));
    for (map, expected) in [
        (json!({}), "an empty `weight_map`; expected at least one file"),
        (
            json!({ "a": "2.safetensors", "b": "1.safetensors" }),
            "tensor `a`: file `2.safetensors`; expected `1.safetensors`, where it is",
        ),
        (
            json!({ "a": "1.safetensors", "c": "1.safetensors" }),
            "tensor `c`: file `1.safetensors`, which has it not; expected a file that has it",
        ),
        (json!({ "c": "1.safetensors" }), "tensor `c`: file `1.safetensors`, which has it not"),
    ] {
        let said = with(map).unwrap_err();
        assert!(said.starts_with(&format!("{INDEX}: {expected}")), "{said}");
    }
    // The same tensor in two files.
    let index = json!({ "weight_map": whole }).to_string();
    let files = [(INDEX, index.as_bytes()), ("1.safetensors", &a), ("2.safetensors", &a)];
    let said = open(&files).unwrap_err();
    assert_eq!(
        said,
        "2.safetensors: tensor `a`: also in `1.safetensors`; expected each tensor once"
    );
}

#[test]
fn a_whole_file_beside_an_index_of_others_is_refused() {
    let a = file(&header(&[("a", "F32", json!([1]), [0, 4])]), 4);
    let with = |name: &str| {
        let index = json!({ "weight_map": { "a": name } }).to_string();
        open(&[(INDEX, index.as_bytes()), ("1.safetensors", &a), (WEIGHTS, &a)])
    };
    assert_eq!(
        with("1.safetensors").unwrap_err(),
        format!(
            "{INDEX}: `{WEIGHTS}` beside it, which it does not name; expected one or the other: remove what \
             is not the model"
        )
    );
    assert_eq!(with(WEIGHTS), Ok(1));
}

#[test]
fn files_of_an_index_are_beside_it() {
    for name in ["../1.safetensors", "/etc/passwd", "sub/1.safetensors", "..", ".", ""] {
        let index = json!({ "weight_map": { "a": name } }).to_string();
        let said = open(&[(INDEX, index.as_bytes())]).unwrap_err();
        let expected = "expected the name of a file in the same folder";
        assert_eq!(said, format!("{INDEX}: file `{name}`; {expected}"));
    }
    // One that is not there, and the index itself.
    let index = |name: &str| json!({ "weight_map": { "a": name } }).to_string();
    let said = open(&[(INDEX, index("1.safetensors").as_bytes())]).unwrap_err();
    assert!(said.contains("1.safetensors"), "{said}");
    let said = open(&[(INDEX, index(INDEX).as_bytes())]).unwrap_err();
    assert!(said.starts_with(INDEX) && said.ends_with("expected a safetensors file"), "{said}");
    for text in ["", "[]", "{}", r#"{"weight_map": []}"#, r#"{"weight_map": {"a": 1}}"#] {
        let said = open(&[(INDEX, text.as_bytes())]).unwrap_err();
        assert!(said.ends_with("expected an index with a `weight_map`"), "{said}");
    }
}
