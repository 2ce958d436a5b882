//! Rows in JSON: of each, the text in one field; what else a row holds need not be valid.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value as Json, de::SliceRead};

/// Why a row has no text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoText {
    /// It has fields, but not the one that was asked for.
    Field(String),
    /// It is something else.
    Other(String),
}

/// How a file of JSON holds its documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Every line is an object.
    Lines,
    /// Objects in one array, or one after the other, over any lines.
    Objects,
    /// The file is one document.
    Whole,
    /// An array of objects whose end is missing.
    Cut,
}

impl Layout {
    /// The layout of a file by its first line that is not blank, and whether more lines follow.
    /// `None` where only the whole file can tell ([`Layout::of_all`]).
    pub(crate) fn of_start(first: &[u8], more: bool) -> Option<Self> {
        let first = first.trim_ascii();
        let whole_line = values(first).is_ok_and(|values| values.len() == 1);
        match first.first() {
            Some(b'{') if whole_line && more => Some(Self::Lines),
            Some(b'{' | b'[') => None,
            _ => Some(Self::Whole),
        }
    }

    /// The layout of a whole file. A file of a single object is a row where that has what is read of rows.
    pub(crate) fn of_all(bytes: &[u8], is_row: &dyn Fn(&[u8]) -> bool) -> Self {
        let objects = match objects(bytes) {
            Ok(objects) => objects,
            // Something is still open at the end, or before what would be the end of the array.
            Err(at) if at + 1 >= bytes.trim_ascii_end().len() && begins_as_rows(bytes) => {
                return Self::Cut;
            }
            Err(_) => return Self::Whole,
        };
        let object = |range: &Range<usize>| bytes.get(range.start) == Some(&b'{');
        let rows = match &objects[..] {
            [] => false,
            [one] if first(bytes) != Some(b'[') => is_row(&bytes[one.clone()]),
            all => all.iter().all(object),
        };
        if rows { Self::Objects } else { Self::Whole }
    }
}

/// The first byte that is no white space.
fn first(bytes: &[u8]) -> Option<u8> {
    bytes.trim_ascii_start().first().copied()
}

/// Whether there is an array whose first element is an object.
fn begins_as_rows(bytes: &[u8]) -> bool {
    let inside = bytes.trim_ascii_start().strip_prefix(b"[").unwrap_or_default();
    first(inside) == Some(b'{')
}

/// Where the elements of the array in `bytes` lie, or its values where there is no array.
///
/// # Errors
/// The place in `bytes` from which on they are no such values.
pub(crate) fn objects(bytes: &[u8]) -> Result<Vec<Range<usize>>, usize> {
    if first(bytes) != Some(b'[') {
        return values(bytes);
    }
    let start = bytes.len() - bytes.trim_ascii_start().len() + 1;
    let end = bytes.trim_ascii_end().len().saturating_sub(1);
    match bytes.get(start..end) {
        Some(inside) if bytes.get(end) == Some(&b']') => {
            let moved = |range: Range<usize>| range.start + start..range.end + start;
            values(inside)
                .map(|values| values.into_iter().map(moved).collect())
                .map_err(|at| at + start)
        }
        _ => Err(bytes.len()),
    }
}

/// Where the values in `bytes` lie, with commas or white space between them. Brackets and quotes are
/// paired, and no string goes over a line's end; nothing else is checked.
fn values(bytes: &[u8]) -> Result<Vec<Range<usize>>, usize> {
    let mut found = Vec::new();
    let (mut start, mut open, mut quoted, mut escaped) = (None, Vec::new(), false, false);
    for (at, &byte) in bytes.iter().enumerate() {
        let between = byte.is_ascii_whitespace() || byte == b',';
        if quoted && byte == b'\n' {
            return Err(at);
        }
        if quoted {
            quoted = byte != b'"' || escaped;
            escaped = byte == b'\\' && !escaped;
        } else if open.is_empty() && between {
            found.extend(start.take().map(|start| start..at));
            continue;
        } else {
            match byte {
                b'"' => quoted = true,
                b'{' | b'[' => open.push(byte),
                b'}' | b']' if open.pop() != Some(if byte == b'}' { b'{' } else { b'[' }) => {
                    return Err(at);
                }
                _ => {}
            }
        }
        start.get_or_insert(at);
        // `}{` are two values.
        if open.is_empty() && !quoted && matches!(byte, b'}' | b']') {
            found.extend(start.take().map(|start| start..at + 1));
        }
    }
    if quoted || !open.is_empty() {
        return Err(bytes.len());
    }
    found.extend(start.map(|start| start..bytes.len()));
    Ok(found)
}

/// The text in a field of a JSON object. Other fields may hold what JSON does not allow but is
/// written all the same: `NaN`, numbers beyond all bounds, halves of surrogate pairs, bytes that are
/// not UTF-8.
///
/// # Errors
/// What the row is instead.
pub(crate) fn text_of(row: &[u8], field: &str) -> Result<String, NoText> {
    if first(row) != Some(b'{') {
        let found = kind(&relaxed(row, |json| Json::deserialize(json))?);
        return Err(NoText::Other(format!("{found}, expected: an object")));
    }
    let mut fields = fields_of(row, |name| name == field)?;
    match fields.swap_remove(field) {
        Some(Json::String(text)) => Ok(text),
        Some(other) => {
            let found = kind(&other);
            Err(NoText::Other(format!("`{field}` is {found}, expected: a string")))
        }
        None => {
            let reason = format!("no field `{field}`, there are: {}", names(&fields));
            Err(if fields.is_empty() { NoText::Other(reason) } else { NoText::Field(reason) })
        }
    }
}

/// The names of the first fields, for errors.
pub(crate) fn names(fields: &Map<String, Json>) -> String {
    let names: Vec<&str> = fields.keys().take(5).map(String::as_str).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// What a value is called.
fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

/// The fields of a JSON object: those that are wanted as they are, the others as null, whatever they hold.
///
/// # Errors
/// What the row is instead.
pub(crate) fn fields_of(
    row: &[u8],
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Map<String, Json>, NoText> {
    if first(row) != Some(b'{') {
        return Err(NoText::Other("no object, expected: one with messages".into()));
    }
    relaxed(row, |json| json.deserialize_map(Wanted(&is_wanted)))
}

/// Reads a row, and once more without the numbers that Python writes as words.
fn relaxed<T>(
    row: &[u8],
    read: impl Fn(&mut serde_json::Deserializer<SliceRead<'_>>) -> serde_json::Result<T>,
) -> Result<T, NoText> {
    let read = |row: &[u8]| {
        let mut json = serde_json::Deserializer::from_slice(row);
        let value = read(&mut json)?;
        json.end().map(|()| value)
    };
    let found = read(row).or_else(|error| match without_nan(row) {
        Cow::Owned(row) => read(&row),
        Cow::Borrowed(_) => Err(error),
    });
    // A row's own line number would be taken for the file's.
    let malformed = |error: serde_json::Error| {
        let text = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        NoText::Other(match text.strip_suffix(&place) {
            Some(reason) => format!("not JSON: {reason} at column {}", error.column()),
            None => format!("not JSON: {text}"),
        })
    };
    found.map_err(malformed)
}

/// Reads an object: the fields that are wanted, and the names of the others.
struct Wanted<'a>(&'a dyn Fn(&str) -> bool);

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Map<String, Json>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = object.next_key_seed(Key)? {
            let value = match (self.0)(&name) {
                true => object.next_value::<Json>()?,
                false => object.next_value::<IgnoredAny>().map(|_| Json::Null)?,
            };
            fields.insert(name, value);
        }
        Ok(fields)
    }
}

/// `row` with `null` for the numbers that Python writes as words.
fn without_nan(row: &[u8]) -> Cow<'_, [u8]> {
    const WORDS: [&[u8]; 3] = [b"NaN", b"-Infinity", b"Infinity"];
    let (mut out, mut rest) = (Vec::new(), row);
    let (mut quoted, mut escaped) = (false, false);
    let mut changed = false;
    while let [byte, after @ ..] = rest {
        let word = WORDS.iter().find(|word| !quoted && rest.starts_with(word));
        if let Some(word) = word {
            out.extend(b"null");
            rest = &rest[word.len()..];
            changed = true;
            continue;
        }
        if *byte == b'"' && !escaped {
            quoted = !quoted;
        }
        escaped = quoted && *byte == b'\\' && !escaped;
        out.push(*byte);
        rest = after;
    }
    if changed { Cow::Owned(out) } else { Cow::Borrowed(row) }
}

/// The name of a field, whose bytes may be no text.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<String, D::Error> {
        key.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<String, E> {
        Ok(String::from_utf8_lossy(name).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_fields_of_a_row_need_not_be_valid() {
        let deep = format!("{{\"a\": {}{}, \"text\": \"x\"}}", "[".repeat(999), "]".repeat(999));
        let rows: [&[u8]; 9] = [
            b"{\"loss\": NaN, \"text\": \"x\"}",
            b"{\"text\": \"x\", \"min\": -Infinity, \"max\": Infinity}",
            b"{\"n\": 1e999, \"text\": \"x\"}",
            b"{\"n\": [123456789012345678901234567890], \"text\": \"x\"}",
            b"{\"emoji\": \"\\ud83d\", \"text\": \"x\"}",
            b"{\"author\": \"Andr\xe9\", \"text\": \"x\"}",
            b"{\"Andr\xe9\": 1, \"\\ud83d\": 2, \"text\": \"x\"}",
            b"{\"text\": \"first\", \"text\": \"x\"}",
            deep.as_bytes(),
        ];
        for row in rows {
            assert_eq!(text_of(row, "text").as_deref(), Ok("x"), "{}", row.escape_ascii());
        }
        // A text may spell these words.
        let row = br#"{"a": NaN, "text": "NaN \"Infinity\" \\", "b": "-Infinity"}"#;
        assert_eq!(text_of(row, "text").as_deref(), Ok("NaN \"Infinity\" \\"));
    }

    #[test]
    fn a_row_without_its_text_says_why() {
        for (row, reason) in [
            (&b"{\"body\": \"x\", \"id\": 1}"[..], "no field `text`, there are: body, id"),
            (b"{}", "no field `text`, there are: none"),
            (b"{\"text\": 3}", "`text` is a number, expected: a string"),
            (b"{\"text\": NaN}", "`text` is null, expected: a string"),
            (b"{\"text\": {\"text\": 1}}", "`text` is an object, expected: a string"),
            (b"{\"text\": [[]]}", "`text` is a list, expected: a string"),
            (b"[\"text\"]", "a list, expected: an object"),
            (b"\"text\"", "a string, expected: an object"),
            (b"{\"text\": ", "not JSON: EOF while parsing a value at column 9"),
            (b"{\"text\": \"x\"} y", "not JSON: trailing characters at column 15"),
            (b"{\"text\": \"\\ud83d\"}", "not JSON: unexpected end of hex escape at column 17"),
            (b"{\"text\": \"\xff\"}", "not JSON: invalid unicode code point at column 11"),
        ] {
            let said = match text_of(row, "text").unwrap_err() {
                NoText::Field(said) | NoText::Other(said) => said,
            };
            assert_eq!(said, reason, "{}", row.escape_ascii());
        }
    }

    fn parts(bytes: &str) -> Result<Vec<&str>, usize> {
        Ok(objects(bytes.as_bytes())?.into_iter().map(|range| &bytes[range]).collect())
    }

    #[test]
    fn values_are_told_apart_by_brackets_and_quotes() {
        assert_eq!(parts("[{\"a\": \"]}\\\"\"}, {\"b\": [1, {}]}\n]"), {
            Ok(vec!["{\"a\": \"]}\\\"\"}", "{\"b\": [1, {}]}"])
        });
        assert_eq!(parts("{\n}\n{}{\"c\":NaN}"), Ok(vec!["{\n}", "{}", "{\"c\":NaN}"]));
        assert_eq!(parts(" [ ] "), Ok(vec![]));
        assert_eq!(parts("[1, \"x\",null]"), Ok(vec!["1", "\"x\"", "null"]));
        for (text, at) in
            [("[{}, {\"a\": 1", 12), ("{\"a\": \"x", 8), ("{]", 1), ("[{}}]", 3), ("{\"a\n\"}", 3)]
        {
            assert_eq!(parts(text), Err(at), "{text}");
        }
    }

    #[test]
    fn what_looks_like_rows_is_rows() {
        let start = |line: &str, more| Layout::of_start(line.as_bytes(), more);
        assert_eq!(start("{\"text\": \"a\"}", true), Some(Layout::Lines));
        assert_eq!(start("{\"other\": NaN}", true), Some(Layout::Lines));
        assert_eq!(start("{\"text\": \"a\"}", false), None);
        assert_eq!(start("{", true), None);
        assert_eq!(start("# notes", true), Some(Layout::Whole));
        let all = |text: &str| Layout::of_all(text.as_bytes(), &|row| text_of(row, "text").is_ok());
        for rows in [
            "[\n  {\"text\": \"a\"},\n  {\"text\": \"b\"}\n]",
            "[{\"other\": 1}]",
            "{\n\"text\": \"a\"\n}\n{\n\"text\": \"b\"\n}",
            "{\"text\": \"a\", \"id\": NaN}",
        ] {
            assert_eq!(all(rows), Layout::Objects, "{rows}");
        }
        for whole in
            ["{\n  \"name\": \"package\"\n}", "[1, 2]", "[]", "", "{ // a comment \"\n}", "[{}, 1]"]
        {
            assert_eq!(all(whole), Layout::Whole, "{whole}");
        }
        for cut in ["[{\"text\": \"a\"}, {\"te", "[{\"text\": \"a\"}", "[{\"text\": [1]"] {
            assert_eq!(all(cut), Layout::Cut, "{cut}");
        }
    }

    proptest::proptest! {
        /// Whatever the bytes, there is an answer, and values lie within them, one after the other.
        #[test]
        fn any_bytes_are_values_or_not(text in "[\\[\\]{}\",:\\\\ \\na-eN0-9]{0,40}") {
            let bytes = text.as_bytes();
            let _ = text_of(bytes, "a");
            let _ = Layout::of_all(bytes, &|row| text_of(row, "a").is_ok());
            let mut end = 0;
            for range in objects(bytes).unwrap_or_default() {
                proptest::prop_assert!(range.start >= end && range.start < range.end);
                end = range.end;
            }
            proptest::prop_assert!(end <= bytes.len());
        }
    }
}
