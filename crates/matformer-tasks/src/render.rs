//! Fields of an example, rendered as Jinja2 in Python renders them.

use std::collections::BTreeSet;

use minijinja::{
    Environment, ErrorKind, State, UndefinedBehavior, Value,
    syntax::SyntaxConfig,
    value::{Serde, ValueKind},
};
use serde_json::Value as Json;

use crate::{rows::Row, task::Field};

/// What a row's target is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Target {
    Index(i64),
    Text(String),
    /// Several of the choices are correct.
    Indices(Vec<i64>),
    /// Several texts are.
    Texts(Vec<String>),
}

/// What a row asks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Asked {
    Text(String),
    /// The correct one of the choices, which precede the target.
    Index(i64),
}

/// Renders templates. Errors say what is wrong, not where.
pub(crate) struct Renderer {
    environment: Environment<'static>,
    /// Of all rows.
    columns: BTreeSet<String>,
}

impl Renderer {
    pub(crate) fn new(rows: &[Row]) -> Result<Self, minijinja::Error> {
        let mut environment = empty()?;
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(method);
        environment.set_formatter(|out, state, value| {
            if value.is_undefined() {
                return minijinja::escape_formatter(out, state, value);
            }
            Ok(out.write_str(&python_text(value))?)
        });
        let columns = rows.iter().flat_map(|row| row.columns.keys().cloned()).collect();
        Ok(Self { environment, columns })
    }

    /// A column's text, or the template rendered.
    pub(crate) fn text(&self, template: &str, row: &Row) -> Result<String, String> {
        match self.column(template, row)? {
            Some(Json::String(text)) => Ok(text.clone()),
            Some(other) => Err(format!("column `{template}` is {}, expected text", kind(other))),
            None => self.render(template, row),
        }
    }

    /// What a row asks; a number of a column, or in the text of a template where there are choices, is an index.
    pub(crate) fn asked(&self, field: &Field, row: &Row, choices: bool) -> Result<Asked, String> {
        let template = match field {
            Field::Int(index) => return Ok(Asked::Index(*index)),
            Field::List(_) => return Err("`doc_to_text` is a list".to_owned()),
            Field::Hook(hook) => {
                return match hook(&row.columns)? {
                    Json::String(text) => Ok(Asked::Text(text)),
                    other => {
                        let wrong = || format!("`doc_to_text` is {}, expected text", kind(&other));
                        other.as_i64().map(Asked::Index).ok_or_else(wrong)
                    }
                };
            }
            Field::Text(template) => template,
        };
        let text = match self.column(template, row)? {
            Some(Json::Number(number)) if choices => {
                let wrong = || format!("column `{template}` is {number}, expected an index");
                return number.as_i64().map(Asked::Index).ok_or_else(wrong);
            }
            Some(_) => return self.text(template, row).map(Asked::Text),
            None => self.render(template, row)?,
        };
        match index_in(&text).filter(|_| choices) {
            Some(index) => index.map(Asked::Index),
            None => Ok(Asked::Text(text)),
        }
    }

    /// The target of a row; digits are an index where there are choices.
    pub(crate) fn target(&self, field: &Field, row: &Row, choices: bool) -> Result<Target, String> {
        let template = match field {
            Field::Int(index) => return Ok(Target::Index(*index)),
            Field::List(texts) => return Ok(Target::Texts(texts.clone())),
            Field::Hook(hook) => return target_of("doc_to_target", &hook(&row.columns)?),
            Field::Text(template) => template,
        };
        if let Some(value) = self.column(template, row)? {
            return target_of(template, value);
        }
        // With white space around it, it is the text of a list.
        if template.trim() == template
            && let Some(value) = self.value(template, row).transpose()?
            && value.kind() == ValueKind::Seq
        {
            return several(&value).ok_or_else(|| {
                format!("target `{template}` is a list of neither texts nor indices")
            });
        }
        let text = self.render(template, row)?;
        if let Some(index) = index_in(&text).filter(|_| choices) {
            return index.map(Target::Index);
        }
        if text.len() >= 2 && text.starts_with('[') && text.ends_with(']') {
            let list = self.environment.compile_expression(&text).and_then(|e| e.eval(()));
            let list = list.ok().filter(|list| list.kind() == ValueKind::Seq);
            return Ok(list.as_ref().and_then(several).unwrap_or(Target::Text(text)));
        }
        Ok(Target::Text(text))
    }

    /// The choices of a row.
    pub(crate) fn choices(&self, field: &Field, row: &Row) -> Result<Vec<String>, String> {
        let template = match field {
            Field::List(choices) => return Ok(choices.clone()),
            Field::Hook(hook) => {
                return texts("doc_to_choice", Value::from(Serde(hook(&row.columns)?)));
            }
            Field::Int(value) => {
                return Err(format!("`doc_to_choice` is {value}, expected a list"));
            }
            Field::Text(template) => template,
        };
        if let Some(value) = self.column(template, row)? {
            return texts(template, Value::from(Serde(value)));
        }
        if let Some(value) = self.value(template, row) {
            return texts(template, value?);
        }
        let text = self.render(template, row)?;
        let value = self.environment.compile_expression(&text).and_then(|e| e.eval(()));
        texts(template, value.map_err(|_| format!("choices `{text}` are no list"))?)
    }

    /// The value of a template that is one expression: it needs no detour over text.
    fn value(&self, template: &str, row: &Row) -> Option<Result<Value, String>> {
        let inner = template.trim().strip_prefix("{{").and_then(|t| t.strip_suffix("}}"));
        let one = inner.filter(|inner| !inner.contains("}}"))?.trim_matches('-').trim();
        let value =
            self.environment.compile_expression(one).and_then(|e| e.eval(Serde(&row.columns)));
        Some(value.map_err(|error| said(&error)))
    }

    /// The row's value, if `name` is a column.
    fn column<'a>(&self, name: &str, row: &'a Row) -> Result<Option<&'a Json>, String> {
        match row.columns.get(name) {
            None if self.columns.contains(name) => Err(format!("column `{name}` is missing")),
            found => Ok(found),
        }
    }

    fn render(&self, template: &str, row: &Row) -> Result<String, String> {
        self.environment.render_str(template, Serde(&row.columns)).map_err(|error| said(&error))
    }
}

/// Templates are those of Jinja2 in Python.
fn empty() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build()?);
    Ok(environment)
}

/// Fails with what is wrong in a text that is not a template.
pub(crate) fn check(template: &str) -> Result<(), String> {
    let checked = empty().and_then(|environment| environment.template_from_str(template).map(drop));
    checked.map_err(|error| said(&error).replacen("template: ", "", 1))
}

/// Methods of Python's types; `index` of a list is how tasks find the number of a label.
fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, minijinja::Error> {
    if let (ValueKind::Seq, "index", [wanted]) = (value.kind(), name, arguments) {
        let at = value.try_iter()?.position(|item| item == *wanted);
        let wrong = || {
            let detail = format!("{wanted} is not in the list");
            minijinja::Error::new(ErrorKind::InvalidOperation, detail)
        };
        return at.map(Value::from).ok_or_else(wrong);
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments)
}

fn said(error: &minijinja::Error) -> String {
    let detail = error.detail().map_or(String::new(), |detail| format!(": {detail}"));
    format!("template: {}{detail}", error.kind())
}

fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

fn target_of(column: &str, value: &Json) -> Result<Target, String> {
    let wrong = || format!("column `{column}` is {}, expected an index or text", kind(value));
    match value {
        Json::String(text) => Ok(Target::Text(text.clone())),
        Json::Bool(value) => Ok(Target::Index(i64::from(*value))),
        Json::Number(number) => number.as_i64().map(Target::Index).ok_or_else(wrong),
        Json::Array(_) => several(&Value::from(Serde(value))).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

/// An index, if a text is nothing but digits.
fn index_in(text: &str) -> Option<Result<i64, String>> {
    let is_index = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_index.then(|| text.parse().map_err(|_| format!("{text} is no index")))
}

/// A list of indices, or of texts.
fn several(list: &Value) -> Option<Target> {
    let items: Vec<Value> = list.try_iter().ok()?.collect();
    if !items.is_empty() && items.iter().all(|item| item.kind() == ValueKind::Number) {
        return items.iter().map(Value::as_i64).collect::<Option<_>>().map(Target::Indices);
    }
    let text = |item: &Value| item.as_str().map(str::to_owned);
    items.iter().map(text).collect::<Option<_>>().map(Target::Texts)
}

fn texts(template: &str, value: Value) -> Result<Vec<String>, String> {
    let wrong = || format!("choices `{template}` are {}, expected a list of texts", value.kind());
    if value.kind() != ValueKind::Seq {
        return Err(wrong());
    }
    let items = value.try_iter().map_err(|_| wrong())?;
    items.map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
}

/// `str(value)` of Python.
fn python_text(value: &Value) -> String {
    if let Some(text) = value.as_str() { text.to_owned() } else { python_repr(value) }
}

/// `repr(value)` of Python.
fn python_repr(value: &Value) -> String {
    let items = || value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool => (if value.is_true() { "True" } else { "False" }).to_owned(),
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Seq => {
            let items: Vec<String> = items().map(|item| python_repr(&item)).collect();
            format!("[{}]", items.join(", "))
        }
        ValueKind::Map => {
            let pair = |key: Value| {
                let item = value.get_item(&key).unwrap_or_default();
                format!("{}: {}", python_repr(&key), python_repr(&item))
            };
            format!("{{{}}}", items().map(pair).collect::<Vec<_>>().join(", "))
        }
        _ => value.to_string(),
    }
}

fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c == quote || c == '\\' => quoted.extend(['\\', c]),
            c => quoted.push(c),
        }
    }
    quoted.push(quote);
    quoted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(value: &Json) -> Row {
        Row { at: "a:1".to_owned(), columns: value.as_object().unwrap().clone() }
    }

    #[test]
    fn values_look_as_in_python() {
        let renderer = Renderer::new(&[]).unwrap();
        let row =
            row(&json!({ "n": null, "b": true, "l": ["it's", "a\n"], "f": 0.5, "d": { "k": 1 } }));
        let text = renderer.text("{{n}} {{b}} {{l}} {{f}} {{d}}\n", &row).unwrap();
        assert_eq!(text, "None True [\"it's\", 'a\\n'] 0.5 {'k': 1}\n");
        assert_eq!(renderer.text("{{d.k}}{{ l[0].upper() }}", &row).unwrap(), "1IT'S");
    }

    #[test]
    fn what_is_missing_is_an_error() {
        let renderer = Renderer::new(&[]).unwrap();
        let row = row(&json!({ "a": "x", "n": 3 }));
        assert!(renderer.text("{{b}}", &row).is_err());
        assert_eq!(renderer.text("n", &row).unwrap_err(), "column `n` is a number, expected text");
        let choices = renderer.choices(&Field::Text("{{a}}".to_owned()), &row);
        assert_eq!(choices.unwrap_err(), "choices `{{a}}` are string, expected a list of texts");
    }

    #[test]
    fn choices_are_lists_in_any_form() {
        let renderer = Renderer::new(&[]).unwrap();
        let row = row(&json!({ "c": { "text": ["x", "y"] }, "a": "one", "b": "two" }));
        let choices = |template: &str| renderer.choices(&Field::Text(template.to_owned()), &row);
        assert_eq!(choices("{{c.text}}").unwrap(), ["x", "y"]);
        assert_eq!(choices("{{[a, b]}}").unwrap(), ["one", "two"]);
        assert_eq!(choices("['{{a}}', \"no\"]").unwrap(), ["one", "no"]);
    }
}
