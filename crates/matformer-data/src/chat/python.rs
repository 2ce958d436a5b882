//! What templates expect of Python: how values are printed, `tojson`, and the date.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Output, State, Value};

/// Writes a value as Python's `str` does.
pub(super) fn format(
    out: &mut Output<'_>,
    _: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    let text = match value.kind() {
        ValueKind::Undefined => return Ok(()),
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool if value.is_true() => "True".to_owned(),
        ValueKind::Bool => "False".to_owned(),
        _ => value.to_string(),
    };
    out.write_str(&text).map_err(|error| Error::new(ErrorKind::WriteFailure, error.to_string()))
}

/// The date and time in the local zone, as `strftime` formats it.
pub(super) fn strftime_now(format: String) -> Result<String, Error> {
    let mut text = String::new();
    write!(text, "{}", chrono::Local::now().format(&format)).map_err(|_| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("strftime_now: found the format `{format}`"),
        )
    })?;
    Ok(text)
}

/// JSON as `json.dumps` writes it: nothing is escaped for HTML, and a space follows each separator.
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let style = Style {
        indent,
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        comma: if indent.is_some() { "," } else { ", " }.to_owned(),
        colon: ": ".to_owned(),
    };
    let style = match separators.as_deref() {
        None => style,
        Some([comma, colon]) => Style { comma: comma.clone(), colon: colon.clone(), ..style },
        Some(other) => {
            let found = format!("tojson: `separators` has {} strings, expected 2", other.len());
            return Err(Error::new(ErrorKind::InvalidOperation, found));
        }
    };
    options.assert_all_used()?;
    let value = serde_json::to_value(value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let mut text = String::new();
    style.write(&value, 0, &mut text);
    Ok(text)
}

/// A number as Python writes it: an exponent has a sign and two digits.
fn repr(number: &str) -> String {
    let Some((digits, exponent)) = number.split_once('e') else { return number.to_owned() };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

struct Style {
    indent: Option<usize>,
    ascii: bool,
    sorted: bool,
    comma: String,
    colon: String,
}

impl Style {
    fn write(&self, value: &serde_json::Value, depth: usize, out: &mut String) {
        match value {
            serde_json::Value::Array(values) => {
                self.each(['[', ']'], values.iter(), depth, out, |value, out| {
                    self.write(value, depth + 1, out);
                });
            }
            serde_json::Value::Object(object) => {
                let mut pairs: Vec<_> = object.iter().collect();
                if self.sorted {
                    pairs.sort_by_key(|(key, _)| *key);
                }
                self.each(['{', '}'], pairs.into_iter(), depth, out, |(key, value), out| {
                    self.write(&serde_json::Value::String(key.clone()), depth, out);
                    out.push_str(&self.colon);
                    self.write(value, depth + 1, out);
                });
            }
            serde_json::Value::Number(number) => out.push_str(&repr(&number.to_string())),
            other if self.ascii => {
                for unit in other.to_string().encode_utf16() {
                    match u8::try_from(unit).ok().filter(u8::is_ascii) {
                        Some(byte) => out.push(char::from(byte)),
                        None => out.push_str(&format!("\\u{unit:04x}")),
                    }
                }
            }
            other => out.push_str(&other.to_string()),
        }
    }

    fn each<T>(
        &self,
        [open, close]: [char; 2],
        items: impl ExactSizeIterator<Item = T>,
        depth: usize,
        out: &mut String,
        write: impl Fn(T, &mut String),
    ) {
        let line = |depth: usize, out: &mut String| {
            if let Some(indent) = self.indent {
                out.push('\n');
                out.push_str(&" ".repeat(indent * depth));
            }
        };
        let is_empty = items.len() == 0;
        out.push(open);
        for (i, item) in items.enumerate() {
            if i > 0 {
                out.push_str(&self.comma);
            }
            line(depth + 1, out);
            write(item, out);
        }
        if !is_empty {
            line(depth, out);
        }
        out.push(close);
    }
}
